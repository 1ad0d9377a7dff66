// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/address.hpp>
#include <whorl/bytes.hpp>
#include <whorl/error.hpp>
#include <whorl/export.hpp>

#include <cstddef>
#include <cstdint>

namespace whorl {

// What a proxy says about the connection that it passes on, before the first byte of it: the PROXY
// protocol, versions 1 (a line) and 2 (binary).
struct ProxyHeader {
    // How far the bytes are a header.
    enum class State : std::uint8_t {
        complete,  // and what follows is the connection's own
        more,      // the bytes so far may be the beginning of one
        invalid,   // they are not
    };
    State state = State::more;  // the other fields mean something when it is `complete`
    std::uint8_t version = 0;   // 1 or 2
    bool local = false;         // the proxy's own connection (v2 LOCAL, v1 UNKNOWN): no addresses
    std::size_t size = 0;       // bytes of the header
    Address source;             // null when local, or of a family that is not the Internet's
    Address destination;        // that the client connected to, at the proxy; null as `source`
    Bytes extensions;           // v2: the TLVs, not interpreted; part of the bytes that were given
};

// The largest version 2 header that is taken; those of version 1 have 107 bytes at most.
inline constexpr std::size_t proxy_header_max = 16 + 2048;

// Reads a header from the beginning of a connection's bytes. Strict: what the specification does not
// allow is invalid, and whether `more` bytes can help is told with the first that cannot.
// Cost: no allocation. Source: haproxy.org/download/2.9/doc/proxy-protocol.txt.
WHORL_EXPORT ProxyHeader parse_proxy_header(Bytes bytes) noexcept;

}  // namespace whorl
