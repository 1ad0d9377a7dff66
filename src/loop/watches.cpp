// SPDX-License-Identifier: MIT
// Floor: 4
#include "loop/core.hpp"
#include "loop/insight.hpp"

#include <poll.h>

// Watches on foreign descriptors, and hooks.
//
// Level-triggered by a one-shot poll that is armed again after each delivery: a multishot poll fires
// once per wake-up, not as long as data remains, and the kernel refuses IORING_POLL_ADD_LEVEL.

namespace whorl::detail {

namespace {

std::uint64_t poll_bits(Interest interest) noexcept {
    std::uint64_t bits = 0;
    if (has(interest, Interest::readable)) bits |= POLLIN | POLLRDHUP;
    if (has(interest, Interest::writable)) bits |= POLLOUT;
    if (has(interest, Interest::priority)) bits |= POLLPRI;
    return bits;
}

constexpr std::uint64_t poll_bits_always = POLLERR | POLLHUP | POLLNVAL;

}  // namespace

// `extra` still holds the interest, so that trouble is told to the directions that were asked for.
Watched watched_of(OpRecord& record, const Delivery& delivery) noexcept {
    const auto bits = static_cast<std::uint32_t>(delivery.result > 0 ? delivery.result : 0);
    const bool trouble = (bits & (POLLERR | POLLHUP)) != 0;
    Watched watched;
    watched.watch = Watch::from_value(delivery.handle);
    watched.error = delivery.error;
    watched.failed = (bits & POLLERR) != 0;
    watched.hung_up = (bits & (POLLHUP | POLLRDHUP)) != 0;
    watched.readable =
        (bits & (POLLIN | POLLRDHUP)) != 0 || (trouble && (record.extra & POLLIN) != 0);
    watched.writable = (bits & POLLOUT) != 0 || (trouble && (record.extra & POLLOUT) != 0);
    watched.priority = (bits & POLLPRI) != 0;
    return watched;
}

Watch LoopCore::watch_commit(OpRecord& record, int fd, Interest interest, Site site) noexcept {
    record.descriptor = static_cast<std::uint32_t>(fd);
    record.extra = poll_bits(interest);
    if (record.extra == 0) record.state = OpState::paused;
    else list(record);
    if (watched) committed(record, site);
    return Watch::from_value(handle_of(record));
}

OpRecord* LoopCore::watch_find(std::uint64_t handle) noexcept {
    check_thread();
    OpRecord* record = operations.find(handle);
    if (record == nullptr || record->kind != OpKind::watch) return nullptr;
    return (record->flags & (op_late_free | op_dropped)) != 0 ? nullptr : record;
}

Error LoopCore::watch_modify(std::uint64_t handle, Interest interest) noexcept {
    OpRecord* record = watch_find(handle);
    if (record == nullptr) return Error::stale_handle;
    const std::uint64_t bits = poll_bits(interest);
    const bool in_backend =
        record->state == OpState::kernel && (record->flags & op_final_seen) == 0;
    if (in_backend && bits != record->extra && (record->flags & op_pausing) == 0) {
        record->flags |= op_pausing;
        driver->cancel(*record);
    }
    record->extra = bits;
    if (record->state == OpState::listed && bits == 0) {
        submissions.remove(operations, *record);
        record->state = OpState::paused;
    } else if (record->state == OpState::paused && bits != 0) {
        list(*record);
    }
    note_work();
    return {};
}

// After this the kernel holds nothing of the descriptor: its owner may close it and be understood.
bool LoopCore::watch_cancel(std::uint64_t handle, bool flush) noexcept {
    OpRecord* record = watch_find(handle);
    if (record == nullptr) return false;
    if (insight != nullptr) insight->cancel_asked(*record);
    const bool running = executing == operations.index_of(record);
    switch (record->state) {
        case OpState::listed:
            submissions.remove(operations, *record);
            break;
        case OpState::ready:
            ready.remove(operations, *record);
            --ready_count;
            break;
        case OpState::kernel:
            WHORL_ASSERT(!running);
            drop_handler(*record);
            record->flags |= op_dropped;
            if ((record->flags & (op_pausing | op_final_seen)) == 0) driver->cancel(*record);
            if (flush) driver->flush();
            return true;
        default:
            WHORL_ASSERT(record->state == OpState::paused);
            break;
    }
    driver->forget_watch(*record);
    if (running) {
        record->flags |= op_late_free;
        return true;
    }
    drop_handler(*record);
    release(*record);
    return true;
}

void LoopCore::advance_watch(OpRecord& record, const Completion& completion) {
    const bool modified = (record.flags & op_pausing) != 0;
    record.flags &= static_cast<std::uint16_t>(~(op_pausing | op_final_seen));
    if ((record.flags & op_dropped) != 0) {
        driver->forget_watch(record);
        return release(record);
    }
    if (completion.result < 0 && !(modified && completion.result == -ECANCELED)) {
        driver->forget_watch(record);
        return finish(record, error_of(record, completion.result), completion.result,
                      handle_of(record));
    }
    // Asked for no more events than are wanted now: a modification may have crossed this answer.
    const auto seen = static_cast<std::uint64_t>(completion.result > 0 ? completion.result : 0);
    const std::uint64_t wanted = record.extra == 0 ? 0 : record.extra | poll_bits_always;
    Delivery delivery;
    delivery.result = static_cast<std::int32_t>(seen & wanted);
    if (record.extra == 0) record.state = OpState::paused;
    else list(record);
    if (delivery.result != 0) deliver_in_place(record, delivery);
}

Operation LoopCore::hook_commit(OpRecord& record, HookPoint point, Site site) noexcept {
    record.extra = point == HookPoint::before_wait ? 0 : 1;
    record.state = OpState::armed;
    (record.extra == 0 ? hooks_before : hooks_after).push_back(operations, record);
    ++(record.extra == 0 ? hooks_before_count : hooks_after_count);
    if (watched) committed(record, site);
    return Operation::from_value(handle_of(record));
}

Cancelled LoopCore::hook_cancel(OpRecord& record) noexcept {
    if ((record.flags & op_late_free) != 0) return Cancelled::not_found;
    if (executing == operations.index_of(&record)) {
        record.flags |= op_late_free;
        return Cancelled::cancelling;
    }
    hook_unlink(record);
    drop_handler(record);
    release(record);
    return Cancelled::cancelling;
}

void LoopCore::hook_unlink(OpRecord& record) noexcept {
    (record.extra == 0 ? hooks_before : hooks_after).remove(operations, record);
    --(record.extra == 0 ? hooks_before_count : hooks_after_count);
}

}  // namespace whorl::detail
