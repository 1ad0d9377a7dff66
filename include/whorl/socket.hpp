// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/address.hpp>
#include <whorl/export.hpp>
#include <whorl/loop.hpp>

#include <chrono>
#include <cstdint>

// Addresses and typed options of sockets and listeners, and the way in and out for descriptors that
// others made. All calls: loop thread only (asserted); one system call each; never blocking.
// Errors of all: stale_handle, and the errno of getsockopt(2), setsockopt(2) or getsockname(2).

namespace whorl {

// The options. A type is both what set_option takes and what get_option<Type> answers.

// TCP_NODELAY.
struct NoDelay {
    bool on = true;  // small messages are sent at once, instead of with what follows
};
// SO_KEEPALIVE with TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT: is the peer of an idle connection there?
struct KeepAlive {
    bool on = true;                     // off: the others are not looked at
    std::chrono::seconds idle{60};      // before the first probe, 1 to 32767
    std::chrono::seconds interval{10};  // between probes, 1 to 32767
    int probes = 6;                     // that go unanswered until it is ETIMEDOUT, 1 to 127
};
// SO_RCVBUF.
struct ReceiveBuffer {
    int bytes = 0;  // the kernel doubles what is set, and answers the double
};
// SO_SNDBUF.
struct SendBuffer {
    int bytes = 0;  // doubled likewise
};
// SO_LINGER: what becomes of unsent data when the socket is closed.
struct Linger {
    bool on = false;               // off: the kernel sends it in the background
    std::chrono::seconds time{0};  // on: so long, then a reset; zero: a reset at once
};
// TCP_USER_TIMEOUT.
struct UserTimeout {
    std::chrono::milliseconds time{0};  // how long sent data may stay unacknowledged; 0: default
};
// SO_REUSEADDR.
struct ReuseAddress {
    bool on = true;  // bind although old connections linger in TIME_WAIT
};
// SO_REUSEPORT.
struct ReusePort {
    bool on = true;  // several sockets of one user share the port; set it before bind(2)
};

// X(Type): the options that exist for sockets and listeners.
#define WHORL_SOCKET_OPTION_LIST(X) \
    X(NoDelay)                      \
    X(KeepAlive)                    \
    X(ReceiveBuffer)                \
    X(SendBuffer)                   \
    X(Linger)                       \
    X(UserTimeout)                  \
    X(ReuseAddress)                 \
    X(ReusePort)

namespace detail {
class System;
// A descriptor's number and the system that knows it.
struct SystemFd {
    System* system;
    int number;
};
WHORL_EXPORT Result<SystemFd> descriptor_number(Loop& loop, std::uint64_t handle) noexcept;
#define WHORL_SOCKET_OPTION_DECLARE(Type)                                    \
    WHORL_EXPORT Error option_set(SystemFd fd, const Type& option) noexcept; \
    WHORL_EXPORT Error option_get(SystemFd fd, Type& option) noexcept;
WHORL_SOCKET_OPTION_LIST(WHORL_SOCKET_OPTION_DECLARE)
#undef WHORL_SOCKET_OPTION_DECLARE
}  // namespace detail

// Sets an option of a Socket or Listener: `set_option(loop, socket, whorl::NoDelay{true})`.
template <class Tag, class Option>
Error set_option(Loop& loop, Handle<Tag> handle, const Option& option) noexcept {
    Result<detail::SystemFd> fd = detail::descriptor_number(loop, handle.value());
    return fd ? detail::option_set(*fd, option) : fd.error();
}

// What the kernel says of an option: `get_option<whorl::SendBuffer>(loop, socket)`.
template <class Option, class Tag>
Result<Option> get_option(Loop& loop, Handle<Tag> handle) noexcept {
    Result<detail::SystemFd> fd = detail::descriptor_number(loop, handle.value());
    if (!fd) return fd.error();
    Option option;
    if (Error error = detail::option_get(*fd, option)) return error;
    return option;
}

// The address this end is bound to; tells the port that the system chose for port 0.
WHORL_EXPORT Result<Address> local_address(Loop& loop, Listener listener) noexcept;
// The same of a connection: our side of it.
WHORL_EXPORT Result<Address> local_address(Loop& loop, Socket socket) noexcept;
// The other end. Errors: ENOTCONN.
WHORL_EXPORT Result<Address> peer_address(Loop& loop, Socket socket) noexcept;

// Takes over a connected stream (or seqpacket) socket that somebody else made.
// Owns: the descriptor, on success. Its file status flags are left as they are. Errors:
//   invalid_argument (a datagram or listening socket), EBADF, slots_exhausted, loop_closed.
WHORL_EXPORT Result<Socket> adopt_socket(Loop& loop, int fd) noexcept;
// Takes over a listening socket, such as one passed by a service manager. Errors: as adopt_socket.
// On the libev backend it becomes non-blocking when it is first accepted on.
WHORL_EXPORT Result<Listener> adopt_listener(Loop& loop, int fd) noexcept;

// The descriptor's number, for calls that whorl does not have. It stays the loop's.
template <class Tag>
Result<int> native_handle(Loop& loop, Handle<Tag> handle) noexcept {
    Result<detail::SystemFd> fd = detail::descriptor_number(loop, handle.value());
    return fd ? Result<int>(int{fd->number}) : Result<int>(fd.error());
}
// Takes a socket out of the loop: its handle is stale afterwards and the descriptor the caller's.
// Errors: EBUSY while operations are on it (cancel them and wait for their completions).
WHORL_EXPORT Result<int> detach(Loop& loop, Socket socket) noexcept;

}  // namespace whorl
