// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/sim_ring_memory.hpp"
#include "backend/sim_ring_state.hpp"

#include <whorl/assert.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>

// The operations that a simulated ring has in flight: from their submission to their last completion,
// by way of waiting, task work and cancellation.

namespace whorl::detail {

// --- the table

SimRingOp& SimRing::claim(std::uint64_t user_data) {
    if (ops_free_ == 0) {
        ops_.emplace_back();
        ops_.back().index = ops_free_ = static_cast<std::uint32_t>(ops_.size() - 1);
    }
    SimRingOp& op = ops_[ops_free_];
    ops_free_ = op.next;
    if (++ops_count_ > table_.size()) table_grow();
    op.user_data = user_data;
    std::uint32_t& first = chain_of(user_data);
    op.next = first;
    first = op.index;
    return op;
}

void SimRing::release(SimRingOp& op) noexcept {
    std::uint32_t* link = &chain_of(op.user_data);
    while (*link != op.index) link = &ops_[*link].next;
    *link = op.next;
    const std::uint32_t index = op.index;
    std::vector<iovec> parts = std::move(op.parts);  // its memory serves the next one
    parts.clear();
    op = SimRingOp{};
    op.parts = std::move(parts);
    op.index = index;
    op.next = ops_free_;
    ops_free_ = index;
    --ops_count_;
}

std::uint32_t& SimRing::chain_of(std::uint64_t user_data) noexcept {
    const std::uint64_t mixed = (user_data ^ (user_data >> 32)) * 0x9E3779B97F4A7C15u;
    return table_[static_cast<std::size_t>(mixed >> 32) & (table_.size() - 1)];
}

void SimRing::table_grow() {
    table_.assign(table_.size() * 2, 0);
    for (SimRingOp& op : ops_) {
        if (op.place == SimRingOp::Place::free) continue;
        std::uint32_t& first = chain_of(op.user_data);
        op.next = first;
        first = op.index;
    }
}

SimRingOp* SimRing::find(std::uint64_t user_data) noexcept {
    SimRingOp* found = nullptr;
    for (std::uint32_t index = chain_of(user_data); index != 0; index = ops_[index].next) {
        SimRingOp& op = ops_[index];
        if (op.user_data == user_data && (found == nullptr || found->decided)) found = &op;
    }
    return found;
}

// --- waiting

void SimRing::file_changed(SimFile& file, std::uint64_t token) {
    SimRingOp& op = ops_[static_cast<std::size_t>(token)];
    if (op.place != SimRingOp::Place::armed) return;
    unsigned wanted = op.wanted;
    // Linux leaves POLLPRI out when it looks at a wake-up (seen on 6.18).
    if (op.opcode == IORING_OP_POLL_ADD) wanted &= ~static_cast<unsigned>(POLLPRI);
    if ((file.poll_bits() & wanted) == 0) return;
    const Nanoseconds late = op.multishot ? lateness() : Nanoseconds::zero();
    if (late != Nanoseconds::zero()) delay(op, late);
    else enqueue(op);
}

void SimRing::arm(SimRingOp& op) {
    op.place = SimRingOp::Place::armed;
    op.woken = true;
    if (op.watched) return;
    op.watched = true;
    op.file->watch(*this, op.index);
}

void SimRing::delay(SimRingOp& op, Nanoseconds time) {
    op.place = SimRingOp::Place::delayed;
    const auto due = [self = weak_from_this(), index = op.index] {
        const SimFilePtr file = self.lock();
        if (file == nullptr) return;
        auto& ring = static_cast<SimRing&>(*file);
        if (!ring.left_) ring.enqueue(ring.ops_[index]);
    };
    op.event = kernel_.at(kernel_.clock() + time, due);
}

// How much later than it might the world tells something.
Nanoseconds SimRing::lateness() {
    const testing::SimulationOptions& options = kernel_.options();
    if (!kernel_.faulty(options.late_completion)) return Nanoseconds::zero();
    const double most_ns = options.lateness_max_us * 1000;
    if (most_ns < 1) return Nanoseconds::zero();
    if (most_ns < 4e9) {
        return Nanoseconds(1 + kernel_.choices.below(static_cast<std::uint32_t>(most_ns)));
    }
    const double most_us = std::min(options.lateness_max_us, 4e9);
    return std::chrono::microseconds(1 +
                                     kernel_.choices.below(static_cast<std::uint32_t>(most_us)));
}

// --- task work

void SimRing::enqueue(SimRingOp& op) {
    op.place = SimRingOp::Place::work;
    work_.push_back(op.index);
    ++kernel_.counters.events;  // the world is not at rest, even if nobody is told yet
    if ((setup_ & IORING_SETUP_TASKRUN_FLAG) != 0) flag(IORING_SQ_TASKRUN, true);
    if (deferred()) return signal();
    if (work_scheduled_) return;
    work_scheduled_ = true;
    const bool cooperative = (setup_ & IORING_SETUP_COOP_TASKRUN) != 0;
    const Nanoseconds late = cooperative ? lateness() : Nanoseconds::zero();
    kernel_.at(kernel_.clock() + late, [self = weak_from_this()] {
        const SimFilePtr file = self.lock();
        if (file == nullptr) return;
        auto& ring = static_cast<SimRing&>(*file);
        ring.work_scheduled_ = false;
        if (!ring.left_) ring.run_work();
    });
}

// What is queued meanwhile is for this round as well.
void SimRing::run_work() {
    for (std::size_t next = 0; next < work_.size(); ++next) {
        const std::size_t rest = work_.size() - next;
        if (rest > 1 && kernel_.faulty(kernel_.options().reordering)) {
            const auto chosen = kernel_.choices.below(static_cast<std::uint32_t>(rest));
            std::swap(work_[next], work_[next + chosen]);
        }
        SimRingOp& op = ops_[work_[next]];
        WHORL_ASSERT(op.place == SimRingOp::Place::work);
        if (op.decided) tell(op);
        else attempt(op);
    }
    work_.clear();
    if ((setup_ & IORING_SETUP_TASKRUN_FLAG) != 0) flag(IORING_SQ_TASKRUN, false);
}

void SimRing::attempt(SimRingOp& op) {
    Outcome outcome{fault(op), 0};
    if (outcome.result == would_block) outcome = try_op(op);
    if (outcome.result == would_block && op.nowait) outcome.result = -EAGAIN;
    if (outcome.result == would_block && op.losing) outcome.result = -ECANCELED;
    if (outcome.result == would_block) {
        scribble(op);
        return arm(op);
    }
    // What was moved before is not hidden by what ended it.
    if (outcome.result < 0 && op.moved != 0) outcome.result = static_cast<int>(op.moved);
    complete(op, outcome.result, outcome.flags);
}

// --- the end

void SimRing::let_go(SimRingOp& op) noexcept {
    if (op.file == nullptr) return;
    if (op.watched) op.file->unwatch(*this, op.index);
    op.watched = false;
    op.file = nullptr;
}

void SimRing::decide(SimRingOp& op, int result, unsigned flags) {
    op.decided = true;
    op.result = result;
    op.flags = flags;
    let_go(op);
}

void SimRing::complete(SimRingOp& op, int result, unsigned flags) {
    decide(op, result, flags);
    // A chosen buffer is told at once, as Linux does: meanwhile nobody would know that it is gone.
    const bool chosen = (flags & IORING_CQE_F_BUFFER) != 0;
    const Nanoseconds late = chosen ? Nanoseconds::zero() : lateness();
    if (late != Nanoseconds::zero()) delay(op, late);
    else tell(op);
}

void SimRing::tell(SimRingOp& op) {
    if (op.notifies) tell_notification(op);
    else if (op.zero_copy && tell_answer(op)) return;
    const bool told = !op.silent || op.result < 0;
    const std::uint64_t user_data = op.user_data;
    const Outcome outcome{op.result, op.flags};
    release(op);
    if (told) post(user_data, outcome.result, outcome.flags);
}

int SimRing::cancel(std::uint64_t target, bool polls) {
    SimRingOp* op = find(target);
    if (op == nullptr || (polls && op->opcode != IORING_OP_POLL_ADD)) return -ENOENT;
    const double loses = kernel_.options().cancel_loses;
    if (op->decided || op->losing) return kernel_.faulty(loses) ? -EALREADY : -ENOENT;
    const bool queued = op->place == SimRingOp::Place::work;
    if (op->place == SimRingOp::Place::delayed) kernel_.cancel_event(op->event);
    scribble(*op);
    if (kernel_.faulty(loses)) {
        kernel_.trace("cancel %llx loses", static_cast<unsigned long long>(target));
        op->losing = true;
        // A poll lets go of its file at once: its owner may be about to close the descriptor.
        const bool polls_only = op->opcode == IORING_OP_POLL_ADD;
        const Nanoseconds late = polls_only ? Nanoseconds::zero() : lateness();
        if (late != Nanoseconds::zero() && !queued) delay(*op, late);
        else if (!queued) enqueue(*op);
        return -EALREADY;
    }
    decide(*op, op->moved != 0 ? static_cast<int>(op->moved) : -ECANCELED, 0);
    if (queued) return 0;
    // Its completion comes after the cancellation's own, or before.
    if (kernel_.faulty(kernel_.options().reordering)) tell(*op);
    else enqueue(*op);
    return 0;
}

// --- after the ring

namespace {

// Memory that an unfinished operation names when its ring is closed. The kernel still reads or writes
// it for a while; whoever has freed it meanwhile is found out.
struct LateAccess {
    char* data;
    std::size_t size;
    bool writes;

