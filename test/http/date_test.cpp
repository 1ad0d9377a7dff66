// SPDX-License-Identifier: MIT
// Goal: the date of an answer is that of the C library's calendar. Method: days around the ends of months,
// years and centuries, and random seconds; gmtime_r(3) and strftime(3) are the oracle.
#include "http/date.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <ctime>
#include <random>
#include <string>

namespace whorl::http {
namespace {

// RFC 9110 section 5.6.7.
std::string expected(std::int64_t seconds) {
    const std::time_t time = seconds;
    std::tm parts{};
    gmtime_r(&time, &parts);
    char text[64];
    const std::size_t size = std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts);
    return {text, size};
}
std::string printed(std::int64_t seconds) {
    char text[29];
    print_date(seconds, text);
    return {text, sizeof text};
}

constexpr std::int64_t day = 86'400;
constexpr std::int64_t year_9999 =
    253'402'300'799;  // its last second; behind it four digits are not enough

TEST(HttpDate, each_day_of_four_centuries) {
    for (std::int64_t number = 0; number < 400 * 366; ++number) {
        ASSERT_EQ(printed(number * day), expected(number * day));
        ASSERT_EQ(printed(number * day + day - 1), expected(number * day + day - 1));
    }
}

TEST(HttpDate, any_second) {
    std::mt19937_64 random(1);
    std::uniform_int_distribution<std::int64_t> any(0, year_9999);
    for (int count = 0; count < 100'000; ++count) {
        const std::int64_t seconds = any(random);
        ASSERT_EQ(printed(seconds), expected(seconds));
    }
    EXPECT_EQ(printed(year_9999), expected(year_9999));
}

TEST(HttpDate, a_clock_before_1970_is_at_its_beginning) {
    for (const std::int64_t seconds : {std::int64_t{-1}, -day, INT64_MIN}) {
        EXPECT_EQ(printed(seconds), "Thu, 01 Jan 1970 00:00:00 GMT");
    }
}

}  // namespace
}  // namespace whorl::http
