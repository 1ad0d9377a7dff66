// SPDX-License-Identifier: MIT
// docs/guide/latency.md: measuring inside a program.
#include "expect.hpp"

#include <whorl/histogram.hpp>
#include <whorl/prometheus.hpp>
#include <whorl/whorl.hpp>

#include <cstdio>
#include <string>

using namespace std::chrono_literals;

namespace {

// [histogram]
// How late a timer's handler runs, counted from the instant it was due.
struct Lateness {
    whorl::Histogram histogram;
    int left = 100;

    void operator()(whorl::Loop& loop, whorl::Expired expired) {
        const auto late = whorl::clock_now() - expired.deadline;  // never negative
        histogram.record(static_cast<std::uint64_t>(late.count()));
        if (--left == 0) loop.cancel(expired.timer);
    }
};
// [end]

}  // namespace

int main() {
    whorl::Result<whorl::Loop> made = whorl::Loop::create();
    if (!made) expect(made.error());
    whorl::Loop& loop = *made;
    whorl::Result<whorl::Histogram> histogram = whorl::Histogram::create();
    if (!histogram) expect(histogram.error());
    Lateness lateness{std::move(*histogram)};
    expect(loop.every(100us, whorl::Missed::burst, &lateness).error());
    expect(loop.run());
    expect(lateness.histogram.count() == 100, "every tick was recorded");

    // [report]
    std::printf("late: p50 %llu ns, p99 %llu ns, max %llu ns\n",
                static_cast<unsigned long long>(lateness.histogram.percentile(50)),
                static_cast<unsigned long long>(lateness.histogram.percentile(99)),
                static_cast<unsigned long long>(lateness.histogram.max()));
    // [end]

    // [statistics]
    const whorl::Statistics& counted = loop.statistics();
    std::printf("%llu turns, %llu calls into the kernel, at most %u operations at once\n",
                static_cast<unsigned long long>(counted.turns),
                static_cast<unsigned long long>(counted.kernel_waits), counted.operations_high);
    char text[16384];
    const std::size_t size =
        whorl::print_prometheus(counted, "loop=\"0\"", text, sizeof text);  // for a scraper
    // [end]
    expect(size != 0 && size < sizeof text, "printed");
}
