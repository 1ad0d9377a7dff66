// SPDX-License-Identifier: MIT
// Floor: 2
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/assert.hpp>
#include <whorl/atomic.hpp>
#include <whorl/error.hpp>

#include <cerrno>
#include <cstdint>
#include <new>

namespace whorl::detail {

// The numbers from 0 on, each of which one holder has at a time: a stack of those that nobody has. Any thread
// takes and gives back, without a lock.
//
// Its head carries a count of takes beside the number. Without it a take could be delayed between reading the
// head and the number below, while others take both and give the first back: its compare-and-swap would then
// succeed with a number that somebody has. The count must not come round to the same value within one such
// delay: 2^32 takes.
//
// What a holder did before it gave a number back is visible to whoever takes it (release, acquire; the
// compare-and-swaps in between continue the release). test/interleave runs it in every order of its steps.
class FreeSlots {
  public:
    static constexpr std::uint32_t none = UINT32_MAX;

    FreeSlots() noexcept = default;
    FreeSlots(const FreeSlots&) = delete;
    FreeSlots& operator=(const FreeSlots&) = delete;
    ~FreeSlots() { drop_array(below_); }

    // Once, before any other call. Errors: ENOMEM. Limits: a count of 1 to 2^30 (asserted).
    Error reserve(std::uint32_t count) noexcept {
        WHORL_ASSERT(below_ == nullptr);
        WHORL_ASSERT(count > 0 && count <= 1u << 30);
        below_ = make_array<Atomic<std::uint32_t>>(count);
        if (below_ == nullptr) return Error::from_errno(ENOMEM);
        // Position 0 says that there is none, so that number 0 is position 1.
        for (std::uint32_t number = 0; number < count; ++number) {
            below_[number].store(number + 1 == count ? 0 : number + 2, std::memory_order_relaxed);
        }
        head_.store(1, std::memory_order_relaxed);
        return {};
    }
    // none: others have them all.
    std::uint32_t take() noexcept {
        std::uint64_t head = head_.load(std::memory_order_acquire);
        for (;;) {
            const auto position = static_cast<std::uint32_t>(head);
            if (position == 0) return none;
            const std::uint32_t below = below_[position - 1].load(std::memory_order_relaxed);
            const std::uint64_t taken = ((head >> 32) + 1) << 32 | below;
            if (head_.compare_exchange_weak(head, taken, std::memory_order_acquire,
                                            std::memory_order_acquire)) {
                return position - 1;
            }
        }
    }
    // Limits: a number that take() answered, given back once.
    void give(std::uint32_t number) noexcept {
        std::uint64_t head = head_.load(std::memory_order_relaxed);
        std::uint64_t given = 0;
        do {
            below_[number].store(static_cast<std::uint32_t>(head), std::memory_order_relaxed);
            given = head >> 32 << 32 | (number + 1);
        } while (!head_.compare_exchange_weak(head, given, std::memory_order_release,
                                              std::memory_order_relaxed));
    }

  private:
    Atomic<std::uint32_t>* below_ = nullptr;  // the position below each, while nobody has it
    Atomic<std::uint64_t> head_{0};
};

}  // namespace whorl::detail
