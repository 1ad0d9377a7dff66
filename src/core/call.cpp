// SPDX-License-Identifier: MIT
// Floor: 7
#include <whorl/call.hpp>

#include "loop/core.hpp"
#include "loop/remote_state.hpp"

// The state travels as one post: to the callee with the call, back to the caller with the answer, each time
// with the reference that the post under way has. `was_called` and the value are written before the post back
// is pushed and read after it has arrived, so the order of the posts covers them.

namespace whorl::detail {

namespace {

void leave(LoopCore&, OpRecord& record) noexcept;
void drop(OpRecord& record) noexcept;
constexpr WaitKind call_kind{&leave, &drop};

CallState& state_of(OpRecord& record) noexcept {
    return *static_cast<CallState*>(record.as<WaitPayload>().object);
}

// On the caller's loop; null when that is going.
void answered(Loop* loop, RemotePost* post) {
    auto& state = *static_cast<CallState*>(post);
    struct Held {
        CallState& state;
        ~Held() { call_drop(state); }
    } const guard{state};
    if (loop == nullptr) return;
    OpRecord* record = loop->core().operations.find(state.operation);
    if (record == nullptr || record->state != OpState::armed) return;
    record->state = OpState::ended;
    loop->core().finish(*record, state.was_called ? Error::ok : Error::loop_closed, 0);
}

void send(const Remote& to, CallState& state) noexcept;

// On the callee's loop; null when that is gone or going.
void called(Loop* loop, RemotePost* post) {
    auto& state = *static_cast<CallState*>(post);
    state.run = &answered;
    if (loop != nullptr && !state.given_up.load(std::memory_order_relaxed)) {
        state.call_it(state, *loop);
        state.was_called = true;
    }
    send(state.caller, state);
}

void send(const Remote& to, CallState& state) noexcept {
    // A refused post has come back through run(nullptr) already.
    static_cast<void>(RemoteState::push_to(to, &state));
}

void leave(LoopCore&, OpRecord& record) noexcept {
    state_of(record).given_up.store(true, std::memory_order_relaxed);
}

void drop(OpRecord& record) noexcept { call_drop(state_of(record)); }

}  // namespace

CallState::CallState(const Remote& target, void (*call)(CallState&, Loop&),
                     void (*end)(CallState&) noexcept) noexcept
    : callee(target), call_it(call), end_it(end) {
    next = nullptr;
    run = &called;
}

Error call_open(Loop& loop, OpRecord& record, CallState& state) noexcept {
    state.operation = loop.core().handle_of(record);
    wait_arm(record, {&call_kind, &state, nullptr, 0});
    send(state.callee, state);
    return {};
}

void call_drop(CallState& state) noexcept {
    if (state.references.fetch_sub(1, std::memory_order_acq_rel) == 1) state.end_it(state);
}

}  // namespace whorl::detail
