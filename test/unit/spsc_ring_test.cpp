// SPDX-License-Identifier: MIT
// Goal: both layouts of the ring keep order, number and ownership, refuse when full without taking, and
// end from either side. Method: by hand on one thread, against std::deque with seeded events, and with two
// threads (under ThreadSanitizer, too); every order of steps is in test/interleave/ring_model.cpp.
#include <whorl/spsc_ring.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <thread>

namespace {

using whorl::Error;
using whorl::SpscIndexRing;
using whorl::SpscRing;
using whorl::SpscSlotRing;

using Owned = std::unique_ptr<int>;

template <class Ring>
class RingTest : public ::testing::Test {};
using Rings = ::testing::Types<SpscSlotRing<Owned>, SpscIndexRing<Owned>>;
struct RingNames {
    template <class Ring>
    static const char* GetName(int index) {
        return index == 0 ? "slots" : "indices";
    }
};
TYPED_TEST_SUITE(RingTest, Rings, RingNames);

Owned number(int value) { return std::make_unique<int>(value); }

TEST(SpscRing, layout_follows_the_size) {
    struct Line {
        std::uint64_t words[7];
    };
    struct Large {
        std::uint64_t words[8];
    };
    static_assert(std::is_same_v<SpscRing<std::uint64_t>, SpscIndexRing<std::uint64_t>>);
    static_assert(std::is_same_v<SpscRing<Line>, SpscSlotRing<Line>>);
    static_assert(std::is_same_v<SpscRing<Large>, SpscIndexRing<Large>>);
    static_assert(sizeof(whorl::detail::SequenceSlot<Line>) == 64, "one line");
}

TYPED_TEST(RingTest, capacity_has_limits) {
    for (const std::uint32_t wrong : {0u, 3u, 6u, 1000u, (1u << 30) + 1, 1u << 31}) {
        TypeParam ring;
        EXPECT_EQ(ring.reserve(wrong), Error::invalid_argument) << wrong;
    }
    TypeParam ring;
    ASSERT_FALSE(ring.reserve(8));
    EXPECT_EQ(ring.capacity(), 8u);
}

TYPED_TEST(RingTest, refused_when_full_and_the_message_stays) {
    for (const std::uint32_t capacity : {1u, 2u, 8u}) {
        TypeParam ring;
        ASSERT_FALSE(ring.reserve(capacity));
        for (std::uint32_t index = 0; index < capacity; ++index) {
            EXPECT_TRUE(ring.try_push(number(static_cast<int>(index))));
        }
        Owned more = number(99);
        EXPECT_FALSE(ring.try_push(std::move(more)));
        ASSERT_NE(more, nullptr);
        EXPECT_EQ(*more, 99);
        for (std::uint32_t index = 0; index < capacity; ++index) {
            Owned got;
            ASSERT_TRUE(ring.try_pop(got));
            EXPECT_EQ(*got, static_cast<int>(index));
        }
        EXPECT_EQ(ring.front(), nullptr);
        EXPECT_TRUE(ring.try_push(std::move(more))) << "an empty ring has given all room back";
        EXPECT_EQ(more, nullptr);
    }
}

TYPED_TEST(RingTest, room_comes_back_by_quarters) {
    TypeParam ring;
    ASSERT_FALSE(ring.reserve(16));
    for (int index = 0; index < 16; ++index) ASSERT_TRUE(ring.try_push(number(index)));
    Owned message = number(16);
    for (int index = 0; index < 3; ++index) {
        ASSERT_NE(ring.front(), nullptr);
        ring.pop();
        EXPECT_FALSE(ring.try_push(std::move(message)));
    }
    ASSERT_NE(ring.front(), nullptr);
    ring.pop();
    EXPECT_TRUE(ring.try_push(std::move(message)));
    ASSERT_NE(ring.front(), nullptr);
    ring.pop();
    ring.give_back();
    for (int index = 17; index < 21; ++index) EXPECT_TRUE(ring.try_push(number(index)));
    EXPECT_FALSE(ring.try_push(number(21)));
}

TYPED_TEST(RingTest, batches_take_what_there_is_room_for) {
    TypeParam ring;
    ASSERT_FALSE(ring.reserve(4));
    Owned in[6];
    for (int index = 0; index < 6; ++index) in[index] = number(index);
    EXPECT_EQ(ring.push_batch(in, 6), 4u);
    for (int index = 0; index < 6; ++index) EXPECT_EQ(in[index] == nullptr, index < 4);
    Owned out[6];
    EXPECT_EQ(ring.pop_batch(out, 3), 3u);
    EXPECT_EQ(ring.pop_batch(out + 3, 3), 1u);
    for (int index = 0; index < 4; ++index) EXPECT_EQ(*out[index], index);
    EXPECT_EQ(ring.push_batch(in + 4, 2), 2u);
    EXPECT_EQ(ring.pushed(), 6u);
    EXPECT_EQ(ring.popped(), 4u);
}

struct Counted {
    std::shared_ptr<int> owner;
};
template <class Ring>
void leave_two_behind() {
    const auto counted = std::make_shared<int>(0);
    {
        Ring ring;
        ASSERT_FALSE(ring.reserve(4));
        EXPECT_TRUE(ring.try_push({counted}));
        EXPECT_TRUE(ring.try_write({counted})) << "not even published";
        EXPECT_EQ(counted.use_count(), 3);
    }
    EXPECT_EQ(counted.use_count(), 1);
}
TEST(SpscRing, what_nobody_took_is_destroyed) {
    leave_two_behind<SpscSlotRing<Counted>>();
    leave_two_behind<SpscIndexRing<Counted>>();
}

TYPED_TEST(RingTest, closing_is_seen_after_everything_that_came_before) {
    TypeParam ring;
    ASSERT_FALSE(ring.reserve(4));
    EXPECT_TRUE(ring.try_push(number(1)));
    EXPECT_FALSE(ring.producer_closed());
    ring.close_producer();
    EXPECT_TRUE(ring.producer_closed());
    ASSERT_NE(ring.front(), nullptr);
    ring.pop();
    EXPECT_EQ(ring.front(), nullptr);
    EXPECT_FALSE(ring.consumer_closed());
    ring.close_consumer();
    EXPECT_TRUE(ring.consumer_closed());
}

// Against the dumbest queue: it may say full or empty a little late, but never wrong.
TYPED_TEST(RingTest, behaves_like_a_deque) {
    std::uint64_t state = 88172645463325252u;
    const auto draw = [&state](std::uint64_t bound) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        return state % bound;
    };
    for (const std::uint32_t capacity : {1u, 2u, 4u, 32u}) {
        TypeParam ring;
        ASSERT_FALSE(ring.reserve(capacity));
        std::deque<int> model;
        int next = 0;
        for (int step = 0; step < 20'000; ++step) {
            if (draw(2) == 0) {
                const bool taken = ring.try_push(number(next));
                if (taken) model.push_back(next++);
                else EXPECT_GT(model.size() + capacity / 4, capacity - 1);
                ASSERT_LE(model.size(), capacity);
                continue;
            }
            for (std::uint64_t count = draw(capacity + 1); count > 0; --count) {
                Owned got;
                const bool found = ring.try_pop(got);
                ASSERT_EQ(found, !model.empty());
                if (!found) break;
                ASSERT_EQ(*got, model.front());
                model.pop_front();
            }
        }
    }
}

