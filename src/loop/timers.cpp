// SPDX-License-Identifier: MIT
// Floor: 4
#include "loop/core.hpp"
#include "loop/insight.hpp"

// Timers and deadlines. A relative timer is only noted when it is armed and filed before the next
// wait, with the one clock reading that the wait needs anyway: so it counts from a moment after the
// call, never from a clock that a slow handler has made stale, and arming reads no clock.

namespace whorl::detail {

namespace {

constexpr std::uint16_t timer_burst = 1 << 9;
constexpr std::uint16_t timer_delay = 1 << 10;

std::int64_t add_ns(std::int64_t a, std::int64_t b) noexcept {
    std::int64_t sum = 0;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

}  // namespace

Expired expired_of(OpRecord&, const Delivery& delivery) noexcept {
    Expired expired;
    expired.timer = Timer::from_value(delivery.handle);
    expired.deadline = Instant(Nanoseconds(delivery.time_ns));
    expired.missed = delivery.bytes;
    return expired;
}

Timer LoopCore::timer_commit(OpRecord& record, std::int64_t time, std::int64_t interval,
                             bool relative, Missed missed, Site site) noexcept {
    record.progress = static_cast<std::uint64_t>(interval);
    if (missed == Missed::burst) record.flags |= timer_burst;
    if (missed == Missed::delay) record.flags |= timer_delay;
    record.state = OpState::armed;
    record.store(TimerNode{});
    record.as<TimerNode>().user = operations.index_of(&record);
    if (relative) {
        record.extra = static_cast<std::uint64_t>(time > 0 ? time : 0);
        record.flags |= op_unfiled;
        unfiled.push_back(operations, record);
    } else {
        timer_file(record, time);
    }
    if (watched) committed(record, site);
    return Timer::from_value(handle_of(record));
}

OpRecord* LoopCore::timer_find(std::uint64_t handle) noexcept {
    check_thread();
    OpRecord* record = operations.find(handle);
    if (record == nullptr || record->kind != OpKind::timer) return nullptr;
    return (record->flags & op_late_free) != 0 ? nullptr : record;
}

bool LoopCore::timer_cancel(std::uint64_t handle) noexcept {
    OpRecord* record = timer_find(handle);
    if (insight != nullptr && record != nullptr) insight->cancel_asked(*record);
    if (record == nullptr) return false;
    timer_unfile(*record);
    if (executing == operations.index_of(record)) {
        record->flags |= op_late_free;
        return true;
    }
    drop_handler(*record);
    release(*record);
    return true;
}

Error LoopCore::timer_move(std::uint64_t handle, Nanoseconds delay) noexcept {
    OpRecord* record = timer_find(handle);
    if (record == nullptr) return Error::stale_handle;
    const std::int64_t delay_ns = delay.count() > 0 ? delay.count() : 0;
    if ((record->flags & op_unfiled) == 0) {
        wheel.remove(record->as<TimerNode>());
        record->flags |= op_unfiled;
        unfiled.push_back(operations, *record);
    }
    record->extra = static_cast<std::uint64_t>(delay_ns);
    note_work();
    return {};
}

void LoopCore::timer_file(OpRecord& record, std::int64_t deadline_ns) noexcept {
    if (wheel.size() == 0) {  // an empty wheel is not kept up to date: catch up, at no cost
        static_cast<void>(wheel.expire_one(tick_before(clock().time_since_epoch().count())));
    }
    record.extra = static_cast<std::uint64_t>(deadline_ns);
    wheel.insert(record.as<TimerNode>(), tick_at_or_after(deadline_ns));
}

void LoopCore::timer_unfile(OpRecord& record) noexcept {
    if ((record.flags & op_unfiled) != 0) {
        unfiled.remove(operations, record);
        record.flags &= static_cast<std::uint16_t>(~op_unfiled);
    } else {
        wheel.remove(record.as<TimerNode>());
    }
}

// Files what was armed since the last turn, counting from now. A deadline that has passed already ends
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

void LoopCore::timer_expire(TimerNode& node) {
    OpRecord& record = operations.at(node.user);
    switch (record.kind) {
        case OpKind::timer:
            return timer_fire(record);
        case OpKind::deadline:
            return deadline_expire(record);
        default:
            WHORL_ASSERT(record.state == OpState::retrying);
            record.state = OpState::ended;
            return list(record);
    }
}

void LoopCore::timer_fire(OpRecord& record) {
    ++statistics.timers_fired;
    if (record.progress != 0) return timer_fire_periodic(record);
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
    if (next <= now_ns && (record.flags & timer_burst) == 0) {
        if ((record.flags & timer_delay) != 0) {
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
