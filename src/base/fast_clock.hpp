// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <cstdint>

namespace whorl::detail {

// CLOCK_MONOTONIC as near as the processor's time stamp counter gives it, for stamps that are taken
// several times for each operation: 8 ns instead of 25. Where the kernel does not trust the counter
// (/sys/…/current_clocksource is not tsc), it is CLOCK_MONOTONIC itself.
//
//   ns = base_ns + (ticks - base_ticks) * scale / 2^32
//
// sync() sets the base and the scale anew, so that the two clocks stay within a microsecond. It never
// goes back: where it had run ahead, it stands still until CLOCK_MONOTONIC has caught up. Thread: one
// at a time.
class FastClock {
  public:
    // Both clocks at nearly one instant: within this many ticks.
    struct Reading {
        std::uint64_t ticks = 0;
        std::uint64_t ns = 0;
        std::uint64_t width = 0;
    };

    FastClock() noexcept;
    // For tests, which give the readings: a counter of this scale, both clocks as in `first`.
    FastClock(std::uint64_t scale, const Reading& first) noexcept { begin(scale, first); }

    std::uint64_t now_ns() const noexcept { return counts() ? counted_ns() : monotonic_ns(); }
    // The two of which that is made, for who has another clock instead. Whether there is a counter:
    bool counts() const noexcept { return scale_ != 0; }
    // By it. Limits: counts().
    std::uint64_t counted_ns() const noexcept {
#if defined(__x86_64__)
        return from_ticks(__builtin_ia32_rdtsc());
#else
        return monotonic_ns();
#endif
    }
    // From now on as if there were none: for who has another clock.
    void ignore_counter() noexcept { scale_ = 0; }
    // To be called now and then, such as once a turn. Cost: 10 ns; every 10 ms a reading of both.
    void sync() noexcept {
#if defined(__x86_64__)
        if (scale_ != 0 && __builtin_ia32_rdtsc() - true_.ticks >= sync_ticks_) sync_now();
#endif
    }

    // How stamps come to be, for whoever reads them elsewhere; 0: from CLOCK_MONOTONIC.
    std::uint64_t scale() const noexcept { return scale_; }

    static std::uint64_t monotonic_ns() noexcept;

    // What sync() does with a reading, and what now_ns() makes of a count: for tests.
    void adopt(const Reading& reading) noexcept;
    std::uint64_t from_ticks(std::uint64_t ticks) const noexcept {
        __extension__ using Wide = unsigned __int128;
        // It stands still; or another core's counter lags by some ticks behind the one that gave the base.
        if (ticks < base_ticks_) return base_ns_;
        return base_ns_ + static_cast<std::uint64_t>(Wide{ticks - base_ticks_} * scale_ >> 32);
    }

  private:
    void begin(std::uint64_t scale, const Reading& first) noexcept;
    void sync_now() noexcept;

    std::uint64_t base_ticks_ = 0;
    std::uint64_t base_ns_ = 0;
    std::uint64_t scale_ = 0;       // nanoseconds per tick, times 2^32; 0: no counter
    std::uint64_t sync_ticks_ = 0;  // between two readings of both clocks
    Reading true_;                  // the last of these
    std::uint32_t disturbed_ = 0;   // readings in a row that were not believed
};

}  // namespace whorl::detail
