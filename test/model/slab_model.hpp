// SPDX-License-Identifier: MIT
#pragma once

#include "model/random.hpp"

#include <whorl/slab.hpp>

#include <algorithm>
#include <cstdint>
#include <map>
#include <vector>

// A map of handles beside a Slab; each step is a random call on both.

namespace model {

struct Slot : whorl::SlabSlot {
    std::uint64_t value;
};

inline constexpr std::uint32_t generation_last = 0xFFFF'FFFE;
inline constexpr std::size_t stale_max = 4096;

template <class Slots = whorl::Slab<Slot>>
class SlabModel {
  public:
    SlabModel(Run& run, Random& random) : run_(run), random_(random) {
        const std::uint32_t sizes[] = {1, 2, 3, 10, 100, 5000};
        slots_max_ = sizes[random_.below(std::size(sizes))];
        run_.expect(!slab_.reserve(slots_max_), "reserve");
        if (random_.one_in(2)) force();
    }

    void step() {
        // Phases of growth and of decline, so that both full and empty slabs occur.
        if (random_.one_in(3 * slots_max_)) growing_ = !growing_;
        const std::uint64_t dice = random_.below(16);
        if (dice < 14) {
            if ((dice < 9) == growing_) claim();
            else release();
        } else {
            look();
        }
        if (!forced_ && random_.one_in(1000)) force();
        if (random_.one_in(256)) check();
    }

    void check() {
        run_.expect(slab_.check(), "check()");
        run_.expect(slab_.live() == live_.size(), "live()");
        run_.expect(slab_.live_high() == live_high_, "live_high()");
        run_.expect(slab_.retired() == retired_, "retired()");
        for (std::uint64_t handle : stale_) {
            run_.expect(slab_.find(handle) == nullptr, "a stale handle found something");
        }
        std::size_t visited = 0;
        slab_.for_each_live([&](Slot& slot) {
            ++visited;
            const auto at = live_.find(slab_.handle_of(&slot));
            run_.expect(at != live_.end() && at->second == slot.value, "a live slot is unknown");
        });
        run_.expect(visited == live_.size(), "a live slot was not visited");
    }

  private:
    void claim() {
        Slot* slot = slab_.claim();
        std::uint32_t index = 0;
        if (!free_.empty()) {
            index = free_.back();
            free_.pop_back();
        } else if (generations_.size() <= slots_max_) {
            index = static_cast<std::uint32_t>(generations_.size());
            generations_.push_back(generation_first_);
        }
        if (index == 0) {
            run_.expect(slot == nullptr, "a claim beyond the limit");
            run_.expect(live_.size() + retired_ == slots_max_, "the model's own count");
            return;
        }
        run_.expect(slot != nullptr, "a claim failed with slots left");
        run_.expect(slab_.index_of(slot) == index, "not the slot released last");
        run_.expect(slot->generation == ++generations_[index], "not the next generation");
        run_.expect(slot->generation < generation_last, "a generation beyond the last");
        slot->value = random_.next();
        const std::uint64_t handle = slab_.handle_of(slot);
        run_.expect(live_.emplace(handle, slot->value).second, "a handle was given out twice");
        live_high_ = std::max(live_high_, static_cast<std::uint32_t>(live_.size()));
        run_.note(handle);
    }

    void release() {
        const auto at = any();
        if (at == live_.end()) return;
        Slot* slot = slab_.find(at->first);
        run_.expect(slot != nullptr && slot->value == at->second, "a live handle was not found");
        const auto index = static_cast<std::uint32_t>(at->first);
        if (stale_.size() < stale_max) stale_.push_back(at->first);
        else stale_[random_.below(stale_max)] = at->first;
        slab_.release(slot);
        run_.expect(slab_.find(at->first) == nullptr, "a handle outlived its slot");
        live_.erase(at);
        if (++generations_[index] == generation_last) ++retired_;
        else free_.push_back(index);
    }

    void look() {
        const auto at = any();
        if (at != live_.end()) {
            Slot* slot = slab_.find(at->first);
            run_.expect(slot != nullptr && slot->value == at->second,
                        "a live handle was not found");
            run_.expect(&slab_.at(slab_.index_of(slot)) == slot, "at() is another slot");
        }
        if (!stale_.empty()) {
            const std::uint64_t handle = stale_[random_.below(stale_.size())];
            run_.expect(slab_.find(handle) == nullptr, "a stale handle found something");
        }
        const std::uint64_t invented = random_.below(slots_max_ + 2) | (random_.next() << 32);
        run_.expect((slab_.find(invented) != nullptr) == (live_.count(invented) != 0),
                    "an invented handle");
    }

    // Moves all free slots a few uses before the end. Upwards only, else handles would repeat.
    void force() {
        const auto uses = static_cast<std::uint32_t>(1 + random_.below(8));
        generation_first_ = generation_last - 2 * uses;
        slab_.force_generation(generation_first_);
        for (std::uint32_t index : free_) generations_[index] = generation_first_;
        forced_ = true;
    }

    std::map<std::uint64_t, std::uint64_t>::iterator any() {
        if (live_.empty()) return live_.end();
        const std::uint64_t index = random_.below(generations_.size());
        auto at = live_.lower_bound(index | (random_.next() << 32));
        return at == live_.end() ? live_.begin() : at;
    }

    Run& run_;
    Random& random_;
    Slots slab_;
    std::map<std::uint64_t, std::uint64_t> live_;   // handle to value
    std::vector<std::uint64_t> stale_;              // handles that have ended
    std::vector<std::uint32_t> generations_ = {0};  // by index; the first is never used
    std::vector<std::uint32_t> free_;               // indices, the one to claim next last
    std::uint32_t generation_first_ = 0;
    std::uint32_t slots_max_ = 0;
    std::uint32_t retired_ = 0;
    std::uint32_t live_high_ = 0;
    bool growing_ = true;
    bool forced_ = false;
};

}  // namespace model
