// SPDX-License-Identifier: MIT
// Floor: 4
#include "loop/core.hpp"
#include "loop/insight.hpp"
#include "loop/meter.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

// One turn of the loop: what is due, one call of the driver, and dispatch.

namespace whorl::detail {

namespace {

// Timers of crowded slots that are sorted ahead by each turn that would sleep, so that no single turn pays
// for a slot. Turns that do not sleep do their share of it as time passes (timer_wheel.hpp).
constexpr std::uint32_t prepare_budget = 256;

// A loop that looks for completions makes a system call this often although the backend sees no need.
constexpr std::uint32_t looks_before_call = 1024;

void cpu_relax() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield" ::: "memory");
#endif
}

// in_turn must be false again, and a guest's host be woken by posts, when a handler's exception passes
// through.
struct InTurn {
    LoopCore& core;
    explicit InTurn(LoopCore& owner) noexcept : core(owner) {
        core.in_turn = true;
        if (core.watched) begins(core);
    }
    InTurn(const InTurn&) = delete;
    InTurn& operator=(const InTurn&) = delete;
    ~InTurn() {
        core.in_turn = false;
        if (core.watched) ends(core);
    }

  private:
    // They get no pointer to the guard: it stays in a register.
    [[gnu::noinline]] static void begins(LoopCore& core) noexcept {
        if (core.insight != nullptr) core.insight->turn_begins();
        if (core.meter != nullptr) core.meter->turn_begins();
    }
    [[gnu::noinline]] static void ends(LoopCore& core) noexcept {
        if (core.insight != nullptr) core.insight->turn_ends();
        if (core.meter != nullptr) core.meter->turn_ends(core);
        if (core.guest) core.guest_sleep();
    }
};

}  // namespace

Error LoopCore::turn(Nanoseconds wait_max) {
    if (in_turn) panic("run, poll, process or drain called from inside a handler of the same loop");
    check_thread();
    if (!bound) {
        if (Error error = bind()) return error;
    }
    const InTurn guard(*this);
    ++statistics.turns;
    guest_new = false;
    if (batch.empty()) {  // otherwise a handler threw or stopped the loop: go on where it was
        if (!hooks_before.empty()) turn_hooks(hooks_before, hooks_before_count);
        if (Error error = turn_wait(wait_max)) return error;
        if (!hooks_after.empty()) turn_hooks(hooks_after, hooks_after_count);
    }
    if (guest) remote_awake();
    dispatch();
    return {};
}

Error LoopCore::turn_wait(Nanoseconds wait_max) noexcept {
    if (!unfiled.empty() || wheel.size() != 0) {
        now = system.now();
        now_read = true;
        timers_file();
    }
    if (!starved.empty()) resume_starved();
    Nanoseconds timeout = wait_max;
    if (work_is_ready() || stopping) timeout = Nanoseconds::zero();
    else if (wheel.size() != 0 && (guest || wait_max != Nanoseconds::zero())) {
        wheel.prepare(prepare_budget);
        timeout = timer_timeout(wait_max);
    }
    batch.count = 0;
    batch.taken = 0;
    if (meter != nullptr) meter->wait_begins(*this, timeout != Nanoseconds::zero());
    if (spins && !guest && timeout != Nanoseconds::zero()) return turn_spinning(timeout, wait_max);
    return turn_sleep(timeout, wait_max);
}

[[gnu::noinline]] Error LoopCore::turn_spinning(Nanoseconds timeout,
                                                Nanoseconds wait_max) noexcept {
    const Error error = turn_spin(timeout);
    if (error || batch.count != 0) return turn_collected(error);
    return turn_sleep(timeout, wait_max);
}

inline Error LoopCore::turn_sleep(Nanoseconds timeout, Nanoseconds wait_max) noexcept {
    const bool sleeps = remote != nullptr && timeout != Nanoseconds::zero();
    if (sleeps && !remote_sleep()) timeout = Nanoseconds::zero();
    // Work made by work, such as a chain of posts, does not pay for looking at the kernel in every turn.
    const bool own_work = timeout == Nanoseconds::zero() && wait_max != Nanoseconds::zero();
    if (own_work && !sleeps && submissions.empty() && driver->quiet()) return turn_collected({});
    const Error error = enter_driver(timeout);
    if (sleeps) remote_awake();
    return turn_collected(error);
}

Error LoopCore::enter_driver(Nanoseconds timeout) noexcept {
    if (insight != nullptr) return insight->wait(timeout);
    return driver->wait(submissions, timeout, batch);
}

