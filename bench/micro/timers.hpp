// SPDX-License-Identifier: MIT
// The timers of a library under a virtual clock. A rival is a class Kind:
//
//   Kind(count)             makes so many timers, none armed
//   arm(i, delay_ms), cancel(i), push(i, delay_ms)
//   step()                  runs the loop without waiting: what is due fires and adds i to `fired`
//
// clock_gettime is replaced in these programs by one that returns the virtual time, so that every rival
// is driven through its public functions from millisecond to millisecond, and minutes pass in
// milliseconds. What is measured is processor time. The worst step is the longest of the least times
// that the same step took in several rounds: interrupts and other guests can only make a step longer.
#pragma once

#include <malloc.h>

#include <algorithm>
#include <memory>

#include "../harness.hpp"

namespace bench {

inline constexpr std::uint64_t ms_ns = 1'000'000;
inline constexpr std::uint64_t minute_ms = 60'000;
inline std::uint64_t virtual_ns = 1'000'000 * ms_ns;
inline std::uint64_t fired = 0;

// A later time with the same low bits: what depends on borders of powers of two is met again.
inline void virtual_restart(std::uint64_t begin) { virtual_ns = begin + (std::uint64_t{1} << 50); }

inline double resident_bytes() {
    long kib = 0;
    char line[256];
    std::FILE* status = std::fopen("/proc/self/status", "re");
    while (status != nullptr && std::fgets(line, sizeof line, status) != nullptr) {
        if (std::sscanf(line, "RssAnon: %ld", &kib) == 1) break;
    }
    if (status != nullptr) (void)std::fclose(status);
    return static_cast<double>(kib) * 1024;
}

// Every timer at a random time of the span. The turn after it lets a library do what arming left for it:
// whorl's loop counts from the end of the turn in which a timer was armed.
template <class Kind>
void fill(Kind& kind, std::size_t timers, Random& random, std::uint64_t first_ms,
          std::uint64_t span_ms) {
    kind.step();
    for (std::size_t i = 0; i != timers; ++i) kind.arm(i, first_ms + random.below(span_ms));
    kind.step();
}

// One timer more is armed and cancelled: a timeout that does not happen. The loop turns once in a
// hundred, because some libraries leave work for it.
template <class Kind>
void arm_cancel(Run& run) {
    Kind kind(run.count() + 1);
    Random random;
    fill(kind, run.count(), random, 1, minute_ms);
    run.measure([&] {
        for (std::uint64_t n = 0; n != run.operations(); ++n) {
            kind.arm(run.count(), 1 + random.below(minute_ms));
            kind.cancel(run.count());
            if (n % 100 == 99) kind.step();
        }
    });
}

// A hundred timeouts are armed in a turn and cancelled after the next one, all on top of `count`.
template <class Kind>
void timeouts(Run& run) {
    constexpr std::size_t batch = 100;
    Kind kind(run.count() + batch);
    Random random;
    fill(kind, run.count(), random, 2 * minute_ms, minute_ms);
    run.measure([&] {
        for (std::uint64_t n = 0; n < run.operations(); n += batch) {
            for (std::size_t i = 0; i != batch; ++i) kind.arm(run.count() + i, minute_ms);
            kind.step();
            for (std::size_t i = 0; i != batch; ++i) kind.cancel(run.count() + i);
            kind.step();
        }
    });
}

template <class Kind>
void cancel_arm_random(Run& run) {
    Kind kind(run.count());
    Random random;
    fill(kind, run.count(), random, 1, minute_ms);
    run.measure([&] {
        for (std::uint64_t n = 0; n != run.operations(); ++n) {
            const std::size_t i = random.below(run.count());
            kind.cancel(i);
            kind.arm(i, 1 + random.below(minute_ms));
            if (n % 100 == 99) kind.step();
        }
    });
}

// Connection timeouts: an operation finds one connection active, a millisecond has a hundred of them.
template <class Kind>
void push_later(Run& run) {
    Kind kind(run.count());
    Random random;
    fill(kind, run.count(), random, minute_ms, minute_ms);
    run.measure([&] {
        for (std::uint64_t n = 0; n != run.operations(); ++n) {
            kind.push(random.below(run.count()), 2 * minute_ms);
            if (n % 100 != 99) continue;
            virtual_ns += ms_ns;
            kind.step();
        }
    });
}

// All have the same deadline. An operation is one that fires.
template <class Kind>
void burst(Run& run) {
    Kind kind(run.count());
    kind.step();
    const std::uint64_t rounds = run.operations() / run.count();
    std::uint64_t spent = 0;
    for (std::uint64_t round = 0; round != rounds; ++round) {
        for (std::size_t i = 0; i != run.count(); ++i) kind.arm(i, 100);
        kind.step();
        virtual_ns += 200 * ms_ns;
        const std::uint64_t expected = fired + run.count() * (run.count() - 1) / 2;
        const std::uint64_t begin = clock_read(CLOCK_PROCESS_CPUTIME_ID);
        while (fired != expected) kind.step();
        spent += clock_read(CLOCK_PROCESS_CPUTIME_ID) - begin;
    }
    run.set_ns(static_cast<double>(spent) / static_cast<double>(rounds * run.count()));
}

// Sixteen timers a millisecond, at random; the whole until all have fired, by timer.
template <class Kind>
void expire(Run& run) {
    const std::uint64_t span_ms = std::max<std::uint64_t>(run.count() / 16, 16);
    Kind kind(run.count());
    Random random;
    std::uint64_t spent = 0;
    const std::uint64_t rounds = std::max<std::uint64_t>(run.operations() / run.count(), 1);
    for (std::uint64_t round = 0; round != rounds; ++round) {
        fill(kind, run.count(), random, 1, span_ms);
        const std::uint64_t begin = clock_read(CLOCK_PROCESS_CPUTIME_ID);
        for (std::uint64_t ms = 0; ms <= span_ms + 1; ++ms) {
            virtual_ns += ms_ns;
            kind.step();
        }
        spent += clock_read(CLOCK_PROCESS_CPUTIME_ID) - begin;
    }
    run.set_ns(static_cast<double>(spent) / static_cast<double>(rounds * run.count()));
}

// The steps of the case's whole span, each with its least time of all rounds; `ns` is the worst. An
// operation is a round.
template <class Kind>
void worst_step(Run& run, std::uint64_t first_ms, std::uint64_t span_ms) {
    std::vector<std::uint64_t> times(first_ms + span_ms + 1, ~std::uint64_t{0});
    for (std::uint64_t round = 0; round != run.operations(); ++round) {
        const std::uint64_t begin_ns = virtual_ns;
        {
            auto kind = std::make_unique<Kind>(run.count());
            Random random;
            fill(*kind, run.count(), random, first_ms, span_ms);
            kind->step();  // what a rival puts off at arming is no part of a later step
            std::uint64_t before = clock_read(CLOCK_PROCESS_CPUTIME_ID);
            for (std::uint64_t& time : times) {
                virtual_ns += ms_ns;
                kind->step();
                const std::uint64_t after = clock_read(CLOCK_PROCESS_CPUTIME_ID);
                time = std::min(time, after - before);
                before = after;
            }
        }
        virtual_restart(begin_ns);
    }
    std::sort(times.begin(), times.end());
    const auto at = [&](double share) {
        const auto index = static_cast<std::size_t>(share * static_cast<double>(times.size() - 1));
        return static_cast<double>(times[index]);
    };
    run.set_ns(at(1));
    run.tell("p50_ns", at(0.5));
    run.tell("p99_ns", at(0.99));
    run.tell("p999_ns", at(0.999));
}

// `ns` is bytes here: what a timer takes, armed, its own object and the library's part of it.
template <class Kind>
void bytes(Run& run) {
    (void)mallopt(M_MMAP_THRESHOLD, 64 * 1024);
    const double before = resident_bytes();
    Kind kind(run.count());
    Random random;
    fill(kind, run.count(), random, 1, minute_ms);
    run.set_ns((resident_bytes() - before) / static_cast<double>(run.count()));
}

// All cases for one rival; false when there is none of that name.
template <class Kind>
bool timer_cases(Run& run) {
    if (run.is("arm_cancel")) arm_cancel<Kind>(run);
    else if (run.is("timeouts")) timeouts<Kind>(run);
    else if (run.is("random")) cancel_arm_random<Kind>(run);
    else if (run.is("push")) push_later<Kind>(run);
    else if (run.is("expire")) expire<Kind>(run);
    else if (run.is("burst")) burst<Kind>(run);
    else if (run.is("worst"))
        worst_step<Kind>(run, 1, std::max<std::uint64_t>(run.count() / 16, 16));
    else if (run.is("crowd")) worst_step<Kind>(run, minute_ms, 1000);
    else if (run.is("bytes")) bytes<Kind>(run);
    else return false;
    run.add(fired);
    return true;
}

}  // namespace bench

extern "C" int clock_gettime(clockid_t, timespec* time) noexcept {
    time->tv_sec = static_cast<time_t>(bench::virtual_ns / 1'000'000'000);
    time->tv_nsec = static_cast<long>(bench::virtual_ns % 1'000'000'000);
    return 0;
}

#define WHORL_BENCH_TIMERS_MAIN(Kind)           \
    int main(int argc, char** argv) {           \
        bench::Run run(Kind::name, argc, argv); \
        if (!bench::timer_cases<Kind>(run)) {   \
            return bench::Run::skip();          \
        }                                       \
        return run.finish();                    \
    }
