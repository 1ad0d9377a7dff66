// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/error.hpp>
#include <whorl/export.hpp>
#include <whorl/handle.hpp>
#include <whorl/loop.hpp>

#include <cstdint>

namespace whorl {

// What a listener is chosen by.
enum class SteerBy : std::uint8_t {
    cpu,   // the processor that the connection's first packet was received on
    hash,  // the packet's hash, as the network card or the kernel has computed it
};

// How new connections are spread over the listeners of a group.
struct Steering {
    SteerBy by = SteerBy::cpu;  // hash needs no `cpus`
    // How many listeners the group has. Limits: 1 to 1024.
    std::uint32_t listeners = 0;
    // By cpu: the processor that each listener is for, in the listeners' order; connections of others go by
    // their number modulo `listeners`. Null: all do.
    const std::uint32_t* cpus = nullptr;
};

// Says which of the listeners that share a port (ListenOptions::reuse_port) gets a new connection, instead
// of the kernel's own spreading by a hash of the addresses. It counts for the whole group, whichever of its
// listeners it is called with, from the next connection on, and replaces what was said before.
// The listeners' order is that in which listen() was called, over all loops and processes.
//
// When one is closed, the last takes its number, and those that were in its backlog are reset (or go to
//   others: sysctl net.ipv4.tcp_migrate_req, Linux 5.14). Say it again with the new count and order then. A
//   number that no listener has is the kernel's to spread: nothing is refused for it.
// Thread: loop thread only (asserted).
// Errors: invalid_argument (no listeners, more than 1024), stale_handle, EINVAL (not opened with
//   reuse_port), ENOMEM (the program for so many `cpus` is above net.core.optmem_max), EPERM (SO_LOCK_FILTER),
//   ENOPROTOOPT (before Linux 4.5, where system calls are emulated, and in simulated worlds).
// Limits: by cpu it helps when each listener's loop is bound to the processor whose interrupts bring its
//   connections; by hash all go to the first where the card computes none (the hash is 0).
// Cost: one system call; afterwards a few instructions of the kernel for each connection.
// Source: socket(7) SO_ATTACH_REUSEPORT_CBPF, Linux Documentation/networking/filter.rst.
WHORL_EXPORT Error steer(Loop& loop, Listener listener, const Steering& steering) noexcept;

}  // namespace whorl
