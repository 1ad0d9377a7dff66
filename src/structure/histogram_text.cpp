// SPDX-License-Identifier: MIT
// Floor: 2
#include <whorl/histogram.hpp>

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>

namespace whorl {

namespace {

// Appends to a text that may be longer than the room for it.
class Printer {
  public:
    Printer(char* out, std::size_t size) noexcept : out_(out), size_(size) {
        if (size_ != 0) *out_ = 0;
    }
    std::size_t length() const noexcept { return length_; }

    __attribute__((format(printf, 2, 3))) void add(const char* format, ...) noexcept {
        char line[256];
        va_list arguments;
        va_start(arguments, format);
        // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it has just been started.
        const int written = std::vsnprintf(line, sizeof line, format, arguments);
        va_end(arguments);
        WHORL_ASSERT(written >= 0);
        const std::size_t count = std::min(static_cast<std::size_t>(written), sizeof line - 1);
        if (length_ + 1 < size_) {
            const std::size_t room = std::min(count, size_ - length_ - 1);
            std::copy_n(line, room, out_ + length_);
            out_[length_ + room] = 0;
        }
        length_ += count;
    }

  private:
    char* out_;
    std::size_t size_;
    std::size_t length_ = 0;
};

}  // namespace

// The steps of HdrHistogram's PercentileIterator, so that its plots have their points where they are used
// to be.
bool PercentileRows::next(PercentileRow& row) noexcept {
    const std::uint64_t total = histogram_->count();
    if (ended_ || total == 0) return false;
    if (complete_) {
        ended_ = true;
        row = {histogram_->max(), 1, total};
        return true;
    }
    while (bucket_ < histogram_->buckets()) {
        const std::uint64_t seen = seen_ + histogram_->count_in(bucket_);
        const double reached = 100 * static_cast<double>(seen) / static_cast<double>(total);
        if (seen == seen_ || reached < level_) {
            seen_ = seen;
            ++bucket_;
            continue;
        }
        row = {std::min(histogram_->last_of(bucket_), histogram_->max()), level_ / 100, seen};
        complete_ = seen == total;
        const double halvings = std::floor(std::log2(100 / (100 - level_))) + 1;
        level_ += 100 / (static_cast<double>(ticks_) * std::exp2(halvings));
        return true;
    }
    return false;
}

std::size_t print_hgrm(const Histogram& histogram, const HgrmOptions& options, char* out,
                       std::size_t size) noexcept {
    Printer printer(out, size);
    printer.add("%12s %14s %10s %14s\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    PercentileRows rows(histogram, options.ticks);
    PercentileRow row{};
    while (rows.next(row)) {
        const double value = static_cast<double>(row.value) / options.unit;
        const auto count = static_cast<unsigned long long>(row.count);
        if (row.share < 1) {
            printer.add("%12.3f %14.12f %10llu %14.2f\n", value, row.share, count,
                        1 / (1 - row.share));
        } else {
            printer.add("%12.3f %14.12f %10llu %14s\n", value, 1.0, count, "inf");
        }
    }
    // Its buckets are our octaves.
    printer.add("#[Mean    = %12.3f, StdDeviation   = %12.3f]\n", histogram.mean() / options.unit,
                histogram.deviation() / options.unit);
    printer.add("#[Max     = %12.3f, Total count    = %12llu]\n",
                static_cast<double>(histogram.max()) / options.unit,
                static_cast<unsigned long long>(histogram.count()));
    printer.add("#[Buckets = %12u, SubBuckets     = %12u]\n",
                histogram.buckets() >> histogram.bits(), 2u << histogram.bits());
    return printer.length();
}

}  // namespace whorl
