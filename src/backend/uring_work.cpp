// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/lend.hpp"
#include "backend/uring_driver.hpp"

#include <fcntl.h>

// What io_uring cannot do, or not at the level of this ring, is done by the work pool. A poll in the
// ring hears of what has ended.

namespace whorl::detail {

void UringDriver::work_start(OpRecord& record, CompletionBatch& batch) noexcept {
    clear_bits(record);
    lend(record);
    ++context_.statistics.submissions;
    Error refused;
    if (work_ == nullptr) {
        Result<WorkPool*> made = make_work_pool(context_);
        if (made) work_ = *made;
        else refused = made.error();
    }
    const int fd =
        record.descriptor == 0 ? AT_FDCWD : context_.descriptors.at(record.descriptor).fd;
    if (!refused) refused = work_->submit(record, fd);
    if (refused) return push(record, -refused.value(), false, nullptr, batch);
    ++work_out_;
    work_stage();
    rest_ |= !work_heard();
}

// A multishot poll hears each write to the eventfd, and needs no read.
void UringDriver::work_stage() noexcept {
    if (work_out_ == 0 || work_armed_) return;
    io_uring_sqe* sqe = entry();
    if (sqe == nullptr) return;
    io_uring_prep_poll_add(sqe, work_->event_fd(), POLLIN);
    sqe->len = IORING_POLL_ADD_MULTI;
    sqe->user_data = data_work;
    work_armed_ = true;
}

bool UringDriver::work_cancel(OpRecord& record) noexcept {
    if (!work_->cancel(record)) return false;
    --work_out_;
    return true;
}

void UringDriver::work_collect(CompletionBatch& batch) noexcept {
    WorkPool::Finished finished{};
    work_left_ = false;
    while (work_out_ != 0) {
        work_left_ = batch.full();
        if (work_left_ || !work_->take(finished)) return;
        --work_out_;
        push(*finished.record, finished.result, false, nullptr, batch);
    }
}

}  // namespace whorl::detail
