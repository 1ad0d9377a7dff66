// SPDX-License-Identifier: MIT
// Goal: every check(), on which the model tests rely, can fail. Method: structures are broken through
// the fields that their owners can reach, and the wheel's own, one at a time, and mended again.
#include <gtest/gtest.h>
#include <whorl/buffer_pool.hpp>
#include <whorl/slab.hpp>
#include <whorl/timer_wheel.hpp>

#include <memory>

namespace {

// The name of a private member may stand in an explicit instantiation, which hands out pointers to it: fields that
// only the wheel itself could break.
template <class Tag, auto member>
struct Door {
    friend constexpr auto field(Tag) { return member; }
};
#define OPEN_FIELD(Tag, member)           \
    struct Tag {                          \
        friend constexpr auto field(Tag); \
    };                                    \
    template struct Door<Tag, &whorl::TimerWheel::member>
OPEN_FIELD(Base, base_);
OPEN_FIELD(Now, now_);
OPEN_FIELD(Size, size_);
OPEN_FIELD(Occupied, levels_occupied_);
OPEN_FIELD(Summaries, summaries_);
OPEN_FIELD(Words, words_);
OPEN_FIELD(Slots, slots_);

using whorl::BufferPool;
using whorl::List;
using whorl::ListNode;
using whorl::PoolBlock;
using whorl::Slab;
using whorl::SlabSlot;
using whorl::TimerNode;
using whorl::TimerWheel;

// Sets `field` to `wrong`, sees that `structure` notices, and sets it back.
template <class Structure, class Field, class Value>
void expect_noticed(const Structure& structure, Field& field, Value wrong, const char* what) {
    ASSERT_TRUE(structure.check()) << "before: " << what;
    const Field right = field;
    field = wrong;
    EXPECT_FALSE(structure.check()) << what;
    field = right;
    ASSERT_TRUE(structure.check()) << "after: " << what;
}

struct Slot : SlabSlot {};

TEST(Check, slab) {
    Slab<Slot> slab;
    ASSERT_FALSE(slab.reserve(10));
    Slot* live = slab.claim();
    Slot* first = slab.claim();
    Slot* second = slab.claim();
    slab.release(first);
    slab.release(second);  // free: second, first
    expect_noticed(slab, live->generation, live->generation + 1, "a live slot that is free");
    expect_noticed(slab, first->generation, first->generation + 1, "a free slot that is alive");
    expect_noticed(slab, live->generation, 0xFFFF'FFFEu, "a live slot that was retired");
    expect_noticed(slab, first->generation, 0xFFFF'FFFEu, "a free slot that was retired");
    expect_noticed(slab, second->link, 0u, "a free slot that is lost");
    expect_noticed(slab, second->link, 1000u, "a free list that leads nowhere");
    expect_noticed(slab, second->link, slab.index_of(live), "a free list into a live slot");
    expect_noticed(slab, first->link, slab.index_of(second), "a free list in a circle");
}

TEST(Check, list) {
    List list;
    ListNode nodes[3];
    for (ListNode& node : nodes) list.push_back(node);
    expect_noticed(list, nodes[1].next, nullptr, "no next");
    expect_noticed(list, nodes[1].prev, nullptr, "no previous");
    expect_noticed(list, nodes[1].next, &nodes[0], "a next that does not lead back");
    expect_noticed(list, nodes[1].prev, &nodes[2], "a previous that does not lead here");
}

TEST(Check, timer_wheel) {
    const auto wheel = std::make_unique<TimerWheel>(1000);
    TimerNode near;
    TimerNode far;
    TimerNode farther;
    wheel->insert(near, 1010);
    wheel->insert(far, 5000);
    wheel->insert(farther, 5005);
    ASSERT_EQ(far.slot, farther.slot) << "two of one coarse slot";
    expect_noticed(*wheel, near.slot, far.slot, "a timer that names another slot");
    expect_noticed(*wheel, near.tick, std::uint64_t{1011}, "a tick of another slot");
    expect_noticed(*wheel, near.tick, std::uint64_t{10}, "a tick that has passed");
    expect_noticed(*wheel, far.tick, std::uint64_t{5001}, "a minimum that nobody has");
    expect_noticed(*wheel, farther.tick, std::uint64_t{4999}, "a tick before the minimum");
    expect_noticed(*wheel, farther.tick, std::uint64_t{50000}, "a tick of a later slot");
    expect_noticed(*wheel, far.prev, nullptr, "a list that is broken");
    List::remove(farther);
    EXPECT_FALSE(wheel->check()) << "a timer that was taken out past the wheel";
    List other;
    other.push_back(farther);
    List::remove(near);
    EXPECT_FALSE(wheel->check()) << "a slot that counts what it does not have";
}

// One timer at level 0 and one at level 1 of a wheel at 1000; what is broken is the wheel's own.
TEST(Check, timer_wheel_counts_and_bits) {
    const auto wheel = std::make_unique<TimerWheel>(1000);
    TimerNode near;
    TimerNode far;
    wheel->insert(near, 1010);
    wheel->insert(far, 5000);
    TimerWheel& in = *wheel;
    auto& slot_near = (in.*field(Slots{}))[near.slot];
    auto& slot_far = (in.*field(Slots{}))[far.slot];
    expect_noticed(in, in.*field(Base{}), std::uint64_t{1001}, "a base later than now");
    expect_noticed(in, in.*field(Size{}), std::size_t{3}, "a timer that is in no slot");
    expect_noticed(in, in.*field(Size{}), std::size_t{1}, "a timer too many");
    expect_noticed(in, in.*field(Occupied{}), 1u, "an occupied level without its bit");
    expect_noticed(in, in.*field(Occupied{}), 7u, "an empty level with a bit");
    expect_noticed(in, (in.*field(Summaries{}))[1], 0u, "a word with bits that its summary lacks");
    expect_noticed(in, (in.*field(Summaries{}))[0], 0xFFu, "a summary of words that are 0");
    auto& word = (in.*field(Words{}))[far.slot / 64];
    const std::uint64_t bit = std::uint64_t{1} << far.slot % 64;
    expect_noticed(in, word, word | (bit << 1 | bit >> 1), "a bit for an empty slot");
    expect_noticed(in, word, bit << 1 | bit >> 1, "a timer in a slot without a bit");
    expect_noticed(in, slot_near.count, 2u, "a slot that counts one too many");
    expect_noticed(in, slot_far.count, 2u, "a coarse slot that counts one too many");
    wheel->remove(near);
    wheel->remove(far);
    EXPECT_TRUE(wheel->check());
}

TEST(Check, timer_wheel_minima) {
    const auto wheel = std::make_unique<TimerWheel>(1000);
    TimerNode near;
    TimerNode far;
    TimerNode farther;
    wheel->insert(near, 1010);
    wheel->insert(far, 5000);
    wheel->insert(farther, 5005);
    TimerWheel& in = *wheel;
    auto& slot_near = (in.*field(Slots{}))[near.slot];
    auto& slot_far = (in.*field(Slots{}))[far.slot];
    expect_noticed(in, slot_far.tick_min, std::uint64_t{5001}, "a minimum that is none");
    expect_noticed(in, slot_far.tick_min, std::uint64_t{4999},
                   "a minimum that is too low, and is said to be exact");
    slot_near.stale = 1;
    expect_noticed(in, slot_near.tick_min, std::uint64_t{1009},
                   "a stale minimum where none can be");
    slot_near.stale = 0;
    wheel->remove(far);
    EXPECT_EQ(slot_far.tick_min, 5000u);
    expect_noticed(in, slot_far.stale, 0u, "a minimum that has gone, and is said to be exact");
    wheel->remove(near);
    wheel->remove(farther);
    EXPECT_TRUE(wheel->check());
}

// The base stands where the slots do not allow it.
TEST(Check, timer_wheel_base) {
    const auto wheel = std::make_unique<TimerWheel>(1024);
    TimerWheel& in = *wheel;
    TimerNode node;
    wheel->insert(node, 1030);
    expect_noticed(in, in.*field(Base{}), std::uint64_t{1030 - 511},
                   "a timer more than a block ahead");
    wheel->remove(node);
    wheel->insert(node, 5000);
    in.*field(Now{}) = 6000;
    expect_noticed(in, in.*field(Base{}), std::uint64_t{4990}, "a coarse slot that the base is in");
    expect_noticed(in, in.*field(Base{}), std::uint64_t{5001}, "a timer that the base has passed");
    wheel->remove(node);
    EXPECT_TRUE(wheel->check());
}

TEST(Check, buffer_pool) {
    BufferPool* pool = BufferPool::create(std::size_t{1} << 20);
    PoolBlock* out = pool->take(0);
    PoolBlock* free = pool->take(0);
    whorl::Buffer::from_owner(free, free->base, 0).reset();
    expect_noticed(*pool, out->references, 0u, "a block that is out and nobody's");
    expect_noticed(*pool, free->references, 1u, "a free block that somebody names");
    expect_noticed(*pool, free->next, nullptr, "blocks that are lost");
    expect_noticed(*pool, free->next, free, "a free list in a circle");
    expect_noticed(*pool, out->capacity, std::size_t{1}, "bytes that were never mapped");
    whorl::Buffer::from_owner(out, out->base, 0).reset();
    pool->close();
}

}  // namespace
