// SPDX-License-Identifier: MIT
// Floor: 2
#pragma once

#include <cstddef>
#include <cstdint>

#include <whorl/assert.hpp>
#include <whorl/list.hpp>

// A hierarchical timing wheel (Varghese and Lauck, 1987) for many timers, with an exact order and
// without the stalls that wheels are known for.
//
// Read a tick as a number in base 256: eight digits, the least significant is digit 0. Level l of
// the wheel has slots that are one step of digit l wide; the number tick >> 8 l is called the
// *unit* of a tick at level l, and its *parent* is the unit at level l + 1. Inserting looks for the
// highest digit in which the deadline and the wheel's own time, the base, differ, and files the
// timer there: far timers in coarse slots, near ones in fine ones. When the base enters a coarse
// slot, its timers are filed again, now finer; at level 0 a slot is one tick. Eight levels cover
// all 64 bits, so there is no range to check, no overflow list, and no deadline that is treated
// differently. Bitmaps lead from one occupied slot to the next, so that passing an hour costs as
// much as passing a microsecond.
//
// What makes wheels stall is entering a crowded slot: a million timers that were armed for a minute
// from now share one slot, and all of them must be filed again before the first can fire. Here a
// level has two blocks of 256 slots, one for the parent in which the base is and one for the next
// parent. So the timers of the *next* coarse slot can be dropped into the finer level, from the
// front and a few at a time, before the base gets there. Moving the base does it in proportion to
// the way it goes: who has gone a third of the way to the border has dropped a third of the crowd.
// A caller that sleeps long has no way to go between; it calls prepare() and sleeps only until
// wake_tick(). Slots with few timers are left alone: most timeouts are cancelled, and a timer that
// was never dropped cost nothing. A step files its share of the crowds, and crowd_max a level.
//
// Order among equal ticks needs no sequence numbers. A list in a slot is in order of arming,
// because timers only ever join at the end and leave a coarser list from its front; and if two
// timers have the same tick, the older one is never in the coarser slot of the two.
//
// A slot keeps the minimum of its deadlines. Removing the earliest makes it stale: still a lower
// bound, which is enough to move on; next_tick() repairs it by a walk where it must be exact.
//
// Invariants, which check() verifies. Let base be base_, and unit and parent be those of the level:
//   1. base <= now_, and no timer's tick is before the base.
//   2. Level 0 holds units from the base's on; each other level only units after the base's.
//   3. A level holds units whose parent is the base's parent or the one after it.
//   4. A timer's slot field names the list in which it is; its unit is the slot's.
//   5. A slot's count is the length of its list; its bit is set if and only if it is not empty.
//   6. A slot's minimum is no later than any of its ticks, and one of them unless it is stale.
//
// Honest limits. Timers armed for the next slot just before its border are filed again in one go. A
// caller that jumps over the way to a crowd, without wake_tick(), pays for the whole crowd at once
// (8 ms for 250,000 timers). Out of cache each filing is a miss: only a timer knows the next one.
//
// Roads not taken. Slots of 64 (one word a level) arm as fast, but need eleven levels and expire
// slower by a third. Firing a coarse slot in place when its deadlines are equal would save a burst
// one filing, and add a second place where the next timer can be. Filing new timers into the next
// block once it is complete would have to prove that no older equal is still in a coarser slot.

namespace whorl {

// A place in a TimerWheel. It must not move while it is linked. The wheel changes all but user.
struct TimerNode : ListNode {
    static constexpr std::uint32_t slot_none = ~std::uint32_t{0};  // in no wheel

