// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/export.hpp>
#include <whorl/loop.hpp>
#include <whorl/udp.hpp>
#include <whorl/unix.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>

// Descriptors that come from somebody else with names: from a service manager (service.hpp), or from the
// process that served before this one (hot_restart.hpp).

namespace whorl {

namespace detail {
class System;
}

// Named descriptors. Lifetime: owns them; those that were not taken are closed with it, so keep no longer
// than the loop's world. Thread: one at a time. Cost: one allocation for all.
class InheritedDescriptors {
  public:
    // Of a name, in bytes.
    static constexpr std::size_t name_max = 255;
    // Of descriptors at once.
    static constexpr std::uint32_t count_max = 4096;

    InheritedDescriptors() noexcept = default;
    WHORL_EXPORT InheritedDescriptors(InheritedDescriptors&& other) noexcept;
    WHORL_EXPORT InheritedDescriptors& operator=(InheritedDescriptors&& other) noexcept;
    InheritedDescriptors(const InheritedDescriptors&) = delete;
    InheritedDescriptors& operator=(const InheritedDescriptors&) = delete;
    WHORL_EXPORT ~InheritedDescriptors();

    // How many there were, those that have been taken included.
    std::uint32_t count() const noexcept { return count_; }
    // Limits of the three: index < count(), asserted.
    WHORL_EXPORT std::string_view name(std::uint32_t index) const noexcept;
    // The number, which stays owned here; -1 when it was taken.
    WHORL_EXPORT int number(std::uint32_t index) const noexcept;
    // The number, now the caller's to close; -1 when it was taken before.
    WHORL_EXPORT int take(std::uint32_t index) noexcept;
    // The first of that name, from index `from` on, that was not taken; count() when there is none. Names
    // need not be unique: a manager that opened several sockets for one unit gives all of them one name.
    WHORL_EXPORT std::uint32_t find(std::string_view name, std::uint32_t from = 0) const noexcept;
    // Closes what was not taken.
    WHORL_EXPORT void close_all() noexcept;

    // For the functions of whorl itself. ENOMEM, or invalid_argument beyond `count_max`.
    WHORL_EXPORT Error reserve(std::uint32_t most, detail::System& system) noexcept;
    // Adds one; it is owned here from now on. Limits: not beyond what was reserved, asserted.
    WHORL_EXPORT void add(int number, std::string_view name) noexcept;

  private:
    struct Entry;
    void drop() noexcept;

    Entry* entries_ = nullptr;
    std::uint32_t count_ = 0;
    std::uint32_t capacity_ = 0;
    detail::System* system_ = nullptr;
};

// Each takes over the descriptor at `index`, after it has looked what it is: a listening stream or seqpacket
// socket, a datagram socket of AF_INET or AF_INET6, a Unix datagram socket. `family` (AF_INET, AF_INET6,
// AF_UNIX) asks for one family; 0 takes any.
// Owns: on success the loop has the descriptor, and `from` has it no more. On failure nothing has changed.
// Thread: loop thread only (asserted).
// Errors: invalid_argument (it is another kind of socket, of another family, or index is beyond the end),
//   ENOTSOCK, EBADF (it was taken), slots_exhausted, loop_closed. Source: socket(7) SO_ACCEPTCONN, SO_TYPE.
WHORL_EXPORT Result<Listener> adopt_listener(Loop& loop, InheritedDescriptors& from,
                                             std::uint32_t index, int family = 0) noexcept;
// A datagram socket.
WHORL_EXPORT Result<UdpSocket> adopt_udp(Loop& loop, InheritedDescriptors& from,
                                         std::uint32_t index, int family = 0) noexcept;
// A Unix datagram socket.
WHORL_EXPORT Result<UnixDatagram> adopt_unix_datagram(Loop& loop, InheritedDescriptors& from,
                                                      std::uint32_t index) noexcept;

}  // namespace whorl
