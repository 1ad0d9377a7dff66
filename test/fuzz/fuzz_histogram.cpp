// SPDX-License-Identifier: MIT
// Goal: whatever bytes are read as a histogram, it is refused or sound: it writes the same bytes again, and
// what it says about its values agrees with its buckets.
#include "fuzz/fuzz.hpp"

#include <whorl/histogram.hpp>

#include <cstring>
#include <vector>

namespace fuzz {

using whorl::Histogram;

const char* const target_name = "fuzz_histogram";

std::size_t draw(model::Random& random, std::uint8_t* data, std::size_t size_max) {
    if (random.one_in(16)) return draw_any(random, data, size_max);
    whorl::HistogramOptions options;
    options.bits = 1 + static_cast<std::uint32_t>(random.below(7));
    options.highest = 2 + (random.next() >> (1 + random.below(60)));
    whorl::Result<Histogram> made = Histogram::create(options);
    if (!made) return draw_any(random, data, size_max);
    for (std::uint64_t left = random.below(30); left > 0; --left) {
        made->record(random.next() >> random.below(64), random.next() >> (10 + random.below(54)));
    }
    auto* out = reinterpret_cast<std::byte*>(data);
    const std::size_t size = made->encode(out, size_max);
    if (size > size_max) return draw_any(random, data, size_max);
    for (std::uint64_t left = random.below(4); left > 0; --left) {
        const std::size_t at = random.below(size);
        if (random.one_in(2)) data[at] = static_cast<std::uint8_t>(random.next());
        else data[at] = static_cast<std::uint8_t>(data[at] ^ (1u << random.below(8)));
    }
    return random.one_in(8) ? 1 + random.below(size) : size;
}

int target(const std::uint8_t* data, std::size_t size) {
    const model::Run run(target_name);
    whorl::Result<Histogram> read = Histogram::decode(whorl::Bytes(data, size), 1u << 13);
    if (!read) return 0;
    const Histogram& histogram = *read;
    std::vector<std::byte> again(size + 1);
    run.expect(histogram.encode(again.data(), again.size()) == size &&
                   std::memcmp(again.data(), data, size) == 0,
               "it writes other bytes");
    std::uint64_t sum = 0;
    for (std::uint32_t bucket = 0; bucket < histogram.buckets(); ++bucket) {
        sum += histogram.count_in(bucket);
    }
    run.expect(sum == histogram.count(), "its count is not the sum of its buckets");
    run.expect(histogram.clipped() <= sum, "more are clipped than there are");
    if (sum == 0) return 0;
    run.expect(histogram.min() <= histogram.max() && histogram.max() <= histogram.highest(),
               "its bounds");
    run.expect(histogram.percentile(100) == histogram.max(), "its largest value");
    run.expect(histogram.percentile(0) >= histogram.min(), "its smallest value");
    run.expect(histogram.count_up_to(histogram.max()) == sum, "values above its largest");
    run.expect(histogram.percentile(50) <= histogram.percentile(99), "its percentiles descend");
    return 0;
}

}  // namespace fuzz
