// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

// Where every decision of a simulated world comes from. A decision is a number below a bound, and zero
// is always the kind one: no fault, the first, in full. What was drawn is kept as a tape; a world that
// is given a tape takes its decisions from there, and zero beyond its end. So a failing run is made
// short by cutting its tape and putting zeros in it.

namespace whorl::detail {

class SimChoices {
  public:
    explicit SimChoices(std::uint64_t seed) noexcept : state_(seed) {}

    // Keep what is decided, for a later replay, and how many ways there were. Off by default: a long
    // run draws millions.
    void record(bool on) noexcept { recording_ = on; }
    const std::vector<std::uint32_t>& tape() const noexcept { return tape_; }
    const std::vector<std::uint32_t>& bounds() const noexcept { return bounds_; }
    void replay(std::vector<std::uint32_t> tape) noexcept {
        given_ = std::move(tape);
        replaying_ = true;
    }
    std::uint64_t drawn() const noexcept { return drawn_; }

    // 0 to bound - 1; bound is at least 1.
    std::uint32_t below(std::uint32_t bound) {
        if (bound <= 1) return 0;
        return settle(static_cast<std::uint32_t>((next() >> 32) * bound >> 32), bound);
    }
    // True with this probability.
    bool happens(double chance) {
        if (chance <= 0) return false;
        const double drawn = static_cast<double>(next() >> 11) * 0x1p-53;
        return settle(drawn < chance ? 1 : 0, 2) != 0;
    }

  private:
    // SplitMix64 (Steele, Lea and Flood, 2014).
    std::uint64_t next() noexcept {
        std::uint64_t mixed = (state_ += 0x9E3779B97F4A7C15u);
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
        return mixed ^ (mixed >> 31);
    }
    std::uint32_t settle(std::uint32_t value, std::uint32_t bound) {
        if (replaying_) {
            value = drawn_ < given_.size() ? given_[static_cast<std::size_t>(drawn_)] : 0;
            if (value >= bound) value = bound - 1;
        }
        if (recording_) {
            tape_.push_back(value);
            bounds_.push_back(bound);
        }
        ++drawn_;
        return value;
    }

    std::uint64_t state_;
    std::uint64_t drawn_ = 0;
    std::vector<std::uint32_t> given_;
    std::vector<std::uint32_t> tape_;
    std::vector<std::uint32_t> bounds_;
    bool recording_ = false;
    bool replaying_ = false;
};

}  // namespace whorl::detail
