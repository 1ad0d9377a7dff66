// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/work_calls.hpp"

#include "backend/lend.hpp"
#include "backend/payload.hpp"

#include <whorl/work_block.hpp>

// How each blocking operation is said to the kernel, in the order of the operation list. These calls
// wait; they are made on threads of the work pool, or answered at once by a simulated kernel.

namespace whorl::detail {

namespace {

std::int32_t call_work(OpRecord& record) noexcept {
    WorkBlock& block = work_block_of(record);
    block.run(block);
    return 0;
}

}  // namespace

std::int32_t perform(System&, int, OpRecord& record) noexcept {
    const LentInUse in_use(record);
    switch (record.kind) {
        default:
            WHORL_ASSERT(record.kind == OpKind::work);
            return call_work(record);
    }
}

}  // namespace whorl::detail
