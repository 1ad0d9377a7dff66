// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/all_of.hpp>

#include "loop/core.hpp"

// The whole is an operation that waits until the last part's handler has gone. Asked to end, it does not leave:
// it cancels its parts, and ends with the last of them, so that nothing of it is under way any more then. Parts
// that are destroyed without a call, with their loop, end it in the same way.

namespace whorl::detail {

namespace {

GatherState& state_of(OpRecord& record) noexcept {
    return *static_cast<GatherState*>(record.as<WaitPayload>().object);
}

void ask(LoopCore&, OpRecord& record) noexcept { state_of(record).cancel_parts(); }
void drop(OpRecord& record) noexcept { state_of(record).drop_reference(); }

constexpr WaitKind gather_kind{nullptr, &drop, &ask};

}  // namespace

void GatherState::arm(Loop& loop, OpRecord& record) noexcept {
    core = &loop.core();
    whole = core->handle_of(record);
    wait_arm(record, {&gather_kind, this, nullptr, 0});
}

// Nothing ends inside: the parts come one by one, from dispatch.
void GatherState::cancel_parts() noexcept {
    for (std::uint32_t part = 0; part < count; ++part) {
        static_cast<void>(core->cancel_operation(operations[part].value()));
    }
}

void GatherState::note(std::uint32_t part, Error error) noexcept {
    WHORL_ASSERT(part < count);
    if (error) last = error;
    if (error || !any || winner < count) return;
    winner = part;
    cancel_parts();
}

void GatherState::part_ended() noexcept {
    WHORL_ASSERT(left > 0);
    if (--left != 0) return;
    OpRecord* record = core->operations.find(whole);
    WHORL_ASSERT(record != nullptr && record->state == OpState::armed);
    Error error = core->error_of(*record, -ECANCELED);
    const bool asked = (record->flags & (op_cancelled | op_timed_out)) != 0;
    if (winner < count) error = Error();
    else if (!asked) error = any ? last : Error();
    record->state = OpState::ended;
    core->complete_locally(*record, error);
}

}  // namespace whorl::detail
