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
// goes back. Thread: one at a time.
class FastClock {
  public:
    FastClock() noexcept;

    std::uint64_t now_ns() const noexcept {
#if defined(__x86_64__)
        if (scale_ != 0) return from_ticks(__builtin_ia32_rdtsc());
#endif
        return monotonic_ns();
    }
    // To be called now and then, such as once a turn. Cost: 10 ns; every 10 ms a reading of both.
    void sync() noexcept {
#if defined(__x86_64__)
        if (scale_ != 0 && __builtin_ia32_rdtsc() - base_ticks_ >= sync_ticks_) sync_now();
#endif
    }

    // How stamps come to be, for whoever reads them elsewhere; 0: from CLOCK_MONOTONIC.
    std::uint64_t scale() const noexcept { return scale_; }

    static std::uint64_t monotonic_ns() noexcept;

  private:
    std::uint64_t from_ticks(std::uint64_t ticks) const noexcept {
        __extension__ using Wide = unsigned __int128;
        // Another core's counter may lag by some ticks behind the one that gave the base.
        if (ticks < base_ticks_) return base_ns_;
        return base_ns_ + static_cast<std::uint64_t>(Wide{ticks - base_ticks_} * scale_ >> 32);
    }
    void sync_now() noexcept;

    std::uint64_t base_ticks_ = 0;
    std::uint64_t base_ns_ = 0;
    std::uint64_t scale_ = 0;       // nanoseconds per tick, times 2^32; 0: no counter
    std::uint64_t sync_ticks_ = 0;  // between two readings of both clocks
    std::uint64_t true_ticks_ = 0;  // the last of these
    std::uint64_t true_ns_ = 0;
};

}  // namespace whorl::detail
