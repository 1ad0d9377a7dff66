// SPDX-License-Identifier: MIT
#pragma once

#include "model/random.hpp"

#include <whorl/timer_wheel.hpp>

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

// A std::map from (tick, rank) to timer beside a TimerWheel; each step is a random call on both.

namespace model {

using whorl::TimerNode;
using whorl::TimerWheel;

inline constexpr std::uint32_t levels_fine = 512;  // Slots below this number are single ticks.
inline constexpr std::uint64_t year_ticks = 365ull * 86400 * 1000000000 / 1024;

class WheelModel {
  public:
    WheelModel(Run& run, Random& random, std::uint64_t start, std::uint32_t nodes_max)
        : run_(run), random_(random), now_(start), wheel_(start), nodes_(nodes_max) {
        for (std::uint32_t index = 0; index != nodes_max; ++index) {
            nodes_[index].user = index;
            free_.push_back(index);
        }
        ranks_.resize(nodes_max);
    }

    std::uint64_t checksum() const { return checksum_; }
    std::uint64_t now() const { return now_; }
    std::uint64_t fired() const { return fired_; }
    std::uint64_t prepared() const { return prepared_; }

    void step(std::uint64_t event) {
        switch (below(16)) {
            case 0:
            case 1:
            case 2:
                insert_some(1 + below(4));
                break;
            case 3:
                if (below(8) == 0) insert_burst();
                break;
            case 4:
                if (below(40) == 0) insert_crowd();
                break;
            case 5:
            case 6:
                if (!map_.empty()) remove(any());
                break;
            case 7:
            case 8:
            case 9:
                if (!map_.empty()) move(any(), deadline());
                break;
            case 10:
                if (!map_.empty()) move(any(), nodes_[any()].tick + below(3));
                break;
            case 11:
                if (!map_.empty()) remove(map_.begin()->second);
                break;
            case 12:
                prepare();
                break;
            default:
                advance();
                break;
        }
        look();
        if (event % 512 == 0) require(wheel_.check(), "check");
    }

    void drain() {
        while (!map_.empty()) {
            expire(map_.begin()->first.first, ~0u);
            look();
        }
        require(wheel_.check() && wheel_.size() == 0, "drained");
        require(wheel_.expire_one(~0ull) == nullptr, "nothing left");
    }

  private:
    using Map = std::map<std::pair<std::uint64_t, std::uint64_t>, std::uint32_t>;

    std::uint64_t next() { return random_.next(); }
    std::uint64_t below(std::uint64_t bound) { return random_.below(bound); }
    void require(bool truth, const char* what) { run_.expect(truth, what); }

    std::uint64_t deadline() {
        const std::uint64_t border = now_ >> 8 * below(8);
        switch (below(16)) {
            case 0:
                return now_ + below(4);
            case 1:
            case 2:
                return now_ + below(300);
            case 3:
            case 4:
            case 5:
                return now_ + below(100000);
            case 6:
            case 7:
                return now_ + below(100000000);
            case 8:
                return now_ + below(1ull << 38);
            case 9:
                return now_ + (next() >> below(64));
            case 10:
                return now_ + (1ull << below(64)) + below(3) - 1;
            case 11:
                return (1ull << below(64)) + below(3) - 1;
            case 12:
            case 13: {  // The border of a digit after now, one before or one after.
                const unsigned shift = static_cast<unsigned>(8 * below(8));
                return (((now_ >> shift) + 1 + below(3)) << shift) + below(3) - 1;
            }
            case 14:
                return below(2) != 0 ? now_ - below(1000) : border;
            default:
                return below(2) != 0 ? ~0ull - below(3) : below(3);
        }
    }

    std::uint32_t any() {
        if (map_.empty()) return 0;
        // A random armed timer: probe from a random place.
        std::uint32_t index = static_cast<std::uint32_t>(below(nodes_.size()));
        while (!TimerWheel::is_linked(nodes_[index]))
            index = (index + 1) % static_cast<std::uint32_t>(nodes_.size());
        return index;
    }

    void insert(std::uint64_t tick) {
        if (free_.empty()) return;
        const std::uint32_t index = free_.back();
        free_.pop_back();
        wheel_.insert(nodes_[index], tick);
        ranks_[index] = ++rank_;
        map_[{tick < now_ ? now_ : tick, ranks_[index]}] = index;
    }

    void insert_some(std::uint64_t count) {
        for (; count != 0; --count) insert(deadline());
    }

    void insert_burst() {
        const std::uint64_t tick = deadline();
        for (std::uint64_t count = below(40); count != 0; --count) insert(tick);
    }

