// SPDX-License-Identifier: MIT
// Goal: slots stay where they are, stale handles find nothing, and a slot whose generation would wrap
// never comes back. Method: by hand here, at random against std::map in test/model/slab_model.cpp.
#include <whorl/slab.hpp>

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstddef>
#include <cstdint>
#include <set>
#include <vector>

namespace {

using whorl::Error;
using whorl::Slab;
using whorl::SlabSlot;

struct Slot : SlabSlot {
    std::uint64_t value;
};

TEST(Slab, reserve_has_limits) {
    Slab<Slot> slab;
    EXPECT_EQ(slab.reserve(0), Error::invalid_argument);
    EXPECT_EQ(slab.reserve((1u << 31) + 1), Error::invalid_argument);
    EXPECT_EQ(slab.reserve(10), Error::ok);
    EXPECT_EQ(slab.slots_max(), 10u);
}

TEST(Slab, is_empty_before_the_first_claim) {
    Slab<Slot> slab;
    EXPECT_TRUE(slab.check());
    EXPECT_EQ(slab.find(0), nullptr);
    ASSERT_FALSE(slab.reserve(1));
    EXPECT_TRUE(slab.check());
    EXPECT_EQ(slab.live(), 0u);
    EXPECT_EQ(slab.find(1, 1), nullptr);
    slab.for_each_live([](Slot&) { FAIL(); });
}

TEST(Slab, claims_and_releases) {
    Slab<Slot> slab;
    ASSERT_FALSE(slab.reserve(4));
    Slot* slot = slab.claim();
    ASSERT_NE(slot, nullptr);
    slot->value = 7;
    const std::uint64_t handle = slab.handle_of(slot);
    EXPECT_EQ(slab.find(handle), slot);
    EXPECT_EQ(&slab.at(slab.index_of(slot)), slot);
    EXPECT_NE(slab.index_of(slot), 0u) << "index 0 is never handed out";
    EXPECT_EQ(slot->generation % 2, 1u);
    EXPECT_EQ(slab.live(), 1u);
    slab.release(slot);
    EXPECT_EQ(slab.find(handle), nullptr);
    EXPECT_EQ(slab.live(), 0u);
    EXPECT_EQ(slab.live_high(), 1u);
    EXPECT_TRUE(slab.check());
}

TEST(Slab, full_is_null_and_passes) {
    Slab<Slot> slab;
    ASSERT_FALSE(slab.reserve(3));
    std::set<Slot*> slots;
    for (int count = 0; count < 3; ++count) slots.insert(slab.claim());
    EXPECT_EQ(slots.size(), 3u);
    EXPECT_EQ(slots.count(nullptr), 0u);
    EXPECT_EQ(slab.claim(), nullptr);
    EXPECT_EQ(slab.claim(), nullptr);
    slab.release(*slots.begin());
    EXPECT_EQ(slab.claim(), *slots.begin());
    EXPECT_EQ(slab.claim(), nullptr);
    EXPECT_EQ(slab.live_high(), 3u);
    EXPECT_TRUE(slab.check());
}

TEST(Slab, last_released_is_claimed_first) {
    Slab<Slot> slab;
    ASSERT_FALSE(slab.reserve(3));
    Slot* a = slab.claim();
    Slot* b = slab.claim();
    Slot* c = slab.claim();
    slab.release(a);
    slab.release(c);
    slab.release(b);
    EXPECT_EQ(slab.claim(), b);
    EXPECT_EQ(slab.claim(), c);
    EXPECT_EQ(slab.claim(), a);
}

TEST(Slab, stale_and_invented_handles_find_nothing) {
    Slab<Slot> slab;
    ASSERT_FALSE(slab.reserve(100));
    std::vector<std::uint64_t> stale;
    for (int round = 0; round < 10; ++round) {
        Slot* slot = slab.claim();
        stale.push_back(slab.handle_of(slot));
        slab.release(slot);
    }
    Slot* live = slab.claim();
    for (std::uint64_t handle : stale) EXPECT_EQ(slab.find(handle), nullptr);
    const std::uint32_t index = slab.index_of(live);
    EXPECT_EQ(slab.find(index, live->generation), live);
    EXPECT_EQ(slab.find(index, live->generation + 1), nullptr);
    EXPECT_EQ(slab.find(index, live->generation + 2), nullptr);
    EXPECT_EQ(slab.find(index, 0), nullptr);
    EXPECT_EQ(slab.find(index + 1, 1), nullptr) << "never used";
    EXPECT_EQ(slab.find(100, 1), nullptr);
    EXPECT_EQ(slab.find(0xFFFF'FFFF, 1), nullptr);
    EXPECT_EQ(slab.find(0, 1), nullptr);
    EXPECT_EQ(slab.find(0, 0), nullptr);
}

TEST(Slab, slots_never_move) {
    Slab<Slot> slab;
    const std::uint32_t count = 100'000;  // several commits of memory
    ASSERT_FALSE(slab.reserve(count));
    std::vector<Slot*> slots;
    for (std::uint32_t index = 0; index < count; ++index) {
        Slot* slot = slab.claim();
        ASSERT_NE(slot, nullptr);
        slot->value = index;
        slots.push_back(slot);
    }
    EXPECT_EQ(slab.claim(), nullptr);
    for (std::uint32_t index = 0; index < count; ++index) {
        ASSERT_EQ(slots[index]->value, index);
        ASSERT_EQ(slab.index_of(slots[index]), slab.index_of(slots[0]) + index);
    }
    EXPECT_TRUE(slab.check());
}

TEST(Slab, large_slots_and_large_reservations) {
    struct Large : SlabSlot {
        char bytes[60'000];
    };
    Slab<Large> large;
    ASSERT_FALSE(large.reserve(20));
    for (int count = 0; count < 20; ++count) {
        Large* slot = large.claim();
        ASSERT_NE(slot, nullptr);
        slot->bytes[sizeof slot->bytes - 1] = 1;
    }
    EXPECT_EQ(large.claim(), nullptr);
    EXPECT_TRUE(large.check());
}

TEST(Slab, visits_the_live_ones) {
    Slab<Slot> slab;
    ASSERT_FALSE(slab.reserve(10));
    std::vector<Slot*> slots;
    for (int count = 0; count < 10; ++count) slots.push_back(slab.claim());
    for (std::size_t index = 0; index < 10; index += 2) slab.release(slots[index]);
    std::set<Slot*> visited;
    slab.for_each_live([&](Slot& slot) { visited.insert(&slot); });
    EXPECT_EQ(visited, (std::set<Slot*>{slots[1], slots[3], slots[5], slots[7], slots[9]}));
}

TEST(Slab, retired_slots_never_come_back) {
    Slab<Slot> slab;
    ASSERT_FALSE(slab.reserve(3));
    slab.force_generation(0xFFFF'FFF8);
    std::set<std::uint64_t> handles;
    std::uint32_t claims = 0;
    for (int count = 0; count < 100; ++count) {
        Slot* slot = slab.claim();
        if (slot == nullptr) break;
        ++claims;
        EXPECT_GT(slot->generation, 0xFFFF'FFF8u) << "it has wrapped";
        EXPECT_TRUE(handles.insert(slab.handle_of(slot)).second) << "a handle came back";
        slab.release(slot);
        EXPECT_TRUE(slab.check());
    }
    EXPECT_EQ(claims, 3u * 3u) << "three slots with three generations left each";
    EXPECT_EQ(slab.retired(), 3u);
    EXPECT_EQ(slab.live(), 0u);
    EXPECT_EQ(slab.claim(), nullptr);
    for (std::uint64_t handle : handles) EXPECT_EQ(slab.find(handle), nullptr);
    for (std::uint32_t index = 0; index < 5; ++index) {
        for (std::uint32_t generation : {0u, 1u, 0xFFFF'FFFEu, 0xFFFF'FFFFu}) {
            EXPECT_EQ(slab.find(index, generation), nullptr);
        }
    }
}

TEST(Slab, address_space_refused_is_an_error) {
    rlimit before{};
    ASSERT_EQ(getrlimit(RLIMIT_AS, &before), 0);
    rlimit none = before;
    none.rlim_cur = 0;
    Slab<Slot> slab;
    ASSERT_EQ(setrlimit(RLIMIT_AS, &none), 0);
    const Error error = slab.reserve(1u << 20);
    ASSERT_EQ(setrlimit(RLIMIT_AS, &before), 0);
    EXPECT_EQ(error, Error::from_errno(ENOMEM));
    EXPECT_EQ(slab.find(1, 1), nullptr);
    EXPECT_FALSE(slab.reserve(1u << 20)) << "it may be tried again";
    EXPECT_NE(slab.claim(), nullptr);
}

// RLIMIT_DATA bounds what may be written to, and so what a reservation may become.
TEST(Slab, memory_refused_is_a_full_slab_until_there_is_some) {
    rlimit before{};
    ASSERT_EQ(getrlimit(RLIMIT_DATA, &before), 0);
    rlimit none = before;
    none.rlim_cur = 4096;  // 0 would be taken for no limit: see may_expand_vm() in the kernel
    Slab<Slot> fresh;
    Slab<Slot> used;
    ASSERT_FALSE(fresh.reserve(1u << 20));
    ASSERT_FALSE(used.reserve(1u << 20));
    ASSERT_NE(used.claim(), nullptr);
    ASSERT_EQ(setrlimit(RLIMIT_DATA, &none), 0);
    const Slot* first = fresh.claim();
    std::uint32_t claimed = 0;
    while (used.claim() != nullptr) ++claimed;
    ASSERT_EQ(setrlimit(RLIMIT_DATA, &before), 0);
    EXPECT_EQ(first, nullptr);
    EXPECT_LT(claimed, 64u * 1024 / sizeof(Slot)) << "what was committed is used";
    EXPECT_TRUE(fresh.check());
    EXPECT_TRUE(used.check());
    EXPECT_NE(fresh.claim(), nullptr);
    EXPECT_NE(used.claim(), nullptr);
}

// Where nothing is reserved, the kernel refuses memory at once.
TEST(Slab, extends_by_pieces_as_far_as_there_is_memory) {
    using namespace whorl::detail;
    constexpr std::size_t piece = std::size_t{64} << 10, huge = std::size_t{2} << 20,
                          size = 8 * huge;
    auto* const start = static_cast<std::byte*>(address_reserve(size));
    ASSERT_NE(start, nullptr);
    EXPECT_EQ(address_extend(start, 0, size), piece);
    EXPECT_EQ(address_extend(start, size - piece / 2, size), piece / 2) << "the rest";
    EXPECT_EQ(address_extend(start, size, size), 0u) << "there is no rest";
    const std::size_t grown = address_extend(start, 2 * huge, size);
    EXPECT_GE(grown, huge);
    EXPECT_LT(grown, 2 * huge);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(start + 2 * huge + grown) % huge, 0u);
    start[2 * huge + grown - 1] = std::byte{1};
    // A huge page is refused, and a piece is not.
    address_release(start + 4 * huge + piece, 4 * huge - piece);
    EXPECT_EQ(address_extend(start, 4 * huge, size), piece);
    start[4 * huge + piece - 1] = std::byte{1};
    // Neither is there.
    EXPECT_EQ(address_extend(start, 5 * huge, size), 0u);
    address_release(start, 4 * huge + piece);
    EXPECT_EQ(address_extend(start, 0, size), 0u);
}

TEST(SlabDeathTest, misuse_is_asserted) {
    Slab<Slot> slab;
    ASSERT_FALSE(slab.reserve(2));
    EXPECT_DEATH(static_cast<void>(slab.reserve(2)), "assertion failed");
    Slot* slot = slab.claim();
    EXPECT_DEATH(slab.at(0), "assertion failed");
    EXPECT_DEATH(slab.at(2), "assertion failed");
    EXPECT_DEATH(slab.force_generation(1), "assertion failed");
    EXPECT_DEATH(slab.force_generation(0xFFFF'FFFE), "assertion failed");
    slab.release(slot);
    EXPECT_DEATH(slab.release(slot), "assertion failed") << "released twice";
}

}  // namespace
