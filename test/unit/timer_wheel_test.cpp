// SPDX-License-Identifier: MIT
// Goal: a timer is never early, never missed and never out of order, above all at the borders of
// slots and levels. Method: exhaustive walks around each border, and single cases; test/model has
// the random ones.

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <vector>

#include <whorl/timer_wheel.hpp>

namespace {

using whorl::TimerNode;
using whorl::TimerWheel;

constexpr std::uint64_t tick_last = ~std::uint64_t{0};

// Ticks at, before and behind the borders of each level's slots and blocks.
std::vector<std::uint64_t> border_ticks() {
    std::vector<std::uint64_t> ticks{0, 1, 2, tick_last - 1, tick_last};
    for (unsigned shift = 8; shift < 64; shift += 8) {
        for (std::uint64_t unit : {1u, 2u, 128u, 255u}) {
            for (std::uint64_t beside = 0; beside != 5; ++beside) {
                ticks.push_back((unit << shift) + beside - 2);
            }
        }
    }
    return ticks;
}

// The timer must not fire at the tick before, and must at its tick.
void expect_exact(TimerWheel& wheel, TimerNode& node) {
    const std::uint64_t tick = node.tick;
    ASSERT_EQ(wheel.next_tick(), tick);
    ASSERT_LE(wheel.wake_tick(), tick);
    if (tick != 0) {
        ASSERT_EQ(wheel.expire_one(tick - 1), nullptr);
        ASSERT_EQ(wheel.next_tick(), tick);
    }
    ASSERT_EQ(wheel.expire_one(tick), &node);
    ASSERT_FALSE(TimerWheel::is_linked(node));
    ASSERT_EQ(wheel.expire_one(tick), nullptr);
    ASSERT_EQ(wheel.next_tick(), TimerWheel::tick_none);
}

TEST(TimerWheel, timer_wheel_empty) {
    const auto wheel = std::make_unique<TimerWheel>(1000);
    EXPECT_EQ(wheel->size(), 0u);
    EXPECT_EQ(wheel->next_tick(), TimerWheel::tick_none);
    EXPECT_EQ(wheel->wake_tick(), TimerWheel::tick_none);
    EXPECT_EQ(wheel->expire_one(tick_last), nullptr);
    wheel->prepare(100);
    EXPECT_TRUE(wheel->check());
}

// The regression that wheels have had: a timer of N ticks around a border fires a slot early or
// late.
TEST(TimerWheel, timer_wheel_borders_every_start_and_delay) {
    for (const std::uint64_t start : border_ticks()) {
        for (const std::uint64_t delay : border_ticks()) {
            if (delay > tick_last - start || (start == 0 && delay == 0)) continue;
            TimerWheel wheel(start);
            TimerNode node;
            wheel.insert(node, start + delay);
            if (delay == 0) {
                ASSERT_EQ(wheel.expire_one(start), &node);
            } else {
                ASSERT_NO_FATAL_FAILURE(expect_exact(wheel, node)) << start << " + " << delay;
            }
        }
    }
}

TEST(TimerWheel, timer_wheel_borders_all_at_once) {
    const auto wheel = std::make_unique<TimerWheel>(0);
    const std::vector<std::uint64_t> ticks = border_ticks();
    std::vector<TimerNode> nodes(ticks.size());
    for (std::size_t i = 0; i != ticks.size(); ++i) wheel->insert(nodes[i], ticks[i]);
    ASSERT_TRUE(wheel->check());
    std::uint64_t before = 0;
    for (std::size_t left = ticks.size(); left != 0; --left) {
        const std::uint64_t tick = wheel->next_tick();
        ASSERT_GE(tick, before);
        if (tick != before) {
            ASSERT_EQ(wheel->expire_one(tick - 1), nullptr);
        }
        TimerNode* const node = wheel->expire_one(tick);
        ASSERT_NE(node, nullptr);
        ASSERT_EQ(node->tick, tick);
        ASSERT_TRUE(wheel->check());
        before = tick;
    }
    EXPECT_EQ(wheel->size(), 0u);
}

// Every delay of the first two levels, from starts around the border of a slot, tick by tick.
TEST(TimerWheel, timer_wheel_every_delay_every_tick) {
    for (const std::uint64_t start : {0u, 1u, 254u, 255u, 256u, 65530u, 65535u, 65536u}) {
        const auto wheel = std::make_unique<TimerWheel>(start);
        std::vector<TimerNode> nodes(70000);
        for (std::size_t i = nodes.size(); i-- != 0;) wheel->insert(nodes[i], start + i);
        for (std::size_t i = 0; i != nodes.size(); ++i) {
            ASSERT_EQ(wheel->expire_one(start + i), &nodes[i]);
            ASSERT_EQ(wheel->expire_one(start + i), nullptr);
        }
        ASSERT_TRUE(wheel->check());
    }
}

TEST(TimerWheel, timer_wheel_past_is_due_behind_the_due) {
    const auto wheel = std::make_unique<TimerWheel>(1000);
    TimerNode nodes[4];
    wheel->insert(nodes[0], 1500);
    wheel->insert(nodes[1], 1400);
    EXPECT_EQ(wheel->expire_one(1600), &nodes[1]);
    wheel->insert(nodes[2], 0);  // From a handler.
    wheel->insert(nodes[3], 1600);
    EXPECT_EQ(nodes[2].tick, 1600u);
    EXPECT_EQ(wheel->expire_one(1600), &nodes[0]);
    EXPECT_EQ(wheel->expire_one(5), &nodes[2]);  // An earlier now is the latest.
    EXPECT_EQ(wheel->expire_one(1600), &nodes[3]);
    EXPECT_EQ(wheel->expire_one(1600), nullptr);
}

TEST(TimerWheel, timer_wheel_equal_ticks_in_order_of_arming) {
    const auto wheel = std::make_unique<TimerWheel>(0);
    std::vector<TimerNode> nodes(1000);
    const std::uint64_t tick = 0x1020304;
    // Armed from farther and nearer, so that they start in different levels; prepared in between.
    for (std::size_t i = 0; i != nodes.size(); ++i) {
        wheel->insert(nodes[i], tick);
        if (i % 100 == 99) {
            EXPECT_EQ(wheel->expire_one(tick - (tick >> i / 100 * 2)), nullptr);
            wheel->prepare(50);
        }
    }
    for (TimerNode& node : nodes) ASSERT_EQ(wheel->expire_one(tick), &node);
}

TEST(TimerWheel, timer_wheel_move) {
    const auto wheel = std::make_unique<TimerWheel>(0);
    TimerNode a, b;
    wheel->insert(a, 1 << 20);
    wheel->insert(b, 1 << 20);
    const std::uint32_t slot = a.slot;
    wheel->move(a, (1 << 20) + 5);  // In place.
    EXPECT_EQ(a.slot, slot);
    EXPECT_EQ(wheel->next_tick(), 1u << 20);
    wheel->move(b, 1ull << 40);
    EXPECT_EQ(wheel->next_tick(), (1u << 20) + 5);
    wheel->move(b, 7);
    EXPECT_EQ(wheel->next_tick(), 7u);
    EXPECT_EQ(wheel->size(), 2u);
    EXPECT_TRUE(wheel->check());
    EXPECT_EQ(wheel->expire_one(100), &b);
    wheel->move(a, 3);  // Past.
    EXPECT_EQ(wheel->next_tick(), 100u);
    EXPECT_EQ(wheel->expire_one(100), &a);
}

TEST(TimerWheel, timer_wheel_remove_earliest_repairs_next_tick) {
    const auto wheel = std::make_unique<TimerWheel>(0);
    std::vector<TimerNode> nodes(100);
    for (std::size_t i = 0; i != nodes.size(); ++i) wheel->insert(nodes[i], 100000 + i);
    for (std::size_t i = 0; i + 1 != nodes.size(); ++i) {
        wheel->remove(nodes[i]);
        ASSERT_LE(wheel->wake_tick(), 100001 + i);
        ASSERT_EQ(wheel->next_tick(), 100001 + i);
        ASSERT_TRUE(wheel->check());
    }
    wheel->remove(nodes.back());
    EXPECT_EQ(wheel->next_tick(), TimerWheel::tick_none);
}

// A sleeper that obeys wake_tick() and prepare() never enters a crowded slot, and ends.
TEST(TimerWheel, timer_wheel_wakes_for_a_crowd) {
    const auto wheel = std::make_unique<TimerWheel>(0);
    std::vector<TimerNode> nodes(20000);
    const std::uint64_t first = 5u << 24;
    for (std::size_t i = 0; i != nodes.size(); ++i) wheel->insert(nodes[i], first + i * 50);
    std::uint64_t now = 0;
    int turns = 0;
    while (wheel->size() == nodes.size()) {
        const std::vector<TimerNode> before = nodes;
        wheel->prepare(256);
        const std::uint64_t wake = wheel->wake_tick();
        ASSERT_LE(wake, first);
        ASSERT_GE(wake, now);
        now = wake;
        wheel->expire_one(now);
        std::size_t filed = 0;
        for (std::size_t i = 0; i != nodes.size(); ++i) filed += nodes[i].slot != before[i].slot;
        ASSERT_LE(filed, 256u + 8 * TimerWheel::crowd_max);
        ASSERT_LT(++turns, 200);
    }
    EXPECT_TRUE(wheel->check());
    EXPECT_GT(turns, 20);
}

TEST(TimerWheelDeathTest, timer_wheel_insert_twice) {
    const auto wheel = std::make_unique<TimerWheel>(0);
    TimerNode node;
    wheel->insert(node, 1);
    EXPECT_DEATH(wheel->insert(node, 2), "is_linked");
}

TEST(TimerWheelDeathTest, timer_wheel_remove_unlinked) {
    const auto wheel = std::make_unique<TimerWheel>(0);
    TimerNode node;
    EXPECT_DEATH(wheel->remove(node), "is_linked");
}

}  // namespace
