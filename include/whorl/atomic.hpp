// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <atomic>

namespace whorl::detail {

// The library's atomics by a name of its own: test/interleave compiles the same sources with atomics
// that an explorer schedules.
template <class T>
using Atomic = std::atomic<T>;

}  // namespace whorl::detail
