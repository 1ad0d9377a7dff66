// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/driver.hpp"
#include "backend/process_calls.hpp"

#include <whorl/op_record.hpp>

#include <cstdint>

namespace whorl::detail {

// Bits of a Pipe's Descriptor::flags. What cannot be read is never readable for poll(2), so it is
// refused before somebody waits for it.
inline constexpr std::uint16_t pipe_whole = 1;  // no write to it blocks, whatever its size
inline constexpr std::uint16_t pipe_unreadable = 2;
inline constexpr std::uint16_t pipe_unwritable = 4;

// Whether the operation is a system call that a driver makes when its descriptor is ready: there is no
// way to ask a pipe or a terminal not to wait for once, and io_uring's own write raises SIGPIPE.
constexpr bool moves_by_call(OpKind kind) noexcept {
    return kind >= OpKind::read && kind <= OpKind::wait_child;
}
static_assert(moves_by_call(OpKind::write_chain) && moves_by_call(OpKind::tee) &&
                  moves_by_call(OpKind::signal_stream) && !moves_by_call(OpKind::work),
              "neighbours");
inline bool splices(OpKind kind) noexcept {
    return kind >= OpKind::splice_source && kind <= OpKind::tee;
}

// Makes the call, if the descriptor is ready: bytes, -EAGAIN when it is not, or another negated errno
// value. Never waits for a pipe, whatever its file status flags.
std::int32_t pipe_transfer(System& system, const Descriptor& descriptor, OpRecord& record) noexcept;

// The same for a splice, a tee, or the wait for its source. splice_dry when nothing is there to be moved.
std::int32_t splice_transfer(System& system, Slab<Descriptor>& descriptors,
                             OpRecord& record) noexcept;

// What is left of a batch of datagrams, 64 at most: how many were sent, or a negated errno value.
std::int32_t batch_transfer(System& system, int fd, OpRecord& record) noexcept;

}  // namespace whorl::detail