    std::uint64_t tick = 0;          // The deadline.
    std::uint32_t slot = slot_none;  // Which slot holds it.
    std::uint32_t user = 0;          // The owner's; the wheel never looks at it.
};

static_assert(sizeof(TimerNode) == 32, "two timers a cache line");

// A set of deadlines; it neither reads a clock nor calls anyone: the caller says what time it is
// and takes out what is due. All times are ticks, and what a tick is, is the caller's affair.
// Owns: nothing; never allocates. A wheel may end with timers in it: they must then be forgotten.
// Thread: one at a time. Limits: 2^32 - 1 timers. Cost: 128 KiB, of which occupied slots are
// touched.
class TimerWheel {
  public:
    static constexpr std::uint64_t tick_none = ~std::uint64_t{0};  // no deadline
    // A slot with at most so many timers may be filed again in one go (10 us out of cache).
    static constexpr std::uint32_t crowd_max = 64;

    // Empty; time begins at `now`.
    explicit TimerWheel(std::uint64_t now) noexcept : base_(now), now_(now) {}
    TimerWheel(const TimerWheel&) = delete;  // Timers point into the wheel, so it stays put.
    TimerWheel& operator=(const TimerWheel&) = delete;

    // Whether it is in a wheel, whichever.
    static bool is_linked(const TimerNode& node) noexcept {
        return node.slot != TimerNode::slot_none;
    }

    // Arms an unlinked timer. A tick that has passed becomes the latest time seen: the timer is due
    // at once, behind all that are due already. Limits: any tick.
    // Cost: O(1), 20 to 40 ns when the neighbours are out of cache.
    void insert(TimerNode& node, std::uint64_t tick) noexcept;

    // Takes a linked timer out. Cost: O(1).
    void remove(TimerNode& node) noexcept;

    // The same as remove and insert, but one store if the deadline stays within a coarse slot, as
    // it does when a connection's timeout is pushed later. In that case the timer keeps its rank
    // among equal ticks instead of getting the last.
    void move(TimerNode& node, std::uint64_t tick) noexcept;

    // Takes out and returns the next timer with a tick at or before now; nullptr when none is due.
    // By tick, and among equal ticks in the order of arming. Timers may be inserted, removed and
    // moved between two calls; what is inserted as due is returned, too: bound your rounds.
    // An earlier now than the latest seen counts as that.
    // Cost: O(occupied slots passed), not O(ticks); each timer is filed again at most 7 times.
    TimerNode* expire_one(std::uint64_t now) noexcept;

    // The earliest deadline, exactly; tick_none when the wheel is empty.
    // Cost: O(1), but O(timers of one slot) once after the earliest timer of a coarse slot was
    // removed or moved. To sleep, prefer wake_tick().
    std::uint64_t next_tick() noexcept;

    // When to call expire_one() again at the latest: no later than next_tick(), not before the
    // latest time seen; tick_none when the wheel is empty. It is earlier than next_tick() in two
    // cases: where exactness would cost a walk (at most one such wake a level), and to get a
    // crowded slot prepared, where it may be the present: then do not sleep, but come back with
    // another prepare().
    // Cost: O(1).
    std::uint64_t wake_tick() const noexcept;

    // Files up to budget timers of the crowded slots that come next again, ahead of time. Call it
    // before blocking. Cost: O(budget), 10 ns a timer in cache and 100 to 200 ns out of it.
    void prepare(std::uint32_t budget) noexcept;

    std::size_t size() const noexcept { return size_; }  // timers in it

    // The invariants above, each in the dumbest way. Cost: O(slots + timers).
    bool check() const noexcept;

  private:
    static constexpr unsigned digit_bits = 8;
    static constexpr unsigned levels = (64 + digit_bits - 1) / digit_bits;
    static constexpr std::uint32_t ring = 2u << digit_bits;  // Two blocks of slots.
    static constexpr std::uint32_t ring_mask = ring - 1;
    static constexpr unsigned words = ring / 64;

    struct Slot {
        List timers;
        std::uint64_t tick_min = 0;  // A lower bound while count != 0; unused at level 0.
        std::uint32_t count = 0;
        std::uint32_t stale = 0;  // Nonzero: tick_min may be too low.
    };
    static_assert(sizeof(Slot) == 32, "two slots a cache line");

    // So many timers of a level's next slot.
    struct Share {
        unsigned level;
        std::uint32_t count;
    };

