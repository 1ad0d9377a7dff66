// SPDX-License-Identifier: MIT
// Goal: many timers, fairness between timers and everything else, and signals in between. Method:
// pseudo-random timers against their own deadlines; lateness is printed, not judged, because other
// programs share the machine.
#include "conformance/support.hpp"
#include "conformance/tcp_pair.hpp"

#include <sys/time.h>
#include <csignal>

#include <cinttypes>
#include <cstdio>
#include <random>

namespace whorl::conformance {
namespace {

class TimerLoad : public TcpTest {
  protected:
    static void print_lateness(const char* what, std::vector<Nanoseconds>& late) {
        if (late.empty()) return;
        std::sort(late.begin(), late.end());
        const auto at = [&](std::size_t percent) {
            return late[std::min(late.size() - 1, late.size() * percent / 100)].count();
        };
        std::printf("  %-28s %s: late by p50 %" PRId64 " p99 %" PRId64 " worst %" PRId64 " ns\n",
                    GetParam().name, what, static_cast<std::int64_t>(at(50)),
                    static_cast<std::int64_t>(at(99)),
                    static_cast<std::int64_t>(late.back().count()));
    }
};
WHORL_CONFORMANCE(TimerLoad);

TEST_P(TimerLoad, ten_thousand_armed_moved_and_cancelled) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    std::mt19937 random(20260901);
    const std::size_t count = 10'000;
    struct Slot {
        Timer timer;
        Instant earliest;
        bool cancelled = false;
        int fired = 0;
    };
    std::vector<Slot> slots(count);
    Instant last{};
    const auto arm = [&](std::size_t index) {
        const Nanoseconds delay(random() % 30'000'000);
        Slot& slot = slots[index];
        slot.earliest = os::now() + delay;
        Result<Timer> timer = loop.after(delay, [&slot, &last](Loop& inner, Expired expired) {
            ++slot.fired;
            EXPECT_FALSE(slot.cancelled);
            EXPECT_GE(inner.now(), slot.earliest);
            // In the wheel's order: by tick.
            EXPECT_GE(expired.deadline + 1024ns, last);
            last = expired.deadline;
        });
        ASSERT_TRUE(timer);
        slot.timer = *timer;
    };
    for (std::size_t index = 0; index < count; ++index) arm(index);
    EXPECT_EQ(loop.statistics().operations, count);
    for (int round = 0; round < 5; ++round) {
        ASSERT_FALSE(loop.poll());
        for (int change = 0; change < 500; ++change) {
            Slot& slot = slots[random() % count];
            if (slot.fired != 0 || slot.cancelled) continue;
            if (random() % 2 == 0) {
                const Nanoseconds delay(random() % 30'000'000);
                slot.earliest = os::now() + delay;
                EXPECT_FALSE(loop.move(slot.timer, delay));
            } else {
                slot.cancelled = true;
                EXPECT_TRUE(loop.cancel(slot.timer));
            }
        }
    }
    EXPECT_FALSE(loop.run());
    for (const Slot& slot : slots) EXPECT_EQ(slot.fired, slot.cancelled ? 0 : 1);
    EXPECT_GE(loop.statistics().operations_high, count);
    expect_clean(loop);
}

TEST_P(TimerLoad, a_crowd_far_away_stalls_no_turn) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const std::size_t count = scaled(200'000);
    std::mt19937 random(1);
    std::size_t fired = 0;
    const Instant base = os::now() + 300ms;
    for (std::size_t index = 0; index < count; ++index) {
        ASSERT_TRUE(
            loop.at(base + Nanoseconds(random() % 50'000'000), [&](Loop&, Expired) { ++fired; }));
    }
    Nanoseconds worst{};
    while (fired < count) {
        const std::size_t before = fired;
        const Instant start = os::now();
        ASSERT_FALSE(loop.poll());
        worst = std::max<Nanoseconds>(worst, os::now() - start);
        EXPECT_LE(fired - before, GetParam().options.timers_per_turn);
        if (os::now() - base > 30s) FAIL() << "only " << fired << " of " << count << " fired";
    }
    std::printf("  %-28s worst turn with %zu timers: %lld us\n", GetParam().name, count,
                static_cast<long long>(worst.count() / 1000));
    expect_clean(loop);
}

TEST_P(TimerLoad, a_zero_delay_timer_armed_again_does_not_starve_others) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    struct Again {
        std::uint64_t calls = 0;
        bool enough = false;
        void operator()(Loop& inner, Expired) {
            ++calls;
            if (!enough) {
                EXPECT_TRUE(inner.after(0ns, this));
            }
        }
    };
    Again first, second;
    int received = 0, posts = 0, timers = 0;
    ASSERT_TRUE(loop.after(0ns, &first));
    ASSERT_TRUE(loop.after(0ns, &second));
    ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(16)}, [&](Loop&, Recv::Done done) {
        EXPECT_EQ(done.buffer.text(), "x");
        ++received;
    }));
    ASSERT_FALSE(loop.post([&](Loop&) { ++posts; }));
    ASSERT_TRUE(loop.after(3ms, [&](Loop&, Expired) { ++timers; }));
    for (int turn = 0; turn < 100; ++turn) ASSERT_FALSE(loop.poll());
    pair.peer.send("x");
    run_until(loop, [&] {
        return received + posts + timers == 3 && first.calls > 10 && second.calls > 10;
    });
    EXPECT_LE(first.calls, loop.statistics().turns);
    first.enough = second.enough = true;
    close_and_wait(loop, pair.socket);
    EXPECT_FALSE(loop.run());
    expect_clean(loop);
}

