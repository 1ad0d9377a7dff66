// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <whorl/loop_options.hpp>

#include <liburing.h>

#include <cstdint>

// What a ring may do under each RingLimit: io_uring's restrictions, which the kernel enforces from the
// moment the ring is enabled. An operation that is missing in the list, in ring_limit.cpp, fails with
// EACCES in every configuration of the tests that has a limit.

namespace whorl::detail {

inline constexpr unsigned ring_limit_entries_max = 64;

// Writes what `limit`, which is not RingLimit::none, allows, with or without what opens, reads and
// changes files; returns how many entries.
unsigned ring_limit_list(RingLimit limit, bool files,
                         io_uring_restriction (&list)[ring_limit_entries_max]) noexcept;

// The features that exist under `limit`.
std::uint32_t ring_limit_features(RingLimit limit) noexcept;

// Whether the kernel of `limit` is older than `than`. `none` and `used` are as new as can be.
constexpr bool ring_limit_older(RingLimit limit, RingLimit than) noexcept {
    return limit >= RingLimit::linux_5_15 && limit < than;
}

}  // namespace whorl::detail
