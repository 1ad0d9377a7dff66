// SPDX-License-Identifier: MIT
// The world's clock: time passes only when nothing is left to do, in order, and costs nothing.
#include <whorl/testing.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace {

using namespace std::chrono_literals;
using whorl::Expired;
using whorl::Instant;
using whorl::Loop;
using whorl::testing::Peer;
using whorl::testing::SimulationOptions;
using whorl::testing::World;

TEST(WorldTime, a_day_of_timers) {
    World world;
    Loop& loop = world.add_loop();
    int ticks = 0;
    ASSERT_TRUE(loop.every(1s, [&](Loop&, Expired event) {
        ++ticks;
        EXPECT_EQ(event.missed, 0u);
    }));
    world.advance(24h);
    EXPECT_EQ(ticks, 24 * 3600);
    EXPECT_EQ(world.now() - world.epoch(), 24h);
}

TEST(WorldTime, stands_still_while_there_is_work) {
    World world;
    Loop& loop = world.add_loop();
    const Instant start = world.now();
    int posts = 0;
    struct Again {
        int* posts;
        void operator()(Loop& again) const {
            if (++*posts == 1000) return;
            EXPECT_FALSE(again.post(Again{posts}));
        }
    };
    EXPECT_FALSE(loop.post(Again{&posts}));
    EXPECT_TRUE(world.run_idle());
    EXPECT_EQ(posts, 1000);
    EXPECT_EQ(world.now(), start);
}

TEST(WorldTime, timers_scripts_and_the_clock_keep_one_order) {
    World world;
    Loop& first = world.add_loop();
    Loop& second = world.add_loop();
    const Instant start = world.now();
    std::vector<std::pair<whorl::Nanoseconds, char>> seen;
    const auto note = [&](char what) { seen.emplace_back(world.now() - start, what); };
    ASSERT_TRUE(first.after(30ms, [&](Loop&, Expired) { note('c'); }));
    ASSERT_TRUE(second.after(10ms, [&](Loop&, Expired) { note('a'); }));
    world.after(20ms, [&] {
        note('b');
        ASSERT_TRUE(second.after(15ms, [&](Loop&, Expired) { note('d'); }));
    });
    const std::uint64_t never = world.after(25ms, [&] { note('x'); });
    world.cancel_script(never);
    EXPECT_GE(world.pending(), 3u);
    EXPECT_TRUE(world.run_idle());
    ASSERT_EQ(seen.size(), 4u);
    const whorl::Nanoseconds due[] = {10ms, 20ms, 30ms, 35ms};
    for (std::size_t index = 0; index < 4; ++index) {
        EXPECT_EQ(seen[index].second, "abcd"[index]);
        EXPECT_GE(seen[index].first, due[index]);
        EXPECT_LE(seen[index].first, due[index] + 1024ns);
    }
    EXPECT_EQ(world.pending(), 0u);
    EXPECT_EQ(world.next_event(), whorl::instant_never);
}

TEST(WorldTime, run_until_stops_at_the_condition_at_the_bound_and_when_nothing_is_left) {
    World world;
    Loop& loop = world.add_loop();
    const Instant start = world.now();
    bool fired = false;
    ASSERT_TRUE(loop.after(60s, [&](Loop&, Expired) { fired = true; }));
    EXPECT_FALSE(world.run_until([&] { return fired; }, 59s));
    EXPECT_EQ(world.now() - start, 59s);
    EXPECT_TRUE(world.run_until([&] { return fired; }, 2s));
    const Instant then = world.now();
    EXPECT_FALSE(world.run_until([] { return false; }, 1h));
    EXPECT_EQ(world.now(), then);  // nothing can happen: no time has passed
    world.advance_to(then + 5s);
    EXPECT_EQ(world.now(), then + 5s);
}

TEST(WorldTime, idle_callback_hears_of_every_jump_and_may_bring_work) {
    World world;
    Loop& loop = world.add_loop();
    ASSERT_TRUE(loop.after(10ms, [](Loop&, Expired) {}));
    std::vector<Instant> jumps;
    bool added = false;
    bool fired = false;
    world.on_idle([&](Instant next) {
        jumps.push_back(next);
        if (added) return;
        added = true;
        ASSERT_TRUE(loop.after(1ms, [&](Loop&, Expired) { fired = true; }));
    });
    EXPECT_TRUE(world.has_on_idle());
    EXPECT_TRUE(world.run_until([&] { return fired; }));
    ASSERT_GE(jumps.size(), 2u);
    EXPECT_GT(jumps[0],
              jumps[1]);  // the nearer timer was added when only the farther one was there
    EXPECT_TRUE(world.run_idle());
    EXPECT_EQ(jumps.back(), whorl::instant_never);
    world.clear_on_idle();
    EXPECT_FALSE(world.has_on_idle());
}

TEST(WorldTime, a_loop_of_the_caller_runs_the_world_while_it_waits) {
    World world;
    whorl::Result<Loop> loop = world.make_loop();
    ASSERT_TRUE(loop);
    EXPECT_STREQ(loop->backend_name(), "simulator");
    const Instant start = world.now();
    Instant script{};
    world.after(30s, [&] { script = world.now(); });
    ASSERT_TRUE(loop->after(60s, [](Loop&, Expired) {}));
    EXPECT_FALSE(loop->run());
    EXPECT_EQ(script - start, 30s);
    EXPECT_GE(world.now() - start, 60s);
}

