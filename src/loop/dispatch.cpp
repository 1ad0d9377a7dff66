// SPDX-License-Identifier: MIT
// Floor: 4
#include "loop/core.hpp"
#include "loop/insight.hpp"

#include <utility>

// Dispatch: the one place where handlers are called. What is not reached because a handler threw or
// stopped the loop stays where it is for the next turn.

namespace whorl::detail {

void LoopCore::dispatch() {
    while (!stopping && !batch.empty()) dispatch_completion(batch.entries[batch.taken++]);
    if (!stopping && !ready.empty()) dispatch_ready();
    if (!stopping && wheel.size() != 0) dispatch_timers();
    if (!stopping && remote != nullptr) dispatch_remote();
    if (!stopping && posts.count() != 0) dispatch_posts();
}

// A completion that nobody hears: give back what it carries, end its record silently.
void LoopCore::drop_completion(OpRecord* record, const Completion& completion) noexcept {
    if (completion.block != nullptr) {
        Buffer::from_owner(completion.block, completion.block->base, 0).reset();
    }
    if (record == nullptr) {
        ++statistics.completions_stale;
        return;
    }
    const bool opens = record->kind == OpKind::accept || record->kind == OpKind::accept_stream ||
                       record->kind == OpKind::open_file;
    if (opens && completion.result >= 0) static_cast<void>(system.close(completion.result));
    if ((completion.flags & completion_more) != 0) return;
    record->state = OpState::ended;
    message_drop(*record, completion);
    process_drop(*record, completion);
    free_record(*record);
}

// Destroys handler and payload of a record that is in no list, and frees it.
void LoopCore::free_record(OpRecord& record) noexcept {
    drop_payload(record);
    if (record.kind == OpKind::watch) driver->forget_watch(record);
    if ((record.flags & op_dropped) == 0) drop_handler(record);
    release(record);
}

void LoopCore::dispatch_ready() {
    std::uint32_t count = ready_count;  // what these handlers end is for the next turn
    while (count-- > 0 && !stopping) {
        OpRecord* record = ready.pop_front(operations);
        WHORL_ASSERT(record != nullptr);
        --ready_count;
        record->state = OpState::ended;
        if (dropping) {
            free_record(*record);
            continue;
        }
        const Error error = Error::from_value(static_cast<std::int32_t>(record->extra));
        if (connects(record->kind) && error) {
            descriptors.at(record->descriptor).state = DescriptorState::closing;
        }
        settle_read(*record);
        if (record->deadline != 0) chain_settle(*record, error);
        Delivery delivery;
        delivery.core = this;
        delivery.error = error;
        delivery.bytes = record->progress;
        delivery.handle = record->kind == OpKind::watch ? handle_of(*record) : 0;
        ++statistics.handlers;
        record->thunk(*loop, *record, &delivery);
    }
}

namespace {
// Takes a post off the queue when its handler has returned or thrown.
struct DropFront {
    PostQueue& queue;
    ~DropFront() { queue.drop_front(); }
};
}  // namespace

void LoopCore::dispatch_posts() {
    std::uint32_t count = posts.count();  // what these handlers post is for the next turn
    if (count > options.posts_per_turn) count = options.posts_per_turn;
    while (count-- > 0 && !stopping) {
        PostSlot& slot = posts.front();
        const DropFront guard{posts};
        ++statistics.posts_run;
        if (insight == nullptr) slot.run(*loop, slot.closure, !dropping);
        else insight->run_post(slot);
    }
}

namespace {
// While a handler runs in its slot, ending its own record only marks it; the slot goes afterwards.
struct InPlace {
    LoopCore& core;
    OpRecord& record;
    InPlace(LoopCore& owner, OpRecord& running) noexcept : core(owner), record(running) {
        WHORL_ASSERT(core.executing == 0);
        core.executing = core.operations.index_of(&record);
    }
    InPlace(const InPlace&) = delete;
    InPlace& operator=(const InPlace&) = delete;
    ~InPlace() {
        core.executing = 0;
        if ((record.flags & op_late_free) == 0) return;
        if (record.kind == OpKind::hook) core.hook_unlink(record);
        core.drop_handler(record);
        core.release(record);
    }
};
}  // namespace

// Hands a completion that is not the last to a handler that stays in its slot.
void LoopCore::deliver_in_place(OpRecord& record, Delivery& delivery) {
    const InPlace guard(*this, record);
    delivery.more = true;
    delivery.handle = handle_of(record);
    ++statistics.handlers;
    record.thunk(*loop, record, &delivery);
}

Error LoopCore::error_of(const OpRecord& record, std::int32_t result) const noexcept {
    if (result >= 0) return {};
    const bool asked = (record.flags & (op_cancelled | op_timed_out)) != 0;
    if (result == -ECANCELED || (asked && result == -EINTR)) {
        return (record.flags & op_timed_out) != 0 ? Error::timed_out : Error::cancelled;
    }
    return Error::from_errno(result);
}

}  // namespace whorl::detail
