// SPDX-License-Identifier: MIT
// Floor: 2
#pragma once

#include <whorl/assert.hpp>
#include <whorl/error.hpp>
#include <whorl/export.hpp>

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

// A slab of slots that never move, named by index and generation.
//
// One address range is reserved for the largest size and committed as it grows, so that a slot's
// address is base + index * size: no table in between, no reallocation, no copy. Free slots are a
// last-in-first-out list, because the slot used last is still in the cache.
//
// Invariants:
//   1. A slot's generation is odd while it is live and even while it is free; claim and release each
//      add one. So "alive" and "the one I mean" are a single compare.
//   2. A slot whose generation would wrap is retired: it is never handed out again. A stale handle can
//      therefore never name a later object. The price is one slot in 2^31 uses of it.
//   3. Index 0 is never handed out: a null handle names nothing.
//   4. live + free + retired = slots ever used.

namespace whorl {

namespace detail {
// Reserves `bytes` of address space without memory behind it; null when refused.
WHORL_EXPORT void* address_reserve(std::size_t bytes) noexcept;
// Puts zeroed memory behind part of a reservation; false when memory is exhausted.
WHORL_EXPORT bool address_commit(void* start, std::size_t bytes) noexcept;
// Puts zeroed memory behind the next piece of a reservation whose first `committed` bytes have it, and
// returns the size of that piece; 0 when memory is exhausted. Pieces are of 64 KiB, and from 4 MiB on they
// are whole huge pages, which the kernel is asked for (madvise(2), MADV_HUGEPAGE): records that are met in
// random order then cost one miss each and not two.
WHORL_EXPORT std::size_t address_extend(void* start, std::size_t committed,
                                        std::size_t reserved) noexcept;
WHORL_EXPORT void address_release(void* start, std::size_t bytes) noexcept;
}  // namespace detail

// What a type must begin with to live in a slab. While the slot is live, `link` is the owner's.
struct SlabSlot {
    std::uint32_t generation;  // odd while it is live; the slab's
    std::uint32_t link;        // of a free slot the next one, and then the slab's
};

// Lifetime: slots live until release(); the slab's end takes all memory and runs no destructors.
// Thread: one at a time. T derives from SlabSlot and is valid when all its bytes are zero.
template <class T>
class Slab {
    static_assert(std::is_base_of_v<SlabSlot, T>, "a slot begins with its generation");
    static_assert(std::is_trivially_destructible_v<T>, "a slab runs no destructors");

  public:
    Slab() noexcept = default;
    Slab(const Slab&) = delete;
    Slab& operator=(const Slab&) = delete;
    ~Slab() {
        if (slots_ != nullptr) detail::address_release(slots_, reserved_bytes_);
    }

    // Reserves room for `slots_max` live slots. Call once, before anything else.
    // Errors: ENOMEM when the address space is refused (RLIMIT_AS): ask for fewer.
    // Limits: 1 to 2^31 slots. Cost: one mmap; no memory until slots are claimed.
    Error reserve(std::uint32_t slots_max) noexcept {
        WHORL_ASSERT(slots_ == nullptr);
        if (slots_max == 0 || slots_max > 1u << 31) return Error::invalid_argument;
        const std::size_t bytes = (static_cast<std::size_t>(slots_max) + 1) * sizeof(T);
        reserved_bytes_ = (bytes + commit_bytes - 1) / commit_bytes * commit_bytes;
        slots_ = static_cast<T*>(detail::address_reserve(reserved_bytes_));
        if (slots_ == nullptr) return Error::from_errno(ENOMEM);
        slots_max_ = slots_max;
        return {};
    }

    // Claims a slot and advances its generation to odd; null when the slab is full or memory is
    // exhausted. Of the slot's contents only the generation means anything. Cost: 1 to 2 ns.
    [[gnu::always_inline]] T* claim() noexcept {
        if (free_head_ == 0 && !grow()) return nullptr;
        T* slot = slots_ + free_head_;
        WHORL_ASSERT((slot->generation & 1) == 0);
        free_head_ = slot->link;
        ++slot->generation;
        slot->link = 0;
        if (++live_ > live_high_) live_high_ = live_;
        return slot;
    }

    // Ends a live slot: its generation becomes even and every handle to it stale. Cost: 1 ns.
    void release(T* slot) noexcept {
        WHORL_ASSERT((slot->generation & 1) == 1);
        WHORL_ASSERT(live_ > 0);
        ++slot->generation;
        --live_;
        if (slot->generation == generation_last) {  // one more use would wrap: invariant 2
            ++retired_;
            return;
        }
        slot->link = free_head_;
        free_head_ = index_of(slot);
    }

    // The live slot that (index, generation) names, or null when that has ended or never was.
    T* find(std::uint32_t index, std::uint32_t generation) noexcept {
        if (index >= used_ || (generation & 1) == 0) return nullptr;
        T* slot = slots_ + index;
        return slot->generation == generation ? slot : nullptr;
    }
    // The same by the value of a handle, as handle_of() makes it.
    T* find(std::uint64_t handle) noexcept {
        return find(static_cast<std::uint32_t>(handle), static_cast<std::uint32_t>(handle >> 32));
    }

