// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/lend.hpp"
#include "backend/uring_driver.hpp"
#include "backend/work_calls.hpp"
#include "backend/zero_copy.hpp"

#include <poll.h>

// The turn of the io_uring driver: what has been submitted is staged, the ring is entered, and what has
// completed is collected. Every message passes here, so what is rare stands apart and is asked for once.

namespace whorl::detail {

namespace {

constexpr std::uint64_t bit_of(OpKind kind) noexcept {
    return std::uint64_t{1} << static_cast<unsigned>(kind);
}

// Kinds that may be answered by a plain system call, or by a thread.
constexpr std::uint64_t kinds_called() noexcept {
    std::uint64_t kinds = bit_of(OpKind::watch) | bit_of(OpKind::shutdown) |
                          bit_of(OpKind::connect_unix) | bit_of(OpKind::send_batch);
    for (std::uint32_t index = 0; index < op_kind_count; ++index) {
        const auto kind = static_cast<OpKind>(index);
        if (is_blocking(kind)) kinds |= bit_of(kind);
    }
    return kinds;
}

constexpr bool may_be_called(OpKind kind) noexcept {
    return (kinds_called() >> static_cast<unsigned>(kind) & 1) != 0;
}

}  // namespace

void UringDriver::stage_again() noexcept {
    while (!again_.empty()) {
        io_uring_sqe* sqe = entry();
        if (sqe == nullptr) return;
        OpRecord& record = *again_.pop_front(context_.operations);
        stage(record, sqe);
        sqe->user_data = context_.operations.handle_of(&record);
        record.flags &= static_cast<std::uint16_t>(~op_in_again);
    }
}

[[gnu::always_inline]] inline void UringDriver::stage_all(OpList& submissions,
                                                          CompletionBatch& batch) noexcept {
    Slab<OpRecord>& operations = context_.operations;
    std::uint32_t staged = 0;
    while (!submissions.empty()) {
        OpRecord& record = operations.at(submissions.head);
        if (may_be_called(record.kind)) {
            const bool by_call = is_plain_call(record.kind) ||
                                 (is_blocking(record.kind) && !in_ring(record)) ||
                                 (record.kind == OpKind::watch && (record.extra & POLLPRI) != 0);
            if (by_call && batch.full()) break;
            if (by_call && answer_by_call(record, submissions, batch)) continue;
        }
        io_uring_sqe* sqe = entry();
        if (sqe == nullptr) break;  // the kernel takes no more now
        stage(record, sqe);
        sqe->user_data = operations.handle_of(&record);
        submissions.pop_front(operations);
        lend(record);
        if (fills_blocks(record.kind)) ++streams_;
        ++staged;
    }
    context_.statistics.submissions += staged;
}

// Mostly something was moved, and there is nothing to interpret.
[[gnu::always_inline]] inline void UringDriver::collect(CompletionBatch& batch) noexcept {
    Slab<OpRecord>& operations = context_.operations;
    const unsigned there = ring_.completions();
    const unsigned first = ring_.completion_first();
    unsigned count = 0;
    // Those that give no entry take no room, or a turn might bring nothing while more waits.
    for (; count < there && batch.count < batch.capacity; ++count) {
        const io_uring_cqe& cqe = ring_.completion_at(first + count);
        OpRecord* record = operations.find(cqe.user_data);
        if (record == nullptr) {
            collect_other(cqe);
            continue;
        }
        const bool more = (cqe.flags & IORING_CQE_F_MORE) != 0;
        const bool usual = cqe.res > 0 && (record->flags & op_backend_all) == 0;
        if (!usual || (more && sends_zero_copy(record->kind))) {
            collect_record(*record, cqe, batch);
            continue;
        }
        PoolBlock* block = nullptr;
        if ((cqe.flags & IORING_CQE_F_BUFFER) != 0) {
            block = block_of(cqe.flags >> IORING_CQE_BUFFER_SHIFT);
        }
        if (!more) {
            if (fills_blocks(record->kind)) --streams_;
            give_back(*record);
        }
        batch.entries[batch.count++] = {cqe.user_data, cqe.res, more ? completion_more : 0, block};
    }
    if (count == 0 && work_out_ == 0) return;
    ring_.pop(count);
    if (work_out_ != 0) work_collect(batch);
    buffers_.publish();
    bulk_.publish();
    if (buffers_.lacks()) buffers_.fill();
    if (bulk_.lacks()) bulk_.fill();
}

// The one system call of a turn. It is left out when nothing is to be said and the kernel's flags in
// shared memory say that it has nothing for us, but not for more than a few turns in a row.
inline Error UringDriver::wait_staged(OpList& submissions, Nanoseconds timeout,
                                      CompletionBatch& batch) noexcept {
    if (buffers_.lacks()) buffers_.fill();
    if (bulk_.lacks()) bulk_.fill();
    if (!submissions.empty()) stage_all(submissions, batch);
    // What the kernel would not take yet must be offered again soon, not after a wait.
    const bool all_staged = (submissions.head | again_.head | cancels_.head) == 0;
    const bool waits = timeout != Nanoseconds::zero() && all_staged && batch.empty() &&
                       ring_.completions() == 0 && !work_left_ && work_heard();
    if (waits || !may_stay_out()) {
        idle_turns_ = 0;
        ++context_.statistics.kernel_waits;
        const Error error = ring_.enter(waits ? 1 : 0, timeout);
        if (ring_.overflowed()) ++context_.statistics.completion_overflows;
        // The kernel is short of memory or room for completions: reap, and submit the rest next time.
        if (error && error.value() != EAGAIN && error.value() != EBUSY) return error;
    }
    collect(batch);
    return {};
}

// Whether there is anything to do but to submit, wait and collect.
Error UringDriver::wait(OpList& submissions, Nanoseconds timeout, CompletionBatch& batch) noexcept {
    const bool listed = (ended_.head | again_.head | cancels_.head | repeats_.head) != 0;
    if (rest_ || listed) return wait_with_rest(submissions, timeout, batch);
    return wait_staged(submissions, timeout, batch);
}

[[gnu::noinline]] Error UringDriver::wait_with_rest(OpList& submissions, Nanoseconds timeout,
                                                    CompletionBatch& batch) noexcept {
    if (notify_fd_ >= 0) notify_heard();
    if (!ring_.is_open()) {
        if (Error error = reopen()) return error;
        register_index();
    }
    if (!ended_.empty()) collect_ended(batch);
    if (wake_fd_ >= 0 && !wake_armed_) stage_wake();
    if (!work_heard()) work_stage();
    if (!repeats_.empty()) timeout = resume_repeats(timeout);
    if (!cancels_.empty()) stage_cancels(batch.capacity);
    if (!again_.empty()) stage_again();
    watch_rest();
    if (Error error = wait_staged(submissions, timeout, batch)) return error;
    if (notify_fd_ >= 0) notify_of_rest();
    return {};
}

// What stays to be done in every turn, or until the kernel takes it.
void UringDriver::watch_rest() noexcept {
    const bool unheard = (wake_fd_ >= 0 && !wake_armed_) || !work_heard();
    rest_ = notify_fd_ >= 0 || !ring_.is_open() || unheard;
}

}  // namespace whorl::detail
