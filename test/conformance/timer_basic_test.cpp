// SPDX-License-Identifier: MIT
// Goal: one-shot timers: never early, in order, cancelled for good, moved, far away and past. Method:
// deadlines compared with the clock read in the handler; only lower bounds are timed.
#include "conformance/support.hpp"

#include <whorl/tcp.hpp>

namespace whorl::conformance {
namespace {

class TimerBasic : public LoopTest {};
WHORL_CONFORMANCE(TimerBasic);

TEST_P(TimerBasic, is_never_early_and_tells_its_deadline) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int calls = 0;
    for (const Nanoseconds delay : {0ns, 1ns, 999ns, 1025ns, 50'000ns, 1'000'001ns, 7'300'000ns}) {
        const Instant earliest = os::now() + delay;
        ASSERT_TRUE(loop.after(delay, [&calls, earliest](Loop& inner, Expired expired) {
            ++calls;
            EXPECT_GE(os::now(), earliest);
            EXPECT_GE(expired.deadline, earliest);
            EXPECT_GE(inner.now(), expired.deadline);
            EXPECT_EQ(expired.missed, 0u);
            EXPECT_FALSE(inner.cancel(expired.timer));
        }));
        ASSERT_TRUE(loop.at(earliest, [&calls, earliest](Loop&, Expired expired) {
            ++calls;
            EXPECT_GE(os::now(), earliest);
            EXPECT_EQ(expired.deadline, earliest);
        }));
    }
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 14);
    EXPECT_EQ(loop.statistics().timers_fired, 14u);
    expect_clean(loop);
}

TEST_P(TimerBasic, armed_in_a_slow_handler_counts_from_its_call) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int calls = 0;
    const auto slow = [&](Loop& inner) {
        os::stay_busy(20ms);
        const Instant earliest = os::now() + 5ms;
        EXPECT_TRUE(inner.after(5ms, [&calls, earliest](Loop&, Expired) {
            ++calls;
            EXPECT_GE(os::now(), earliest) << "early by the length of the handler that armed it";
        }));
        os::stay_busy(2ms);
    };
    ASSERT_FALSE(loop.post(slow));
    ASSERT_TRUE(loop.submit(Nop{}, [&](Loop& inner, Nop::Done) { slow(inner); }));
    ASSERT_TRUE(loop.after(0ns, [&](Loop& inner, Expired) { slow(inner); }));
    Result<Operation> hook = loop.hook(HookPoint::before_wait, [&](Loop& inner) {
        if (calls == 0) slow(inner);
    });
    ASSERT_FALSE(loop.run_once());
    ASSERT_TRUE(hook);
    loop.cancel(*hook);
    EXPECT_FALSE(loop.run());
    EXPECT_GE(calls, 4);
    expect_clean(loop);
}

TEST_P(TimerBasic, moved_in_a_slow_handler_counts_from_its_call) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Instant earliest{};
    int calls = 0;
    Result<Timer> timer = loop.after(1h, [&](Loop&, Expired) {
        ++calls;
        EXPECT_GE(os::now(), earliest);
    });
    ASSERT_TRUE(timer);
    ASSERT_FALSE(loop.post([&](Loop& inner) {
        os::stay_busy(20ms);
        earliest = os::now() + 5ms;
        EXPECT_FALSE(inner.move(*timer, 5ms));
        os::stay_busy(2ms);
    }));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 1);
}

TEST_P(TimerBasic, fire_by_deadline_and_first_in_first_out_among_equals) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    // Far enough away that none is due when it is armed: those that are, are equals.
    const Instant base = os::now() + 100ms;
    std::vector<std::pair<Instant, int>> expected;
    std::vector<int> order;
    for (int index = 0; index < 200; ++index) {
        const Instant deadline = base + std::chrono::microseconds(index * 37 % 10 * 100);
        expected.emplace_back(deadline, index);
        ASSERT_TRUE(loop.at(deadline, [&order, index](Loop&, Expired) { order.push_back(index); }));
    }
    std::stable_sort(expected.begin(), expected.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    EXPECT_FALSE(loop.run());
    ASSERT_EQ(order.size(), expected.size());
    for (std::size_t index = 0; index < order.size(); ++index) {
        EXPECT_EQ(order[index], expected[index].second) << index;
    }
}

