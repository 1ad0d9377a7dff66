// SPDX-License-Identifier: MIT
// Floor: 2
#pragma once

#include <whorl/assert.hpp>
#include <whorl/bytes.hpp>
#include <whorl/error.hpp>
#include <whorl/export.hpp>
#include <whorl/result.hpp>

#include <cstddef>
#include <cstdint>
#include <utility>

// A histogram of latencies, or of any whole numbers, in fixed memory. It is log-linear: every power of two
// is divided into 2^bits equal buckets, so that a value is known to the same relative error whatever
// its size. After Gil Tene's HdrHistogram, whose percentile text it prints.

namespace whorl {

// How much is told apart, and in how much memory.
struct HistogramOptions {
    // Larger values count as this one, and as clipped. Default: an hour in nanoseconds.
    std::uint64_t highest = 3'600'000'000'000;  // 2 to 2^63
    // What is reported is never below a recorded value and above it by less than value / 2^bits:
    // 7 is 0.8 %. Values below 2^(bits + 1) are exact. Each bit more doubles the memory, 36 KiB with
    // the defaults.
    std::uint32_t bits = 7;  // 1 to 14
};

// Lifetime: owns its buckets; movable, and after a move only to be assigned to or destroyed.
// Thread: none of its own; one thread at a time. Threads have one each, and merge() puts them together.
class WHORL_EXPORT Histogram {
  public:
    // More than so many values cannot be counted.
    static constexpr std::uint64_t count_limit = std::uint64_t{1} << 62;

    // Errors: invalid_argument (an option outside its limits), ENOMEM. Cost: one allocation.
    static Result<Histogram> create(const HistogramOptions& options = {}) noexcept;
    Histogram(Histogram&& other) noexcept;
    Histogram& operator=(Histogram&& other) noexcept;
    Histogram(const Histogram&) = delete;
    Histogram& operator=(const Histogram&) = delete;
    ~Histogram();

    // Counts a value. Cost: O(1), about 2 ns; no allocation.
    void record(std::uint64_t value) noexcept {
        if (value > highest_) {
            ++clipped_;
            value = highest_;
        }
        ++counts_[index_of(value)];
        ++count_;
        if (value < min_) min_ = value;
        if (value > max_) max_ = value;
    }
    // Counts it so many times. Limits: count_limit (asserted).
    void record(std::uint64_t value, std::uint64_t times) noexcept;
    // For what was measured one at a time and should have been every `interval`: a value above it kept
    // others from being taken, and these are counted as well, as value - interval, value - 2 * interval
    // and so on down to the interval. Zero adds none. Correct once, here or not at all: a latency that
    // was counted from its intended time needs no correction. Cost: O(buckets) at most.
    void record_corrected(std::uint64_t value, std::uint64_t interval) noexcept;

    // Adds all that `other` has counted. Errors: invalid_argument (made with other options, or
    // count_limit; nothing was added). Cost: O(buckets).
    Error merge(const Histogram& other) noexcept;
    // Forgets everything. Cost: O(buckets).
    void reset() noexcept;

    // --- What was counted. Zero, all of them, when nothing was.

    // How many values were recorded, clipped and corrected ones included.
    std::uint64_t count() const noexcept { return count_; }
    std::uint64_t clipped() const noexcept { return clipped_; }            // values above `highest`
    std::uint64_t min() const noexcept { return count_ == 0 ? 0 : min_; }  // exact
    std::uint64_t max() const noexcept { return max_; }                    // exact, unless clipped
    // From the buckets' middles: known to half the relative error. Cost: O(buckets).
    double mean() const noexcept;
    double deviation() const noexcept;  // the standard deviation of all values, not of a sample
    // The largest value of the bucket that holds the value of this rank, so that at least `percent` of
    // all values are not above it; not more than max(). Limits: cut to 0 to 100; 0 gives the first
    // bucket. Cost: O(buckets).
    std::uint64_t percentile(double percent) const noexcept;
    // How many values lie in the bucket of `value` and in those below. Cost: O(buckets).
    std::uint64_t count_up_to(std::uint64_t value) const noexcept;

    // --- Buckets, 0 to buckets() - 1, in the order of their values

