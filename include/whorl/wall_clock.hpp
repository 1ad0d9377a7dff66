// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/export.hpp>
#include <whorl/loop.hpp>

#include <chrono>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

// Timers of the wall clock, for what has a date: "at midnight", "when the certificate ends". Other timers
// count time as it passes (Loop::after); these go with the clock of the machine, when it is set, too, or
// corrected in a step. A clock that is slewed, as time daemons do, is followed without a word.

namespace whorl {

// Nanoseconds since 1970, UTC.
using WallInstant = std::chrono::time_point<std::chrono::system_clock, Nanoseconds>;

// The clock's present reading. Thread: the loop's. Source: clock_gettime(2), CLOCK_REALTIME.
WHORL_EXPORT WallInstant wall_now(Loop& loop) noexcept;

// What the handler gets.
struct WallExpired {
    // Why the handler is called.
    enum class Why : std::uint8_t {
        due,        // its instant has come, or the clock was set beyond it: the last call
        clock_set,  // the clock was set, and its instant is still to come; only where asked for
        failed,     // `error`: it cannot be waited for: the last call
    };
    Why why;              // the last call, unless it is clock_set
    WallInstant instant;  // that was waited for
    WallInstant now;      // the clock's reading
    Error error = {};     // of `failed`, else none
};

// What else a timer of the wall clock tells.
struct WallOptions {
    bool tell_jumps = false;  // call with clock_set, each time
};

namespace detail {

class WallState;

class WHORL_EXPORT WallListener : public Allocated<WallListener> {
  public:
    WallListener() = default;
    WallListener(const WallListener&) = delete;
    WallListener& operator=(const WallListener&) = delete;
    virtual ~WallListener() = default;
    virtual void expired(Loop& loop, const WallExpired& expired) = 0;
};

template <class Handler>
class WallHandler final : public WallListener {
  public:
    explicit WallHandler(Handler&& handler) : handler_(std::move(handler)) {}
    void expired(Loop& loop, const WallExpired& expired) override {
        handler_call(handler_, loop, expired);
    }

  private:
    Handler handler_;
};

}  // namespace detail

// Lifetime: a value that owns nothing; after the last call it names nothing. Thread: the loop's (asserted).
class WallTimer {
  public:
    WallTimer() noexcept = default;
    // True: the handler is never called again; it is destroyed at once, or after it returns when the call
    // comes from inside it. False: it has fired, or is gone.
    WHORL_EXPORT bool cancel(Loop& loop) const noexcept;
    // Another instant. From inside the last call, too late. Errors: stale_handle.
    WHORL_EXPORT Error move(Loop& loop, WallInstant instant) const noexcept;

  private:
    friend class detail::WallState;
    Watch watch_;
    detail::WallState* state_ = nullptr;  // lives as long as watch_ is known to the loop
};

namespace detail {
// Takes over `listener`, also when it is refused; null stands for memory that was not there.
WHORL_EXPORT Result<WallTimer> wall_timer_open(Loop& loop, WallInstant instant,
                                               const WallOptions& options, WallListener* listener);
}  // namespace detail

// Calls a handler when the wall clock reads `instant` or later; at once, in the next turns, when it does
// already. As a Watch and a Timer, it keeps run() going and drain() destroys its handler uncalled.
// Calls: handler(Loop&, const WallExpired&) from the loop's dispatch; once, with `tell_jumps` also each time
//   when the clock was set. Never before the clock reads `instant`. Several settings between two turns are
//   told as one.
// Errors: EMFILE, ENFILE, ENOMEM, slots_exhausted, loop_closed. To the handler: ENOMEM (the descriptor
//   cannot be watched).
// Cost: a descriptor and the heap for each, and a system call or two: for a few, not for thousands. A
//   machine that was suspended finds them due when it wakes.
// Source: timerfd_create(2), TFD_TIMER_CANCEL_ON_SET.
template <class Handler>
Result<WallTimer> at_wall_clock(Loop& loop, WallInstant instant, const WallOptions& options,
                                Handler&& handler) {
    using Stored = std::decay_t<Handler>;
    static_assert(detail::handler_accepts<Stored, Loop&, const WallExpired&>(),
                  "whorl: this handler cannot be called with (Loop&, const WallExpired&)");
    return detail::wall_timer_open(
        loop, instant, options,
        new (std::nothrow) detail::WallHandler<Stored>(Stored(std::forward<Handler>(handler))));
}

}  // namespace whorl
