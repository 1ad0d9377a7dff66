// SPDX-License-Identifier: MIT
// A histogram of latencies in fixed memory: log-linear, that is every power of two is divided
// into 128 equal buckets, so a value is known to better than 1 % (exactly below 256 ns) whatever
// its size. After Gil Tene's HdrHistogram. Kept apart from the library's own, so that what
// measures is not what is measured.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace bench {

class Histogram {
  public:
    // Cost: O(1), no allocation. Values from 2^40 ns (18 minutes) on count as the largest.
    void add(std::uint64_t ns) {
        ++counts_[index_of(ns)];
        ++count_;
        if (ns > max_) max_ = ns;
    }

    std::uint64_t count() const { return count_; }
    std::uint64_t max() const { return max_; }

    // The smallest bucket border that at least this share of the values lies below, never more
    // than max(). 0 when nothing was added.
    std::uint64_t quantile(double share) const {
        if (count_ == 0) return 0;
        auto rank = static_cast<std::uint64_t>(share * static_cast<double>(count_) + 0.5);
        if (rank == 0) rank = 1;
        std::uint64_t seen = 0;
        for (std::size_t index = 0; index < buckets; ++index) {
            seen += counts_[index];
            if (seen < rank) continue;
            const std::uint64_t border = last_of(index);
            return border < max_ ? border : max_;
        }
        return max_;
    }

    void clear() { *this = Histogram{}; }

  private:
    static constexpr unsigned sub_bits = 7;
    static constexpr unsigned value_bits = 40;
    static constexpr std::uint64_t sub_count = 1u << sub_bits;
    static constexpr std::size_t buckets = (value_bits - sub_bits + 1) * sub_count;

    // Values below 2 * sub_count are their own index; above, the index is the octave and the
    // seven bits after the highest.
    static std::size_t index_of(std::uint64_t value) {
        if (value >> value_bits != 0) return buckets - 1;
        if (value < 2 * sub_count) return static_cast<std::size_t>(value);
        const unsigned shift = 63 - static_cast<unsigned>(__builtin_clzll(value)) - sub_bits;
        return static_cast<std::size_t>(shift * sub_count + (value >> shift));
    }

    static std::uint64_t last_of(std::size_t index) {
        if (index < 2 * sub_count) return index;
        const std::uint64_t shift = index / sub_count - 1;
        const std::uint64_t top = index - shift * sub_count;
        return ((top + 1) << shift) - 1;
    }

    std::uint64_t count_ = 0;
    std::uint64_t max_ = 0;
    std::array<std::uint64_t, buckets> counts_{};
};

}  // namespace bench
