// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <cstdint>

namespace whorl {

// A handle names something that a loop owns: 32 bits of slot index and 32 bits of generation. Zero is
// null. Handles are values: copy, compare, store and send them freely; they own nothing. A handle
// whose object has ended is *stale*: every call that takes it answers so, and it can never reach what
// lives in the slot later, because a slot whose generation would wrap is retired (see slab.hpp).
//
// Each Tag is a type of its own, so that a Timer cannot be passed for an Operation.
template <class Tag>
class Handle {
  public:
    constexpr Handle() noexcept = default;
    // For the library and for tables of handles: names a slot, whoever has that now.
    constexpr Handle(std::uint32_t index, std::uint32_t generation) noexcept
        : value_(static_cast<std::uint64_t>(generation) << 32 | index) {}
    // From value(). Nothing is checked: a number that was never a handle's is stale.
    static constexpr Handle from_value(std::uint64_t value) noexcept {
        Handle handle;
        handle.value_ = value;
        return handle;
    }

    // Whether it is not null. It may be stale: ask Loop::alive() or the call that takes it.
    constexpr explicit operator bool() const noexcept { return value_ != 0; }
    // The slot's number; small, used again, so fit to index a table of the program's own.
    constexpr std::uint32_t index() const noexcept { return static_cast<std::uint32_t>(value_); }
    // Which of the slot's inhabitants it names.
    constexpr std::uint32_t generation() const noexcept {
        return static_cast<std::uint32_t>(value_ >> 32);
    }
    // Both in one number, for user data and maps; from_value() takes it back.
    constexpr std::uint64_t value() const noexcept { return value_; }

    friend constexpr bool operator==(Handle a, Handle b) noexcept { return a.value_ == b.value_; }
    friend constexpr bool operator!=(Handle a, Handle b) noexcept { return a.value_ != b.value_; }
    friend constexpr bool operator<(Handle a, Handle b) noexcept { return a.value_ < b.value_; }

  private:
    std::uint64_t value_ = 0;
};

namespace tag {
struct Operation;
struct Timer;
struct Watch;
struct Socket;
struct Listener;
struct UdpSocket;
struct UnixDatagram;
struct Pipe;
struct File;
struct Signals;
struct Child;
}  // namespace tag

using Operation = Handle<tag::Operation>;        // one submitted operation
using Timer = Handle<tag::Timer>;                // one armed timer, one-shot or periodic
using Watch = Handle<tag::Watch>;                // one watched foreign descriptor
using Socket = Handle<tag::Socket>;              // a connected stream socket
using Listener = Handle<tag::Listener>;          // a listening socket
using UdpSocket = Handle<tag::UdpSocket>;        // a datagram socket of the Internet
using UnixDatagram = Handle<tag::UnixDatagram>;  // a Unix datagram socket
using Pipe = Handle<tag::Pipe>;                  // a pipe's end, a terminal, any descriptor
using File = Handle<tag::File>;                  // an open file or directory
using Signals = Handle<tag::Signals>;            // a set of signals that is waited for
using Child = Handle<tag::Child>;                // a child process

namespace detail {
// Whether handles with this tag name a descriptor, which Loop::close() closes.
template <class Tag>
inline constexpr bool names_descriptor = false;
template <>
inline constexpr bool names_descriptor<tag::Socket> = true;
template <>
inline constexpr bool names_descriptor<tag::Listener> = true;
template <>
inline constexpr bool names_descriptor<tag::UdpSocket> = true;
template <>
inline constexpr bool names_descriptor<tag::UnixDatagram> = true;
template <>
inline constexpr bool names_descriptor<tag::Pipe> = true;
template <>
inline constexpr bool names_descriptor<tag::File> = true;
template <>
inline constexpr bool names_descriptor<tag::Signals> = true;
template <>
inline constexpr bool names_descriptor<tag::Child> = true;
}  // namespace detail

static_assert(sizeof(Operation) == 8, "a handle is 64 bits");

}  // namespace whorl
