// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include <whorl/error.hpp>
#include <whorl/export.hpp>
#include <whorl/site.hpp>
#include <whorl/time.hpp>

#include <cstddef>
#include <cstdint>

// Handlers that keep a loop from everything else. LoopOptions::slow_handler is the threshold: a handler
// that runs longer is reported when it has returned, with a sample of its stack that a timer's signal took
// while it ran. LoopOptions::stuck_handler is a longer one: a handler that has run for so long is
// reported at once, from the signal, because it may never return; the flight recorder is dumped then.
//
// How: a timer of the kernel (timer_create(2), CLOCK_MONOTONIC) signals the loop's thread every half
// threshold while the loop works. Waits of the loop and of the program between two turns are interrupted
// once at most: a tick that finds the thread waiting stops the timer, and the next turn starts it again.
// What it costs a handler: system calls that SA_RESTART does not cover (sleeping, waiting with a limit)
// answer EINTR when they take longer than a tick; signal(7) lists them. What it cannot see: a thread that
// blocks the signal, or that hangs in a system call which no signal interrupts.
//
// Time is the machine's, in simulated worlds, too: a handler is real work.

namespace whorl {

class Loop;

inline constexpr std::size_t slow_stack_max = 48;  // addresses of a stack, at most

// Lifetime: the length of the call that gets it.
struct SlowHandler {
    const char* kind = "";          // of operation_list.hpp; post, remote_post
    Site site;                      // where it was submitted; unknown for a remote_post
    const void* handler = nullptr;  // handler_name() (live_handles.hpp) tells its type
    Nanoseconds duration{0};        // altogether; of a stuck one: so far
    // Return addresses, innermost first, as backtrace(3) finds them; none when no tick fell into it. The
    // innermost ones are the signal's own. They were taken when it had run for `sampled`.
    void* const* stack = nullptr;
    std::size_t stack_count = 0;  // addresses, slow_stack_max at most
    Nanoseconds sampled{0};       // how long the handler had run when the stack was taken
    // Slow handlers since the last report that were not reported, because of LoopOptions::slow_handler_pause.
    std::uint64_t suppressed = 0;
};

// A report of a slow handler, or of a stuck one. `context` is what was given with it; `slow` lasts for the
// call.
using SlowReport = void (*)(void* context, const SlowHandler& slow) noexcept;

// What is called for a slow handler; null for what it is at first, a report on stderr. Calls: `report(context,
// …)` on the loop's thread, after the handler has returned or thrown and before the next one begins. It
// must not call the loop. Errors: invalid_argument (LoopOptions::slow_handler is 0).
WHORL_EXPORT Error on_slow_handler(Loop& loop, SlowReport report, void* context) noexcept;

// What is called for a stuck one, once for each; null as above. Calls: in the signal
// handler, on the loop's thread, inside the handler that is stuck: only what is async-signal-safe
// (signal-safety(7)). Errors: invalid_argument (LoopOptions::stuck_handler is 0).
WHORL_EXPORT Error on_stuck_handler(Loop& loop, SlowReport report, void* context) noexcept;

// Since the loop was made.
struct SlowHandlerCounts {
    std::uint64_t slow = 0;        // handlers over the threshold
    std::uint64_t suppressed = 0;  // of those, not reported
    std::uint64_t stuck = 0;       // reported as stuck
    std::uint64_t samples = 0;     // stacks taken
};
// Zeros when it is off. Thread: the loop's, from inside of handlers, too.
WHORL_EXPORT SlowHandlerCounts slow_handler_counts(Loop& loop) noexcept;

// Prints a report: one line that says what and where, one for each address of the stack with its symbol
// and module. Writes at most `size` bytes, the zero byte at the end among them. Returns the length of the
// whole. Not in a signal handler. Cost: it reads the program's symbols, and allocates.
WHORL_EXPORT std::size_t print_slow_handler(const SlowHandler& slow, char* out,
                                            std::size_t size) noexcept;

}  // namespace whorl