    // The slot at an index that the caller knows to be in use.
    T& at(std::uint32_t index) noexcept {
        WHORL_ASSERT(index != 0 && index < used_);
        return slots_[index];
    }
    // Its index: 1 to slots_max(). Limits: a slot of this slab.
    std::uint32_t index_of(const T* slot) const noexcept {
        return static_cast<std::uint32_t>(slot - slots_);
    }
    // What names this use of the slot: the generation in the upper half, the index in the lower.
    std::uint64_t handle_of(const T* slot) const noexcept {
        return static_cast<std::uint64_t>(slot->generation) << 32 | index_of(slot);
    }

    // Slots claimed and not released.
    std::uint32_t live() const noexcept { return live_; }
    // The most there have been at once.
    std::uint32_t live_high() const noexcept { return live_high_; }
    // Slots lost for good (2 above).
    std::uint32_t retired() const noexcept { return retired_; }
    // As reserve() was told; 0 before.
    std::uint32_t slots_max() const noexcept { return slots_max_; }

    // Calls visit(T&) for every live slot; slots claimed meanwhile may or may not be visited.
    // Cost: O(slots ever used).
    template <class Visit>
    void for_each_live(Visit&& visit) {
        for (std::uint32_t index = 1; index < used_; ++index) {
            if ((slots_[index].generation & 1) != 0) visit(slots_[index]);
        }
    }

    // Of the slots from index `first` (1 or more) on, looks at `count` and calls visit(T&) for those that are
    // live. Returns the index behind the last, 0 when there are no more. Cost: O(count).
    template <class Visit>
    std::uint32_t for_some_live(std::uint32_t first, std::uint32_t count, Visit&& visit) {
        WHORL_ASSERT(first != 0);
        if (first >= used_) return 0;
        const std::uint32_t end = count < used_ - first ? first + count : used_;
        for (std::uint32_t index = first; index < end; ++index) {
            if ((slots_[index].generation & 1) != 0) visit(slots_[index]);
        }
        return end < used_ ? end : 0;
    }

    // For tests: makes every free slot's generation start at `generation` (even), so that wrap-around
    // is reached in seconds instead of hours.
    void force_generation(std::uint32_t generation) noexcept {
        WHORL_ASSERT((generation & 1) == 0);
        WHORL_ASSERT(generation != generation_last);  // a slot that far is retired, not free
        for (std::uint32_t index = free_head_; index != 0; index = slots_[index].link) {
            slots_[index].generation = generation;
        }
        generation_first_ = generation;
    }

    // The whole structure, checked the slow way: counts, parity, every free slot on the list once.
    bool check() const noexcept {
        std::uint32_t live = 0, retired = 0, free = 0;
        for (std::uint32_t index = 1; index < used_; ++index) {
            const std::uint32_t generation = slots_[index].generation;
            if ((generation & 1) != 0) ++live;
            else if (generation == generation_last) ++retired;
        }
        for (std::uint32_t index = free_head_; index != 0; index = slots_[index].link) {
            if (index >= used_ || (slots_[index].generation & 1) != 0) return false;
            if (++free > used_) return false;  // the list has a cycle
        }
        const std::uint32_t slots = used_ == 0 ? 0 : used_ - 1;
        return live == live_ && retired == retired_ && live + retired + free == slots;
    }

  private:
    static constexpr std::size_t commit_bytes = 64 * 1024;
    static_assert(sizeof(T) <= commit_bytes, "a slot takes at most one more piece of memory");
    static constexpr std::uint32_t generation_last = 0xFFFF'FFFE;

    // Commits the next piece of the reservation and puts one slot of it on the free list at a time. Apart
    // from claim(), which saves no registers for it then.
    __attribute__((noinline, cold)) bool grow() noexcept {
        if (used_ == 0) {
            if (!commit_until(sizeof(T))) return false;
            used_ = 1;  // index 0 is never handed out: invariant 3
        }
        if (used_ > slots_max_) return false;
        if (!commit_until((static_cast<std::size_t>(used_) + 1) * sizeof(T))) return false;
        slots_[used_].generation = generation_first_;
        slots_[used_].link = 0;
        free_head_ = used_++;
        return true;
    }
    bool commit_until(std::size_t bytes) noexcept {
        if (bytes <= committed_bytes_) return true;
        committed_bytes_ += detail::address_extend(slots_, committed_bytes_, reserved_bytes_);
        return bytes <= committed_bytes_;
    }

    T* slots_ = nullptr;
    std::uint32_t free_head_ = 0;
    std::uint32_t used_ = 0;  // slots ever claimed, index 0 included
    std::uint32_t live_ = 0;
    std::uint32_t live_high_ = 0;
    std::uint32_t retired_ = 0;
    std::uint32_t slots_max_ = 0;
    std::uint32_t generation_first_ = 0;
    std::size_t committed_bytes_ = 0;
    std::size_t reserved_bytes_ = 0;
};

}  // namespace whorl
