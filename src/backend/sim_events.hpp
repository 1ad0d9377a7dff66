// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <whorl/assert.hpp>
#include <whorl/time.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

// What is to happen in a simulated world, in the order of its time, and of its making for equal times.
// A run of a world makes hundreds of these: a binary heap of plain entries, and the callables beside it
// in places that are used again.

namespace whorl::detail {

class SimEvents {
  public:
    SimEvents() = default;
    SimEvents(const SimEvents&) = delete;
    SimEvents& operator=(const SimEvents&) = delete;
    ~SimEvents() { clear(); }

    // A number for cancel(), never 0.
    template <class Callable>
    std::uint64_t add(Instant due, Callable&& callable) {
        using Stored = std::decay_t<Callable>;
        static_assert(sizeof(Stored) <= room, "capture less, or a pointer to it");
        std::uint32_t index = 0;
        if (free_.empty()) {
            index = static_cast<std::uint32_t>(places_.size());
            places_.emplace_back();
        } else {
            index = free_.back();
            free_.pop_back();
        }
        Place& place = places_[index];
        ::new (static_cast<void*>(place.storage)) Stored(std::forward<Callable>(callable));
        place.use = [](void* storage, bool call) {
            auto* stored = std::launder(static_cast<Stored*>(storage));
            if (call) (*stored)();
            else stored->~Stored();
        };
        heap_.push_back({due, ++order_, index, place.generation});
        std::push_heap(heap_.begin(), heap_.end(), later);
        ++count_;
        return static_cast<std::uint64_t>(place.generation) << 32 | index;
    }

    void cancel(std::uint64_t number) noexcept {
        const auto index = static_cast<std::uint32_t>(number);
        if (index >= places_.size() || places_[index].generation != number >> 32) return;
        if (places_[index].use == nullptr) return;
        ++places_[index].generation;  // its entry in the heap is nobody's now
        --count_;
        release(index);
        prune();
    }

    // When the next one is due.
    Instant next() const noexcept { return heap_.empty() ? instant_never : heap_.front().due; }
    std::size_t size() const noexcept { return count_; }

    // Does the first that is due by `now`; false when there is none.
    bool run_due(Instant now) {
        if (heap_.empty() || heap_.front().due > now) return false;
        const std::uint32_t index = heap_.front().place;
        std::pop_heap(heap_.begin(), heap_.end(), later);
        heap_.pop_back();
        prune();
        // It stays in its place while it runs, out of reach of cancel(), and may add others.
        ++places_[index].generation;
        --count_;
        places_[index].use(places_[index].storage, true);
        release(index);
        return true;
    }

    void clear() noexcept {
        while (!heap_.empty()) {
            const Entry entry = heap_.back();
            heap_.pop_back();
            if (places_[entry.place].generation != entry.generation) continue;
            ++places_[entry.place].generation;
            release(entry.place);
        }
        count_ = 0;
    }

  private:
    static constexpr std::size_t room = 80;
    struct Place {
        alignas(16) unsigned char storage[room];
        void (*use)(void* storage, bool call) = nullptr;
        std::uint32_t generation = 1;
    };
    struct Entry {
        Instant due;
        std::uint64_t order;
        std::uint32_t place;
        std::uint32_t generation;
    };
    static bool later(const Entry& a, const Entry& b) noexcept {
        return a.due != b.due ? a.due > b.due : a.order > b.order;
    }
    // The first of the heap is always one that will happen.
    void prune() noexcept {
        while (!heap_.empty() &&
               places_[heap_.front().place].generation != heap_.front().generation) {
            std::pop_heap(heap_.begin(), heap_.end(), later);
            heap_.pop_back();
        }
    }
    void release(std::uint32_t index) noexcept {
        Place& place = places_[index];
        const auto use = std::exchange(place.use, nullptr);
        use(place.storage, false);
        free_.push_back(index);
    }

    std::vector<Entry> heap_;
    std::deque<Place> places_;  // a place stays where it is
    std::vector<std::uint32_t> free_;
    std::uint64_t order_ = 0;
    std::size_t count_ = 0;
};

}  // namespace whorl::detail
