// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include <whorl/slab.hpp>

#include <cstddef>
#include <cstdint>

namespace whorl::detail {

// What is known of the slots of a slab besides themselves, by their index. Memory is committed as indices
// grow, and zero: T has to say which life of the slot it is about. Lifetime: the owner's. Thread: one at a time.
template <class T>
class SideTable {
    static_assert(std::is_trivial_v<T>, "zeroed memory is one");

  public:
    SideTable() noexcept = default;
    SideTable(const SideTable&) = delete;
    SideTable& operator=(const SideTable&) = delete;
    ~SideTable() {
        if (entries_ != nullptr) address_release(entries_, reserved_bytes_);
    }

    // Errors: ENOMEM when the address space is refused.
    Error reserve(std::uint32_t slots_max) noexcept {
        const std::size_t bytes = (std::size_t{slots_max} + 1) * sizeof(T);
        reserved_bytes_ = (bytes + commit_bytes - 1) / commit_bytes * commit_bytes;
        entries_ = static_cast<T*>(address_reserve(reserved_bytes_));
        return entries_ == nullptr ? Error::from_errno(ENOMEM) : Error();
    }
    // The entry of a slot; null when there is no memory for it.
    T* claim(std::uint32_t index) noexcept {
        if (!has(index) && !grow(index)) return nullptr;
        return entries_ + index;
    }
    // Whether claim() has had memory for it, or for one behind it.
    bool has(std::uint32_t index) const noexcept { return index < slots_; }
    // Limits: has().
    T& at(std::uint32_t index) const noexcept { return entries_[index]; }

  private:
    static constexpr std::size_t commit_bytes = std::size_t{64} * 1024;

    bool grow(std::uint32_t index) noexcept {
        while (!has(index)) {
            auto* start = reinterpret_cast<std::byte*>(entries_) + committed_bytes_;
            if (!address_commit(start, commit_bytes)) return false;
            committed_bytes_ += commit_bytes;
            slots_ = static_cast<std::uint32_t>(committed_bytes_ / sizeof(T));
        }
        return true;
    }

    T* entries_ = nullptr;
    std::uint32_t slots_ = 0;  // whose memory is committed
    std::size_t reserved_bytes_ = 0;
    std::size_t committed_bytes_ = 0;
};

}  // namespace whorl::detail
