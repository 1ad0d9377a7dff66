// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/sim_kernel.hpp"
#include "backend/work_calls.hpp"
#include "backend/work_pool.hpp"

#include <sys/eventfd.h>

#include <cerrno>
#include <deque>
#include <memory>
#include <new>
#include <vector>

// The work pool of the io_uring driver on a simulated ring: no threads. Each job is performed by an
// event of the world, at once or some time later, and its end is told at once or later still.

namespace whorl::detail {

namespace {

class SimWorkPool final : public WorkPool {
  public:
    explicit SimWorkPool(SimKernel& kernel) : kernel_(kernel) { jobs_.emplace_back(); }
    ~SimWorkPool() override {
        *alive_ = false;
        if (event_fd_ >= 0) static_cast<void>(kernel_.close(event_fd_));
    }

    Error open() noexcept {
        event_fd_ = kernel_.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        return event_fd_ < 0 ? Error::from_errno(event_fd_) : Error();
    }
    Error submit(OpRecord& record, int fd) noexcept override;
    bool cancel(OpRecord& record) noexcept override;
    bool take(Finished& finished) noexcept override;
    int event_fd() const noexcept override { return event_fd_; }

  private:
    struct Job {
        OpRecord* record = nullptr;
        std::uint64_t event = 0;
        std::int32_t result = 0;
        int fd = -1;
        bool begun = false;
    };
    Nanoseconds lateness();
    void begin(std::uint32_t index);
    void end(std::uint32_t index);

    SimKernel& kernel_;
    int event_fd_ = -1;
    std::deque<Job> jobs_;  // 0 names none
    std::vector<std::uint32_t> free_;
    std::deque<std::uint32_t> done_;
    // Events of the kernel may outlive the pool; they look here first.
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

Nanoseconds SimWorkPool::lateness() {
    if (!kernel_.faulty(kernel_.options().late_completion)) return Nanoseconds::zero();
    const auto most = static_cast<std::uint32_t>(kernel_.options().lateness_max_us * 1000);
    return Nanoseconds(1 + kernel_.choices.below(most));
}

Error SimWorkPool::submit(OpRecord& record, int fd) noexcept {
    std::uint32_t index = 0;
    if (free_.empty()) {
        index = static_cast<std::uint32_t>(jobs_.size());
        jobs_.emplace_back();
    } else {
        index = free_.back();
        free_.pop_back();
    }
    Job& job = jobs_[index];
    job = Job{};
    job.record = &record;
    job.fd = fd;
    record.link = index;
    kernel_.trace("work %s %u", name_of(record.kind), index);
    job.event = kernel_.at(kernel_.clock() + lateness(), [this, alive = alive_, index] {
        if (*alive) begin(index);
    });
    return {};
}

void SimWorkPool::begin(std::uint32_t index) {
    Job& job = jobs_[index];
    job.begun = true;
    kernel_.work_takes = Nanoseconds::zero();
    job.result = perform(kernel_, job.fd, *job.record);
    const Nanoseconds late = kernel_.work_takes + lateness();
    if (late == Nanoseconds::zero()) return end(index);
    kernel_.at(kernel_.clock() + late, [this, alive = alive_, index] {
        if (*alive) end(index);
    });
}

void SimWorkPool::end(std::uint32_t index) {
    kernel_.trace("work done %u result %d", index, jobs_[index].result);
    done_.push_back(index);
    const std::uint64_t one = 1;
    static_cast<void>(kernel_.write(event_fd_, &one, sizeof one));
}

bool SimWorkPool::cancel(OpRecord& record) noexcept {
    Job& job = jobs_[record.link];
    WHORL_ASSERT(job.record == &record);
    if (job.begun || kernel_.faulty(kernel_.options().cancel_loses)) return false;
    kernel_.cancel_event(job.event);
    free_.push_back(record.link);
    return true;
}

bool SimWorkPool::take(Finished& finished) noexcept {
    if (done_.empty()) return false;
    const std::uint32_t index = done_.front();
    done_.pop_front();
    finished = {jobs_[index].record, jobs_[index].result};
    free_.push_back(index);
    return true;
}

}  // namespace

Result<WorkPool*> make_sim_work_pool(const DriverContext& context) noexcept {
    auto* pool = new (std::nothrow) SimWorkPool(*sim_kernel_of(context.options));
    if (pool == nullptr) return Error::from_errno(ENOMEM);
    if (Error error = pool->open()) {
        delete pool;
        return error;
    }
    return static_cast<WorkPool*>(pool);
}

}  // namespace whorl::detail