Error LoopCore::turn_collected(Error error) noexcept {
    now_read = false;
    if (meter != nullptr) meter->wait_ends(batch.count);
    statistics.completions += batch.count;
    if (batch.count > statistics.completions_batch_high) {
        statistics.completions_batch_high = batch.count;
    }
    return error;
}

// Looks for completions, as LoopOptions::busy_poll says, until there is one, another thread wants
// something, or the time is over. `timeout` becomes what is left of it. Others need not wake who looks: that
// the loop sleeps is said afterwards.
Error LoopCore::turn_spin(Nanoseconds& timeout) noexcept {
    const bool unlimited = timeout < Nanoseconds::zero();
    const Nanoseconds most = unlimited ? options.busy_poll : std::min(timeout, options.busy_poll);
    const Instant begin = system.now();
    const Instant end = add_saturating(begin, most);
    Instant time = begin;
    for (std::uint32_t looks = 0; time < end || looks == 0; ++looks) {
        if (looks % looks_before_call == 0 || !submissions.empty() || driver->peek()) {
            const Error error = enter_driver(Nanoseconds::zero());
            if (error || batch.count != 0) return error;
        }
        if (remote != nullptr && remote_asks()) {
            timeout = Nanoseconds::zero();
            return {};
        }
        cpu_relax();
        time = system.now();
    }
    if (!unlimited) timeout = std::max(timeout - (time - begin), Nanoseconds::zero());
    return {};
}

// How long the driver may wait: until the next timer.
Nanoseconds LoopCore::timer_timeout(Nanoseconds wait_max) noexcept {
    const std::uint64_t tick = wheel.wake_tick();
    if (tick > static_cast<std::uint64_t>(INT64_MAX) >> 10) return wait_max;
    const Nanoseconds due =
        Nanoseconds(static_cast<std::int64_t>(tick << 10)) - clock().time_since_epoch();
    if (due <= Nanoseconds::zero()) return Nanoseconds::zero();
    const Nanoseconds wait = due + options.timer_slack;
    return wait_max < Nanoseconds::zero() ? wait : std::min(wait, wait_max);
}

Instant LoopCore::next_deadline() noexcept {
    const bool work = work_is_ready() || !submissions.empty() || !unfiled.empty();
    if (work || guest_new) return Instant::min();
    const Instant wakes = driver->wakes_at();
    if (wheel.size() == 0) return wakes;
    const std::uint64_t tick = wheel.next_tick();
    if (tick > static_cast<std::uint64_t>(INT64_MAX) >> 10) return wakes;
    return std::min(wakes, Instant(Nanoseconds(static_cast<std::int64_t>(tick << 10))));
}

// Those that are there when the round begins run once each, in the order in which they were made,
// unless one before them has ended them. New ones run from the next turn on.
void LoopCore::turn_hooks(OpList& hooks, std::uint32_t count) {
    std::uint64_t round[hooks_max];
    WHORL_ASSERT(count <= hooks_max);
    std::uint32_t noted = 0;
    for (std::uint32_t index = hooks.head; index != 0; index = operations.at(index).link) {
        round[noted++] = handle_of(operations.at(index));
    }
    WHORL_ASSERT(noted == count);
    for (std::uint32_t next = 0; next < count && !stopping; ++next) {
        OpRecord* record = operations.find(round[next]);
        if (record == nullptr) continue;
        Delivery delivery;
        deliver_in_place(*record, delivery);
    }
}

Error LoopCore::bind() noexcept {
    thread = thread_token();
    thread_id = ::syscall(SYS_gettid);
    // First what may be refused now and granted later: the next turn tries again.
    if (insight != nullptr) {
        if (Error error = insight->bind()) return error;
    }
    if (Error error = driver->bind()) return error;
    report.features = driver->features();
    bound = true;
    pool->set_thread();
    return {};
}

void LoopCore::wrong_thread() const noexcept {
    panic(
        "wrong thread: this loop belongs to thread %ld and was called from thread %ld; use "
        "Remote::post to reach a loop from another thread",
        thread_id, static_cast<long>(::syscall(SYS_gettid)));
}

void LoopCore::wrong_process() const noexcept {
    panic(
        "wrong process: this loop was made before fork(2) and stays the parent's; make another one "
        "in the child (process %ld)",
        static_cast<long>(::getpid()));
}

}  // namespace whorl::detail
