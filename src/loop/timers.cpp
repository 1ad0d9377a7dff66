// SPDX-License-Identifier: MIT
// Floor: 4
#include "loop/core.hpp"
#include "loop/insight.hpp"

// Timers and deadlines. A relative timer is only noted when it is armed and filed before the next
// wait, with the one clock reading that the wait needs anyway: so it counts from a moment after the
// call, never from a clock that a slow handler has made stale, and arming reads no clock.
//
// A timer that is moved is noted as well, and stays in the wheel where it is until then: most moves are
// a connection's timeout that is pushed later, and filing it is one store while it stays in its slot.
// If its old deadline comes first, the wheel gives it back and nothing fires.

namespace whorl::detail {

namespace {

std::uint64_t refused(Error error) noexcept { return static_cast<std::uint32_t>(error.value()); }

std::int64_t add_ns(std::int64_t a, std::int64_t b) noexcept {
    std::int64_t sum = 0;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

}  // namespace

// What claim() and commit() do for other operations, as far as a timer needs it.
inline ArmedTimer LoopCore::timer_arm(Thunk thunk, std::int64_t time, std::int64_t interval,
                                      std::uint16_t flags, Site site) noexcept {
    check_thread();
    if (draining) return {nullptr, refused(Error::loop_closed)};
    OpRecord* claimed = operations.claim();
    if (claimed == nullptr) return {nullptr, refused(Error::slots_exhausted)};
    OpRecord& record = *claimed;
    record.thunk = thunk;
    record.progress = static_cast<std::uint64_t>(interval);
    record.descriptor = 0;
    record.deadline = 0;
    record.kind = OpKind::timer;
    record.state = OpState::armed;
    record.flags = flags;
    record.store(TimerNode{});
    record.as<TimerNode>().user = operations.index_of(&record);
    ++alive;
    if ((flags & op_unfiled) != 0) {
        record.extra = static_cast<std::uint64_t>(time > 0 ? time : 0);
        unfiled.push_back(operations, record);
    } else {
        timer_file(record, time);
    }
    if (watched) committed(record, site);
    return {&record, handle_of(record)};
}

void LoopCore::timer_release(OpRecord& record) noexcept {
    WHORL_ASSERT(alive > 0 && record.descriptor == 0 && record.deadline == 0);
    --alive;
    record.state = OpState::ended;
    operations.release(&record);
}

namespace {

// The live timer that the handle names; null when there is none, and for one that was cancelled in its own
// handler, which is still running.
inline OpRecord* find_timer(LoopCore& core, std::uint64_t handle) noexcept {
    core.check_thread();
    OpRecord* record = core.operations.find(handle);
    if (record == nullptr || record->kind != OpKind::timer) return nullptr;
    return (record->flags & op_late_free) != 0 ? nullptr : record;
}

}  // namespace

OpRecord* LoopCore::timer_find(std::uint64_t handle) noexcept { return find_timer(*this, handle); }

bool LoopCore::timer_cancel(std::uint64_t handle) noexcept {
    OpRecord* record = find_timer(*this, handle);
    if (record == nullptr) return false;
    if (insight != nullptr) insight->cancel_asked(*record);
    timer_unfile(*record);
    if (executing == operations.index_of(record)) {
        record->flags |= op_late_free;
        return true;
    }
    drop_handler(*record);
    timer_release(*record);
    return true;
}

inline Error LoopCore::timer_move(std::uint64_t handle, Nanoseconds delay) noexcept {
    OpRecord* record = find_timer(*this, handle);
    if (record == nullptr) return Error::stale_handle;
    if ((record->flags & op_unfiled) == 0) {
        record->flags |= op_unfiled;
        unfiled.push_back(operations, *record);
    }
    record->extra = static_cast<std::uint64_t>(delay.count() > 0 ? delay.count() : 0);
    note_work();
    return {};
}

inline void LoopCore::timer_file(OpRecord& record, std::int64_t deadline_ns) noexcept {
    TimerNode& node = record.as<TimerNode>();
    record.extra = static_cast<std::uint64_t>(deadline_ns);
    if (TimerWheel::is_linked(node)) return wheel.move(node, tick_at_or_after(deadline_ns));
    if (wheel.size() == 0) {  // an empty wheel is not kept up to date: catch up, at no cost
        static_cast<void>(wheel.expire_one(tick_before(clock().time_since_epoch().count())));
    }
    wheel.insert(node, tick_at_or_after(deadline_ns));
}

inline void LoopCore::timer_unfile(OpRecord& record) noexcept {
    if ((record.flags & op_unfiled) != 0) {
        unfiled.remove(operations, record);
        record.flags &= static_cast<std::uint16_t>(~op_unfiled);
        if (!TimerWheel::is_linked(record.as<TimerNode>())) return;  // otherwise it was moved
    }
    wheel.remove(record.as<TimerNode>());
}

// Files what was armed or moved since the last turn, counting from now. A deadline that has passed already ends
// its operation before the backend sees it.
void LoopCore::timers_file() noexcept {
    const std::int64_t now_ns = clock().time_since_epoch().count();
    while (OpRecord* record = unfiled.pop_front(operations)) {
        record->flags &= static_cast<std::uint16_t>(~op_unfiled);
        const auto time = static_cast<std::int64_t>(record->extra);
        std::int64_t due = time > 0 ? add_ns(now_ns, time) : now_ns;
        if ((record->flags & op_absolute) != 0) due = time;
        timer_file(*record, due);
        if (record->kind == OpKind::deadline && due <= now_ns) {
            wheel.remove(record->as<TimerNode>());
            deadline_expire(*record);
        }
    }
}

void LoopCore::dispatch_timers() {
    const std::uint64_t tick = tick_before(clock().time_since_epoch().count());
    std::uint32_t budget = options.timers_per_turn;
    while (budget-- > 0 && !stopping) {
        TimerNode* node = wheel.expire_one(tick);
        if (node == nullptr) return;
        timer_expire(operations.at(node->user));
    }
}

inline void LoopCore::timer_expire(OpRecord& record) {
    switch (record.kind) {
        case OpKind::timer:
            if ((record.flags & op_unfiled) != 0) return;  // moved: it is filed with the next turn
            ++statistics.timers_fired;
            if (record.progress != 0) return timer_fire_periodic(record);
            return timer_fire(record);
        case OpKind::deadline:
            return deadline_expire(record);
        default:
            WHORL_ASSERT(record.state == OpState::retrying);
            record.state = OpState::ended;
            return list(record);
    }
}

inline void LoopCore::timer_fire(OpRecord& record) {
    Delivery delivery;
    delivery.handle = handle_of(record);
    delivery.time_ns = static_cast<std::int64_t>(record.extra);
    ++statistics.handlers;
    record.thunk(*loop, record, &delivery);
}

// The next tick is filed before the handler runs, so that the handler may cancel or move it.
void LoopCore::timer_fire_periodic(OpRecord& record) {
    const auto due = static_cast<std::int64_t>(record.extra);
    const auto interval = static_cast<std::int64_t>(record.progress);
    const std::int64_t now_ns = clock().time_since_epoch().count();
    Delivery delivery;
    delivery.time_ns = due;
    std::int64_t next = add_ns(due, interval);
    if (next <= now_ns && (record.flags & op_burst) == 0) {
        if ((record.flags & op_delay) != 0) {
            next = add_ns(now_ns, interval);
        } else {
            const std::int64_t missed = (now_ns - due) / interval;
            delivery.bytes = static_cast<std::uint64_t>(missed);
            next = add_ns(due, (missed + 1) * interval);
        }
    }
    timer_file(record, next);
    deliver_in_place(record, delivery);
}

void LoopCore::deadline_expire(OpRecord& record) noexcept {
    OpRecord& target = operations.at(record.descriptor);
    WHORL_ASSERT(target.generation == static_cast<std::uint32_t>(record.progress));
    OpRecord& first = operations.at(target.deadline);
    std::uint32_t& holder = first.kind == OpKind::chain ? first.deadline : target.deadline;
    WHORL_ASSERT(holder == operations.index_of(&record));
    holder = 0;
    record.state = OpState::ended;
    operations.release(&record);
    cancel_record(target, op_timed_out);
}

void LoopCore::deadline_release(OpRecord& record) noexcept {
    if (operations.at(record.deadline).kind == OpKind::chain) {
        chain_release(record);
        if (record.deadline == 0) return;
    }
    OpRecord& deadline = operations.at(record.deadline);
    WHORL_ASSERT(deadline.kind == OpKind::deadline);
    record.deadline = 0;
    timer_unfile(deadline);
    deadline.state = OpState::ended;
    operations.release(&deadline);
}

}  // namespace whorl::detail

namespace whorl {

detail::ArmedTimer Loop::claim_timer(detail::Thunk thunk, std::int64_t time, std::int64_t interval,
                                     std::uint16_t flags, Site site) noexcept {
    return core_->timer_arm(thunk, time, interval, flags, site);
}
void Loop::release_timer(detail::OpRecord& record) noexcept { core_->timer_release(record); }
bool Loop::cancel(Timer timer) noexcept { return core_->timer_cancel(timer.value()); }
Error Loop::move(Timer timer, Nanoseconds delay) noexcept {
    return core_->timer_move(timer.value(), delay);
}

Result<Instant> Loop::deadline(Timer timer) const noexcept {
    const detail::OpRecord* record = core_->timer_find(timer.value());
    if (record == nullptr) return Error::stale_handle;
    const Nanoseconds time(static_cast<std::int64_t>(record->extra));
    if ((record->flags & detail::op_unfiled) != 0) return add_saturating(core_->system.now(), time);
    return Instant(time);
}

}  // namespace whorl
