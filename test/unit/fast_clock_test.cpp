// SPDX-License-Identifier: MIT
// The clock from the time stamp counter, with counts and readings that the test gives: it stays beside
// CLOCK_MONOTONIC, whatever disturbed a reading, and never goes back.
#include "base/fast_clock.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <random>

namespace {

using whorl::detail::FastClock;

constexpr std::uint64_t two_ghz = std::uint64_t{1} << 31;  // half a nanosecond a tick, times 2^32
constexpr std::uint64_t interval = 20'000'000;             // ticks: 10 ms
constexpr std::uint64_t start = 1'000'000'000;             // ns

// CLOCK_MONOTONIC of a machine whose counter has run for so long.
std::uint64_t true_ns(std::uint64_t ticks) { return start + ticks / 2; }
FastClock::Reading exact(std::uint64_t ticks) { return {ticks, true_ns(ticks), 100}; }

struct Watch {
    FastClock clock{two_ghz, exact(0)};
    std::uint64_t ticks = 0;
    std::uint64_t last = 0;

    // Reads the clock all along an interval, and gives it a reading at the end.
    void pass(const FastClock::Reading& reading, std::uint64_t length = interval) {
        for (std::uint64_t step = 1; step <= 10; ++step) look(ticks + length / 10 * step);
        ticks += length;
        clock.adopt(reading);
        look(ticks);
    }
    void look(std::uint64_t when) {
        const std::uint64_t now = clock.from_ticks(when);
        EXPECT_GE(now, last);
        last = now;
    }
    std::int64_t ahead() const {
        return static_cast<std::int64_t>(clock.from_ticks(ticks) - true_ns(ticks));
    }
};

TEST(FastClock, follows_exact_readings) {
    Watch watch;
    for (int step = 1; step <= 100; ++step) {
        watch.pass(exact(interval * step));
        EXPECT_LE(std::abs(watch.ahead()), 1);
    }
}

TEST(FastClock, comes_back_after_a_reading_that_was_ahead) {
    for (const std::uint64_t error : {300u, 50'000u, 5'000'000u, 40'000'000u}) {
        Watch watch;
        FastClock::Reading wrong = exact(interval);
        wrong.ns += error;
        watch.pass(wrong);
        EXPECT_GE(watch.ahead(), static_cast<std::int64_t>(error) - 1);
        std::uint64_t step = 2;
        for (; step < 100 && watch.ahead() > 1000; ++step) watch.pass(exact(interval * step));
        EXPECT_LE(step, 4 + error / 4'000'000) << error;
        for (const std::uint64_t end = step + 3; step < end; ++step) {
            watch.pass(exact(interval * step));
        }
        EXPECT_LE(std::abs(watch.ahead()), 10);
    }
}

TEST(FastClock, comes_back_after_a_reading_that_was_behind) {
    Watch watch;
    FastClock::Reading wrong = exact(interval);
    wrong.ns -= 5'000'000;
    watch.pass(wrong);
    for (std::uint64_t step = 2; step < 12; ++step) watch.pass(exact(interval * step));
    EXPECT_LE(std::abs(watch.ahead()), 1000);
}

TEST(FastClock, does_not_believe_a_disturbed_reading) {
    Watch watch;
    FastClock::Reading wrong = exact(interval);
    wrong.ns += 5'000'000;
    wrong.width = interval;
    watch.pass(wrong);
    EXPECT_LE(std::abs(watch.ahead()), 1);
}

// A clock that takes a microsecond and more to read is followed all the same.
TEST(FastClock, follows_readings_that_are_all_wide) {
    Watch watch;
    for (std::uint64_t step = 1; step <= 300; ++step) {
        FastClock::Reading reading = exact(interval * step);
        reading.ns += reading.ns / 10'000;  // 100 ppm quicker than at first
        reading.width = 10'000;
        watch.pass(reading);
    }
    const std::uint64_t now = true_ns(watch.ticks);
    EXPECT_LT(std::abs(watch.ahead() - static_cast<std::int64_t>(now / 10'000)), 10'000);
}

TEST(FastClock, stays_near_through_random_readings) {
    std::mt19937_64 random(7);
    Watch watch;
    std::uint64_t when = 0;
    for (int step = 0; step < 20'000; ++step) {
        const std::uint64_t length = interval + random() % 1000;
        when += length;
        FastClock::Reading reading = exact(when);
        reading.ns += random() % 60;  // as far as two clocks are read apart
        if (random() % 100 == 0) {
            reading.width = 2'000'000 + random() % interval;
            reading.ns += random() % 10'000'000;
        }
        watch.pass(reading, length);
        EXPECT_LE(std::abs(watch.ahead()), 1000) << step;
    }
}

}  // namespace
