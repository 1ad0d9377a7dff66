// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/sim_driver.hpp"

#include "backend/lend.hpp"
#include "backend/payload.hpp"
#include "backend/select.hpp"
#include "backend/work_calls.hpp"

#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <new>
#include <utility>

namespace whorl::detail {

namespace {
// The world's own token for the eventfd that wakes the loop: no record has index 0.
constexpr std::uint64_t token_wake = 0;
}  // namespace

Result<Driver*> make_sim_driver(const DriverContext& context) noexcept {
    auto* driver = new (std::nothrow) SimDriver(context);
    if (driver == nullptr) return Error::from_errno(ENOMEM);
    return static_cast<Driver*>(driver);
}

// A kernel goes on with what it has, whoever has gone. What is still in flight here is written to for
// a while, so that a loop that freed its memory too early is found out.
SimDriver::~SimDriver() {
    *alive_ = false;
    --kernel_.drivers;
    if (wake_ != nullptr) wake_->unwatch(*this, token_wake);
    for (std::uint32_t index = 1; index < pending_.size(); ++index) {
        if (pending_[index].file == nullptr) continue;
        OpRecord& record = context_.operations.at(index);
        if (record.kind == OpKind::recv) {
            unguard_lent(record);
            const Span span = span_to_receive(record);
            std::byte* first = span.size != 0 ? span.data : nullptr;
            kernel_.at(kernel_.clock() + std::chrono::milliseconds(kernel_.choices.below(1000)),
                       [first, file = pending_[index].file] {
                           if (first != nullptr) *first = std::byte{0xEE};
                       });
        }
        end_waiting(index);
    }
    if (notify_fd_ >= 0) kernel_.close(notify_fd_);
}

Error SimDriver::wait(OpList& submissions, Nanoseconds timeout, CompletionBatch& batch) noexcept {
    const Instant deadline =
        timeout < Nanoseconds::zero() ? instant_never : add_saturating(kernel_.clock(), timeout);
    if (notify_ != nullptr) {
        std::uint64_t count = 0;
        static_cast<void>(notify_->read(&count, sizeof count, 0));
    }
    ++context_.statistics.kernel_waits;
    while (OpRecord* record = submissions.pop_front(context_.operations)) start(*record);
    const std::function<bool()> news = [this] {
        return !done_.empty() || !candidates_.empty() || woken_;
    };
    attempt_candidates();
    // Who does not wait sees what is due by now all the same.
    if (timeout == Nanoseconds::zero() || woken_ || !done_.empty()) {
        kernel_.settle();
        attempt_candidates();
    }
    while (done_.empty() && !woken_ && kernel_.clock() < deadline) {
        static_cast<void>(kernel_.wait(news, deadline));
        attempt_candidates();
    }
    if (woken_) {
        std::uint64_t count = 0;
        static_cast<void>(wake_->read(&count, sizeof count, 0));
        woken_ = false;
    }
    collect(batch);
    return {};
}

void SimDriver::start(OpRecord& record) noexcept {
    lend(record);
    record.flags &= static_cast<std::uint16_t>(~op_final_seen);
    ++context_.statistics.submissions;
    const std::uint32_t index = context_.operations.index_of(&record);
    if (index >= pending_.size()) pending_.resize(index + 1);
    Pending& place = pending_[index];
    place.handle = context_.operations.handle_of(&record);
    place.last_due = Instant{};
    ++place.flight;
    place.losing = false;
    kernel_.trace("start %s %u", name_of(record.kind), index);
    if (record.kind == OpKind::nop) return complete(record, 0);
    if (is_blocking(record.kind)) return start_blocking(record);
    const int fd = record.kind == OpKind::watch ? static_cast<int>(record.descriptor)
                                                : context_.descriptors.at(record.descriptor).fd;
    place.file = kernel_.file(fd);
    if (place.file == nullptr) return complete(record, -EBADF);
    place.file->watch(*this, index);
    {
        const LentInUse in_use(record);
        scribble(record);
    }
    attempt(index);
}

// What would block a thread elsewhere happens as a whole, now or some time later. Until then it can be
// cancelled.
void SimDriver::start_blocking(OpRecord& record) noexcept {
    const std::uint32_t index = context_.operations.index_of(&record);
    Pending& place = pending_[index];
    place.file = std::make_shared<SimNull>(kernel_);
    place.file->watch(*this, index);
    Instant when = kernel_.clock();
    if (kernel_.faulty(kernel_.options().late_completion)) {
        const auto most = static_cast<std::uint32_t>(kernel_.options().lateness_max_us * 1000);
        when += Nanoseconds(1 + kernel_.choices.below(most));
    }
    kernel_.at(when, [this, alive = alive_, index, flight = place.flight] {
        if (!*alive) return;
        Pending& then = pending_[index];
        if (then.flight == flight && then.file != nullptr) file_changed(*then.file, index);
    });
}

void SimDriver::attempt(std::uint32_t index) noexcept {
    Pending& place = pending_[index];
    OpRecord& record = context_.operations.at(index);
    const SimFilePtr file = place.file;
    std::int32_t result = fault(record, *file);
    if (result == would_block) {
        const LentInUse in_use(record);
        result = call(record, *file);
    }
    if (place.file == nullptr) return;  // a stream that has ended on the way
    if (result != would_block) return complete(record, result);
    if (place.losing) complete(record, -ECANCELED);
}

void SimDriver::attempt_candidates() noexcept {
    // Those that an attempt adds are for this round as well: a full pipe that became empty.
    for (std::size_t next = 0; next < candidates_.size(); ++next) {
        const std::uint32_t index = candidates_[next];
        pending_[index].candidate = false;
        if (pending_[index].file != nullptr) attempt(index);
    }
    candidates_.clear();
}

// A received stream fills no more blocks than a ring of buffers holds before they are delivered.
bool SimDriver::may_fill(std::uint32_t index) noexcept {
    if (filled_ < context_.options.recv_ring_depth) return true;
    if (!pending_[index].full) full_.push_back(index);
    pending_[index].full = true;
    return false;
}

void SimDriver::blocks_delivered() noexcept {
    for (const std::uint32_t index : full_) {
        Pending& place = pending_[index];
        place.full = false;
        if (place.file != nullptr) file_changed(*place.file, index);
    }
    full_.clear();
}

void SimDriver::file_changed(SimFile& file, std::uint64_t token) {
    if (token == token_wake) {
        if ((file.poll_bits() & POLLIN) != 0) {
            woken_ = true;
            notify();
        }
        return;
    }
    Pending& place = pending_[static_cast<std::size_t>(token)];
    if (place.candidate) return;
    place.candidate = true;
    candidates_.push_back(static_cast<std::uint32_t>(token));
    notify();
}

void SimDriver::cancel(OpRecord& record) noexcept {
    WHORL_ASSERT(record.state == OpState::kernel);
    const std::uint32_t index = context_.operations.index_of(&record);
    Pending& place = pending_[index];
    if (place.file == nullptr || place.losing) return;  // it is done, or about to be
    kernel_.trace("cancel %s %u", name_of(record.kind), index);
    // A watch must be let go of at once: its owner may close the descriptor now.
    if (record.kind == OpKind::watch || !kernel_.faulty(kernel_.options().cancel_loses)) {
        return complete(record, -ECANCELED);
    }
    place.losing = true;
    const Instant when = kernel_.clock() + Nanoseconds(kernel_.choices.below(100'000));
    kernel_.at(when, [this, alive = alive_, index, flight = place.flight] {
        if (!*alive) return;
        Pending& then = pending_[index];
        if (then.flight == flight && then.file != nullptr) file_changed(*then.file, index);
    });
}

// --- completions

void SimDriver::end_waiting(std::uint32_t index) noexcept {
    Pending& place = pending_[index];
    if (place.file == nullptr) return;
    place.file->unwatch(*this, index);
    place.file = nullptr;
}

void SimDriver::complete(OpRecord& record, std::int32_t result, bool more,
                         PoolBlock* block) noexcept {
    const std::uint32_t index = context_.operations.index_of(&record);
    Pending& place = pending_[index];
    if (!more) end_waiting(index);
    if (block != nullptr) ++filled_;
    const Completion completion{place.handle, result, more ? completion_more : 0, block};
    Instant due = kernel_.clock();
    if (is_blocking(record.kind)) due += std::exchange(kernel_.work_takes, Nanoseconds::zero());
    if (kernel_.faulty(kernel_.options().late_completion)) {
        const auto most = static_cast<std::uint32_t>(kernel_.options().lateness_max_us * 1000);
        due += Nanoseconds(1 + kernel_.choices.below(most));
    }
    due = std::max(due, place.last_due);
    place.last_due = due;
    // An earlier one may be due and not there yet: the clock moves between events as well.
    if (due <= kernel_.clock() && place.late == 0) return settle(completion);
    ++place.late;
    kernel_.at(due, [this, alive = alive_, completion, index] {
        if (!*alive) return;
        --pending_[index].late;
        settle(completion);
    });
}

void SimDriver::settle(const Completion& completion) noexcept {
    const std::uint64_t lose_every = kernel_.options().lose_every;
    if (lose_every != 0 && ++settled_ % lose_every == 0) return;
    kernel_.trace("done %u result %d%s", static_cast<unsigned>(completion.operation & UINT32_MAX),
                  completion.result, completion.flags != 0 ? " more" : "");
    done_.push_back(completion);
    notify();
}

// Out of order when the world likes, but never two of one operation.
void SimDriver::collect(CompletionBatch& batch) noexcept {
    while (!done_.empty() && !batch.full()) {
        std::size_t chosen = 0;
        if (done_.size() > 1 && kernel_.faulty(kernel_.options().reordering)) {
            chosen = kernel_.choices.below(static_cast<std::uint32_t>(done_.size()));
            const std::uint64_t operation = done_[chosen].operation;
            for (std::size_t index = 0; index < chosen; ++index) {
                if (done_[index].operation == operation) chosen = index;
            }
        }
        const Completion completion = done_[chosen];
        done_.erase(done_.begin() + static_cast<std::ptrdiff_t>(chosen));
        OpRecord* record = find_record(context_, completion.operation);
        WHORL_ASSERT(record != nullptr);
        if ((completion.flags & completion_more) == 0) give_back(*record);
        if (completion.block != nullptr) --filled_;
        batch.push(completion);
    }
    if (!full_.empty() && filled_ < context_.options.recv_ring_depth) blocks_delivered();
    if (!done_.empty()) notify();
}

// --- guests and wake-ups

Error SimDriver::watch_wake(int event_fd) noexcept {
    WHORL_ASSERT(wake_ == nullptr);
    wake_ = kernel_.file(event_fd);
    if (wake_ == nullptr) return Error::from_errno(EBADF);
    wake_->watch(*this, token_wake);
    return {};
}

Result<int> SimDriver::notify_fd() noexcept {
    if (notify_fd_ >= 0) return notify_fd_;
    const int fd = kernel_.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) return Error::from_errno(fd);
    notify_fd_ = fd;
    notify_ = kernel_.file(fd);
    return notify_fd_;
}

void SimDriver::notify() noexcept {
    if (notify_ == nullptr) return;
    const std::uint64_t one = 1;
    static_cast<void>(notify_->write(&one, sizeof one, 0));
}

}  // namespace whorl::detail
