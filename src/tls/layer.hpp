// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/allocated.hpp>

#include "stream/filter.hpp"
#include "tls/context.hpp"

#include <cstdint>
#include <string_view>

// The layers that tls::Server and tls::Client hold. Connections share them, so that they may end first.
// Thread: the loop's, like their streams; so the counts are not atomic.
namespace whorl::tls::detail {

constexpr std::size_t name_max = 253;  // RFC 1035, as text

struct Name : whorl::detail::Allocated<Name> {
    Name* next = nullptr;
    ContextState* context = nullptr;
    std::size_t size = 0;
    char text[name_max] = {};  // in lower case
};

struct ServerState final : StreamLayer, whorl::detail::Allocated<ServerState> {
    virtual ~ServerState();
    Result<whorl::detail::StreamFilter*> make(Loop& loop) noexcept override;
    Error use(std::string_view name, ContextState* with) noexcept;
    // The context of this name, or null.
    ContextState* find(std::string_view name) const noexcept;

    std::uint32_t references = 1;
    LayerOptions options;
    ContextState* context = nullptr;
    Name* names = nullptr;
};

struct ClientState final : StreamLayer, whorl::detail::Allocated<ClientState> {
    virtual ~ClientState();
    Result<whorl::detail::StreamFilter*> make(Loop& loop) noexcept override;
    bool aim(SSL& ssl) noexcept;
    // Owns: the session.
    void keep(SSL_SESSION* session) noexcept;
    // Null, or one to be freed.
    SSL_SESSION* take() noexcept;

    static constexpr std::uint32_t tickets_max = 4;
    std::uint32_t references = 1;
    LayerOptions options;
    ContextState* context = nullptr;
    char host[name_max + 1] = {};
    SSL_SESSION* tickets[tickets_max] = {};  // oldest first
    std::uint32_t ticket_count = 0;
};

inline ServerState* share(ServerState* state) noexcept {
    if (state != nullptr) ++state->references;
    return state;
}
inline ClientState* share(ClientState* state) noexcept {
    if (state != nullptr) ++state->references;
    return state;
}
inline void release(ServerState* state) noexcept {
    if (state != nullptr && --state->references == 0) delete state;
}
inline void release(ClientState* state) noexcept {
    if (state != nullptr && --state->references == 0) delete state;
}

}  // namespace whorl::tls::detail
