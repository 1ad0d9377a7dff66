// SPDX-License-Identifier: MIT
// Goal: sums of time never overflow, and the clock is steady_clock's. Method: the ends of the range.
#include <whorl/time.hpp>

#include <gtest/gtest.h>

#include <chrono>

namespace {

using whorl::add_saturating;
using whorl::Instant;
using whorl::instant_never;
using whorl::Nanoseconds;

constexpr Instant at(std::int64_t ns) { return Instant(Nanoseconds(ns)); }

TEST(Time, sums_saturate) {
    static_assert(add_saturating(at(5), Nanoseconds(7)) == at(12));
    static_assert(add_saturating(at(5), Nanoseconds(0)) == at(5));
    static_assert(add_saturating(at(5), Nanoseconds(-7)) == at(5), "a past delay is no delay");
    static_assert(add_saturating(at(5), Nanoseconds::min()) == at(5));
    static_assert(add_saturating(at(0), Nanoseconds::max()) == instant_never);
    static_assert(add_saturating(at(1), Nanoseconds::max()) == instant_never);
    static_assert(add_saturating(at(5), Nanoseconds::max() - Nanoseconds(6)) ==
                  instant_never - Nanoseconds(1));
    static_assert(add_saturating(instant_never, Nanoseconds(1)) == instant_never);
    static_assert(add_saturating(instant_never, Nanoseconds::max()) == instant_never);
    // Evaluated by the compiler, which refuses an overflow.
    static_assert(add_saturating(at(-1), Nanoseconds::max()) == instant_never - Nanoseconds(1));
    static_assert(add_saturating(Instant::min(), Nanoseconds::max()) == at(-1));
    static_assert(add_saturating(Instant::min(), Nanoseconds(1)) > Instant::min());
}

TEST(Time, clock_is_the_steady_clock) {
    const auto before = std::chrono::steady_clock::now();
    const Instant now = whorl::clock_now();
    const auto after = std::chrono::steady_clock::now();
    EXPECT_LE(before, now);
    EXPECT_LE(now, after);
}

}  // namespace
