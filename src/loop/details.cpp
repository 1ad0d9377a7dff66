// SPDX-License-Identifier: MIT
// Floor: 4
#include "loop/details.hpp"

#include "base/symbol.hpp"
#include "loop/core.hpp"
#include "loop/insight.hpp"
#include "loop/live_handles.hpp"
#include "loop/slow_watch.hpp"

#include <cstdio>
#include <cstring>

namespace whorl::detail {

namespace {

constexpr std::uint64_t millisecond_ns = 1'000'000;
// Between two looks at all handles, and between two steps of one.
constexpr std::uint64_t look_interval_ns = 250 * millisecond_ns;
constexpr std::uint64_t step_interval_ns = 5 * millisecond_ns;
constexpr std::uint32_t step_slots = 256;
// The names of handlers are read from the program's file, so not for each one of a crowd.
constexpr std::uint64_t name_interval_ns = 1000 * millisecond_ns;

void copy_text(char* to, std::size_t size, const char* from) noexcept {
    std::snprintf(to, size, "%s", from);
}

// The end of a path says more than its beginning.
void copy_path(char* to, std::size_t size, const char* from) noexcept {
    const std::size_t length = from == nullptr ? 0 : std::strlen(from);
    copy_text(to, size, length < size ? (length == 0 ? "" : from) : from + length - (size - 1));
}

}  // namespace

Details::Details(const LoopOptions& options) noexcept {
    figures_.slow_threshold_ns = static_cast<std::uint64_t>(options.slow_handler.count());
    figures_.handles_wanted = options.top_handles;
}

// --- slow handlers

// That of its place, else a new one, else the one whose last is longest ago. O(16).
std::uint32_t Details::row_of(const HandlerRun& run) noexcept {
    const auto count = static_cast<std::uint32_t>(figures_.slow_count);
    std::uint32_t oldest = 0;
    for (std::uint32_t row = 0; row < count; ++row) {
        const SlowFigures& slow = figures_.slow[row];
        const bool same = places_[row].file == run.of.file && slow.line == run.of.line &&
                          places_[row].code == run.of.code();
        if (same) return row;
        if (slow.ended_ns < figures_.slow[oldest].ended_ns) oldest = row;
    }
    const std::uint32_t row = count < LoopDetails::slow_max ? count : oldest;
    if (row == count) ++figures_.slow_count;
    places_[row] = {run.of.file, run.of.code()};
    SlowFigures& slow = figures_.slow[row];
    slow = {};
    slow.line = run.of.line;
    copy_path(slow.file, sizeof slow.file, run.of.file);
    copy_text(slow.kind, sizeof slow.kind, name_of_kind(run.kind));
    return row;
}

void Details::slow(const HandlerRun& run, std::uint64_t ran_ns, std::uint64_t ended_ns,
                   const SlowHandlerCounts& counts) noexcept {
    figures_.slow_handlers = counts.slow;
    figures_.stuck_handlers = counts.stuck;
    const std::uint32_t row = row_of(run);
    SlowFigures& slow = figures_.slow[row];
    const bool unnamed = slow.handler[0] == 0;
    if (unnamed && (named_ns_ == 0 || ended_ns - named_ns_ >= name_interval_ns)) {
        named_ns_ = ended_ns;
        symbol_of(run.of.code(), slow.handler, sizeof slow.handler);
    }
    ++slow.count;
    slow.total_ns += ran_ns;
    slow.last_ns = ran_ns;
    if (ran_ns > slow.longest_ns) slow.longest_ns = ran_ns;
    slow.ended_ns = ended_ns;
}

// --- handles

void Details::look_begins(std::uint64_t now_ns) noexcept {
    begun_ns_ = now_ns;
    next_ = 1;
    seen_ = 0;
    for (std::uint32_t& count : counts_) count = 0;
}

bool Details::look(LoopCore& core, std::uint64_t now_ns, bool all) noexcept {
    if (figures_.handles_wanted == 0) return false;
    const std::uint64_t passed = now_ns - (next_ == 0 ? begun_ns_ : stepped_ns_);
    const bool first = figures_.looks == 0;
    const std::uint64_t interval = next_ == 0 ? look_interval_ns : step_interval_ns;
    if (!all && !first && passed < interval) return false;
    if (all || next_ == 0) look_begins(now_ns);
    stepped_ns_ = now_ns;
    do {
        next_ = core.descriptors.for_some_live(
            next_, step_slots, [&](Descriptor& descriptor) { consider(core, descriptor); });
    } while (all && next_ != 0);
    if (next_ != 0) return false;
    look_ends(core, now_ns);
    return true;
}

void Details::consider(LoopCore& core, const Descriptor& descriptor) noexcept {
    ++seen_;
    const std::uint32_t index = core.descriptors.index_of(&descriptor);
    InsightHandle* known = core.insight->find(index, descriptor.generation);
    if (known == nullptr) return;
    const std::uint64_t bytes = known->bytes_in + known->bytes_out;
    Candidate candidate{0, bytes - known->bytes_seen, index, descriptor.generation};
    known->bytes_seen = bytes;
    candidate.key = candidate.recent;
    offer(HandleOrder::recent, candidate);
    candidate.key = bytes;
    offer(HandleOrder::bytes, candidate);
    candidate.key = known->completions;
    offer(HandleOrder::completions, candidate);
    candidate.key = UINT64_MAX - known->opened_ns;
    offer(HandleOrder::age, candidate);
}

// Kept in their order by insertion: few are larger than the last that is kept.
void Details::offer(HandleOrder order, const Candidate& candidate) noexcept {
    Candidate* rows = best_[static_cast<std::uint32_t>(order)];
    std::uint32_t& count = counts_[static_cast<std::uint32_t>(order)];
    const bool full = count == figures_.handles_wanted;
    if (candidate.key == 0 || (full && candidate.key <= rows[count - 1].key)) return;
    std::uint32_t at = full ? count - 1 : count++;
    for (; at != 0 && rows[at - 1].key < candidate.key; --at) rows[at] = rows[at - 1];
    rows[at] = candidate;
}

// What has been closed since it was seen is left out.
void Details::look_ends(LoopCore& core, std::uint64_t now_ns) noexcept {
    for (std::uint32_t order = 0; order < handle_orders; ++order) {
        std::uint64_t& count = figures_.handles_count[order];
        count = 0;
        for (std::uint32_t next = 0; next < counts_[order]; ++next) {
            const Candidate& candidate = best_[order][next];
            Descriptor* found = core.descriptors.find(candidate.index, candidate.generation);
            const InsightHandle* known = core.insight->find(candidate.index, candidate.generation);
            if (found == nullptr || known == nullptr) continue;
            HandleFigures& row = figures_.handles[order][count++];
            row = {};
            row.handle = core.descriptors.handle_of(found);
            row.fd = found->fd;
            row.opened_ns = known->opened_ns;
            row.bytes_in = known->bytes_in;
            row.bytes_out = known->bytes_out;
            row.bytes_recent = candidate.recent;
            row.completions = known->completions;
            row.operations = found->operations;
            copy_text(row.kind, sizeof row.kind, name_of(found->kind));
            copy_text(row.state, sizeof row.state, name_of(found->state));
        }
    }
    figures_.handles_open = seen_;
    figures_.recent_ns = figures_.looks == 0 ? 0 : now_ns - figures_.looked_ns;
    figures_.looked_ns = now_ns;
    ++figures_.looks;
}

}  // namespace whorl::detail
