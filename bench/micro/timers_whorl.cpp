// SPDX-License-Identifier: MIT
// whorl's timers as users have them, Loop::after(), cancel() and move(); and with the name of the case
// after "wheel:", the wheel beneath as a structure, with a callback of its own.
#include <whorl/loop.hpp>
#include <whorl/timer_wheel.hpp>

#include "timers.hpp"

namespace {

class Loop {
  public:
    static constexpr const char* name = "whorl";
    explicit Loop(std::size_t count) : loop_(make(count)), timers_(count) {}
    void arm(std::size_t i, std::uint64_t delay_ms) {
        timers_[i] = *loop_.after(std::chrono::milliseconds(delay_ms),
                                  [i](whorl::Loop&, whorl::Expired) { bench::fired += i; });
    }
    void cancel(std::size_t i) { (void)loop_.cancel(timers_[i]); }
    void push(std::size_t i, std::uint64_t delay_ms) {
        (void)loop_.move(timers_[i], std::chrono::milliseconds(delay_ms));
    }
    void step() { (void)loop_.poll(); }

  private:
    static whorl::Loop make(std::size_t count) {
        whorl::LoopOptions options;
        options.ops_max = static_cast<std::uint32_t>(count + 64);
        options.timers_per_turn = static_cast<std::uint32_t>(count + 64);  // as the rivals: all
        whorl::Result<whorl::Loop> made = whorl::Loop::create(options);
        if (!made) {
            std::fprintf(stderr, "%s\n", made.error().text());
            std::exit(1);
        }
        return std::move(*made);
    }
    whorl::Loop loop_;
    std::vector<whorl::Timer> timers_;
};

class Wheel {
  public:
    static constexpr const char* name = "whorl:wheel";
    explicit Wheel(std::size_t count)
        : wheel_(std::make_unique<whorl::TimerWheel>(tick_now())), timers_(count) {
        for (std::size_t i = 0; i != count; ++i) {
            timers_[i].user = static_cast<std::uint32_t>(i);
            timers_[i].fire = [](Timer* timer) { bench::fired += timer->user; };
        }
    }
    void arm(std::size_t i, std::uint64_t delay_ms) {
        wheel_->insert(timers_[i], deadline(delay_ms));
    }
    void cancel(std::size_t i) { wheel_->remove(timers_[i]); }
    void push(std::size_t i, std::uint64_t delay_ms) {
        wheel_->move(timers_[i], deadline(delay_ms));
    }
    void step() {
        const std::uint64_t now = tick_now();
        while (whorl::TimerNode* const node = wheel_->expire_one(now)) {
            Timer* const timer = static_cast<Timer*>(node);
            timer->fire(timer);
        }
    }
    whorl::TimerWheel& wheel() { return *wheel_; }

  private:
    struct Timer : whorl::TimerNode {
        void (*fire)(Timer*) = nullptr;
    };
    static std::uint64_t tick_now() { return bench::virtual_ns >> 10; }
    static std::uint64_t deadline(std::uint64_t delay_ms) {
        return (bench::virtual_ns + delay_ms * bench::ms_ns + 1023) >> 10;
    }
    std::unique_ptr<whorl::TimerWheel> wheel_;
    std::vector<Timer> timers_;
};

// The crowd of `crowd`, but the wheel's caller sleeps as long as it may instead of stepping: the longest
// turn until the first timer has fired, each with its least time of all rounds.
void crowd_sleep(bench::Run& run) {
    std::vector<std::uint64_t> times;
    for (std::uint64_t round = 0; round != run.operations(); ++round) {
        const std::uint64_t begin_ns = bench::virtual_ns;
        Wheel kind(run.count());
        bench::Random random;
        bench::fill(kind, run.count(), random, bench::minute_ms, 1000);
        for (std::size_t turn = 0; kind.wheel().size() == run.count(); ++turn) {
            if (turn == times.size()) times.push_back(~std::uint64_t{0});
            const std::uint64_t begin = bench::clock_read(CLOCK_PROCESS_CPUTIME_ID);
            kind.wheel().prepare(256);
            bench::virtual_ns = std::max(bench::virtual_ns, kind.wheel().wake_tick() << 10);
            kind.step();
            times[turn] =
                std::min(times[turn], bench::clock_read(CLOCK_PROCESS_CPUTIME_ID) - begin);
        }
        bench::virtual_restart(begin_ns);
    }
    run.set_ns(static_cast<double>(*std::max_element(times.begin(), times.end())));
    run.tell("turns", static_cast<double>(times.size()));
    run.add(times.size());
}

}  // namespace

int main(int argc, char** argv) {
    const bool wheel = argc > 2 && std::strncmp(argv[2], "wheel:", 6) == 0;
    if (wheel) argv[2] += 6;
    bench::Run run(wheel ? Wheel::name : Loop::name, argc, argv);
    if (wheel && run.is("crowd_sleep")) crowd_sleep(run);
    else if (!(wheel ? bench::timer_cases<Wheel>(run) : bench::timer_cases<Loop>(run)))
        return bench::Run::skip();
    return run.finish();
}