template <class Ring>
void two_threads(std::uint32_t capacity, std::uint64_t total) {
    Ring ring;
    ASSERT_FALSE(ring.reserve(capacity));
    std::thread producer([&ring, total] {
        for (std::uint64_t sent = 0; sent < total;) {
            Owned batch[3];
            const std::size_t want = 1 + sent % 3;
            for (std::size_t index = 0; index < want; ++index) {
                batch[index] = number(static_cast<int>(sent + index));
            }
            std::size_t done = 0;
            while (done < want && sent + done < total) {
                const std::size_t now = ring.push_batch(batch + done, want - done);
                if (now == 0) std::this_thread::yield();
                done += now;
            }
            sent += done;
        }
        ring.close_producer();
    });
    std::uint64_t got = 0;
    for (;;) {
        const bool closed = ring.producer_closed();
        Owned message;
        if (ring.try_pop(message)) {
            ASSERT_EQ(*message, static_cast<int>(got));
            ++got;
        } else if (closed) {
            break;
        } else {
            std::this_thread::yield();
        }
    }
    producer.join();
    EXPECT_GE(got, total);
    EXPECT_LE(got, total + 2);
}

TYPED_TEST(RingTest, two_threads_keep_order_and_lose_nothing) {
    two_threads<TypeParam>(64, 30'000);
    // A switch of threads for each message, where there are fewer processors than work.
    for (const std::uint32_t capacity : {1u, 2u}) two_threads<TypeParam>(capacity, 2'000);
}

}  // namespace
