// SPDX-License-Identifier: MIT
// Goal: a histogram counts, answers and survives being written and read as its header says.
// Method: values computed by hand; seeded values against a sorted vector; every damage to an encoding.
#include <whorl/histogram.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

namespace {

using whorl::Bytes;
using whorl::Error;
using whorl::Histogram;
using whorl::HistogramOptions;

Histogram make(std::uint64_t highest = HistogramOptions().highest, std::uint32_t bits = 7) {
    HistogramOptions options;
    options.highest = highest;
    options.bits = bits;
    whorl::Result<Histogram> made = Histogram::create(options);
    if (!made) std::abort();
    return std::move(*made);
}

std::vector<std::byte> encoded(const Histogram& histogram) {
    std::vector<std::byte> bytes(histogram.encode(nullptr, 0));
    EXPECT_EQ(histogram.encode(bytes.data(), bytes.size()), bytes.size());
    return bytes;
}

std::string hgrm(const Histogram& histogram, const whorl::HgrmOptions& options = {}) {
    std::string text(whorl::print_hgrm(histogram, options, nullptr, 0) + 1, 'x');
    EXPECT_EQ(whorl::print_hgrm(histogram, options, text.data(), text.size()), text.size() - 1);
    EXPECT_EQ(text.back(), '\0');
    text.pop_back();
    return text;
}

TEST(Histogram, options_have_limits) {
    for (const auto& [highest, bits] : std::vector<std::pair<std::uint64_t, std::uint32_t>>{
             {1, 7}, {(std::uint64_t{1} << 63) + 1, 7}, {1000, 0}, {1000, 15}}) {
        HistogramOptions options;
        options.highest = highest;
        options.bits = bits;
        EXPECT_EQ(Histogram::create(options).error(), Error::invalid_argument);
    }
}

TEST(Histogram, empty_is_all_zero) {
    const Histogram histogram = make();
    EXPECT_EQ(histogram.count(), 0u);
    EXPECT_EQ(histogram.min(), 0u);
    EXPECT_EQ(histogram.max(), 0u);
    EXPECT_EQ(histogram.percentile(50), 0u);
    EXPECT_EQ(histogram.mean(), 0);
    EXPECT_EQ(histogram.deviation(), 0);
    EXPECT_EQ(hgrm(histogram).find("inf"), std::string::npos);
}

// With 7 bits: below 256 each value has a bucket; from 256 on two values share one, from 512 on four.
TEST(Histogram, buckets_are_where_they_should_be) {
    const Histogram histogram = make();
    EXPECT_EQ(histogram.index_of(255), 255u);
    EXPECT_EQ(histogram.index_of(256), 256u);
    EXPECT_EQ(histogram.index_of(257), 256u);
    EXPECT_EQ(histogram.index_of(258), 257u);
    EXPECT_EQ(histogram.index_of(511), 383u);
    EXPECT_EQ(histogram.index_of(512), 384u);
    EXPECT_EQ(histogram.first_of(384), 512u);
    EXPECT_EQ(histogram.last_of(384), 515u);
    for (std::uint32_t bucket = 0; bucket < histogram.buckets(); ++bucket) {
        ASSERT_EQ(histogram.index_of(histogram.first_of(bucket)), bucket);
        if (bucket + 1 < histogram.buckets()) {
            ASSERT_EQ(histogram.index_of(histogram.last_of(bucket)), bucket);
            ASSERT_EQ(histogram.last_of(bucket) + 1, histogram.first_of(bucket + 1));
        }
    }
}

TEST(Histogram, one_to_hundred) {
    Histogram histogram = make();
    for (std::uint64_t value = 1; value <= 100; ++value) histogram.record(value);
    EXPECT_EQ(histogram.min(), 1u);
    EXPECT_EQ(histogram.max(), 100u);
    EXPECT_EQ(histogram.percentile(0), 1u);
    EXPECT_EQ(histogram.percentile(1), 1u);
    EXPECT_EQ(histogram.percentile(1.001), 2u);
    EXPECT_EQ(histogram.percentile(50), 50u);
    EXPECT_EQ(histogram.percentile(99), 99u);
    EXPECT_EQ(histogram.percentile(99.9), 100u);
    EXPECT_EQ(histogram.percentile(100), 100u);
    EXPECT_EQ(histogram.percentile(-3), 1u);
    EXPECT_EQ(histogram.percentile(300), 100u);
    EXPECT_DOUBLE_EQ(histogram.mean(), 50.5);
    EXPECT_NEAR(histogram.deviation(), std::sqrt(833.25), 1e-9);  // (100^2 - 1) / 12
    EXPECT_EQ(histogram.count_up_to(70), 70u);
    histogram.reset();
    EXPECT_EQ(histogram.count(), 0u);
    EXPECT_EQ(histogram.min(), 0u);
    histogram.record(7, 3);
    EXPECT_EQ(histogram.min(), 7u);
    EXPECT_EQ(histogram.count(), 3u);
}

// 1000 lies in 1000..1003: 999 such values and a million. The thousandth is the million, exactly.
TEST(Histogram, a_rank_is_rounded_as_a_person_would) {
    Histogram histogram = make();
    histogram.record(1000, 999);
    histogram.record(1'000'000);
    EXPECT_EQ(histogram.percentile(99.9), 1003u);
    EXPECT_EQ(histogram.percentile(99.90001), 1'000'000u);
    EXPECT_NEAR(histogram.mean(), (999 * 1001.5 + 1'000'000) / 1000, 10);
}

TEST(Histogram, too_large_values_are_clipped_and_told) {
    Histogram histogram = make(1000);
    histogram.record(999);
    histogram.record(1001);
    histogram.record(UINT64_MAX, 2);
    EXPECT_EQ(histogram.clipped(), 3u);
    EXPECT_EQ(histogram.count(), 4u);
    EXPECT_EQ(histogram.max(), 1000u);
    EXPECT_EQ(histogram.percentile(100), 1000u);
}

TEST(Histogram, the_largest_range) {
    Histogram histogram = make(std::uint64_t{1} << 63, 1);
    histogram.record(std::uint64_t{1} << 63);
    histogram.record(0);
    EXPECT_EQ(histogram.max(), std::uint64_t{1} << 63);
    EXPECT_EQ(histogram.percentile(100), std::uint64_t{1} << 63);
    EXPECT_EQ(histogram.percentile(50), 0u);
}

// A stall of 100 at an interval of 10 hid nine others: 90, 80, ... 10.
TEST(Histogram, corrected_for_an_interval) {
    Histogram histogram = make();
    histogram.record_corrected(100, 10);
    EXPECT_EQ(histogram.count(), 10u);
    for (std::uint64_t value = 10; value <= 100; value += 10) {
        EXPECT_EQ(histogram.count_in(histogram.index_of(value)), 1u) << value;
    }
    histogram.record_corrected(19, 10);  // nothing is missing
    EXPECT_EQ(histogram.count(), 11u);
    histogram.record_corrected(25, 10);  // 15
    EXPECT_EQ(histogram.count_in(15), 1u);
    EXPECT_EQ(histogram.count(), 13u);
    histogram.record_corrected(100, 0);
    EXPECT_EQ(histogram.count(), 14u);
}

TEST(Histogram, a_correction_is_the_same_as_one_value_at_a_time) {
    std::mt19937_64 random(5);
    for (int round = 0; round < 300; ++round) {
        Histogram fast = make(100'000, 3), slow = make(100'000, 3);
        const std::uint64_t value = random() % 200'000, interval = 1 + random() % 3000;
        fast.record_corrected(value, interval);
        slow.record(value);
        for (std::uint64_t left = value; left >= 2 * interval; left -= interval) {
            slow.record(left - interval);
        }
        ASSERT_EQ(encoded(fast), encoded(slow)) << value << " every " << interval;
    }
    // Bounded by the buckets, however many it adds.
    Histogram huge = make();
    huge.record_corrected(3'600'000'000'000, 1);
    EXPECT_EQ(huge.count(), 3'600'000'000'000u);
}

// What is said of a percentile is never below the value that a sorted vector has there, and above it by
// less than the stated error.
TEST(Histogram, agrees_with_a_sorted_vector) {
    std::mt19937_64 random(11);
    for (const std::uint32_t bits : {1u, 3u, 7u, 10u, 14u}) {
        Histogram histogram = make(HistogramOptions().highest, bits);
        std::vector<std::uint64_t> values;
        double sum = 0;
        for (int index = 0; index < 20'000; ++index) {
            const std::uint64_t value = random() >> (24 + random() % 40);
            values.push_back(value);
            histogram.record(value);
            sum += static_cast<double>(value);
        }
        std::sort(values.begin(), values.end());
        ASSERT_EQ(histogram.clipped(), 0u);
        EXPECT_EQ(histogram.min(), values.front());
        EXPECT_EQ(histogram.max(), values.back());
        const double error = std::ldexp(1.0, -static_cast<int>(bits));
        EXPECT_NEAR(histogram.mean(), sum / 20'000, sum / 20'000 * error / 2);
        for (std::uint64_t thousandth = 1; thousandth <= 1000; ++thousandth) {
            const double exact = static_cast<double>(values[thousandth * 20 - 1]);
            const auto said =
                static_cast<double>(histogram.percentile(static_cast<double>(thousandth) / 10));
            ASSERT_GE(said, exact);
            ASSERT_LE(said - exact, exact * error) << bits << " bits, " << thousandth << "/1000";
        }
    }
}

TEST(Histogram, merging_is_recording_into_one) {
    std::mt19937_64 random(3);
    Histogram all = make(), first = make(), second = make();
    for (int index = 0; index < 5000; ++index) {
        const std::uint64_t value = random() >> (random() % 50);
        all.record(value);
        (index % 3 == 0 ? first : second).record(value);
    }
    ASSERT_FALSE(first.merge(second));
    EXPECT_EQ(encoded(first), encoded(all));
    Histogram empty = make();
    ASSERT_FALSE(first.merge(empty));
    EXPECT_EQ(encoded(first), encoded(all));
    EXPECT_EQ(first.merge(make(1000)), Error::invalid_argument);
    EXPECT_EQ(first.merge(make(HistogramOptions().highest, 8)), Error::invalid_argument);
}

TEST(Histogram, counts_cannot_overflow_by_merging) {
    Histogram histogram = make(), other = make();
    histogram.record(1, Histogram::count_limit - 1);
    other.record(2, 2);
    EXPECT_EQ(histogram.merge(other), Error::invalid_argument);
    EXPECT_EQ(histogram.count(), Histogram::count_limit - 1);
}

// A double does not tell 2^61 from 2^61 + 1.
TEST(Histogram, the_last_of_very_many_is_found) {
    Histogram histogram = make();
    histogram.record(1, std::uint64_t{1} << 61);
    histogram.record(1000);
    EXPECT_EQ(histogram.percentile(100), 1000u);
    EXPECT_EQ(histogram.percentile(99.9), 1u);
}

TEST(Histogram, moves) {
    Histogram histogram = make();
    histogram.record(5);
    Histogram moved = std::move(histogram);
    EXPECT_EQ(moved.percentile(50), 5u);
    histogram = make(1000, 2);
    histogram.record(9);
    moved = std::move(histogram);
    EXPECT_EQ(moved.highest(), 1000u);
    EXPECT_EQ(moved.max(), 9u);
}

// Ten values, five rows for each halving: as HdrHistogram prints them.
TEST(Histogram, prints_the_percentile_distribution) {
    Histogram histogram = make();
    for (std::uint64_t value = 1; value <= 10; ++value) histogram.record(value * 10);
    EXPECT_EQ(hgrm(histogram, {10, 2}),
              "       Value     Percentile TotalCount 1/(1-Percentile)\n"
              "\n"
              "       1.000 0.000000000000          1           1.00\n"
              "       3.000 0.250000000000          3           1.33\n"
              "       5.000 0.500000000000          5           2.00\n"
              "       7.000 0.625000000000          7           2.67\n"
              "       8.000 0.750000000000          8           4.00\n"
              "       9.000 0.812500000000          9           5.33\n"
              "       9.000 0.875000000000          9           8.00\n"
              "      10.000 0.906250000000         10          10.67\n"
              "      10.000 1.000000000000         10            inf\n"
              "#[Mean    =        5.500, StdDeviation   =        2.872]\n"
              "#[Max     =       10.000, Total count    =           10]\n"
              "#[Buckets =           35, SubBuckets     =          256]\n");
}

TEST(Histogram, a_text_without_room_is_cut) {
    Histogram histogram = make();
    histogram.record(4);
    const std::string whole = hgrm(histogram);
    for (std::size_t room = 1; room <= whole.size(); room += 7) {
        std::string text(room, 'x');
        EXPECT_EQ(whorl::print_hgrm(histogram, {}, text.data(), room), whole.size());
        EXPECT_EQ(text, whole.substr(0, room - 1) + '\0');
    }
}

TEST(HistogramBytes, come_back_as_they_were) {
    std::mt19937_64 random(17);
    Histogram histogram = make();
    for (int round = 0; round < 50; ++round) {
        const std::vector<std::byte> bytes = encoded(histogram);
        whorl::Result<Histogram> read = Histogram::decode({bytes.data(), bytes.size()});
        ASSERT_TRUE(read);
        EXPECT_EQ(encoded(*read), bytes);
        EXPECT_EQ(read->count(), histogram.count());
        EXPECT_EQ(read->min(), histogram.min());
        EXPECT_EQ(read->max(), histogram.max());
        EXPECT_EQ(read->clipped(), histogram.clipped());
        EXPECT_EQ(hgrm(*read), hgrm(histogram));
        histogram.record(random() >> (random() % 64), 1 + random() % 1000);
    }
}

TEST(HistogramBytes, without_room_nothing_is_written) {
    Histogram histogram = make();
    histogram.record(4);
    std::byte room[8] = {};
    EXPECT_GT(histogram.encode(room, sizeof room), sizeof room);
    EXPECT_EQ(room[0], std::byte{0});
}

// Whatever is read writes the same bytes again: damage is either refused or another valid histogram.
void check_damaged(const std::vector<std::byte>& bytes) {
    whorl::Result<Histogram> read = Histogram::decode({bytes.data(), bytes.size()});
    if (!read) {
        EXPECT_EQ(read.error(), Error::invalid_argument);
        return;
    }
    EXPECT_EQ(encoded(*read), bytes);
    EXPECT_GE(read->percentile(100), read->percentile(0));
    EXPECT_LE(read->max(), read->highest());
}

TEST(HistogramBytes, every_damage_is_harmless) {
    Histogram histogram = make(100'000, 2);
    for (const std::uint64_t value : {3u, 700u, 90'000u, 200'000u}) histogram.record(value);
    const std::vector<std::byte> bytes = encoded(histogram);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        EXPECT_FALSE(Histogram::decode({bytes.data(), size})) << size;
    }
    for (std::size_t at = 0; at < bytes.size(); ++at) {
        for (int value = 0; value < 256; ++value) {
            std::vector<std::byte> damaged = bytes;
            damaged[at] = static_cast<std::byte>(value);
            check_damaged(damaged);
        }
    }
    std::vector<std::byte> longer = bytes;
    longer.push_back(std::byte{0});
    EXPECT_FALSE(Histogram::decode({longer.data(), longer.size()}));
    std::mt19937_64 random(23);
    for (int round = 0; round < 20'000; ++round) {
        std::vector<std::byte> noise = bytes;
        for (int change = 0; change < 3; ++change) {
            noise[4 + random() % (noise.size() - 4)] = static_cast<std::byte>(random());
        }
        check_damaged(noise);
    }
}

TEST(HistogramBytes, what_asks_for_much_memory_is_refused) {
    const Histogram large = make(std::uint64_t{1} << 63, 14);
    const std::vector<std::byte> bytes = encoded(large);
    EXPECT_FALSE(Histogram::decode({bytes.data(), bytes.size()}));
    EXPECT_TRUE(Histogram::decode({bytes.data(), bytes.size()}, 1u << 20));
}

}  // namespace
