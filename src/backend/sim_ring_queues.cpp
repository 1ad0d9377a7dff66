// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/sim_ring_state.hpp"

#include <whorl/assert.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>

// The queues of a simulated ring: its making, io_uring_enter, and where completions go.

namespace whorl::detail {

namespace {

constexpr unsigned entries_max = 32768;
constexpr unsigned completions_max = 65536;

unsigned power_of_two(unsigned number) noexcept {
    unsigned power = 1;
    while (power < number) power *= 2;
    return power;
}

// The flags that make no sense without another.
bool consistent(unsigned flags) noexcept {
    constexpr unsigned tasks = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_DEFER_TASKRUN;
    if ((flags & IORING_SETUP_TASKRUN_FLAG) != 0 && (flags & tasks) == 0) return false;
    return (flags & IORING_SETUP_DEFER_TASKRUN) == 0 || (flags & IORING_SETUP_SINGLE_ISSUER) != 0;
}

}  // namespace

int SimRing::prepare(const SimRingLevel& level, unsigned entries,
                     io_uring_params& params) noexcept {
    if ((params.flags & ~level.setup_flags) != 0 || !consistent(params.flags)) return -EINVAL;
    const bool clamps = (params.flags & IORING_SETUP_CLAMP) != 0;
    if (entries == 0 || (entries > entries_max && !clamps)) return -EINVAL;
    params.sq_entries = power_of_two(std::min(entries, entries_max));
    params.features = level.features;
    if ((params.flags & IORING_SETUP_CQSIZE) == 0) {
        params.cq_entries = 2 * params.sq_entries;
        return 0;
    }
    if (params.cq_entries == 0 || (params.cq_entries > completions_max && !clamps)) return -EINVAL;
    params.cq_entries = power_of_two(std::min(params.cq_entries, completions_max));
    return params.cq_entries < params.sq_entries ? -EINVAL : 0;
}

SimRing::SimRing(SimKernel& kernel, const SimRingLevel& level, const io_uring_params& params)
    : SimFile(kernel), level_(level), setup_(params.flags), queues_(),
      disabled_((params.flags & IORING_SETUP_R_DISABLED) != 0), ops_(1), table_(64, 0) {
    queues_.sq_entries = params.sq_entries;
    queues_.sq_mask = params.sq_entries - 1;
    queues_.cq_entries = params.cq_entries;
    queues_.cq_mask = params.cq_entries - 1;
    queues_.array = std::make_unique<unsigned[]>(params.sq_entries);
    queues_.sqes = std::make_unique<io_uring_sqe[]>(params.sq_entries);
    queues_.cqe_bytes = std::make_unique<unsigned char[]>(params.cq_entries * sizeof(io_uring_cqe));
    queues_.cqes = reinterpret_cast<io_uring_cqe*>(queues_.cqe_bytes.get());
    const bool single = (setup_ & IORING_SETUP_SINGLE_ISSUER) != 0;
    if (single && !disabled_) owner_ = thread_token();
}

void SimRing::map(io_uring& ring) noexcept {
    ring.sq.khead = &queues_.sq_head;
    ring.sq.ktail = &queues_.sq_tail;
    ring.sq.kring_mask = &queues_.sq_mask;
    ring.sq.kring_entries = &queues_.sq_entries;
    ring.sq.kflags = &queues_.sq_flags;
    ring.sq.kdropped = &queues_.sq_dropped;
    ring.sq.array = (setup_ & setup_no_sqarray) == 0 ? queues_.array.get() : nullptr;
    ring.sq.sqes = queues_.sqes.get();
    ring.sq.ring_mask = queues_.sq_mask;
    ring.sq.ring_entries = queues_.sq_entries;
    ring.cq.khead = &queues_.cq_head;
    ring.cq.ktail = &queues_.cq_tail;
    ring.cq.kring_mask = &queues_.cq_mask;
    ring.cq.kring_entries = &queues_.cq_entries;
    ring.cq.kflags = &queues_.cq_flags;
    ring.cq.koverflow = &queues_.cq_overflow;
    ring.cq.cqes = queues_.cqes;
    ring.cq.ring_mask = queues_.cq_mask;
    ring.cq.ring_entries = queues_.cq_entries;
}

unsigned SimRing::poll_bits() const noexcept {
    if (left_) return 0;
    const bool news = ready() != 0 || !overflow_.empty() || (deferred() && !work_.empty());
    return POLLOUT | (news ? POLLIN : 0u);
}

// --- io_uring_enter

bool SimRing::foreign() const noexcept { return owner_ != 0 && owner_ != thread_token(); }

int SimRing::enter(unsigned submit, unsigned complete, unsigned flags, void* argument,
                   std::size_t size) {
    if (disabled_) return -EBADFD;
    if (foreign()) return -EEXIST;
    Instant deadline = instant_never;
    if ((flags & IORING_ENTER_EXT_ARG) != 0) {
        if (size != sizeof(io_uring_getevents_arg)) return -EINVAL;
        const auto& extra = *static_cast<const io_uring_getevents_arg*>(argument);
        if (extra.ts != 0) {
            const auto& time = *reinterpret_cast<const __kernel_timespec*>(extra.ts);
            const Nanoseconds wait = std::chrono::seconds(time.tv_sec) + Nanoseconds(time.tv_nsec);
            deadline = add_saturating(kernel_.clock(), wait);
        }
    }
    int taken = 0;
    if (submit != 0) {
        taken = take(submit);
        if (taken < 0 || static_cast<unsigned>(taken) < submit) {
            kernel_.settle();  // time goes on even for who is refused for ever
            return taken;
        }
    }
    if ((flags & IORING_ENTER_GETEVENTS) == 0) {
        kernel_.settle();
        return taken;
    }
    const int waited = wait(std::min(complete, queues_.cq_entries), deadline);
    entered_ = true;
    return taken != 0 ? taken : waited;
}

// Takes entries from the submission queue; how many, or why none.
int SimRing::take(unsigned count) {
    if (level_.busy_when_full && !overflow_.empty()) {
        overflow_flush();
        if (!overflow_.empty()) return -EBUSY;
    }
    unsigned head = queues_.sq_head;
    const unsigned tail = __atomic_load_n(&queues_.sq_tail, __ATOMIC_ACQUIRE);
    WHORL_ASSERT(tail - head <= queues_.sq_entries);
    count = std::min(count, tail - head);
    if (count != 0 && entered_ && kernel_.faulty(kernel_.options().ring_refusal)) {
        const int refusals[] = {0, -EAGAIN, -EBUSY};
        const int refusal = refusals[kernel_.choices.below(3)];
        if (refusal == 0) count = 1 + kernel_.choices.below(count);
        kernel_.trace("enter takes %d", refusal == 0 ? static_cast<int>(count) : refusal);
        if (refusal != 0) return refusal;
    }
    int taken = 0;
    for (bool goes_on = true; goes_on && count > 0; --count) {
        const unsigned slot = head++ & queues_.sq_mask;
        const unsigned index = (setup_ & setup_no_sqarray) == 0 ? queues_.array[slot] : slot;
        if (index >= queues_.sq_entries) {
            ++queues_.sq_dropped;
            break;
        }
        const io_uring_sqe sqe = queues_.sqes[index];
        // A refused entry ends the batch, unless the ring was made otherwise.
        goes_on = start(sqe) || (setup_ & IORING_SETUP_SUBMIT_ALL) != 0;
        ++taken;
    }
    __atomic_store_n(&queues_.sq_head, head, __ATOMIC_RELEASE);
    return taken;
}

int SimRing::wait(unsigned complete, Instant deadline) {
    run_work();
    overflow_flush();
    if (ready() >= complete) {
        kernel_.settle();
        run_work();
        overflow_flush();
        return 0;
    }
    if (deadline != instant_never) deadline = add_saturating(deadline, lateness());
    const std::function<bool()> news = [this, complete] {
        return ready() >= complete || (deferred() && !work_.empty());
    };
    for (;;) {
        if (kernel_.faulty(kernel_.options().ring_refusal)) {
            kernel_.trace("enter is interrupted");
            kernel_.settle();
            run_work();
            return -EINTR;
        }
        if (!kernel_.wait(news, deadline)) return -ETIME;
        run_work();
        overflow_flush();
        if (ready() >= complete) return 0;
    }
}

// --- completions

unsigned SimRing::ready() const noexcept {
    return queues_.cq_tail - __atomic_load_n(&queues_.cq_head, __ATOMIC_ACQUIRE);
}

void SimRing::flag(unsigned bit, bool on) noexcept {
    unsigned flags = queues_.sq_flags;
    flags = on ? flags | bit : flags & ~bit;
    __atomic_store_n(&queues_.sq_flags, flags, __ATOMIC_RELEASE);
}

void SimRing::post(std::uint64_t user_data, int result, unsigned flags, bool futile) {
    io_uring_cqe cqe{};
    cqe.user_data = user_data;
    cqe.res = result;
    cqe.flags = flags;
    kernel_.trace("cqe %llx result %d flags %x", static_cast<unsigned long long>(user_data), result,
                  flags);
    // A cancellation that found nothing is no news: whoever repeats it would keep the clock standing still.
    if (!futile) ++kernel_.counters.events;
    // One that came after another does not overtake it.
    if (overflow_.empty() && ready() < queues_.cq_entries) {
        put(cqe);
    } else {
        overflow_.push_back(cqe);
        flag(IORING_SQ_CQ_OVERFLOW, true);
    }
    signal();
}

void SimRing::put(const io_uring_cqe& cqe) noexcept {
    queues_.cqes[queues_.cq_tail & queues_.cq_mask] = cqe;
    __atomic_store_n(&queues_.cq_tail, queues_.cq_tail + 1, __ATOMIC_RELEASE);
}

void SimRing::overflow_flush() {
    if (overflow_.empty()) return;
    while (!overflow_.empty() && ready() < queues_.cq_entries) {
        put(overflow_.front());
        overflow_.pop_front();
    }
    if (overflow_.empty()) flag(IORING_SQ_CQ_OVERFLOW, false);
    signal();
}

// There is something for the program: tells its eventfd, and whoever polls the ring.
void SimRing::signal() {
    if (event_ != nullptr) {
        const std::uint64_t one = 1;
        static_cast<void>(event_->write(&one, sizeof one, 0));
    }
    changed();
}

}  // namespace whorl::detail
