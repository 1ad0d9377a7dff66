// SPDX-License-Identifier: MIT
// Goal: periodic timers do not drift, tell what they missed, and end or move from within their own
// handler. Method: deadlines and missed ticks are added up; a busy handler makes ticks late.
#include "conformance/support.hpp"

#include <whorl/tcp.hpp>

namespace whorl::conformance {
namespace {

class TimerPeriodic : public LoopTest {};
WHORL_CONFORMANCE(TimerPeriodic);

TEST_P(TimerPeriodic, wants_an_interval_above_zero) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const auto never = [](Loop&, Expired) { FAIL(); };
    EXPECT_EQ(loop.every(0ns, never).error(), Error::invalid_argument);
    EXPECT_EQ(loop.every(-1s, never).error(), Error::invalid_argument);
    expect_clean(loop);
}

TEST_P(TimerPeriodic, fires_first_after_one_interval_and_without_drift) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Instant start = os::now();
    std::vector<Expired> events;
    Result<Timer> timer = loop.every(1ms, [&](Loop& inner, Expired expired) {
        EXPECT_GE(os::now(), expired.deadline);
        EXPECT_TRUE(expired.timer);
        events.push_back(expired);
        if (events.size() == 20) {
            EXPECT_TRUE(inner.cancel(expired.timer));
        }
    });
    ASSERT_TRUE(timer);
    EXPECT_FALSE(loop.run());
    ASSERT_EQ(events.size(), 20u);
    EXPECT_GE(events[0].deadline, start + 1ms);
    for (std::size_t index = 1; index < events.size(); ++index) {
        EXPECT_EQ(events[index].timer, *timer);
        const Nanoseconds step = events[index].deadline - events[index - 1].deadline;
        EXPECT_EQ(step.count(), 1'000'000 * static_cast<std::int64_t>(1 + events[index - 1].missed))
            << "ticks drifted or were left out without a word";
    }
    expect_clean(loop);
}

TEST_P(TimerPeriodic, skip_leaves_missed_ticks_out_and_tells_their_number) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    std::vector<Expired> events;
    ASSERT_TRUE(loop.every(1ms, Missed::skip, [&](Loop& inner, Expired expired) {
        events.push_back(expired);
        if (events.size() == 1) os::stay_busy(10ms);
        if (events.size() == 5) {
            EXPECT_TRUE(inner.cancel(expired.timer));
        }
    }));
    EXPECT_FALSE(loop.run());
    ASSERT_EQ(events.size(), 5u);
    EXPECT_GE(events[1].missed, 8u);
    // The late tick itself, the ticks it tells of, then the next whole interval.
    for (std::size_t index = 1; index < events.size(); ++index) {
        const Nanoseconds step = events[index].deadline - events[index - 1].deadline;
        EXPECT_EQ(step.count(),
                  1'000'000 * static_cast<std::int64_t>(1 + events[index - 1].missed));
    }
}

TEST_P(TimerPeriodic, burst_fires_once_for_each_missed_tick) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    std::vector<Instant> deadlines;
    Instant busy_until{};
    int at_once = 0;
    ASSERT_TRUE(loop.every(1ms, Missed::burst, [&](Loop& inner, Expired expired) {
        EXPECT_EQ(expired.missed, 0u);
        if (!deadlines.empty()) {
            EXPECT_EQ(expired.deadline - deadlines.back(), 1ms);
        }
        deadlines.push_back(expired.deadline);
        if (expired.deadline <= busy_until) ++at_once;
        if (deadlines.size() == 1) {
            os::stay_busy(10ms);
            busy_until = os::now();
        }
        if (deadlines.size() == 20) {
            EXPECT_TRUE(inner.cancel(expired.timer));
        }
    }));
    EXPECT_FALSE(loop.run());
    ASSERT_EQ(deadlines.size(), 20u);
    EXPECT_GE(at_once, 9) << "ticks were left out";
}