TEST_P(TimerBasic, relative_timers_of_one_turn_keep_their_order) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    std::vector<int> order;
    for (int index = 0; index < 50; ++index) {
        ASSERT_TRUE(loop.after(1ms, [&order, index](Loop&, Expired) { order.push_back(index); }));
    }
    EXPECT_FALSE(loop.run());
    ASSERT_EQ(order.size(), 50u);
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST_P(TimerBasic, cancel_answering_yes_means_it_never_runs) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Witness witness;
    std::vector<Timer> timers;
    for (const Nanoseconds delay : {-1ns, 0ns, 1000ns, 1'000'000ns, 3'600'000'000'000ns}) {
        Result<Timer> timer = loop.after(delay, [t = witness.copy()](Loop&, Expired) { FAIL(); });
        ASSERT_TRUE(timer);
        timers.push_back(*timer);
    }
    for (const Timer timer : timers) {
        EXPECT_TRUE(loop.cancel(timer));
        EXPECT_FALSE(loop.cancel(timer));
    }
    EXPECT_TRUE(witness.alone()) << "a cancelled timer's handler is destroyed at once";
    EXPECT_FALSE(loop.run_for(5ms));
    expect_clean(loop);
}

TEST_P(TimerBasic, due_in_the_same_turn_and_cancelled_by_an_earlier_one_never_runs) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Witness witness;
    const Instant deadline = os::now() + 1ms;
    std::vector<Timer> timers;
    int calls = 0;
    ASSERT_TRUE(loop.at(deadline, [&](Loop& inner, Expired) {
        ++calls;
        for (const Timer timer : timers) EXPECT_TRUE(inner.cancel(timer));
        EXPECT_TRUE(witness.alone());
    }));
    for (int index = 0; index < 20; ++index) {
        // Later ones too, so that they are due as well when the loop is slow.
        Result<Timer> timer = loop.at(deadline + std::chrono::microseconds(index),
                                      [t = witness.copy()](Loop&, Expired) { FAIL(); });
        ASSERT_TRUE(timer);
        timers.push_back(*timer);
    }
    os::stay_busy(3ms);
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 1);
    expect_clean(loop);
}

TEST_P(TimerBasic, due_and_cancelled_by_a_completion_of_the_same_turn_never_runs) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int fired = 0, cancelled = 0;
    for (int round = 0; round < 50; ++round) {  // which of the two comes first is not ours to say
        Result<Timer> timer = loop.at(os::now(), [&](Loop&, Expired) { ++fired; });
        ASSERT_TRUE(timer);
        ASSERT_TRUE(loop.submit(Nop{}, [&, timer = *timer](Loop& inner, Nop::Done) {
            const int before = fired;
            if (!inner.cancel(timer)) return;
            ++cancelled;
            EXPECT_EQ(fired, before);
        }));
        EXPECT_FALSE(loop.run());
        EXPECT_EQ(fired + cancelled, round + 1) << "cancelled and fired, or neither";
    }
}

TEST_P(TimerBasic, its_handle_is_stale_inside_its_own_handler) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Timer self;
    int calls = 0;
    Result<Timer> timer = loop.after(1ms, [&](Loop& inner, Expired) {
        ++calls;
        EXPECT_FALSE(inner.cancel(self));
        EXPECT_EQ(inner.move(self, 1ms), Error::stale_handle);
        EXPECT_EQ(inner.deadline(self).error(), Error::stale_handle);
        EXPECT_TRUE(inner.after(0ns, [&](Loop&, Expired) { ++calls; }));
        EXPECT_FALSE(inner.cancel(self)) << "reached the timer that has the slot now";
    });
    ASSERT_TRUE(timer);
    self = *timer;
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 2);
}