    static std::uint64_t unit_of(unsigned level, std::uint64_t tick) noexcept {
        return level < levels ? tick >> level * digit_bits : 0;
    }
    static std::uint32_t slot_of(unsigned level, std::uint64_t unit) noexcept {
        return level * ring + (static_cast<std::uint32_t>(unit) & ring_mask);
    }
    static unsigned level_of(std::uint32_t slot) noexcept { return slot / ring; }
    static unsigned lowest(std::uint64_t bits) noexcept {
        return static_cast<unsigned>(__builtin_ctzll(bits));
    }
    static void lower(Slot& slot, std::uint64_t tick) noexcept {
        if (tick > slot.tick_min) return;
        slot.tick_min = tick;
        slot.stale = 0;
    }
    static TimerNode* timer(ListNode* node) noexcept { return static_cast<TimerNode*>(node); }

    // Where the tick lies in the block of the base's parent: the highest digit that differs.
    unsigned level_for(std::uint64_t tick) const noexcept {
        return (63u - static_cast<unsigned>(__builtin_clzll((tick ^ base_) | 1))) / digit_bits;
    }
    void place(TimerNode& node, unsigned level) noexcept;
    void take(TimerNode& node) noexcept;
    TimerNode* take_front(std::uint32_t slot) noexcept;
    void occupy(std::uint32_t slot) noexcept;
    void vacate(std::uint32_t slot) noexcept;
    std::uint64_t first_unit(unsigned level) const noexcept;
    std::uint64_t target() const noexcept;
    void advance(std::uint64_t tick) noexcept;
    void advance_drop(std::uint64_t tick) noexcept;
    std::uint32_t advance_share(unsigned level, std::uint64_t tick) const noexcept;
    void advance_enter(std::uint32_t slot) noexcept;
    // Files the first timer of a level's next slot again, one level finer, in the second block.
    void drop(unsigned level) noexcept {
        place(*take_front(slot_of(level, unit_of(level, base_) + 1)), level - 1);
    }
    std::uint64_t minimum(std::uint32_t index) noexcept;
    bool check_level(unsigned level, std::size_t* total) const noexcept;
    bool check_slot(unsigned level, std::uint64_t unit) const noexcept;

    // Changed when the base moves, in expire_one().
    std::uint64_t base_;  // The wheel's own time; behind now_ only while timers are due.
    std::uint64_t now_;   // The latest time the caller has told.

