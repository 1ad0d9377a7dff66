// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include <whorl/error.hpp>
#include <whorl/handle.hpp>
#include <whorl/time.hpp>

#include <cstdint>

// What the loop's own events carry, and the options of submissions, timers and watches.

namespace whorl {

// What cancel() found.
enum class Cancelled : std::uint8_t {
    not_found,           // stale, null or foreign handle: nothing happens
    already_completing,  // its final completion is on its way, unchanged by this call
    cancelling,          // it will end with Error::cancelled, or with what it had reached by then
};

// Options of one submission; see within() and until().
struct SubmitOptions {
    Instant deadline = instant_never;         // absolute
    Nanoseconds within = Nanoseconds::max();  // relative, counted from the call
    bool background = false;                  // does not keep run() going
    Operation after;                          // begins when that one has succeeded; see following()
};

// The operation ends with Error::timed_out unless it is complete within `time` of the submission.
// Counted from the call itself, however long the present handler goes on. Zero or less ends it in the
// next turn without asking the kernel. For a multishot the time is that of the whole, not of a part.
constexpr SubmitOptions within(Nanoseconds time) noexcept {
    SubmitOptions options;
    options.within = time;
    return options;
}
// The same with an absolute deadline on the loop's clock.
constexpr SubmitOptions until(Instant deadline) noexcept {
    SubmitOptions options;
    options.deadline = deadline;
    return options;
}

// The operation begins when `before`, submitted earlier and not yet ended, has succeeded: a link of a
// chain such as write, sync, rename. When `before` fails, or moves less than was asked of it (what
// writes, sends, or reads a file at an offset), this one ends with Error::cancelled, and so does what
// follows it. Every part has its own handler, handle and deadline. The handler of `before` runs first,
// and may still cancel this one; what is submitted meanwhile goes ahead of it on its socket. Several may
// follow one. Cancelling a part, or closing what it works on, ends it and those behind it, not those
// before. Of a multishot the final completion counts. Any number of parts; the same on every backend.
// Errors, of the submission: stale_handle (`before` has ended), slots_exhausted, invalid_argument (what
//   waits inside the program, such as Receive or AwaitEvent, and Splice and Tee cannot follow).
// Cost: one more slot for each operation that is followed; one turn for each part.
constexpr SubmitOptions following(Operation before) noexcept {
    SubmitOptions options;
    options.after = before;
    return options;
}

// A timer has fired.
struct Expired {
    Timer timer;       // a periodic timer's own handle; stale for a one-shot
    Instant deadline;  // the instant it was due
    std::uint64_t missed =
        0;  // periodic, Missed::skip: further ticks that were due by now and are left out
};

// What a periodic timer does about ticks that the loop was too busy for. All keep `deadline + interval`
// as the next deadline while the loop keeps up, so that no drift adds up.
enum class Missed : std::uint8_t {
    skip,   // leave them out and tell their number; the next tick is the next whole interval
    burst,  // fire once for each
    delay,  // fire once and count the next interval from then
};

// Directions to watch a foreign descriptor for; combine with |.
enum class Interest : std::uint8_t { none = 0, readable = 1, writable = 2, priority = 4 };
// Both directions.
constexpr Interest operator|(Interest a, Interest b) noexcept {
    return static_cast<Interest>(static_cast<std::uint8_t>(a) | static_cast<std::uint8_t>(b));
}
// Whether `bit`, or any of several, is in `set`.
constexpr bool has(Interest set, Interest bit) noexcept {
    return (static_cast<std::uint8_t>(set) & static_cast<std::uint8_t>(bit)) != 0;
}

// A watched descriptor is ready. An error or hang-up is reported as readiness of every direction that
// was asked for, and by its own flag.
struct Watched {
    Watch watch;            // whose handler this is
    Error error;            // it cannot be watched (EBADF, ENOMEM): final, the watch is gone
    bool readable = false;  // POLLIN
    bool writable = false;  // POLLOUT
    bool priority = false;  // POLLPRI: out-of-band data and the like
    bool failed = false;    // POLLERR
    bool hung_up = false;   // POLLHUP or POLLRDHUP
};

// Where in a turn a hook runs.
enum class HookPoint : std::uint8_t { before_wait, after_wait };

// Why run() should return.
enum class RunUntil : std::uint8_t {
    idle,     // stop() was called, or nothing is left to wait for
    stopped,  // stop() was called; a loop that only serves Remote posts waits this way
};

}  // namespace whorl