TEST_P(TimerBasic, moves_later_and_sooner_and_keeps_its_handle) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int calls = 0;
    Instant earliest{};
    Result<Timer> timer = loop.after(1ms, [&](Loop&, Expired expired) {
        ++calls;
        EXPECT_GE(os::now(), earliest);
        EXPECT_EQ(expired.deadline >= earliest, true);
    });
    ASSERT_TRUE(timer);
    ASSERT_FALSE(loop.move(*timer, 1h));
    EXPECT_FALSE(loop.run_for(3ms));
    EXPECT_EQ(calls, 0);
    ASSERT_FALSE(loop.move(*timer, 24h));
    ASSERT_FALSE(loop.poll());
    earliest = os::now() + 2ms;
    ASSERT_FALSE(loop.move(*timer, 2ms));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(loop.move(*timer, 1ms), Error::stale_handle);
    expect_clean(loop);
}

// A timer that is moved stays in the wheel until the next turn, by its old deadline.
TEST_P(TimerBasic, moved_when_it_is_already_due_it_does_not_fire) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Instant begin = os::now();
    int calls = 0;
    std::vector<Timer> moved;
    Instant earliest{};
    ASSERT_TRUE(loop.at(begin - 3ms, [&](Loop& inner, Expired) {
        for (const Timer timer : moved) EXPECT_FALSE(inner.move(timer, 1h));
        EXPECT_TRUE(inner.cancel(moved[1]));
        EXPECT_GE(inner.deadline(moved[0]).value(), begin + 1h);
    }));
    for (int index = 0; index < 3; ++index) {
        Result<Timer> timer = loop.at(begin - 2ms, [&](Loop&, Expired expired) {
            ++calls;
            EXPECT_GE(expired.deadline, earliest);
        });
        ASSERT_TRUE(timer);
        moved.push_back(*timer);
    }
    EXPECT_FALSE(loop.poll());
    EXPECT_FALSE(loop.poll());
    EXPECT_EQ(calls, 0);
    EXPECT_EQ(loop.statistics().timers_fired, 1u);
    EXPECT_EQ(loop.statistics().operations, 2u);
    EXPECT_FALSE(loop.cancel(moved[1]));
    EXPECT_GE(loop.deadline(moved[0]).value(), begin + 1h);
    earliest = os::now() + 1ms;
    EXPECT_FALSE(loop.move(moved[0], 1ms));
    EXPECT_FALSE(loop.move(moved[2], 24h));
    EXPECT_FALSE(loop.move(moved[2], 1ms));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 2);
    expect_clean(loop);
}

TEST_P(TimerBasic, a_loop_ends_with_timers_that_were_just_moved) {
    WHORL_SKIP_IF_REFUSED();
    auto alive = std::make_shared<int>(0);
    for (const bool drains : {true, false}) {
        Loop loop = make_loop();
        Result<Timer> once = loop.after(1h, [alive](Loop&, Expired) { FAIL(); });
        Result<Timer> again = loop.every(1h, [alive](Loop&, Expired) { FAIL(); });
        ASSERT_TRUE(once && again);
        ASSERT_FALSE(loop.poll());
        EXPECT_FALSE(loop.move(*once, 2h));
        EXPECT_FALSE(loop.move(*again, 1ms));
        if (drains) {
            EXPECT_FALSE(loop.drain(10s));
        }
    }
    EXPECT_EQ(alive.use_count(), 1);
}

TEST_P(TimerBasic, an_absolute_timer_moved_counts_from_now) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int calls = 0;
    Result<Timer> timer = loop.at(os::now() - 1h, [&](Loop&, Expired) { ++calls; });
    ASSERT_TRUE(timer);
    ASSERT_FALSE(loop.move(*timer, 2ms));
    const Instant earliest = os::now();
    EXPECT_GE(loop.deadline(*timer).value(), earliest + 1ms);
    ASSERT_FALSE(loop.poll());
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 1);
    EXPECT_GE(os::now(), earliest + 1ms);
}

