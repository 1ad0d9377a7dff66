// SPDX-License-Identifier: MIT
// Floor: 7
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/atomic.hpp>
#include <whorl/export.hpp>
#include <whorl/loop.hpp>
#include <whorl/remote.hpp>
#include <whorl/wait.hpp>
#include <whorl/work.hpp>

#include <cstdint>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>

// A function called on another loop, and its answer on this one.
//
//   loop.submit(whorl::Call{cores.remote(2), [key](whorl::Loop&) { return lookup(key); }},
//               whorl::within(10ms), [](whorl::Loop&, whorl::CallDone<Value> done) { … });

namespace whorl {

// What the handler gets. There is a value exactly when the callable has run, and no error then.
template <class Result>
struct CallDone {
    Error error;                  // see Call
    std::optional<Result> value;  // empty with an error
};

namespace detail {

// A call on its way: a post to the callee and, with the answer, one back to the caller.
struct CallState : RemotePost {
    CallState(const Remote& target, void (*call)(CallState& state, Loop& loop),
              void (*end)(CallState& state) noexcept) noexcept;
    CallState(const CallState&) = delete;
    CallState& operator=(const CallState&) = delete;

    // The submitted operation and the post under way have one each.
    Atomic<std::uint32_t> references{2};
    // The caller no longer waits: what has not begun need not.
    Atomic<bool> given_up{false};
    Remote callee;
    Remote caller;
    std::uint64_t operation = 0;
    bool was_called = false;  // written by the callee's thread, read on the caller's after the post
    void (*call_it)(CallState& state, Loop& loop);
    void (*end_it)(CallState& state) noexcept;
};

template <class Callable>
struct CallOf : CallState, Allocated<CallOf<Callable>> {
    using Returned = std::invoke_result_t<Callable&, Loop&>;
    using Value = std::conditional_t<std::is_void_v<Returned>, NoResult, std::decay_t<Returned>>;

    CallOf(const Remote& target, Callable&& given) noexcept
        : CallState(target, &run_it, &destroy), callable(std::move(given)) {}

    Callable callable;
    std::optional<Value> value;

  private:
    static void run_it(CallState& state, Loop& loop) {
        auto& self = static_cast<CallOf&>(state);
        if constexpr (std::is_void_v<Returned>) {
            self.callable(loop);
            self.value.emplace();
        } else {
            self.value.emplace(self.callable(loop));
        }
    }
    static void destroy(CallState& state) noexcept { delete static_cast<CallOf*>(&state); }
};

// Takes the state over when it succeeds.
WHORL_EXPORT Error call_open(Loop& loop, OpRecord& record, CallState& state) noexcept;
WHORL_EXPORT void call_drop(CallState& state) noexcept;

}  // namespace detail

// Calls `callable(Loop&)` on the loop of `target`, and hands what it returned to the handler on this one.
// Owns: the callable; it and its result are destroyed on whichever of the two threads is the last.
// Calls: the callable at most once, in its loop's dispatch; then the handler, once.
// Cancel: the operation ends at once. What has begun runs to its end, and its result is thrown away; what
//   has not begun does not run. The same holds for a deadline, and when this loop goes.
// Errors: loop_closed in the completion (the target's loop is gone, or goes without calling); ENOMEM and
//   EMFILE from submit.
// Limits: the callable and its result move without throwing; a callable that throws ends the program.
//   Calls of one loop to another begin in the order of their submission.
// Cost: one allocation, two posts (Remote::post); 0.3 to 0.5 µs there and back between loops that are awake.
template <class Callable>
struct Call {
    using State = detail::CallOf<Callable>;
    using Done = CallDone<typename State::Value>;
    static_assert(std::is_nothrow_move_constructible_v<Callable>,
                  "a callable moves without throwing");
    static_assert(std::is_nothrow_move_constructible_v<typename State::Value>,
                  "a result moves without throwing");

    // `loop`: where to call, kept until the end. `given` is moved in, once more on submission.
    Call(Remote loop, Callable given) noexcept
        : target_loop(std::move(loop)), callable(std::move(given)) {}

    Remote target_loop;  // where it is called
    Callable callable;   // given up on submission

    static constexpr detail::OpKind kind = detail::OpKind::wait;
    static constexpr bool opens = true;
    static constexpr std::uint64_t target() noexcept { return 0; }
    static Error check() noexcept { return {}; }
    // Nothing is refused once the state has been made, so the callable may move here.
    Error open(Loop& loop, detail::OpRecord& record) noexcept {
        Result<Remote> home = loop.remote();
        if (!home) return home.error();
        auto* state = new (std::nothrow) State(target_loop, std::move(callable));
        if (state == nullptr) return Error::from_errno(ENOMEM);
        state->caller = std::move(home).value();
        return detail::call_open(loop, record, *state);
    }
    static void store(detail::OpRecord&) noexcept {}
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        auto& state = *static_cast<State*>(
            static_cast<detail::CallState*>(record.as<detail::WaitPayload>().object));
        Done done{delivery.error, {}};
        // What has not been called may be about to: only the answer's own delivery may look.
        if (!delivery.error) done.value = std::move(state.value);
        detail::call_drop(state);
        return done;
    }
};

}  // namespace whorl
