// SPDX-License-Identifier: MIT
// Goal: what a timer costs and how long one step of time can take, beside libev and libuv.
// Method: one thread, virtual time. This program defines clock_gettime, so libev and libuv, linked
// dynamically, see the time that it sets; they are stepped by a loop run that does not wait, the
// wheel by taking out what is due. All kinds get the same random numbers. Each figure is the median
// of several rounds, of processor time, so that preemption is not measured. Interrupts still are,
// and each round does the same work in the same step; so a step counts with its least time of all
// rounds, and the worst step is the longest of these. A timer of the wheel has a callback here, as
// those of the others have. --tiny only shows that all of it works. WHORL_BENCH_LIBEV and
// WHORL_BENCH_LIBUV say which rivals are there.

#include <dlfcn.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include <whorl/timer_wheel.hpp>

#if defined(WHORL_BENCH_LIBEV)
#include <ev.h>
#endif
#if defined(WHORL_BENCH_LIBUV)
#include <uv.h>
#endif

namespace {

constexpr std::uint64_t ms_ns = 1000000;
constexpr std::uint64_t start_ns = 1000000 * ms_ns;

std::uint64_t virtual_ns = start_ns;
std::uint64_t checksum = 0;

// The processor time of this thread: whoever else runs on the machine is left out.
std::uint64_t cpu_ns() {
    using Clock = int (*)(clockid_t, timespec*);
    static const Clock clock = reinterpret_cast<Clock>(dlsym(RTLD_NEXT, "clock_gettime"));
    timespec now{};
    clock(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1000000000 +
           static_cast<std::uint64_t>(now.tv_nsec);
}

class Random {
  public:
    std::uint64_t below(std::uint64_t bound) {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return static_cast<std::uint64_t>(static_cast<double>(state_ >> 11) * 0x1p-53 *
                                          static_cast<double>(bound));
    }

  private:
    std::uint64_t state_ = 88172645463325252u;
};

// The three kinds, with the same functions: delays are milliseconds, step() fires what is due.

class Wheel {
  public:
    static constexpr const char* name = "whorl";
    explicit Wheel(std::size_t count) : wheel_(*new whorl::TimerWheel(tick_now())), timers_(count) {
        for (std::size_t i = 0; i != count; ++i) {
            timers_[i].user = static_cast<std::uint32_t>(i);
            timers_[i].fire = [](Timer* timer) { checksum += timer->user; };
        }
    }
    ~Wheel() { delete &wheel_; }
    static std::size_t timer_size() { return sizeof(whorl::TimerNode); }
    void arm(std::size_t i, std::uint64_t delay_ms) {
        wheel_.insert(timers_[i], deadline(delay_ms));
    }
    void cancel(std::size_t i) { wheel_.remove(timers_[i]); }
    void push(std::size_t i, std::uint64_t delay_ms) {
        wheel_.move(timers_[i], deadline(delay_ms));
    }
    void step() {
        const std::uint64_t now = tick_now();
        while (whorl::TimerNode* const node = wheel_.expire_one(now)) {
            Timer* const timer = static_cast<Timer*>(node);
            timer->fire(timer);
        }
    }
    whorl::TimerWheel& wheel() { return wheel_; }

  private:
    struct Timer : whorl::TimerNode {
        void (*fire)(Timer*) = nullptr;
    };
    static std::uint64_t tick_now() { return virtual_ns >> 10; }
    static std::uint64_t deadline(std::uint64_t delay_ms) {
        return (virtual_ns + delay_ms * ms_ns + 1023) >> 10;
    }
    whorl::TimerWheel& wheel_;
    std::vector<Timer> timers_;
};

#if defined(WHORL_BENCH_LIBEV)
class Libev {
  public:
    static constexpr const char* name = "libev";
    explicit Libev(std::size_t count) : loop_(ev_loop_new(EVFLAG_AUTO)), timers_(count) {
        std::uintptr_t index = 0;
        for (ev_timer& timer : timers_) {
            ev_init(&timer, [](struct ev_loop*, ev_timer* w, int) {
                checksum += reinterpret_cast<std::uintptr_t>(w->data);
            });
            timer.data = reinterpret_cast<void*>(index++);
        }
    }
    ~Libev() { ev_loop_destroy(loop_); }
    static std::size_t timer_size() { return sizeof(ev_timer) + 16; }  // And an entry of the heap.
    void arm(std::size_t i, std::uint64_t delay_ms) {
        ev_timer_set(&timers_[i], static_cast<double>(delay_ms) * 1e-3, 0.);
        ev_timer_start(loop_, &timers_[i]);
    }
    void cancel(std::size_t i) { ev_timer_stop(loop_, &timers_[i]); }
    void push(std::size_t i, std::uint64_t delay_ms) {
        timers_[i].repeat = static_cast<double>(delay_ms) * 1e-3;
        ev_timer_again(loop_, &timers_[i]);
    }
    void step() { ev_run(loop_, EVRUN_NOWAIT); }

  private:
    struct ev_loop* loop_;
    std::vector<ev_timer> timers_;
};
#endif

#if defined(WHORL_BENCH_LIBUV)
class Libuv {
  public:
    static constexpr const char* name = "libuv";
    explicit Libuv(std::size_t count) : timers_(count) {
        uv_loop_init(&loop_);
        std::uintptr_t index = 0;
        for (uv_timer_t& timer : timers_) {
            uv_timer_init(&loop_, &timer);
            timer.data = reinterpret_cast<void*>(index++);
        }
    }
    ~Libuv() {
        for (uv_timer_t& timer : timers_) uv_close(reinterpret_cast<uv_handle_t*>(&timer), nullptr);
        uv_run(&loop_, UV_RUN_DEFAULT);
        uv_loop_close(&loop_);
    }
    static std::size_t timer_size() { return sizeof(uv_timer_t); }
    void arm(std::size_t i, std::uint64_t delay_ms) {
        uv_timer_start(
            &timers_[i],
            [](uv_timer_t* timer) { checksum += reinterpret_cast<std::uintptr_t>(timer->data); },
            delay_ms, 0);
    }
    void cancel(std::size_t i) { uv_timer_stop(&timers_[i]); }
    void push(std::size_t i, std::uint64_t delay_ms) { arm(i, delay_ms); }
    void step() { uv_run(&loop_, UV_RUN_NOWAIT); }

  private:
    uv_loop_t loop_;
    std::vector<uv_timer_t> timers_;
};
#endif

// The measurements. Each returns ns per operation or, for the worst step, ns.

struct Size {
    std::size_t timers;
    std::size_t operations;
    unsigned rounds;
};

template <class Kind>
void fill(Kind& kind, const Size& size, Random& random, std::uint64_t span_ms) {
    kind.step();
    for (std::size_t i = 0; i != size.timers; ++i) kind.arm(i, 1 + random.below(span_ms));
}

template <class Work>
double per_operation(std::size_t operations, Work work) {
    const std::uint64_t begin = cpu_ns();
    for (std::size_t i = 0; i != operations; ++i) work();
    return static_cast<double>(cpu_ns() - begin) / static_cast<double>(operations);
}

constexpr std::uint64_t minute_ms = 60000;

template <class Kind>
double insert_remove(const Size& size) {
    Kind kind(size.timers + 1);
    Random random;
    fill(kind, size, random, minute_ms);
    return per_operation(size.operations, [&] {
        kind.arm(size.timers, 1 + random.below(minute_ms));
        kind.cancel(size.timers);
    });
}

template <class Kind>
double cancel_insert(const Size& size) {
    Kind kind(size.timers);
    Random random;
    fill(kind, size, random, minute_ms);
    return per_operation(size.operations, [&] {
        const std::size_t i = random.below(size.timers);
        kind.cancel(i);
        kind.arm(i, 1 + random.below(minute_ms));
    });
}

// Connection timeouts: each operation finds one connection active, a millisecond has a hundred.
template <class Kind>
double push_later(const Size& size) {
    Kind kind(size.timers);
    Random random;
    kind.step();
    for (std::size_t i = 0; i != size.timers; ++i) kind.arm(i, minute_ms + random.below(minute_ms));
    unsigned active = 0;
    return per_operation(size.operations, [&] {
        kind.push(random.below(size.timers), 2 * minute_ms);
        if (++active % 100 != 0) return;
        virtual_ns += ms_ns;
        kind.step();
    });
}

struct Steps {
    double per_timer = 0;
    double worst = 0;
};

using Times = std::vector<std::uint64_t>;  // The least time of each step so far.

// Watching each step reads the clock each step, which falsifies the sum: nullptr to measure that.
template <class Kind>
double steps(Kind& kind, std::size_t timers, std::uint64_t span_ms, Times* times) {
    if (times != nullptr) times->resize(span_ms + 2, ~std::uint64_t{0});
    const std::uint64_t begin = cpu_ns();
    std::uint64_t before = begin;
    for (std::uint64_t ms = 0; ms <= span_ms + 1; ++ms) {
        virtual_ns += ms_ns;
        kind.step();
        if (times == nullptr) continue;
        const std::uint64_t after = cpu_ns();
        (*times)[ms] = std::min((*times)[ms], after - before);
        before = after;
    }
    return static_cast<double>(cpu_ns() - begin) / static_cast<double>(timers);
}

// Sixteen timers a millisecond at random, each millisecond a step.
template <class Kind>
double expire(const Size& size, Times* times) {
    Kind kind(size.timers);
    Random random;
    const std::uint64_t span_ms = std::max<std::uint64_t>(size.timers / 16, 16);
    fill(kind, size, random, span_ms);
    return steps(kind, size.timers, span_ms, times);
}

// Armed a minute ahead, all within a second: a coarse slot of the wheel is crowded.
template <class Kind>
double crowd(const Size& size, Times* times) {
    Kind kind(size.timers);
    Random random;
    kind.step();
    for (std::size_t i = 0; i != size.timers; ++i) kind.arm(i, minute_ms + random.below(1000));
    return steps(kind, size.timers, minute_ms + 1000, times);
}

template <class Kind>
double burst(const Size& size) {
    Kind kind(size.timers);
    kind.step();
    for (std::size_t i = 0; i != size.timers; ++i) kind.arm(i, 100);
    virtual_ns += 200 * ms_ns;
    return per_operation(1, [&] { kind.step(); }) / static_cast<double>(size.timers);
}

// The crowd again, but the wheel's caller sleeps as long as it may instead of stepping.
double crowd_sleep(const Size& size, std::size_t* turns) {
    Times times;
    for (unsigned round = 0; round != size.rounds; ++round) {
        virtual_ns = start_ns;
        Wheel kind(size.timers);
        Random random;
        for (std::size_t i = 0; i != size.timers; ++i) kind.arm(i, minute_ms + random.below(1000));
        for (std::size_t turn = 0; kind.wheel().size() == size.timers; ++turn) {
            if (turn == times.size()) times.push_back(~std::uint64_t{0});
            const std::uint64_t begin = cpu_ns();
            kind.wheel().prepare(256);
            virtual_ns = std::max(virtual_ns, kind.wheel().wake_tick() << 10);
            kind.step();
            times[turn] = std::min(times[turn], cpu_ns() - begin);
        }
    }
    *turns = times.size();
    return static_cast<double>(*std::max_element(times.begin(), times.end()));
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

template <class Function>
double rounds(const Size& size, Function function) {
    std::vector<double> values;
    for (unsigned round = 0; round != size.rounds; ++round) values.push_back(function(size));
    return median(values);
}

template <class Function>
Steps rounds_steps(const Size& size, Function function) {
    std::vector<double> values;
    Times times;
    for (unsigned round = 0; round != size.rounds; ++round) {
        virtual_ns = start_ns;  // The same borders in every round.
        values.push_back(function(size, nullptr));
        virtual_ns = start_ns;
        function(size, &times);
    }
    return {median(values), static_cast<double>(*std::max_element(times.begin(), times.end()))};
}

template <class Kind>
void report(const Size& size) {
    const Steps expired = rounds_steps(size, expire<Kind>);
    const Steps crowded = rounds_steps(size, crowd<Kind>);
    std::printf("%-6s %8zu %8.1f %8.1f %8.1f %8.1f %8.1f %10.1f %10.1f %6zu\n", Kind::name,
                size.timers, rounds(size, insert_remove<Kind>), rounds(size, cancel_insert<Kind>),
                rounds(size, push_later<Kind>), expired.per_timer, rounds(size, burst<Kind>),
                expired.worst / 1e3, crowded.worst / 1e3, Kind::timer_size());
    std::fflush(stdout);
}

}  // namespace

extern "C" int clock_gettime(clockid_t, timespec* time) noexcept {
    time->tv_sec = static_cast<time_t>(virtual_ns / 1000000000);
    time->tv_nsec = static_cast<long>(virtual_ns % 1000000000);
    return 0;
}

int main(int argc, char** argv) {
    const bool tiny = argc > 1 && std::strcmp(argv[1], "--tiny") == 0;
    std::vector<Size> sizes{{1000, 1000000, 5}, {100000, 2000000, 3}, {1000000, 2000000, 3}};
    if (tiny) sizes = {{1000, 1000, 1}};
    std::printf("ns per operation; worst step of 1 ms in us; bytes per timer\n");
    std::printf("%-6s %8s %8s %8s %8s %8s %8s %10s %10s %6s\n", "kind", "timers", "ins+rem",
                "can+ins", "push", "expire", "burst", "worst", "crowd", "bytes");
    for (const Size& size : sizes) {
        report<Wheel>(size);
#if defined(WHORL_BENCH_LIBEV)
        report<Libev>(size);
#endif
#if defined(WHORL_BENCH_LIBUV)
        report<Libuv>(size);
#endif
        std::size_t turns = 0;
        const double worst = crowd_sleep(size, &turns);
        std::printf("whorl  %8zu crowd after a sleep: worst turn %.1f us, %zu turns to the first\n",
                    size.timers, worst / 1e3, turns);
    }
    std::printf("checksum %016llx\n", static_cast<unsigned long long>(checksum));
    return 0;
}
