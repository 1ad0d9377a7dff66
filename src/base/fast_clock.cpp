// SPDX-License-Identifier: MIT
// Floor: 1
#include "base/fast_clock.hpp"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <cstring>

namespace whorl::detail {

namespace {

constexpr std::uint64_t first_look_ns = 100'000;
constexpr std::uint64_t sync_ns = 10'000'000;

#if defined(__x86_64__)

// Both clocks at one instant: of three tries the one that took the shortest time.
struct Reading {
    std::uint64_t ticks = 0;
    std::uint64_t ns = 0;
};

Reading read_both() noexcept {
    Reading best;
    std::uint64_t best_width = UINT64_MAX;
    for (int tries = 0; tries < 3; ++tries) {
        const std::uint64_t before = __builtin_ia32_rdtsc();
        const std::uint64_t ns = FastClock::monotonic_ns();
        const std::uint64_t width = __builtin_ia32_rdtsc() - before;
        if (width >= best_width) continue;
        best_width = width;
        best = {before + width / 2, ns};
    }
    return best;
}

std::uint64_t scale_between(const Reading& a, const Reading& b) noexcept {
    __extension__ using Wide = unsigned __int128;
    if (b.ticks <= a.ticks || b.ns <= a.ns) return 0;
    return static_cast<std::uint64_t>((Wide{b.ns - a.ns} << 32) / (b.ticks - a.ticks));
}

bool counter_trusted() noexcept {
    char name[8] = {};
    const int fd = ::open("/sys/devices/system/clocksource/clocksource0/current_clocksource",
                          O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    const ssize_t size = ::read(fd, name, sizeof name - 1);
    ::close(fd);
    return size >= 4 && std::memcmp(name, "tsc\n", 4) == 0;
}

// The first estimate, once for the process: good to one part in a thousand.
std::uint64_t first_scale() noexcept {
    if (!counter_trusted()) return 0;
    const Reading begin = read_both();
    Reading end = begin;
    while (end.ns - begin.ns < first_look_ns) end = read_both();
    return scale_between(begin, end);
}

#endif

}  // namespace

std::uint64_t FastClock::monotonic_ns() noexcept {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(time.tv_nsec);
}

FastClock::FastClock() noexcept {
#if defined(__x86_64__)
    static const std::uint64_t scale = first_scale();
    scale_ = scale;
    if (scale_ == 0) return;
    const Reading reading = read_both();
    base_ticks_ = true_ticks_ = reading.ticks;
    base_ns_ = true_ns_ = reading.ns;
    __extension__ using Wide = unsigned __int128;
    sync_ticks_ = static_cast<std::uint64_t>((Wide{sync_ns} << 32) / scale_);
#endif
}

// The scale is what the counter did since the last time. When the estimate had run ahead, the clock
// goes on from there: at most some hundred nanoseconds for each 10 ms.
void FastClock::sync_now() noexcept {
#if defined(__x86_64__)
    const Reading reading = read_both();
    const std::uint64_t estimate = from_ticks(reading.ticks);
    const std::uint64_t scale = scale_between({true_ticks_, true_ns_}, reading);
    if (scale != 0) scale_ = scale;
    true_ticks_ = base_ticks_ = reading.ticks;
    true_ns_ = reading.ns;
    base_ns_ = reading.ns > estimate ? reading.ns : estimate;
#endif
}

}  // namespace whorl::detail
