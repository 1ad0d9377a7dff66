// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/uring_driver.hpp"

#include "backend/select.hpp"
#include "backend/work_calls.hpp"
#include "backend/zero_copy.hpp"

#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <new>
#include <utility>

namespace whorl::detail {

Result<Driver*> make_uring_driver(const DriverContext& context, std::uint32_t features_off,
                                  BackendReport& report) noexcept {
    auto* driver = new (std::nothrow) UringDriver(context, features_off);
    if (driver == nullptr) return Error::from_errno(ENOMEM);
    if (Error error = driver->open(report)) {
        delete driver;
        return error;
    }
    return static_cast<Driver*>(driver);
}

UringDriver::~UringDriver() {
    delete work_;
    ring_.close();
    if (notify_fd_ >= 0) context_.system.close(notify_fd_);
}

Error UringDriver::open(BackendReport& report) noexcept {
    const LoopOptions& options = context_.options;
    const auto wanted = [this](Feature feature) {
        return (features_off_ & feature_bit(feature)) == 0;
    };
    Ring::Setup setup{};
    setup.entries = options.submission_queue_depth;
    setup.completion_entries = options.completion_queue_depth != 0
                                   ? options.completion_queue_depth
                                   : std::min(options.submission_queue_depth * 4, 65536u);
    setup.defer_taskrun = wanted(Feature::defer_taskrun);
    setup.registered = wanted(Feature::registered_ring);
    setup.no_iowait = wanted(Feature::no_iowait);
    setup.limit = options.ring_limit;
    Ring::Failure failure{"", 0};
    const Error error = ring_.open(setup, failure);
    if (error) {
        report.failed_step = failure.step;
        report.failed_errno = failure.number;
        return error;
    }
    thread_ = thread_token();
    report.features_distrusted &= choose_features();
    report.features = features_;
    report.ring_limit = options.ring_limit;
    if (registration_possible()) report.registered_buffers = !registered_.open();
    return {};
}

// What the probe found, less what was switched off. Some features have no probe of their own; an
// operation that came with the same or a later kernel stands for them. Returns what was found.
std::uint32_t UringDriver::choose_features() noexcept {
    std::uint32_t found = 0;
    if (ring_.opcode_supported(IORING_OP_SOCKET)) found |= feature_bit(Feature::multishot_accept);
    if (ring_.opcode_supported(IORING_OP_SEND_ZC)) found |= feature_bit(Feature::multishot_recv);
    if (ring_.deferred()) found |= feature_bit(Feature::defer_taskrun);
    if (ring_.registrable()) found |= feature_bit(Feature::registered_ring);
    if (ring_.hides_iowait()) found |= feature_bit(Feature::no_iowait);
    if ((features_off_ & feature_bit(Feature::buffer_ring)) == 0) {
        // The ring takes at most half of the pool, so that the program has buffers, too.
        const std::size_t half = context_.pool.bytes_max() / context_.options.recv_buffer_size / 2;
        std::uint32_t depth = context_.options.recv_ring_depth_max;
        while (depth > 1 && depth > half) depth /= 2;
        const std::uint32_t wanted = std::min(context_.options.recv_ring_depth, depth);
        if (!buffers_.is_open()) {
            static_cast<void>(buffers_.open(depth, wanted, context_.options.recv_buffer_size));
        }
        if (buffers_.is_open()) found |= feature_bit(Feature::buffer_ring);
    }
    features_ = found & ~features_off_;
    return found;
}

// A ring belongs to the thread that made it. When the loop runs on another one, the ring is made anew
// there: the kernel has been given nothing yet.
Error UringDriver::bind() noexcept {
    rest_ = true;
    if (thread_ != thread_token()) {
        ring_.close();
        if (Error error = reopen()) return error;
    }
    register_index();
    return {};
}

// Only the thread that runs the ring registers it.
void UringDriver::register_index() noexcept {
    if (!has(Feature::registered_ring) || ring_.register_index()) return;
    features_ &= ~feature_bit(Feature::registered_ring);
}

// When this is refused, there is no ring, and the next wait() tries again.
Error UringDriver::reopen() noexcept {
    BackendReport ignored;
    if (Error error = open(ignored)) return error;
    if (notify_fd_ >= 0) {
        if (Error error = ring_.register_event_fd(notify_fd_)) {
            ring_.close();
            return error;
        }
    }
    return {};
}

// The host has seen it.
void UringDriver::notify_heard() noexcept {
    std::uint64_t count = 0;
    static_cast<void>(!context_.system.read(notify_fd_, &count, sizeof count));
}

void UringDriver::notify_of_rest() noexcept {
    const bool hears_wakes = (wake_fd_ < 0 || wake_armed_) && work_heard() && !work_left_;
    const bool all_said = again_.empty() && ended_.empty() && cancels_.empty() && hears_wakes;
    if (!all_said || ring_.completions() != 0 || ring_.pending() != 0) notify();
}

// A guest's host sleeps until notify_fd is readable, and the kernel tells it of completions only: not
// of what the kernel did not take, of a poll that has ended, and not twice of what a turn had no room for.
void UringDriver::notify() noexcept {
    if (notify_fd_ >= 0) eventfd_raise(context_.system, notify_fd_);
}

// Nothing of the ring's or of ours waits for a wait(), as far as shared memory tells.
bool UringDriver::nothing_visible() const noexcept {
    if (!ring_.is_open() || ring_.completions() != 0 || notify_fd_ >= 0) return false;
    const bool lists_empty =
        ended_.empty() && again_.empty() && cancels_.empty() && repeats_.empty();
    const bool hears = (wake_fd_ < 0 || wake_armed_) && work_heard() && !work_left_;
    return lists_empty && hears && !buffers_.lacks() && !bulk_.lacks();
}

bool UringDriver::quiet() noexcept { return nothing_visible() && may_stay_out(); }

// A ring with deferred work says by a flag that there is some; the others are asked.
bool UringDriver::peek() noexcept {
    return !nothing_visible() || ring_.pending() != 0 || ring_.wants_enter() || !ring_.deferred();
}

// The queue is full: it is flushed first. Null if the kernel takes nothing now.
io_uring_sqe* UringDriver::entry_after_flush() noexcept {
    ++context_.statistics.queue_flushes;
    ++context_.statistics.kernel_waits;
    static_cast<void>(ring_.enter(0, Nanoseconds::zero()));
    return ring_.entry();
}

void UringDriver::cancel(OpRecord& record) noexcept {
    WHORL_ASSERT(record.state == OpState::kernel);
    if ((record.flags & (op_in_cancels | op_in_ended)) != 0) return;
    if (sends_zero_copy(record.kind) && zero_copy_answered(record)) return zero_copy_abort(record);
    if (is_blocking(record.kind) && !in_ring(record)) {
        if (!work_cancel(record)) return;  // it has begun: its end will be told
        record.flags |= op_in_ended;
        ended_.push_back(context_.operations, record);
        return;
    }
    if ((record.flags & op_in_again) != 0) {  // the kernel does not have it
        again_.remove(context_.operations, record);
        record.flags = static_cast<std::uint16_t>((record.flags & ~op_in_again) | op_in_ended);
        ended_.push_back(context_.operations, record);
        return;
    }
    record.flags |= op_in_cancels;
    cancels_.push_back(context_.operations, record);
}

// By user_data only: cancelling by descriptor, or any, is quadratic in the kernel. Not more at a time
// than the turn can collect: what overflows the completion queue is dear.
void UringDriver::stage_cancels(std::uint32_t budget) noexcept {
    for (; budget > 0 && !cancels_.empty(); --budget) {
        io_uring_sqe* sqe = entry();
        if (sqe == nullptr) return;
        OpRecord* record = cancels_.pop_front(context_.operations);
        record->flags &= static_cast<std::uint16_t>(~op_in_cancels);
        io_uring_prep_cancel64(sqe, context_.operations.handle_of(record), 0);
        if (ring_.skips_success()) sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;  // nobody reads it
        sqe->user_data = data_of_cancel(context_.operations.handle_of(record));
    }
}

// Cancellations that are to be repeated give the kernel a moment first, so that it is not asked without
// end while it cannot let go. Answers how long the wait may last: until that moment is over.
Nanoseconds UringDriver::resume_repeats(Nanoseconds timeout) noexcept {
    const Nanoseconds left = repeat_at_ - context_.system.now();
    if (left > Nanoseconds::zero()) {
        return timeout < Nanoseconds::zero() ? left : std::min(timeout, left);
    }
    while (OpRecord* record = repeats_.pop_front(context_.operations)) {
        record->flags =
            static_cast<std::uint16_t>((record->flags & ~op_in_repeats) | op_in_cancels);
        cancels_.push_back(context_.operations, *record);
    }
    return timeout;
}

// Submits and runs deferred work, so that the kernel lets go of files that cancelled polls held. What
// completes waits in the queue for the next turn.
void UringDriver::flush() noexcept {
    if (thread_ != thread_token() || !ring_.is_open()) return;  // the kernel has nothing yet
    stage_cancels(UINT32_MAX);
    if (ring_.pending() == 0) return;
    ++context_.statistics.kernel_waits;
    static_cast<void>(ring_.enter(0, Nanoseconds::zero()));
    if (ring_.pending() != 0 || !cancels_.empty()) notify();
}

Error UringDriver::watch_wake(int event_fd) noexcept {
    WHORL_ASSERT(wake_fd_ < 0);
    wake_fd_ = event_fd;
    rest_ = true;
    return {};
}

// A ring with deferred work signals its eventfd in the context of whoever wakes it. When that is itself
// a write to an eventfd, the kernel refuses to nest, and signals after a grace period once, then never
// again (seen on Linux 6.18). So a guest's ring runs its work in the host's system calls instead.
Result<int> UringDriver::notify_fd() noexcept {
    if (notify_fd_ >= 0) return notify_fd_;
    rest_ = true;
    if (has(Feature::defer_taskrun)) {
        features_off_ |= feature_bit(Feature::defer_taskrun);
        ring_.close();
        if (Error error = reopen()) return error;
    }
    const int fd = context_.system.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) return Error::from_errno(fd);
    if (Error error = ring_.register_event_fd(fd)) {
        context_.system.close(fd);
        return error;
    }
    notify_fd_ = fd;
    return notify_fd_;
}

}  // namespace whorl::detail