TEST_P(TimerLoad, a_turn_fires_no_more_than_its_share) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.timers_per_turn = 7; });
    std::uint64_t fired = 0, seen = 0, worst = 0;
    int nops = 0;
    Result<Operation> hook = loop.hook(HookPoint::after_wait, [&](Loop&) {
        worst = std::max(worst, fired - std::exchange(seen, fired));
    });
    ASSERT_TRUE(hook);
    for (int index = 0; index < 700; ++index) {
        ASSERT_TRUE(loop.at(os::now(), [&](Loop&, Expired) { ++fired; }));
    }
    os::stay_busy(1ms);
    ASSERT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) {
        ++nops;
        EXPECT_LT(fired, 700u) << "the timers went first, all of them";
    }));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(fired, 700u);
    EXPECT_EQ(nops, 1);
    EXPECT_EQ(std::max(worst, fired - seen), 7u);
    loop.cancel(*hook);
}

TEST_P(TimerLoad, lateness_of_an_idle_loop) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    std::vector<Nanoseconds> late;
    struct Tick {
        std::vector<Nanoseconds>& late;
        int left;
        void operator()(Loop& inner, Expired expired) {
            late.push_back(os::now() - expired.deadline);
            if (--left > 0) {
                EXPECT_TRUE(inner.after(700us, this));
            }
        }
    };
    Tick tick{late, 100};
    const std::uint64_t before = loop.statistics().turns;
    ASSERT_TRUE(loop.after(700us, &tick));
    EXPECT_FALSE(loop.run());
    ASSERT_EQ(late.size(), 100u);
    EXPECT_GE(*std::min_element(late.begin(), late.end()), 0ns);
    if (GetParam().world && exact()) {
        EXPECT_LT(*std::max_element(late.begin(), late.end()), 5us) << "more than a tick late";
    }
    print_lateness("700 us timers", late);
    EXPECT_LE(loop.statistics().turns - before, 800u) << "the loop spins instead of sleeping";
}

// Signals without SA_RESTART, a thousand in a second.
class SignalStorm {
  public:
    SignalStorm() {
        count = 0;
        struct sigaction action {};
        action.sa_handler = [](int) { count = count + 1; };
        sigaction(SIGALRM, &action, &action_before_);
        const itimerval every{{0, 1000}, {0, 1000}};
        setitimer(ITIMER_REAL, &every, nullptr);
    }
    ~SignalStorm() {
        const itimerval off{};
        setitimer(ITIMER_REAL, &off, nullptr);
        sigaction(SIGALRM, &action_before_, nullptr);
    }
    static inline volatile std::sig_atomic_t count = 0;

  private:
    struct sigaction action_before_ {};
};

class TimerSignals : public TimerLoad {};
WHORL_CONFORMANCE_REAL(TimerSignals);

TEST_P(TimerSignals, neither_delay_timers_nor_lose_anything) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    const SignalStorm storm;
    std::vector<Nanoseconds> late;
    int ticks = 0, finals = 0;
    std::string got, text = pattern(300'000);
    Result<Timer> timer = loop.every(5ms, Missed::burst, [&](Loop&, Expired expired) {
        late.push_back(os::now() - expired.deadline);
        EXPECT_GE(late.back(), 0ns);
        ++ticks;
    });
    ASSERT_TRUE(timer);
    ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, [&](Loop&, RecvStream::Done done) {
        EXPECT_FALSE(done.error) << done.error.name();
        got += done.buffer.text();
        if (!done.more) ++finals;
    }));
    os::Thread writer([&] {
        sigset_t alarm;
        sigemptyset(&alarm);
        sigaddset(&alarm, SIGALRM);
        pthread_sigmask(SIG_BLOCK, &alarm, nullptr);  // the loop's thread gets them all
        for (std::size_t done = 0; done < text.size(); done += 3000) {
            pair.peer.send(text.substr(done, 3000));
        }
        pair.peer.finish_sending();
    });
    run_until(loop, [&] { return ticks >= 30 && finals == 1 && storm.count >= 20; });
    writer.join();
    EXPECT_TRUE(got == text);
    EXPECT_GE(storm.count, 20);
    EXPECT_FALSE(loop.run_for(5ms));
    print_lateness("5 ms timers among signals", late);
    EXPECT_TRUE(loop.cancel(*timer));
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(TimerSignals, do_not_cut_run_for_short) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const SignalStorm storm;
    const Instant start = os::now();
    EXPECT_FALSE(loop.run_for(30ms));
    EXPECT_GE(os::now() - start, 30ms);
}

}  // namespace
}  // namespace whorl::conformance
