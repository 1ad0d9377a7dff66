// SPDX-License-Identifier: MIT
// Floor: 6
#include "stream/hub.hpp"

#include <algorithm>
#include <new>

namespace whorl {

namespace detail {

HubEntry::~HubEntry() {
    if (List::is_linked(in_all)) List::remove(in_all);
    if (List::is_linked(in_waiting)) List::remove(in_waiting);
    if (List::is_linked(in_marked)) {
        List::remove(in_marked);
        --hub().marked_count;
    }
}

StreamHub::~StreamHub() {
    while (ListNode* node = all.pop_front()) delete static_cast<HubEntry::Link*>(node)->owner;
}

Result<StreamHub*> StreamHub::of(Loop& loop) noexcept {
    LoopCore& core = loop.core();
    core.check_thread();
    if (core.draining) return Error::loop_closed;
    if (core.streams == nullptr) core.streams = new (std::nothrow) StreamHub(core);
    if (core.streams == nullptr) return Error::from_errno(ENOMEM);
    return static_cast<StreamHub*>(core.streams);
}

// Without room for a post a timer does it; without a slot for that, whoever is marked next tries again.
void StreamHub::wake() noexcept {
    Loop& loop = *core->loop;
    woken = !loop.post([this](Loop&) { run(); }) ||
            loop.after(Nanoseconds::zero(), [this](Loop&, Expired) { run(); }).has_value();
}

void StreamHub::run() {
    struct Round {  // a callback may throw: the rest goes on with the next post
        StreamHub& hub;
        explicit Round(StreamHub& owner) noexcept : hub(owner) {}
        ~Round() {
            hub.woken = false;
            if (!hub.marked.empty()) hub.wake();
        }
    };
    woken = true;  // whoever is marked meanwhile waits for the next round
    const Round round(*this);
    for (std::uint32_t left = marked_count; left != 0; --left) {
        auto* node = static_cast<HubEntry::Link*>(marked.pop_front());
        if (node == nullptr) return;  // it was destroyed meanwhile
        --marked_count;
        node->owner->settle();
    }
}

// Every entry, once or, when others go meanwhile, twice.
void StreamHub::drain() {
    std::uint32_t left = 0;
    for (ListNode* node = all.front(); node != nullptr; node = all.after(*node)) ++left;
    for (; left != 0; --left) {
        ListNode* const node = all.pop_front();
        if (node == nullptr) return;
        all.push_back(*node);
        static_cast<HubEntry::Link*>(node)->owner->drain();
    }
}

void StreamHub::hold(std::size_t bytes) noexcept {
    statistics.bytes += bytes;
    statistics.bytes_high = std::max(statistics.bytes_high, statistics.bytes);
    if (statistics.overloaded || statistics.bytes < budget.high) return;
    statistics.overloaded = true;
    ++statistics.overloads;
}

void StreamHub::let_go(std::size_t bytes) noexcept {
    WHORL_ASSERT(bytes <= statistics.bytes);
    statistics.bytes -= bytes;
    if (!statistics.overloaded || statistics.bytes >= budget.high / 4 * 3) return;
    statistics.overloaded = false;
    while (ListNode* node = waiting.pop_front()) static_cast<HubEntry::Link*>(node)->owner->mark();
}

void StreamHub::wait_for_room(HubEntry& entry) noexcept {
    if (!List::is_linked(entry.in_waiting)) waiting.push_back(entry.in_waiting);
}

}  // namespace detail

Error set_stream_budget(Loop& loop, const StreamBudget& budget) noexcept {
    if (budget.high == 0 || budget.high > budget.max) return Error::invalid_argument;
    Result<detail::StreamHub*> hub = detail::StreamHub::of(loop);
    if (!hub) return hub.error();
    (*hub)->budget = budget;
    (*hub)->hold(0);
    (*hub)->let_go(0);
    return {};
}

StreamStatistics stream_statistics(Loop& loop) noexcept {
    loop.core().check_thread();
    const auto* hub = static_cast<detail::StreamHub*>(loop.core().streams);
    return hub != nullptr ? hub->statistics : StreamStatistics();
}

}  // namespace whorl
