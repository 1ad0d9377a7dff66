// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/error.hpp>
#include <whorl/export.hpp>
#include <whorl/inherited.hpp>
#include <whorl/result.hpp>
#include <whorl/time.hpp>

#include <cstdint>
#include <string_view>

// What a service and its manager say to each other: sockets that the manager has opened (LISTEN_FDS), and the
// service's state (NOTIFY_SOCKET). The protocol of systemd, which others speak as well; libsystemd is not
// needed. Where no manager asks for anything, every function here succeeds and does nothing.
//
//   whorl::Result<whorl::InheritedDescriptors> sockets = whorl::service::inherited_descriptors();
//   whorl::Result<whorl::Listener> listener = sockets->count() != 0
//       ? whorl::adopt_listener(loop, *sockets, 0) : whorl::listen(loop, address);
//   (void)whorl::service::ready();

namespace whorl::service {

// The environment's variables after they have been read. Children then do not take them for theirs; who
// removes them must be the only thread that looks at the environment.
enum class Environment : std::uint8_t {
    keep,    // they stay
    remove,  // LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES are gone afterwards
};

// Takes the descriptors that the manager passed: from 3 on, LISTEN_FDS of them, with the names of
// LISTEN_FDNAMES ("unknown" without it), made close-on-exec. None when LISTEN_PID is another process, or
// nothing was passed. A second call with `keep` finds the same numbers again: call it once.
// Owns: the caller has them. On failure they stay open, and nobody's.
// Thread: any, while none changes the environment.
// Errors: invalid_argument (a variable is no number, no or more than InheritedDescriptors::count_max
//   descriptors, a name too long, names for more or fewer), EBADF (one of them is not open), ENOMEM.
// Source: sd_listen_fds(3), sd_listen_fds_with_names(3).
WHORL_EXPORT Result<InheritedDescriptors> inherited_descriptors(
    Environment then = Environment::keep) noexcept;

// Tells the manager the lines of `state`, "READY=1\nSTATUS=…". Without NOTIFY_SOCKET there is nobody to
// tell, which is no error. Never waits: a datagram, or an error, and then nothing was told.
// Thread: any, while none changes the environment.
// Errors: invalid_argument (empty, a zero byte), EAFNOSUPPORT (NOTIFY_SOCKET is neither a path nor an
//   abstract name '@…'), ENAMETOOLONG, EAGAIN (the manager is behind: try again), ENOENT or ECONNREFUSED
//   (nobody is there), EACCES, EMSGSIZE, EMFILE.
// Cost: three system calls. Source: sd_notify(3).
WHORL_EXPORT Error notify(std::string_view state) noexcept;

// READY=1: it serves, also after reloading(). The functions below end as notify() does; a text with a line
// break or a zero byte, or of more than 1,000 bytes, is refused with invalid_argument.
WHORL_EXPORT Error ready() noexcept;
// RELOADING=1 with MONOTONIC_USEC of now; ready() ends it.
WHORL_EXPORT Error reloading() noexcept;
// STOPPING=1: it is ending.
WHORL_EXPORT Error stopping() noexcept;
// STATUS=text: a line for people.
WHORL_EXPORT Error status(std::string_view text) noexcept;
// MAINPID=pid: the process that the manager should look after from now on, see hot_restart.hpp. Errors:
//   invalid_argument (not above 0).
WHORL_EXPORT Error main_process(std::int32_t pid) noexcept;
// WATCHDOG=1: it is alive.
WHORL_EXPORT Error alive() noexcept;
// How long the manager waits for the next alive(); tell it twice as often. Zero: it does not wait, or for
// another process (WATCHDOG_PID). Errors: invalid_argument (WATCHDOG_USEC or WATCHDOG_PID is no number, or
// no time). Source: sd_watchdog_enabled(3).
WHORL_EXPORT Result<Nanoseconds> watchdog_interval() noexcept;

// Gives descriptors to the manager for keeping (FDSTORE=1): when the service is started again,
// inherited_descriptors() has them under `name`. They stay the caller's. The unit must allow it
// (FileDescriptorStoreMax=). `notify("FDSTOREREMOVE=1\nFDNAME=…")` takes them back.
// Errors: as notify(); invalid_argument (none or more than 253; a name that is empty, longer than 255, or
//   with a ':' or an unprintable character), EBADF. Source: sd_pid_notify_with_fds(3).
WHORL_EXPORT Error store(std::string_view name, const int* descriptors,
                         std::uint32_t count) noexcept;

}  // namespace whorl::service
