// SPDX-License-Identifier: MIT
// Floor: 2
#include <whorl/histogram.hpp>

#include <whorl/allocated.hpp>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <new>

namespace whorl {

namespace {

constexpr std::uint32_t bits_limit = 14;
constexpr std::uint64_t highest_limit = std::uint64_t{1} << 63;

// Of the values first, first + interval, ... (there are `count`), those that are not above `bound`.
std::uint64_t count_within(std::uint64_t first, std::uint64_t interval, std::uint64_t count,
                           std::uint64_t bound) noexcept {
    if (bound < first) return 0;
    return std::min(count, (bound - first) / interval + 1);
}

}  // namespace

Histogram::Histogram(std::uint64_t* counts, const HistogramOptions& options,
                     std::uint32_t buckets) noexcept
    : counts_(counts), highest_(options.highest), bits_(options.bits), buckets_(buckets) {}

std::uint32_t Histogram::buckets_of(const HistogramOptions& options) noexcept {
    if (options.bits < 1 || options.bits > bits_limit) return 0;
    if (options.highest < 2 || options.highest > highest_limit) return 0;
    return Histogram(nullptr, options, 0).index_of(options.highest) + 1;
}

Result<Histogram> Histogram::create(const HistogramOptions& options) noexcept {
    const std::uint32_t buckets = buckets_of(options);
    if (buckets == 0) return Error::invalid_argument;
    auto* counts = detail::make_zeros<std::uint64_t>(buckets);
    if (counts == nullptr) return Error::from_errno(ENOMEM);
    return Histogram(counts, options, buckets);
}

Histogram::Histogram(Histogram&& other) noexcept
    : counts_(std::exchange(other.counts_, nullptr)), highest_(other.highest_),
      count_(other.count_), clipped_(other.clipped_), min_(other.min_), max_(other.max_),
      bits_(other.bits_), buckets_(other.buckets_) {}

Histogram& Histogram::operator=(Histogram&& other) noexcept {
    if (this == &other) return *this;
    detail::drop_array(counts_);
    counts_ = std::exchange(other.counts_, nullptr);
    highest_ = other.highest_;
    count_ = other.count_;
    clipped_ = other.clipped_;
    min_ = other.min_;
    max_ = other.max_;
    bits_ = other.bits_;
    buckets_ = other.buckets_;
    return *this;
}

Histogram::~Histogram() { detail::drop_array(counts_); }

void Histogram::record_in(std::uint32_t bucket, std::uint64_t times) noexcept {
    WHORL_ASSERT(bucket < buckets_);
    WHORL_ASSERT(times <= count_limit - count_);
    counts_[bucket] += times;
    count_ += times;
}

void Histogram::record(std::uint64_t value, std::uint64_t times) noexcept {
    if (times == 0) return;
    const std::uint64_t kept = std::min(value, highest_);
    record_in(index_of(kept), times);
    if (value > highest_) clipped_ += times;
    min_ = std::min(min_, kept);
    max_ = std::max(max_, kept);
}

// The values that are added are an arithmetic series, and all of them that fall into one bucket are counted
// at once: a stall of an hour at a nanosecond's interval is no more work than the buckets are many.
void Histogram::record_corrected(std::uint64_t value, std::uint64_t interval) noexcept {
    record(value);
    if (interval == 0 || value / interval < 2) return;
    const std::uint64_t first = value % interval + interval;
    const std::uint64_t count = value / interval - 1;
    std::uint64_t done = 0;
    while (done < count) {
        const std::uint64_t next = first + done * interval;
        if (next > highest_) return record(next, count - done);  // so are all after it
        const std::uint64_t bound = std::min(last_of(index_of(next)), highest_);
        const std::uint64_t within = count_within(first, interval, count, bound);
        WHORL_ASSERT(within > done);
        record(next, within - done);
        done = within;
    }
}

Error Histogram::merge(const Histogram& other) noexcept {
    if (other.bits_ != bits_ || other.highest_ != highest_) return Error::invalid_argument;
    if (other.count_ > count_limit - count_) return Error::invalid_argument;
    for (std::uint32_t bucket = 0; bucket < buckets_; ++bucket) {
        counts_[bucket] += other.counts_[bucket];
    }
    count_ += other.count_;
    clipped_ += other.clipped_;
    min_ = std::min(min_, other.min_);
    max_ = std::max(max_, other.max_);
    return {};
}

void Histogram::reset() noexcept {
    std::fill_n(counts_, buckets_, 0);
    count_ = 0;
    clipped_ = 0;
    min_ = UINT64_MAX;
    max_ = 0;
}

double Histogram::mean() const noexcept {
    if (count_ == 0) return 0;
    double sum = 0;
    for (std::uint32_t bucket = 0; bucket < buckets_; ++bucket) {
        if (counts_[bucket] == 0) continue;
        const double middle =
            static_cast<double>(first_of(bucket)) / 2 + static_cast<double>(last_of(bucket)) / 2;
        sum += middle * static_cast<double>(counts_[bucket]);
    }
    return sum / static_cast<double>(count_);
}

double Histogram::deviation() const noexcept {
    if (count_ == 0) return 0;
    const double centre = mean();
    double sum = 0;
    for (std::uint32_t bucket = 0; bucket < buckets_; ++bucket) {
        if (counts_[bucket] == 0) continue;
        const double off = static_cast<double>(first_of(bucket)) / 2 +
                           static_cast<double>(last_of(bucket)) / 2 - centre;
        sum += off * off * static_cast<double>(counts_[bucket]);
    }
    return std::sqrt(sum / static_cast<double>(count_));
}

std::uint64_t Histogram::percentile(double percent) const noexcept {
    if (count_ == 0) return 0;
    if (percent >= 100)
        return max_;  // a double may not tell the last of very many from those before it
    // The next smaller number: 99.9 % of 1000 values are 999 of them, not 999.0000000001.
    const double cut = std::clamp(std::nextafter(percent, -1.0), 0.0, 100.0);
    const double exact = std::ceil(cut * static_cast<double>(count_) / 100);
    const std::uint64_t rank = std::clamp<std::uint64_t>(
        exact >= static_cast<double>(count_) ? count_ : static_cast<std::uint64_t>(exact), 1,
        count_);
    std::uint64_t seen = 0;
    for (std::uint32_t bucket = 0; bucket < buckets_; ++bucket) {
        seen += counts_[bucket];
        if (seen >= rank) return std::min(last_of(bucket), max_);
    }
    return max_;
}

std::uint64_t Histogram::count_up_to(std::uint64_t value) const noexcept {
    const std::uint32_t last = index_of(std::min(value, highest_));
    std::uint64_t seen = 0;
    for (std::uint32_t bucket = 0; bucket <= last; ++bucket) seen += counts_[bucket];
    return seen;
}

}  // namespace whorl