TEST_P(TimerPeriodic, delay_fires_once_and_counts_from_then) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    std::vector<Instant> deadlines;
    Instant busy_until{};
    ASSERT_TRUE(loop.every(2ms, Missed::delay, [&](Loop& inner, Expired expired) {
        EXPECT_EQ(expired.missed, 0u);
        deadlines.push_back(expired.deadline);
        if (deadlines.size() == 1) {
            os::stay_busy(11ms);
            busy_until = os::now();
        }
        if (deadlines.size() == 3) {
            EXPECT_TRUE(inner.cancel(expired.timer));
        }
    }));
    EXPECT_FALSE(loop.run());
    ASSERT_EQ(deadlines.size(), 3u);
    EXPECT_GE(deadlines[1] - deadlines[0], 2ms);  // more, when the first was late already
    EXPECT_GE(deadlines[2], busy_until + 2ms);
}

TEST_P(TimerPeriodic, cancelled_in_its_own_handler_is_destroyed_after_it) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Witness witness;
    int calls = 0;
    ASSERT_TRUE(loop.every(1ms, [&, t = witness.copy()](Loop& inner, Expired expired) {
        ++calls;
        EXPECT_TRUE(inner.cancel(expired.timer));
        EXPECT_FALSE(inner.cancel(expired.timer));
        EXPECT_EQ(inner.move(expired.timer, 1ms), Error::stale_handle);
        EXPECT_EQ(inner.deadline(expired.timer).error(), Error::stale_handle);
        // Its slot is not free yet: what is armed now must not get it.
        EXPECT_TRUE(inner.after(0ns, [&](Loop&, Expired) { ++calls; }));
        EXPECT_FALSE(witness.alone());
    }));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 2);
    EXPECT_TRUE(witness.alone());
    expect_clean(loop);
}

TEST_P(TimerPeriodic, moved_in_its_own_handler_goes_on_from_there) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    std::vector<Instant> deadlines;
    Instant moved{};
    ASSERT_TRUE(loop.every(1ms, [&](Loop& inner, Expired expired) {
        deadlines.push_back(expired.deadline);
        if (deadlines.size() == 1) {
            moved = os::now();
            EXPECT_FALSE(inner.move(expired.timer, 7ms));
            EXPECT_GE(inner.deadline(expired.timer).value(), moved + 7ms);
        }
        if (deadlines.size() == 3) {
            EXPECT_TRUE(inner.cancel(expired.timer));
        }
    }));
    EXPECT_FALSE(loop.run());
    ASSERT_EQ(deadlines.size(), 3u);
    EXPECT_GE(deadlines[1], moved + 7ms);
    EXPECT_GE(deadlines[2], deadlines[1] + 1ms);
    expect_clean(loop);
}

TEST_P(TimerPeriodic, moved_and_then_cancelled_in_its_own_handler) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int calls = 0;
    ASSERT_TRUE(loop.every(1ms, [&](Loop& inner, Expired expired) {
        ++calls;
        EXPECT_FALSE(inner.move(expired.timer, 1ms));
        EXPECT_FALSE(inner.move(expired.timer, 0ns));
        EXPECT_TRUE(inner.cancel(expired.timer));
    }));
    EXPECT_FALSE(loop.run());
    EXPECT_FALSE(loop.run_for(3ms));
    EXPECT_EQ(calls, 1);
    expect_clean(loop);
}

TEST_P(TimerPeriodic, cancelled_by_another_due_in_the_same_turn) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Witness witness;
    Timer victim;
    int calls = 0;
    ASSERT_TRUE(loop.after(1ms, [&](Loop& inner, Expired) {
        ++calls;
        EXPECT_TRUE(inner.cancel(victim));
        EXPECT_TRUE(witness.alone());
    }));
    Result<Timer> timer = loop.every(1ms, [t = witness.copy()](Loop&, Expired) { FAIL(); });
    ASSERT_TRUE(timer);
    victim = *timer;
    ASSERT_FALSE(loop.poll());
    os::stay_busy(3ms);
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 1);
    expect_clean(loop);
}

TEST_P(TimerPeriodic, intervals_below_a_tick_neither_hang_nor_starve) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    std::uint64_t ticks = 0;
    int nops = 0;
    for (const Missed missed : {Missed::skip, Missed::burst, Missed::delay}) {
        ASSERT_TRUE(
            loop.every(1ns, missed, [&](Loop&, Expired expired) { ticks += 1 + expired.missed; }));
    }
    ASSERT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) { ++nops; }));
    run_until(loop, [&] { return nops == 1 && ticks > 1000; });
    EXPECT_FALSE(loop.drain(1s));
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
