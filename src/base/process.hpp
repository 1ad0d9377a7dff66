// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <cstdint>

namespace whorl::detail {

// How many fork(2) calls lie between the first watch_forks() and this process. What was made under
// another number belongs to a parent.
extern std::uint32_t forks_seen;

// Starts counting; again is no harm. Thread: any.
void watch_forks() noexcept;

}  // namespace whorl::detail
