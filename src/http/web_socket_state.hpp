// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/web_socket.hpp>

#include <cstddef>
#include <string_view>

namespace whorl::web_socket {

inline constexpr std::size_t key_size = 24;     // of 16 bytes in base 64
inline constexpr std::size_t accept_size = 28;  // of 20
struct KeyText {
    char text[key_size];
};
struct AcceptText {
    char text[accept_size];
    std::string_view view() const noexcept { return {text, accept_size}; }
};

// web_socket_key.cpp. Source: RFC 6455, 1.3 and 4.2.2; RFC 3174 (SHA-1); RFC 4648, 4.
AcceptText accept_of(std::string_view key) noexcept;
KeyText key_of(const std::byte (&random)[16]) noexcept;
// Whether it is one of 16 bytes.
bool key_valid(std::string_view key) noexcept;

// Takes the next token off a list such as "a, b"; empty: there is none.
std::string_view list_next(std::string_view& list) noexcept;

namespace detail {

// The protocol of a connection's stream.
struct Talk {
    Owner connection;
    void opened(Stream& stream);
    void received(Stream&, Buffer buffer) { connection->received(std::move(buffer)); }
    void writable(Stream&);
    void peer_closed(Stream&) { connection->peer_closed(); }
    void closed(Stream&, Closed why) { connection->closed(why.error); }
};

}  // namespace detail

// What a client has besides: how it connects, its request, and where its masks come from.
struct Connection::Client : whorl::detail::Allocated<Client> {
    StreamOptions stream;
    Nanoseconds handshake{0};
    Connector* connector = nullptr;
    Buffer request;
    Buffer offered;  // subprotocols
    KeyText key;
    http::ResponseParser parser;
    // Random bytes: from the kernel so many at a time, or of a seed.
    std::uint64_t seed = 0;
    std::size_t random_left = 0;
    std::byte random[256];
};

}  // namespace whorl::web_socket