    // As in the options.
    std::uint64_t highest() const noexcept { return highest_; }
    // As in the options.
    std::uint32_t bits() const noexcept { return bits_; }
    // How many buckets there are.
    std::uint32_t buckets() const noexcept { return buckets_; }
    // How many values are in one of them. Limits: below buckets(), asserted.
    std::uint64_t count_in(std::uint32_t bucket) const noexcept {
        WHORL_ASSERT(bucket < buckets_);
        return counts_[bucket];
    }
    // The bucket of a value that is not above highest().
    std::uint32_t index_of(std::uint64_t value) const noexcept {
        // Small values are their own buckets: with this bit set, their shift is 0.
        const std::uint64_t marked = value | std::uint64_t{1} << bits_;
        const std::uint32_t highest_bit = 63 ^ static_cast<std::uint32_t>(__builtin_clzll(marked));
        const std::uint32_t shift = highest_bit - bits_;
        return (shift << bits_) + static_cast<std::uint32_t>(value >> shift);
    }
    // The smallest and the largest value of a bucket.
    std::uint64_t first_of(std::uint32_t bucket) const noexcept {
        if (bucket >> (bits_ + 1) == 0) return bucket;
        const std::uint32_t shift = (bucket >> bits_) - 1;
        return static_cast<std::uint64_t>(bucket - (shift << bits_)) << shift;
    }
    // The largest; of the last bucket it may be above highest().
    std::uint64_t last_of(std::uint32_t bucket) const noexcept {
        const std::uint32_t shift = bucket >> (bits_ + 1) == 0 ? 0 : (bucket >> bits_) - 1;
        return first_of(bucket) + ((std::uint64_t{1} << shift) - 1);
    }

    // --- To keep and to send: the options, the exact bounds and the buckets that are not empty

    // Writes at most `size` bytes. Returns how many it takes; more than `size`: nothing was written.
    // Cost: O(buckets); a few bytes for each bucket that is not empty.
    std::size_t encode(std::byte* out, std::size_t size) const noexcept;
    // Reads what encode() wrote, and nothing else: every histogram has one encoding. The bytes need not
    // be trusted. Errors: invalid_argument (they are no encoding, or it has more than `buckets_max`
    // buckets), ENOMEM. Cost: one allocation.
    static Result<Histogram> decode(Bytes bytes, std::uint32_t buckets_max = 1u << 16) noexcept;

  private:
    Histogram(std::uint64_t* counts, const HistogramOptions& options,
              std::uint32_t buckets) noexcept;
    // 0: an option is outside its limits.
    static std::uint32_t buckets_of(const HistogramOptions& options) noexcept;
    void record_in(std::uint32_t bucket, std::uint64_t times) noexcept;
    bool decode_buckets(const std::byte*& at, const std::byte* end, std::uint64_t entries) noexcept;

    std::uint64_t* counts_;
    std::uint64_t highest_;
    std::uint64_t count_ = 0;
    std::uint64_t clipped_ = 0;
    std::uint64_t min_ = UINT64_MAX;
    std::uint64_t max_ = 0;
    std::uint32_t bits_;
    std::uint32_t buckets_;
};

// One row of the percentile distribution.
struct PercentileRow {
    std::uint64_t value;  // the largest of its bucket
    double share;         // 0 to 1: this row's place
    std::uint64_t count;  // of values in this row's bucket and below
};

// The rows that HdrHistogram prints: `ticks` for each halving of what is left to 100 %, as long as there
// are values, and a last one for the largest. The histogram must outlive it and stay as it is.
class WHORL_EXPORT PercentileRows {
  public:
    // Zero ticks are one.
    explicit PercentileRows(const Histogram& histogram, std::uint32_t ticks = 5) noexcept
        : histogram_(&histogram), ticks_(ticks == 0 ? 1 : ticks) {}
    // False: there are no more. Cost: O(buckets) for all of them.
    bool next(PercentileRow& row) noexcept;

  private:
    const Histogram* histogram_;
    std::uint32_t ticks_;
    std::uint32_t bucket_ = 0;
    std::uint64_t seen_ = 0;  // values in buckets before bucket_
    double level_ = 0;        // percent
    bool complete_ = false;   // all values have been seen
    bool ended_ = false;
};

// How the text is written.
struct HgrmOptions {
    double unit = 1;          // values are divided by it: 1000 prints nanoseconds as microseconds
    std::uint32_t ticks = 5;  // rows for each halving of what is left to 100 %
};

// Prints the percentile distribution in the format of HdrHistogram (.hgrm), which its plotters read.
// Writes at most `size` bytes, the zero byte at the end among them. Returns the length of the whole text;
// `size` or more: it was cut. Cost: O(buckets), about 60 bytes a row and at most 64 * ticks + 2 rows.
WHORL_EXPORT std::size_t print_hgrm(const Histogram& histogram, const HgrmOptions& options,
                                    char* out, std::size_t size) noexcept;

}  // namespace whorl
