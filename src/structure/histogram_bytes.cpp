// SPDX-License-Identifier: MIT
// Floor: 2
//
// The bytes of a histogram: "WHG1", then numbers of seven bits a byte, lowest first: bits, highest, min,
// max, clipped, how many buckets are not empty, and for each of these how many empty ones lie between it
// and the one before, and its count. A number has no more bytes than it needs, so a histogram has one
// encoding, and whatever decodes encodes to the same bytes.
#include <whorl/histogram.hpp>

#include <cstring>

namespace whorl {

namespace {

constexpr char magic[4] = {'W', 'H', 'G', '1'};

// Counts when it has no room.
class Writer {
  public:
    Writer(std::byte* out, std::size_t size) noexcept : out_(out), size_(size) {}
    std::size_t length() const noexcept { return length_; }

    void byte(std::uint64_t value) noexcept {
        if (length_ < size_) out_[length_] = static_cast<std::byte>(value);
        ++length_;
    }
    void number(std::uint64_t value) noexcept {
        for (; value >= 0x80; value >>= 7) byte((value & 0x7f) | 0x80);
        byte(value);
    }

  private:
    std::byte* out_;
    std::size_t size_;
    std::size_t length_ = 0;
};

bool take_number(const std::byte*& at, const std::byte* end, std::uint64_t& value) noexcept {
    value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (at == end) return false;
        const auto part = std::to_integer<std::uint64_t>(*at++);
        if (shift == 63 && part > 1) return false;  // beyond 64 bits
        if (part == 0 && shift != 0) return false;  // a byte more than it needs
        value |= (part & 0x7f) << shift;
        if ((part & 0x80) == 0) return true;
    }
    return false;
}

}  // namespace

std::size_t Histogram::encode(std::byte* out, std::size_t size) const noexcept {
    const auto write = [this](Writer& writer) noexcept {
        for (const char letter : magic) writer.byte(static_cast<unsigned char>(letter));
        std::uint64_t entries = 0;
        for (std::uint32_t bucket = 0; bucket < buckets_; ++bucket) entries += counts_[bucket] != 0;
        for (const std::uint64_t value :
             {std::uint64_t{bits_}, highest_, min(), max_, clipped_, entries}) {
            writer.number(value);
        }
        std::uint32_t next = 0;
        for (std::uint32_t bucket = 0; bucket < buckets_; ++bucket) {
            if (counts_[bucket] == 0) continue;
            writer.number(bucket - next);
            writer.number(counts_[bucket]);
            next = bucket + 1;
        }
    };
    Writer measure(nullptr, 0);
    write(measure);
    if (measure.length() > size) return measure.length();
    Writer writer(out, size);
    write(writer);
    return writer.length();
}

Result<Histogram> Histogram::decode(Bytes bytes, std::uint32_t buckets_max) noexcept {
    if (bytes.size < sizeof magic || std::memcmp(bytes.data, magic, sizeof magic) != 0) {
        return Error::invalid_argument;
    }
    const std::byte* at = bytes.begin() + sizeof magic;
    std::uint64_t bits = 0, highest = 0, min = 0, max = 0, clipped = 0, entries = 0;
    for (std::uint64_t* value : {&bits, &highest, &min, &max, &clipped, &entries}) {
        if (!take_number(at, bytes.end(), *value)) return Error::invalid_argument;
    }
    HistogramOptions options;
    options.highest = highest;
    options.bits = static_cast<std::uint32_t>(bits);
    // Before anything is allocated for it.
    const std::uint32_t buckets = options.bits == bits ? buckets_of(options) : 0;
    if (buckets == 0 || buckets > buckets_max) return Error::invalid_argument;
    Result<Histogram> made = create(options);
    if (!made) return made;
    Histogram& histogram = *made;
    if (!histogram.decode_buckets(at, bytes.end(), entries)) return Error::invalid_argument;
    if (at != bytes.end() || min > max || max > highest) return Error::invalid_argument;
    histogram.max_ = max;
    histogram.clipped_ = clipped;
    if (entries == 0) {
        if (max != 0 || clipped != 0) return Error::invalid_argument;
        return made;
    }
    histogram.min_ = min;
    // The bounds lie in the buckets that are the first and the last.
    const std::uint32_t first = histogram.index_of(min), last = histogram.index_of(max);
    const std::uint64_t below = histogram.count_up_to(min);
    const bool sane = below == histogram.counts_[first] && below != 0 &&
                      histogram.counts_[last] != 0 &&
                      histogram.count_up_to(max) == histogram.count_ &&
                      clipped <= histogram.counts_[last] && (clipped == 0 || max == highest);
    if (!sane) return Error::invalid_argument;
    return made;
}

bool Histogram::decode_buckets(const std::byte*& at, const std::byte* end,
                               std::uint64_t entries) noexcept {
    std::uint64_t next = 0;
    for (; entries != 0; --entries) {
        std::uint64_t gap = 0, times = 0;
        if (!take_number(at, end, gap) || !take_number(at, end, times)) return false;
        if (gap >= buckets_ - next) return false;
        if (times == 0 || times > count_limit - count_) return false;
        record_in(static_cast<std::uint32_t>(next + gap), times);
        next += gap + 1;
    }
    return true;
}

}  // namespace whorl
