// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/export.hpp>
#include <whorl/time.hpp>

#include <cstdint>
#include <utility>

namespace whorl {

// So many bytes a second on average, and at most `burst` at once after a rest.
struct Rate {
    std::uint64_t bytes_per_second = 0;  // 0: no limit; at most 1 TB/s
    std::uint64_t burst = 0;             // 0: what passes in 100 ms

    // Whether there is a limit.
    explicit operator bool() const noexcept { return bytes_per_second != 0; }
};

// A token bucket that is paid from afterwards: who has moved bytes is told when it may go on. Payments
// add up, so those who share it wait in the order in which they paid, and none starves.
// Lifetime: a value. Thread: one at a time. Source: GCRA, ITU-T I.371.
class TokenBucket {
  public:
    TokenBucket() noexcept = default;
    // Full at the beginning. Limits: at most 1 TB/s (asserted).
    WHORL_EXPORT explicit TokenBucket(const Rate& rate) noexcept;

    // Pays for `bytes` that were moved at `now`. Returns when the next may be: `now`, or later.
    // Cost: a division.
    WHORL_EXPORT Instant pay(std::uint64_t bytes, Instant now) noexcept;
    // Whether there is a limit; without one pay() answers `now`.
    explicit operator bool() const noexcept { return static_cast<bool>(rate_); }
    // Bytes, with the default filled in; 0 without a limit.
    std::uint64_t burst() const noexcept { return rate_.burst; }

  private:
    Rate rate_;
    std::int64_t burst_ns_ = 0;
    std::int64_t paid_until_ = INT64_MIN;  // up to when the average has been used up
    std::uint64_t fraction_ = 0;           // of a nanosecond, in 1/bytes_per_second
};

// A bucket that several streams share. Copies are the same bucket, which lives as long as one of them.
// Thread: that of the streams' loop.
class WHORL_EXPORT RateGroup {
  public:
    RateGroup() noexcept = default;  // no limit
    // Errors: no limit, false in a condition, when memory is exhausted.
    explicit RateGroup(const Rate& rate) noexcept;
    RateGroup(const RateGroup& other) noexcept;
    RateGroup& operator=(const RateGroup& other) noexcept;
    ~RateGroup();

    // Whether there is a group, and so a limit.
    explicit operator bool() const noexcept { return shared_ != nullptr; }
    // The bucket that is shared; null without a limit. Lifetime: that of the group.
    TokenBucket* bucket() const noexcept { return shared_ != nullptr ? &shared_->bucket : nullptr; }

  private:
    struct Shared : detail::Allocated<Shared> {
        TokenBucket bucket;
        std::uint32_t references = 1;
    };
    Shared* shared_ = nullptr;
};

}  // namespace whorl
