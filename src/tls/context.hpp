// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/tls.hpp>

#include <openssl/ssl.h>

#include <atomic>
#include <cstddef>

namespace whorl::tls::detail {

// An SSL_CTX and what its callbacks need. Shared by Contexts, layers and connections, in any thread.
struct ContextState : whorl::detail::Allocated<ContextState> {
    ~ContextState() { SSL_CTX_free(ssl); }

    std::atomic<std::uint32_t> references{1};
    SSL_CTX* ssl = nullptr;
    bool server = false;
    bool resumption = false;
    // As on the wire: each name behind its size.
    unsigned char alpn[256] = {};
    std::size_t alpn_size = 0;
};

inline ContextState* share(ContextState* state) noexcept {
    if (state != nullptr) state->references.fetch_add(1, std::memory_order_relaxed);
    return state;
}
void release(ContextState* state) noexcept;

}  // namespace whorl::tls::detail
