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
constexpr std::uint64_t width_max_ns = 1000;  // of a reading that nothing disturbed
constexpr std::uint32_t disturbed_max = 10;   // where all are wide, a wide one is better than none

__extension__ using Wide = unsigned __int128;

std::uint64_t to_ns(std::uint64_t ticks, std::uint64_t scale) noexcept {
    return static_cast<std::uint64_t>(Wide{ticks} * scale >> 32);
}

std::uint64_t scale_between(const FastClock::Reading& a, const FastClock::Reading& b) noexcept {
    if (b.ticks <= a.ticks || b.ns <= a.ns) return 0;
    return static_cast<std::uint64_t>((Wide{b.ns - a.ns} << 32) / (b.ticks - a.ticks));
}

#if defined(__x86_64__)

// Of three tries the one that took the shortest time.
FastClock::Reading read_both() noexcept {
    FastClock::Reading best;
    best.width = UINT64_MAX;
    for (int tries = 0; tries < 3; ++tries) {
        const std::uint64_t before = __builtin_ia32_rdtsc();
        const std::uint64_t ns = FastClock::monotonic_ns();
        const std::uint64_t width = __builtin_ia32_rdtsc() - before;
        if (width < best.width) best = {before + width / 2, ns, width};
    }
    return best;
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
    const FastClock::Reading begin = read_both();
    FastClock::Reading end = begin;
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
    if (scale != 0) begin(scale, read_both());
#endif
}

void FastClock::begin(std::uint64_t scale, const Reading& first) noexcept {
    scale_ = scale;
    true_ = first;
    base_ticks_ = first.ticks;
    base_ns_ = first.ns;
    sync_ticks_ = static_cast<std::uint64_t>((Wide{sync_ns} << 32) / scale);
}

void FastClock::sync_now() noexcept {
#if defined(__x86_64__)
    adopt(read_both());
#endif
}

// A thread that was preempted between the two clocks has read nothing: the next turn tries again. The
// scale is what the counter did since the last time.
void FastClock::adopt(const Reading& reading) noexcept {
    const bool wide = to_ns(reading.width, scale_) > width_max_ns;
    if (wide && ++disturbed_ < disturbed_max) return;
    disturbed_ = 0;
    const std::uint64_t estimate = from_ticks(reading.ticks);
    const std::uint64_t scale = scale_between(true_, reading);
    if (scale != 0) scale_ = scale;
    true_ = reading;
    base_ticks_ = reading.ticks;
    base_ns_ = reading.ns;
    if (estimate <= reading.ns) return;
    base_ns_ = estimate;
    base_ticks_ += static_cast<std::uint64_t>((Wide{estimate - reading.ns} << 32) / scale_);
}

}  // namespace whorl::detail
