// SPDX-License-Identifier: MIT
// Goal: a handle is a comparable value of index and generation. Method: both halves at their ends.
// The types that must not mix are in test/compile_fail.
#include <whorl/handle.hpp>

#include <gtest/gtest.h>

#include <cstdint>
#include <set>
#include <type_traits>

namespace {

using whorl::Operation;
using whorl::Timer;

TEST(Handle, null_is_zero) {
    constexpr Operation null;
    static_assert(!null);
    EXPECT_EQ(null.value(), 0u);
    EXPECT_EQ(null.index(), 0u);
    EXPECT_EQ(null.generation(), 0u);
    EXPECT_EQ(null, Operation());
}

TEST(Handle, halves_do_not_touch_each_other) {
    for (std::uint32_t index : {0u, 1u, 0x7FFF'FFFFu, 0x8000'0000u, 0xFFFF'FFFFu}) {
        for (std::uint32_t generation : {0u, 1u, 0x7FFF'FFFFu, 0x8000'0000u, 0xFFFF'FFFFu}) {
            const Operation handle(index, generation);
            EXPECT_EQ(handle.index(), index);
            EXPECT_EQ(handle.generation(), generation);
            EXPECT_EQ(handle.value(), (std::uint64_t{generation} << 32) + index);
            EXPECT_EQ(Operation::from_value(handle.value()), handle);
            EXPECT_EQ(static_cast<bool>(handle), index != 0 || generation != 0);
        }
    }
}

TEST(Handle, compares_by_value) {
    const Operation a(1, 1), b(2, 1), c(1, 3);
    EXPECT_NE(a, b);
    EXPECT_NE(a, c);
    EXPECT_EQ(std::set<Operation>({a, b, c, a, b, c}).size(), 3u);
    EXPECT_LT(a, b);
    EXPECT_LT(b, c);
}

TEST(Handle, is_a_value_of_its_own_type) {
    EXPECT_EQ(sizeof(Timer), 8u);
    EXPECT_TRUE(std::is_trivially_copyable<Timer>::value);
    EXPECT_FALSE((std::is_convertible<Timer, Operation>::value));
    EXPECT_FALSE((std::is_constructible<Operation, Timer>::value));
    EXPECT_FALSE((std::is_convertible<std::uint64_t, Operation>::value));
    EXPECT_FALSE((std::is_convertible<Operation, int>::value));
}

}  // namespace