TEST(WorldTime, advance_lets_exactly_so_much_time_pass) {
    World world;
    Loop& loop = world.add_loop();
    std::vector<int> fired;
    for (int index = 1; index <= 5; ++index) {
        ASSERT_TRUE(
            loop.after(index * 10ms, [&fired, index](Loop&, Expired) { fired.push_back(index); }));
    }
    const Instant start = world.now();
    world.advance(25ms);
    EXPECT_EQ(fired, (std::vector<int>{1, 2}));
    EXPECT_EQ(world.now() - start, 25ms);
    world.advance(5ms + 1us + 24ns);
    EXPECT_EQ(fired, (std::vector<int>{1, 2, 3}));
    world.advance(0ms);
    EXPECT_EQ(fired.size(), 3u);
}

TEST(WorldTime, a_loop_that_finds_work_without_end_is_found_out) {
    World world;
    Loop& loop = world.add_loop();
    struct Again {
        void operator()(Loop& again) const { EXPECT_FALSE(again.post(Again{})); }
    };
    EXPECT_FALSE(loop.post(Again{}));
    EXPECT_FALSE(world.run_idle());
    EXPECT_TRUE(world.failed());
    EXPECT_NE(world.failure().what.find("spins"), std::string::npos);
}

TEST(WorldTime, equal_seeds_give_equal_traces_and_other_seeds_others) {
    const auto run = [](std::uint64_t seed) {
        World world(seed);
        Loop& loop = world.add_loop();
        Loop& other = world.add_loop();
        for (int index = 0; index < 20; ++index) {
            const auto delay = whorl::Nanoseconds(world.draw(1'000'000));
            const auto note = [&world](Loop&, Expired) { world.note("timer"); };
            EXPECT_TRUE((index % 2 == 0 ? loop : other).after(delay, note));
        }
        EXPECT_TRUE(world.run_idle());
        EXPECT_EQ(world.trace().size(), 20u);
        return world.trace_hash();
    };
    EXPECT_EQ(run(1), run(1));
    EXPECT_NE(run(1), run(2));
}

TEST(WorldTime, idle_callback_that_clears_itself_lives_until_it_returns) {
    World world;
    ASSERT_TRUE(world.add_loop().after(10ms, [](Loop&, Expired) {}));
    int called = 0;
    world.on_idle([&world, &called, kept = std::string(100, 'x')](Instant) {
        world.clear_on_idle();
        ++called;
        EXPECT_EQ(kept, std::string(100, 'x'));
    });
    EXPECT_TRUE(world.run_idle());
    EXPECT_EQ(called, 1);
    EXPECT_FALSE(world.has_on_idle());
}

TEST(WorldTime, work_without_end_ends_at_the_bound_when_each_call_takes_time) {
    SimulationOptions options;
    options.time_per_call = 1us;
    World world(options);
    struct Again {
        void operator()(Loop& again) const { EXPECT_FALSE(again.post(Again{})); }
    };
    EXPECT_FALSE(world.add_loop().post(Again{}));
    const Instant start = world.now();
    EXPECT_FALSE(world.run_until([] { return false; }, 10ms));
    EXPECT_FALSE(world.failed());
    EXPECT_GE(world.now() - start, 10ms);
    world.advance(10ms);
    EXPECT_GE(world.now() - start, 20ms);
    EXPECT_LT(world.now() - start, 21ms);
}

TEST(WorldTime, to_the_end_of_the_clock_and_to_its_beginning) {
    World world;
    int fired = 0;
    ASSERT_TRUE(world.add_loop().after(1h, [&](Loop&, Expired) { ++fired; }));
    const Instant start = world.now();
    world.advance_to(Instant::min());
    world.advance(whorl::Nanoseconds::min());
    EXPECT_EQ(world.now(), start);
    world.advance(whorl::Nanoseconds::max());
    EXPECT_EQ(fired, 1);
    EXPECT_GE(world.now() - start, 1h);
    world.advance_to(whorl::instant_never);
    EXPECT_LT(world.now() - start, 2h);
    EXPECT_TRUE(world.run_idle());
}

TEST(WorldTime, latencies_are_drawn_from_all_of_their_range) {
    SimulationOptions options;
    options.latency_max = 60s;
    options.connect_timeout = 1h;
    World world(options);
    Peer peer = world.accept();
    Peer other = world.connect(peer.address());
    ASSERT_TRUE(world.run_until([&] { return other.connected() && peer.connected(); }));
    whorl::Nanoseconds longest{};
    for (int round = 0; round < 100; ++round) {
        const Instant sent = world.now();
        other.send("x");
        ASSERT_TRUE(world.run_until([&] { return !peer.take().empty(); }));
        longest = std::max(longest, world.now() - sent);
    }
    EXPECT_GT(longest, 45s);
    EXPECT_LT(longest, 60s);
}

TEST(WorldTimeDeathTest, an_assertion_of_the_library_names_the_seed) {
    EXPECT_DEATH(
        {
            World world(4711);
            Loop& loop = world.add_loop();
            (void)loop.post([](Loop& inside) { (void)inside.run(); });
            (void)world.run_idle();
        },
        "WHORL_SEED=4711");
}

TEST(WorldTimeDeathTest, a_world_must_outlive_its_loops) {
    EXPECT_DEATH(
        {
            whorl::Result<Loop> loop(whorl::Error::cancelled);
            World world;
            loop = world.make_loop();
        },
        "destroyed before 1 of its loops");
}

TEST(WorldTimeDeathTest, the_least_latency_is_below_the_greatest) {
    EXPECT_DEATH(
        {
            World world;
            world.options().latency_min = 5ms;
            Peer peer = world.connect(7007);
        },
        "latency_min is above latency_max");
}

}  // namespace
