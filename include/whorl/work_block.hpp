// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

namespace whorl::detail {

// What a Work operation runs, as the backends see it: the head of the memory that holds the callable
// and, later, its result (work.hpp).
struct WorkBlock {
    void (*run)(WorkBlock& block) noexcept;  // once at most, on a thread of the pool
    void (*end)(WorkBlock& block) noexcept;  // destroys callable and result; on the loop's thread
};

}  // namespace whorl::detail
