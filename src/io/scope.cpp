// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/scope.hpp>

#include <whorl/allocated.hpp>

#include <algorithm>

namespace whorl {

Scope::~Scope() {
    WHORL_ASSERT(size_ == 0);
    detail::drop_array(entries_);
}

Result<std::uint32_t> Scope::enter() noexcept {
    if (closing_) return Error::loop_closed;
    if (free_ == 0 && used_ == capacity_) {
        const std::uint32_t more = capacity_ == 0 ? 8 : 2 * capacity_;
        auto* entries = detail::make_array<Entry>(more);
        if (entries == nullptr) return Error::from_errno(ENOMEM);
        std::copy(entries_, entries_ + used_, entries);
        detail::drop_array(entries_);
        entries_ = entries;
        capacity_ = more;
    }
    ++size_;
    if (free_ == 0) return used_++;
    const std::uint32_t entry = free_ - 1;
    free_ = entries_[entry].next_free;
    return entry;
}

// From the end of a handler: others are told in the next dispatch.
void Scope::leave(std::uint32_t entry) noexcept {
    WHORL_ASSERT(size_ > 0);
    entries_[entry] = {Operation(), free_};
    free_ = entry + 1;
    if (--size_ == 0 && closing_) closers_.end_all(Error());
}

void Scope::cancel() noexcept {
    // Nothing ends inside cancel(), so the entries stay as they are. One that has ended is not found.
    for (std::uint32_t entry = 0; entry < used_; ++entry) {
        static_cast<void>(loop_->cancel(entries_[entry].operation));
    }
}

}  // namespace whorl
