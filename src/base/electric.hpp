// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <cstddef>

// Electric mode, a build of the library for finding memory errors that no sanitizer sees: those of the
// kernel. Memory that was given back is made inaccessible instead of being used again, so that a kernel
// that still has its address answers -EFAULT, and anybody else gets SIGSEGV, instead of destroying what
// has moved in there.
//
// It is an option of the build (WHORL_ELECTRIC) and not of a loop: Buffer::allocate knows no loop, it
// would cost a branch for each block of a pool, and who starts a program should not be able to choose
// how its memory behaves. A block costs at least two pages of address space and two system calls.
// The honest limit: what the kernel has pinned (a direct read under way) it writes without asking.

namespace whorl::detail {

#if defined(WHORL_ELECTRIC)
static constexpr bool electric = true;
#else
static constexpr bool electric = false;
#endif

// `bytes` rounded up to whole pages.
std::size_t electric_pages(std::size_t bytes) noexcept;

// Accessible pages with at least `bytes`, ending at an inaccessible one; null when memory is exhausted.
void* electric_map(std::size_t bytes) noexcept;
// Takes such pages away. Their addresses stay unused until many more have been retired.
// Thread: any.
void electric_retire(void* start, std::size_t bytes) noexcept;

// Makes the pages that hold `bytes` from `start` on accessible, and takes the access away.
void electric_open(void* start, std::size_t bytes) noexcept;
void electric_shut(void* start, std::size_t bytes) noexcept;

}  // namespace whorl::detail