TEST_P(TimerBasic, deadline_tells_when_it_is_due) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Instant deadline = os::now() + 1h;
    Result<Timer> absolute = loop.at(deadline, [](Loop&, Expired) {});
    Result<Timer> relative = loop.after(1h, [](Loop&, Expired) {});
    ASSERT_TRUE(absolute && relative);
    EXPECT_EQ(loop.deadline(*absolute).value(), deadline);
    const Instant unfiled = loop.deadline(*relative).value();
    EXPECT_GE(unfiled, deadline);
    EXPECT_LE(unfiled, os::now() + 1h);
    ASSERT_FALSE(loop.poll());
    EXPECT_EQ(loop.deadline(*absolute).value(), deadline);
    const Instant filed = loop.deadline(*relative).value();
    EXPECT_GE(filed, deadline);
    ASSERT_FALSE(loop.poll());
    EXPECT_EQ(loop.deadline(*relative).value(), filed) << "a filed deadline does not move";
    EXPECT_TRUE(loop.cancel(*absolute));
    EXPECT_TRUE(loop.cancel(*relative));
    EXPECT_EQ(loop.deadline(*absolute).error(), Error::stale_handle);
}

TEST_P(TimerBasic, negative_and_past_deadlines_run_in_the_next_turns) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int calls = 0;
    const auto count = [&](Loop&, Expired) { ++calls; };
    ASSERT_TRUE(loop.after(-1ns, count));
    ASSERT_TRUE(loop.after(Nanoseconds::min(), count));
    ASSERT_TRUE(loop.at(Instant::min(), count));
    ASSERT_TRUE(loop.at(Instant(), count));
    ASSERT_TRUE(loop.at(Instant() - 1ns, count));
    ASSERT_TRUE(loop.at(os::now() - 1h, count));
    EXPECT_EQ(calls, 0) << "a handler ran inside the call";
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 6);
    expect_clean(loop);
}

TEST_P(TimerBasic, deadlines_far_away_neither_fire_nor_spin_nor_hide_nearer_ones) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    constexpr Nanoseconds year = std::chrono::hours(24 * 365);
    std::vector<Timer> timers;
    const auto keep = [&](Result<Timer> timer) {
        ASSERT_TRUE(timer);
        timers.push_back(*timer);
    };
    const auto never = [](Loop&, Expired) { FAIL(); };
    for (const int years : {1, 4, 8, 9, 10, 50, 290}) keep(loop.after(years * year, never));
    keep(loop.after(Nanoseconds::max(), never));
    keep(loop.at(instant_never, never));
    keep(loop.at(Instant(Nanoseconds(INT64_MAX - 1)), never));
    keep(loop.every(Nanoseconds::max(), never));
    for (int shift = 33; shift < 63; ++shift) {
        keep(loop.after(Nanoseconds((std::int64_t{1} << shift) + 1), never));
        keep(loop.after(Nanoseconds((std::int64_t{1} << shift) - 1), never));
    }
    int calls = 0;
    ASSERT_TRUE(loop.after(5ms, [&](Loop& inner, Expired) {
        ++calls;
        inner.stop();
    }));
    const std::uint64_t before = loop.statistics().turns;
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 1);
    EXPECT_LE(loop.statistics().turns - before, 50u) << "the loop spins";
    EXPECT_FALSE(loop.run_for(10ms));
    EXPECT_LE(loop.statistics().turns - before, 100u) << "the loop spins";
    for (const Timer timer : timers) EXPECT_TRUE(loop.cancel(timer));
    EXPECT_FALSE(loop.run());
    expect_clean(loop);
}

TEST_P(TimerBasic, slack_delays_but_never_hastens) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.timer_slack = 3ms; });
    int calls = 0;
    for (int index = 0; index < 10; ++index) {
        const Instant earliest = os::now() + std::chrono::microseconds(200 * index);
        ASSERT_TRUE(loop.at(earliest, [&calls, earliest](Loop&, Expired) {
            ++calls;
            EXPECT_GE(os::now(), earliest);
        }));
    }
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 10);
    EXPECT_LT(loop.statistics().turns, 10u) << "wake-ups were not shared";
}

TEST_P(TimerBasic, holds_a_move_only_capture_and_destroys_it_after_the_call) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Witness witness;
    int got = 0;
    ASSERT_TRUE(
        loop.after(0ns, [&, value = std::make_unique<int>(7), t = witness.copy()](Loop&, Expired) {
            got = *value;
            EXPECT_FALSE(witness.alone());
        }));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(got, 7);
    EXPECT_TRUE(witness.alone());
}

}  // namespace
}  // namespace whorl::conformance
