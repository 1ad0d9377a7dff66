// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/libev_driver.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

// What blocks, files first of all, is done by the work pool: epoll knows nothing of files.

namespace whorl::detail {

Error LibevDriver::work_open() noexcept {
    if (work_ != nullptr) return {};
    Result<WorkPool*> made = make_work_pool(context_);
    if (!made) return made.error();
    work_ = *made;
    libev_init(work_io_, &on_work, this);
    libev_set(work_io_, work_->event_fd(), EV_READ);
    libev_.ev_io_start(loop_, &work_io_);
    return {};
}

void LibevDriver::work_start(OpRecord& record) noexcept {
    Error refused = work_open();
    const int fd = record.descriptor == 0 ? AT_FDCWD : fd_of(record);
    if (!refused) refused = work_->submit(record, fd);
    if (refused) return push(record, -refused.value());
    record.flags |= op_in_pool;
    ++work_out_;
}

void LibevDriver::on_work(struct ev_loop*, ev_io* io, int events) noexcept {
    auto& driver = *static_cast<LibevDriver*>(io->data);
    if ((static_cast<unsigned>(events) & EV_ERROR) != 0) return driver.own_refused(*io);
    std::uint64_t count = 0;
    static_cast<void>(!::read(driver.work_->event_fd(), &count, sizeof count));
    driver.work_collect();
}

void LibevDriver::work_collect() noexcept {
    WorkPool::Finished finished{};
    work_left_ = false;
    while (work_out_ != 0) {
        work_left_ = batch_->full();
        if (work_left_ || !work_->take(finished)) return;
        --work_out_;
        finished.record->flags &= static_cast<std::uint16_t>(~op_in_pool);
        push(*finished.record, finished.result);
    }
}

}  // namespace whorl::detail