    // Changed when a timer is filed or taken.
    std::size_t size_ = 0;
    std::uint32_t levels_occupied_ = 0;     // A bit for each level that is not empty.
    std::uint32_t summaries_[levels] = {};  // By level: a bit for each of its words that is not 0.
    std::uint64_t words_[levels * words] = {};  // A bit for each slot that is not empty.
    Slot slots_[levels * ring];
};

inline void TimerWheel::occupy(std::uint32_t slot) noexcept {
    WHORL_VERIFY(level_of(slot) < levels);
    words_[slot / 64] |= std::uint64_t{1} << slot % 64;
    summaries_[level_of(slot)] |= 1u << slot / 64 % words;
    // A linked node's slot always has a level; the analyzer also tries one that is not linked.
    levels_occupied_ |=
        1u << level_of(slot);  // NOLINT(clang-analyzer-core.UndefinedBinaryOperatorResult)
}

inline void TimerWheel::vacate(std::uint32_t slot) noexcept {
    WHORL_VERIFY(slots_[slot].timers.empty());
    words_[slot / 64] &= ~(std::uint64_t{1} << slot % 64);
    if (words_[slot / 64] != 0) return;
    std::uint32_t& summary = summaries_[level_of(slot)];
    summary &= ~(1u << slot / 64 % words);
    if (summary == 0) levels_occupied_ &= ~(1u << level_of(slot));
}

// Puts the node, whose tick is set, at the end of its slot of that level.
inline void TimerWheel::place(TimerNode& node, unsigned level) noexcept {
    const std::uint32_t index = slot_of(level, unit_of(level, node.tick));
    WHORL_VERIFY(level == 0 || unit_of(level, node.tick) > unit_of(level, base_));
    Slot& slot = slots_[index];
    if (slot.count++ == 0) {
        occupy(index);
        slot.tick_min = node.tick;
        slot.stale = 0;
    } else {
        lower(slot, node.tick);
    }
    node.slot = index;
    slot.timers.push_back(node);
}

inline void TimerWheel::take(TimerNode& node) noexcept {
    Slot& slot = slots_[node.slot];
    WHORL_ASSERT(slot.count != 0);
    List::remove(node);
    if (node.tick == slot.tick_min) slot.stale = 1;
    if (--slot.count == 0) vacate(node.slot);
    node.slot = TimerNode::slot_none;
}

inline TimerNode* TimerWheel::take_front(std::uint32_t slot) noexcept {
    TimerNode* const node = timer(slots_[slot].timers.front());
    WHORL_ASSERT(node != nullptr && node->slot == slot);
    __builtin_prefetch(node->next);
    take(*node);
    return node;
}

inline void TimerWheel::insert(TimerNode& node, std::uint64_t tick) noexcept {
    WHORL_ASSERT(!is_linked(node));
    WHORL_ASSERT(size_ < TimerNode::slot_none);
    node.tick = tick < now_ ? now_ : tick;
    place(node, level_for(node.tick));
    ++size_;
}

inline void TimerWheel::remove(TimerNode& node) noexcept {
    WHORL_ASSERT(is_linked(node));
    WHORL_ASSERT(node.slot < levels * ring);
    take(node);
    --size_;
}

inline void TimerWheel::move(TimerNode& node, std::uint64_t tick) noexcept {
    WHORL_ASSERT(is_linked(node));
    WHORL_ASSERT(node.slot < levels * ring);
    const std::uint64_t tick_new = tick < now_ ? now_ : tick;
    const unsigned level = level_of(node.slot);
    if (level == 0 || unit_of(level, tick_new ^ node.tick) != 0) {
        take(node);
        node.tick = tick_new;
        place(node, level_for(tick_new));
        return;
    }
    Slot& slot = slots_[node.slot];
    if (node.tick == slot.tick_min) slot.stale = 1;
    lower(slot, tick_new);
    node.tick = tick_new;
}

// The unit of the first slot of an occupied level: the search begins at the base's slot and goes
// round the ring, which by invariant 3 is the order of the units.
inline std::uint64_t TimerWheel::first_unit(unsigned level) const noexcept {
    WHORL_VERIFY(summaries_[level] != 0);
    const std::uint64_t* const row = &words_[level * words];
    const std::uint64_t unit = unit_of(level, base_);
    const std::uint32_t begin = static_cast<std::uint32_t>(unit) & ring_mask;
    const std::uint64_t rest = row[begin / 64] >> begin % 64;
    if (rest != 0) return unit + lowest(rest);
    // The words after the first, and it again as the last: two copies make the summary a ring.
    const unsigned skip = begin / 64 + 1;
    const std::uint64_t twice = summaries_[level] | std::uint64_t{summaries_[level]} << words;
    const unsigned word = (skip + lowest(twice >> skip)) % words;
    return unit + ((word * 64 + lowest(row[word]) - begin) & ring_mask);
}

// A lower bound of all ticks, limited to now_; later than the base if no timer is due at the base.
inline std::uint64_t TimerWheel::target() const noexcept {
    std::uint64_t best = now_;
    for (std::uint32_t rest = levels_occupied_; rest != 0; rest &= rest - 1) {
        const unsigned level = lowest(rest);
        const std::uint64_t unit = first_unit(level);
        const std::uint64_t tick = level == 0 ? unit : slots_[slot_of(level, unit)].tick_min;
        if (tick < best) best = tick;
        // In the base's own block of a level everything is before all of the coarser levels.
        if (unit_of(1, unit ^ unit_of(level, base_)) == 0) break;
    }
    return best;
}

inline TimerNode* TimerWheel::expire_one(std::uint64_t now) noexcept {
    if (now > now_) now_ = now;
    // Bounded: each round brings the base to now_, to a timer, or into a coarse slot with a stale
    // minimum, whose timers are filed again.
    for (;;) {
        const std::uint32_t slot = slot_of(0, base_);
        if (slots_[slot].count != 0) {
            TimerNode* const node = take_front(slot);
            --size_;
            WHORL_ASSERT(node->tick == base_);
            return node;
        }
        if (base_ == now_) return nullptr;
        advance(target());
    }
}

// Moves the base to a later tick, with no timer between.
inline void TimerWheel::advance(std::uint64_t tick) noexcept {
    WHORL_ASSERT(tick > base_ && tick <= now_);
    const std::uint64_t change = base_ ^ tick;
    advance_drop(tick);
    base_ = tick;
    // From fine to coarse: what is in a finer slot is older than its equals in a coarser one.
    for (unsigned level = 1; unit_of(level, change) != 0; ++level) {
        const std::uint32_t slot = slot_of(level, unit_of(level, tick));
        if (slots_[slot].count != 0) advance_enter(slot);
    }
}

// On the way from the base to the tick, drops as much of each crowded next slot as the step is of
// the way to the slot, so that at the border no crowd is left.
inline void TimerWheel::advance_drop(std::uint64_t tick) noexcept {
    WHORL_VERIFY(tick > base_);
    Share shares[levels];
    unsigned crowds = 0;
    for (std::uint32_t rest = levels_occupied_ & ~1u; rest != 0; rest &= rest - 1) {
        const unsigned level = lowest(rest);
        const std::uint32_t count = advance_share(level, tick);
        if (count != 0) shares[crowds++] = {level, count};
    }
    // One of each in turn: the next timer of a list is known only from the one before, so the
    // memory of one list is fetched while another's is worked on.
    for (unsigned at = 0; crowds != 0;) {
        if (at >= crowds) at = 0;
        Share& share = shares[at];
        drop(share.level);
        if (--share.count != 0) {
            ++at;
        } else {
            share = shares[--crowds];
        }
    }
}

// How many timers of the level's next slot are due to be dropped on the way to the tick.
inline std::uint32_t TimerWheel::advance_share(unsigned level, std::uint64_t tick) const noexcept {
    const std::uint64_t unit = unit_of(level, base_) + 1;
    const std::uint64_t start = unit << level * digit_bits;
    const std::uint32_t count = slots_[slot_of(level, unit)].count;
    if (count <= crowd_max) return 0;
    if (start <= tick) return 0;  // The step enters the slot.
    const std::uint32_t excess = count - crowd_max;
    const double part = static_cast<double>(tick - base_) / static_cast<double>(start - base_);
    const std::uint32_t share = static_cast<std::uint32_t>(part * excess) + 1;
    return share < excess ? share : excess;
}

// Files all timers of a slot again that the base has just entered.
inline void TimerWheel::advance_enter(std::uint32_t slot) noexcept {
    std::uint32_t count = slots_[slot].count;
    WHORL_ASSERT(count != 0);
    for (; count != 0; --count) {
        TimerNode* const node = take_front(slot);
        place(*node, level_for(node->tick));
    }
    WHORL_ASSERT(slots_[slot].count == 0);
}

inline void TimerWheel::prepare(std::uint32_t budget) noexcept {
    // From fine to coarse: what is nearer is more urgent, and the next call goes on.
    for (std::uint32_t rest = levels_occupied_ & ~1u; rest != 0 && budget != 0; rest &= rest - 1) {
        const unsigned level = lowest(rest);
        const Slot& slot = slots_[slot_of(level, unit_of(level, base_) + 1)];
        for (; slot.count > crowd_max && budget != 0; --budget) drop(level);
    }
}

// The exact minimum of a coarse slot, repaired if stale.
inline std::uint64_t TimerWheel::minimum(std::uint32_t index) noexcept {
    Slot& slot = slots_[index];
    WHORL_ASSERT(slot.count != 0);
    if (slot.stale == 0) return slot.tick_min;
    std::uint64_t tick_min = tick_none;
    for (ListNode* node = slot.timers.front(); node != nullptr; node = slot.timers.after(*node)) {
        if (timer(node)->tick < tick_min) tick_min = timer(node)->tick;
    }
    WHORL_ASSERT(tick_min >= slot.tick_min);
    slot.tick_min = tick_min;
    slot.stale = 0;
    return tick_min;
}

inline std::uint64_t TimerWheel::next_tick() noexcept {
    std::uint64_t best = tick_none;
    for (std::uint32_t rest = levels_occupied_; rest != 0; rest &= rest - 1) {
        const unsigned level = lowest(rest);
        const std::uint64_t unit = first_unit(level);
        const std::uint32_t slot = slot_of(level, unit);
        if (level == 0) {
            best = unit;
        } else if (slots_[slot].tick_min < best) {
            const std::uint64_t tick = minimum(slot);
            if (tick < best) best = tick;
        }
        if (unit_of(1, unit ^ unit_of(level, base_)) == 0) break;
    }
    WHORL_ASSERT(best >= base_);
    return best;
}

inline std::uint64_t TimerWheel::wake_tick() const noexcept {
    std::uint64_t best = tick_none;
    for (std::uint32_t rest = levels_occupied_; rest != 0; rest &= rest - 1) {
        const unsigned level = lowest(rest);
        const std::uint64_t unit = first_unit(level);
        const Slot& slot = slots_[slot_of(level, unit)];
        const Slot& slot_after = slots_[slot_of(level, unit + 1)];
        std::uint64_t tick = level == 0 ? unit : slot.tick_min;
        // A crowd is dropped while the base is in the slot before: be there when that slot begins.
        if (level != 0 && slot_after.count > crowd_max) tick = unit << level * digit_bits;
        if (level != 0 && slot.count > crowd_max) tick = (unit - 1) << level * digit_bits;
        if (tick < best) best = tick;
    }
    return best < now_ ? now_ : best;
}

inline bool TimerWheel::check_slot(unsigned level, std::uint64_t unit) const noexcept {
    const std::uint32_t index = slot_of(level, unit);
    const Slot& slot = slots_[index];
    if (!slot.timers.check()) return false;
    if ((words_[index / 64] >> index % 64 & 1) != (slot.count != 0)) return false;
    std::uint32_t count = 0;
    bool found = false;
    for (ListNode* at = slot.timers.front(); at != nullptr; at = slot.timers.after(*at)) {
        const TimerNode& node = *timer(at);
        if (node.slot != index || unit_of(level, node.tick) != unit) return false;
        if (node.tick < base_ || node.tick < slot.tick_min) return false;
        if (node.tick == slot.tick_min) found = true;
        ++count;
    }
    if (count != slot.count) return false;
    if (count == 0) return true;
    if (!found && (slot.stale == 0 || level == 0)) return false;
    if (level != 0 && unit == unit_of(level, base_)) return false;
    return unit_of(1, unit) - unit_of(level + 1, base_) <= 1;
}

inline bool TimerWheel::check_level(unsigned level, std::size_t* total) const noexcept {
    for (unsigned word = 0; word != words; ++word) {
        if ((summaries_[level] >> word & 1) != (words_[level * words + word] != 0)) return false;
    }
    if ((levels_occupied_ >> level & 1) != (summaries_[level] != 0)) return false;
    for (std::uint32_t distance = 0; distance != ring; ++distance) {
        const std::uint64_t unit = unit_of(level, base_) + distance;
        if (!check_slot(level, unit)) return false;
        *total += slots_[slot_of(level, unit)].count;
    }
    return true;
}

inline bool TimerWheel::check() const noexcept {
    if (base_ > now_) return false;
    std::size_t total = 0;
    for (unsigned level = 0; level != levels; ++level) {
        if (!check_level(level, &total)) return false;
    }
    return total == size_;
}

}  // namespace whorl
