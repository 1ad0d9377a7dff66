// SPDX-License-Identifier: MIT
// Floor: 4
#include "loop/post_sites.hpp"

#include <whorl/assert.hpp>

namespace whorl::detail {

bool PostSites::grow() noexcept {
    const std::uint64_t capacity = capacity_ == 0 ? 64 : capacity_ * 2;
    auto* entries = make_array<Entry>(capacity);
    if (entries == nullptr) return false;
    for (std::uint64_t number = first_; capacity_ != 0 && number != next_; ++number) {
        const Entry& known = entries_[number & (capacity_ - 1)];  // or another's: no memory for it
        if (known.number == number) entries[number & (capacity - 1)] = known;
    }
    drop_array(entries_);
    entries_ = entries;
    capacity_ = capacity;
    return true;
}

std::uint64_t PostSites::push(Site site, std::uint64_t posted_ns) noexcept {
    const std::uint64_t number = next_;
    const bool room = next_ - first_ < capacity_ || grow();
    ++next_;
    if (room) entries_[number & (capacity_ - 1)] = {site, posted_ns, number};
    return number;
}

PostSites::Entry PostSites::pop() noexcept {
    WHORL_ASSERT(first_ != next_);
    const std::uint64_t number = first_++;
    if (capacity_ == 0) return {};
    const Entry& entry = entries_[number & (capacity_ - 1)];
    return entry.number == number ? entry : Entry{};
}

}  // namespace whorl::detail