    // Thousands within one coarse slot, so that it has to be dropped piece by piece.
    void insert_crowd() {
        const unsigned shift = static_cast<unsigned>(8 + 8 * below(4));
        const std::uint64_t start = ((now_ >> shift) + 1 + below(3)) << shift;
        for (std::uint64_t count = below(4000); count != 0; --count) {
            insert(start + below(below(4) == 0 ? 16 : 1ull << shift));
        }
    }

    void remove(std::uint32_t index) {
        wheel_.remove(nodes_[index]);
        require(map_.erase({nodes_[index].tick, ranks_[index]}) == 1, "tick of a removed timer");
        free_.push_back(index);
    }

    void move(std::uint32_t index, std::uint64_t tick) {
        TimerNode& node = nodes_[index];
        const std::uint32_t slot = node.slot;
        require(map_.erase({node.tick, ranks_[index]}) == 1, "tick of a moved timer");
        wheel_.move(node, tick);
        // A timer that stays in its coarse slot keeps its rank.
        if (node.slot != slot || slot < levels_fine) ranks_[index] = ++rank_;
        map_[{tick < now_ ? now_ : tick, ranks_[index]}] = index;
    }

    void prepare() {
        std::vector<std::uint32_t> slots;
        const bool count = below(16) == 0;
        if (count)
            for (const TimerNode& node : nodes_) slots.push_back(node.slot);
        wheel_.prepare(static_cast<std::uint32_t>(below(600)));
        for (std::size_t i = 0; i != slots.size(); ++i) prepared_ += nodes_[i].slot != slots[i];
    }

    void advance() {
        std::uint64_t to = now_;
        switch (below(8)) {
            case 0:
            case 1:
                to += below(3);
                break;
            case 2:
                to += below(2000);
                break;
            case 3:
                to += below(300000);
                break;
            case 4:
                to = wheel_.wake_tick() == TimerWheel::tick_none ? now_ : wheel_.wake_tick();
                break;
            case 5:
                to = map_.empty() ? now_ : map_.begin()->first.first - below(2);
                break;
            case 6:
                to = next_border();
                break;
            default:
                if (below(64) == 0) to += below(year_ticks / 50);
                break;
        }
        // Leave the far future to drain(), or all later deadlines would be past.
        if (to < now_ || to >= 1ull << 62) to = now_;
        expire(to, below(4) == 0 ? static_cast<std::uint32_t>(below(20)) : ~0u);
    }

    std::uint64_t next_border() {
        const unsigned shift = static_cast<unsigned>(8 * below(5));
        return (((now_ >> shift) + 1) << shift) + below(3) - 1;
    }

    // Takes out up to count timers; all, if count is so large, and then expects no more.
    void expire(std::uint64_t to, std::uint32_t count) {
        if (count != 0 && to > now_) now_ = to;
        for (std::uint64_t now = to; count != 0; --count) {
            TimerNode* const node = wheel_.expire_one(now);
            now = below(8) == 0 ? to / 2 : to;  // Time that goes back must not matter.
            const bool due = !map_.empty() && map_.begin()->first.first <= now_;
            if (node == nullptr) {
                require(!due, "a missed timer");
                return;
            }
            require(due, "an early timer");
            require(map_.begin()->second == node->user, "the order");
            require(!TimerWheel::is_linked(*node), "the link of a fired timer");
            checksum_ = (checksum_ ^ node->tick ^ node->user) * 0x100000001b3u;
            ++fired_;
            map_.erase(map_.begin());
            free_.push_back(node->user);
            // Handlers arm, cancel and move.
            if (below(8) == 0) insert(deadline());
            if (below(16) == 0 && !map_.empty()) remove(any());
            if (below(16) == 0 && !map_.empty()) move(any(), deadline());
            if (below(64) == 0 && !map_.empty()) move(map_.begin()->second, now_);
        }
    }

    void look() {
        const std::uint64_t first =
            map_.empty() ? TimerWheel::tick_none : map_.begin()->first.first;
        const std::uint64_t wake = wheel_.wake_tick();
        require(wheel_.size() == map_.size(), "the size");
        require(wake <= first || wake == now_, "the wake");
        require(wake >= now_, "the wake");
        if (below(2) == 0) require(wheel_.next_tick() == first, "the next tick");
    }

    Run& run_;
    Random& random_;
    std::uint64_t now_;
    TimerWheel wheel_;
    std::vector<TimerNode> nodes_;
    std::vector<std::uint32_t> free_;
    std::vector<std::uint64_t> ranks_;  // By timer: its place among equal ticks.
    Map map_;
    std::uint64_t rank_ = 0;
    std::uint64_t fired_ = 0;
    std::uint64_t prepared_ = 0;
    std::uint64_t checksum_ = 0xcbf29ce484222325u;
};

}  // namespace model
