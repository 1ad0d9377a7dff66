// SPDX-License-Identifier: MIT
// Floor: 6
#include <whorl/rate_limit.hpp>

#include <whorl/assert.hpp>

#include <algorithm>
#include <new>

namespace whorl {

namespace {
constexpr std::uint64_t second_ns = 1'000'000'000;
constexpr std::uint64_t rate_max = 1'000'000'000'000;
// Paid for in one step, so that the product with a second's nanoseconds has room.
constexpr std::uint64_t step_max = std::uint64_t{1} << 32;
}  // namespace

TokenBucket::TokenBucket(const Rate& rate) noexcept : rate_(rate) {
    WHORL_ASSERT(rate.bytes_per_second <= rate_max);
    if (!rate_) return;
    if (rate_.burst == 0) rate_.burst = rate_.bytes_per_second / 10;
    rate_.burst = std::clamp<std::uint64_t>(rate_.burst, 1, step_max);
    burst_ns_ = static_cast<std::int64_t>(rate_.burst * second_ns / rate_.bytes_per_second);
}

Instant TokenBucket::pay(std::uint64_t bytes, Instant now) noexcept {
    if (!rate_) return now;
    const std::int64_t now_ns = now.time_since_epoch().count();
    // A rest saves up no more than a burst.
    if (paid_until_ < now_ns - burst_ns_) {
        paid_until_ = now_ns - burst_ns_;
        fraction_ = 0;
    }
    while (bytes != 0) {
        const std::uint64_t step = std::min(bytes, step_max);
        const std::uint64_t total = step * second_ns + fraction_;
        paid_until_ += static_cast<std::int64_t>(total / rate_.bytes_per_second);
        fraction_ = total % rate_.bytes_per_second;
        bytes -= step;
    }
    return std::max(now, Instant(Nanoseconds(paid_until_)));
}

RateGroup::RateGroup(const Rate& rate) noexcept {
    if (!rate) return;
    shared_ = new (std::nothrow) Shared;
    if (shared_ != nullptr) shared_->bucket = TokenBucket(rate);
}

RateGroup::RateGroup(const RateGroup& other) noexcept : shared_(other.shared_) {
    if (shared_ != nullptr) ++shared_->references;
}

RateGroup& RateGroup::operator=(const RateGroup& other) noexcept {
    RateGroup copy(other);
    std::swap(shared_, copy.shared_);
    return *this;
}

RateGroup::~RateGroup() {
    if (shared_ != nullptr && --shared_->references == 0) delete shared_;
}

}  // namespace whorl