    LateAccess(char* memory, std::size_t count, bool written) noexcept
        : data(memory), size(count), writes(written) {}
    LateAccess(const LateAccess&) = delete;
    LateAccess& operator=(const LateAccess&) = delete;
    ~LateAccess() {
        const SimAccess access(data, size);
        if (writes) std::memset(data, 0xEE, size);
        volatile char seen = 0;
        for (std::size_t index = 0; index < size && !writes; index += 64) seen = data[index];
        static_cast<void>(seen);
    }
};

}  // namespace

void SimRing::leave_behind(SimRingOp& op) {
    if (op.place == SimRingOp::Place::delayed) kernel_.cancel_event(op.event);
    char* data = op.data + op.moved;
    std::size_t size = op.size - op.moved;
    if (op.selects) {
        const io_uring_buf* buffer = buffer_first(op.group);
        data = buffer != nullptr ? reinterpret_cast<char*>(buffer->addr) : nullptr;
        size = buffer != nullptr ? buffer->len : 0;
    }
    if (op.notifies) tell_notification(op);
    if (op.decided || size == 0) return;
    const bool writes = op.opcode == IORING_OP_RECV;
    kernel_.trace("left behind %llx", static_cast<unsigned long long>(op.user_data));
    // The access is made when the event is dropped: when it has run, or with the kernel itself.
    const auto access = std::make_shared<LateAccess>(data, size, writes);
    kernel_.at(kernel_.clock() + std::chrono::milliseconds(kernel_.choices.below(1000)),
               [access] {});
}

void SimRing::leave() {
    if (left_) return;
    left_ = true;
    for (SimRingOp& op : ops_) {
        if (op.place == SimRingOp::Place::free) continue;
        leave_behind(op);
        let_go(op);
    }
    ops_.clear();
    work_.clear();
    overflow_.clear();
    groups_.clear();
    event_ = nullptr;
    queues_ = Queues{};
}

}  // namespace whorl::detail
