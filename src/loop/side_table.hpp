// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include <whorl/slab.hpp>

#include <cstddef>
#include <cstdint>

namespace whorl::detail {

// What is known of the slots of a slab besides themselves, by their index. T has `generation`; memory
// is committed as indices grow, and zero. Lifetime: the owner's. Thread: one at a time.
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
        const std::size_t end = (std::size_t{index} + 1) * sizeof(T);
        while (end > committed_bytes_) {
            auto* start = reinterpret_cast<std::byte*>(entries_) + committed_bytes_;
            if (!address_commit(start, commit_bytes)) return nullptr;
            committed_bytes_ += commit_bytes;
        }
        return entries_ + index;
    }
    // Null: nothing is known of the slot in this life.
    T* find(std::uint32_t index, std::uint32_t generation) const noexcept {
        if ((std::size_t{index} + 1) * sizeof(T) > committed_bytes_) return nullptr;
        T* entry = entries_ + index;
        return entry->generation == generation ? entry : nullptr;
    }

  private:
    static constexpr std::size_t commit_bytes = std::size_t{64} * 1024;

    T* entries_ = nullptr;
    std::size_t reserved_bytes_ = 0;
    std::size_t committed_bytes_ = 0;
};

}  // namespace whorl::detail
