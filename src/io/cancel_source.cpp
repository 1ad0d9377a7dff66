// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/cancel_source.hpp>

#include <whorl/allocated.hpp>

#include "loop/core.hpp"

#include <algorithm>
#include <new>

// A source has handles only, and what it has is not told of it: so attaching costs the operation nothing, and
// several sources need no more. What has ended is found by its handle being stale, and dropped when the table
// is full; as it is doubled only when more than half of it lives, that costs O(1) for each on average.

namespace whorl {

namespace {

void cancel_one(detail::LoopCore& core, std::uint64_t handle) noexcept {
    const detail::OpRecord* record = core.operations.find(handle);
    if (record == nullptr) return;
    switch (record->kind) {
        case detail::OpKind::timer:
            static_cast<void>(core.timer_cancel(handle));
            break;
        case detail::OpKind::watch:
            static_cast<void>(core.watch_cancel(handle, true));
            break;
        default:
            static_cast<void>(core.cancel_operation(handle));
            break;
    }
}

}  // namespace

Error CancelSource::attach_handle(std::uint64_t handle) noexcept {
    core_->check_thread();
    if (cancelled_) {
        cancel_one(*core_, handle);
        return {};
    }
    if (count_ == capacity_) {
        if (Error error = make_room()) return error;
    }
    attached_[count_++] = handle;
    return {};
}

Error CancelSource::make_room() noexcept {
    const auto ended = [this](std::uint64_t handle) {
        return core_->operations.find(handle) == nullptr;
    };
    std::uint64_t* end = std::remove_if(attached_, attached_ + count_, ended);
    count_ = static_cast<std::uint32_t>(end - attached_);
    if (count_ < capacity_ && count_ <= capacity_ / 2) return {};
    const std::uint32_t more = std::max(8u, 2 * capacity_);
    auto* table = detail::make_array<std::uint64_t>(more);
    // Half of the places would be enough.
    if (table == nullptr) return count_ < capacity_ ? Error() : Error::from_errno(ENOMEM);
    std::copy(attached_, attached_ + count_, table);
    detail::drop_array(attached_);
    attached_ = table;
    capacity_ = more;
    return {};
}

// A timer's handler is destroyed inside, and may attach more, or destroy the source: nothing of it is used
// from the first of them on.
void CancelSource::cancel() noexcept {
    core_->check_thread();
    cancelled_ = true;
    detail::LoopCore& core = *core_;
    std::uint64_t* attached = attached_;
    const std::uint32_t count = count_;
    attached_ = nullptr;
    count_ = 0;
    capacity_ = 0;
    for (std::uint32_t index = 0; index < count; ++index) cancel_one(core, attached[index]);
    detail::drop_array(attached);
}

}  // namespace whorl
