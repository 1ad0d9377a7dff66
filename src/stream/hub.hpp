// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include "loop/core.hpp"

#include <whorl/allocated.hpp>
#include <whorl/list.hpp>
#include <whorl/stream.hpp>

#include <cstddef>
#include <cstdint>

// What the loop keeps for this floor: its streams, acceptors and connectors. What happens to them is
// noted where it happens (an event, a call) and acted upon in settle(), which the hub calls for all
// that were marked, once, at the end of the turn's dispatch: by one post for all of them. So whatever
// was written in a turn goes out together, and no callback is ever called from inside a call.
//
// Invariants:
//   1. An entry is in `all` from its making to its end; the hub destroys those that are left.
//   2. While something is marked and the loop takes posts, one post is under way.

namespace whorl::detail {

struct StreamHub;

struct HubEntry : Allocated<HubEntry> {
    struct Link : ListNode {
        explicit Link(HubEntry& entry) noexcept : owner(&entry) {}
        HubEntry* owner;
    };

    explicit HubEntry(LoopCore& loop_core) noexcept : core(&loop_core) {}
    HubEntry(const HubEntry&) = delete;
    HubEntry& operator=(const HubEntry&) = delete;
    virtual ~HubEntry();
    // Acts upon what was noted. May end and destroy the entry.
    virtual void settle() = 0;
    // The loop drains: end, by loop_closed.
    virtual void drain() = 0;

    StreamHub& hub() const noexcept;
    Loop& loop() const noexcept { return *core->loop; }
    void mark() noexcept;

    LoopCore* core;
    Link in_all{*this};
    Link in_marked{*this};
    Link in_waiting{*this};  // for the budget
};

struct StreamHub final : LoopModule {
    explicit StreamHub(LoopCore& loop_core) noexcept : core(&loop_core) {}
    ~StreamHub() override;
    void drain() override;

    // The loop's hub, made when there is none. Errors: ENOMEM, loop_closed.
    static Result<StreamHub*> of(Loop& loop) noexcept;
    void add(HubEntry& entry) noexcept { all.push_back(entry.in_all); }
    void mark(HubEntry& entry) noexcept;
    void wake() noexcept;
    void run();
    // Bytes come to be held, or are no longer.
    void hold(std::size_t bytes) noexcept;
    void let_go(std::size_t bytes) noexcept;
    void wait_for_room(HubEntry& entry) noexcept;
    bool fits(std::size_t bytes) const noexcept {
        return statistics.bytes <= budget.max && bytes <= budget.max - statistics.bytes;
    }

    LoopCore* core;
    List all;
    List marked;
    List waiting;  // entries that do not read or accept until there is room
    std::uint32_t marked_count = 0;
    bool woken = false;
    StreamBudget budget;
    StreamStatistics statistics;
};

inline StreamHub& HubEntry::hub() const noexcept { return *static_cast<StreamHub*>(core->streams); }
inline void HubEntry::mark() noexcept { hub().mark(*this); }
inline void StreamHub::mark(HubEntry& entry) noexcept {
    if (!List::is_linked(entry.in_marked)) {
        marked.push_back(entry.in_marked);
        ++marked_count;
    }
    if (!woken) wake();
}

}  // namespace whorl::detail
