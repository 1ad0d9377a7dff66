// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include "loop/insight.hpp"

#include <whorl/allocated.hpp>
#include <whorl/operation_latency.hpp>
#include <whorl/statistics_page.hpp>

#include <cstdint>

// The histograms of operation_latency.hpp, fed by the seam in insight.hpp.

namespace whorl::detail {

// Rows of kinds: those of operation_list.hpp in their order, then what else has handlers.
inline constexpr std::uint32_t row_timer = op_kind_count;
inline constexpr std::uint32_t row_post = row_timer + 1;
inline constexpr std::uint32_t row_remote_post = row_timer + 2;
inline constexpr std::uint32_t kind_rows = row_timer + 3;
static_assert(kind_rows <= LoopFigures::kinds_max, "raise kinds_max and the page's version");

// kind_rows: it has none.
constexpr std::uint32_t row_of(std::uint8_t kind) noexcept {
    if (kind <= row_timer) return kind;
    if (kind == kind_post) return row_post;
    return kind == kind_remote_post ? row_remote_post : kind_rows;
}
const char* name_of_row(std::uint32_t row) noexcept;

struct PhaseCounts {
    Histogram histogram;
    std::uint64_t sum = 0;
    void count(std::uint64_t from, std::uint64_t to) noexcept {
        const std::uint64_t time = to > from ? to - from : 0;
        histogram.record(time);
        sum += time;
    }
};

// Memory: four histograms, 35 KiB, for each kind that has been used; kept to the end of the loop.
// Thread: the loop's.
class LatencyTable : public Allocated<LatencyTable> {
  public:
    LatencyTable() noexcept = default;
    LatencyTable(const LatencyTable&) = delete;
    LatencyTable& operator=(const LatencyTable&) = delete;
    ~LatencyTable();

    // A handler that begins: counts what came before it. `collected_ns`: when the backend's last answers
    // were taken. Returns where to count how long it runs; null: nowhere.
    PhaseCounts* begins(std::uint8_t kind, const InsightEntry& of, std::uint64_t collected_ns,
                        std::uint64_t begun_ns) noexcept;
    // Null: none of this kind was counted.
    const Histogram* find(std::uint32_t row, LatencyPhase phase) const noexcept;
    void reset() noexcept;
    // Cost: O(buckets) for each phase in which something was counted since it was filled.
    void fill(KindFigures* kinds) noexcept;

  private:
    struct Row : Allocated<Row> {
        PhaseCounts phases[latency_phases];
        PhaseCounts& of(LatencyPhase phase) noexcept {
            return phases[static_cast<std::uint32_t>(phase)];
        }
    };
    // Null: no handlers, or no memory.
    Row* row(std::uint8_t kind) noexcept {
        const std::uint32_t index = row_of(kind);
        if (index == kind_rows) return nullptr;
        return rows_[index] != nullptr ? rows_[index] : make(index);
    }
    Row* make(std::uint32_t index) noexcept;

    Row* rows_[kind_rows] = {};
};

// What answers more than once by nature.
constexpr bool goes_on(std::uint8_t kind) noexcept {
    constexpr auto bit = [](OpKind one) { return std::uint64_t{1} << static_cast<unsigned>(one); };
    constexpr std::uint64_t kinds = bit(OpKind::accept_stream) | bit(OpKind::recv_stream) |
                                    bit(OpKind::message_stream) | bit(OpKind::signal_stream) |
                                    bit(OpKind::watch);
    static_assert(kind_rows <= 64, "a bit for each kind");
    return kind < 64 && (kinds >> kind & 1) != 0;
}

inline PhaseCounts* LatencyTable::begins(std::uint8_t kind, const InsightEntry& of,
                                         std::uint64_t collected_ns,
                                         std::uint64_t begun_ns) noexcept {
    Row* found = row(kind);
    if (found == nullptr) return nullptr;
    PhaseCounts* handler = &found->of(LatencyPhase::handler);
    // An older answer than the last ones was an earlier event's, and this end is the loop's own.
    if (of.completed_ns != collected_ns) {
        const bool posted = kind == kind_post && of.submitted_ns != 0;
        if (posted) found->of(LatencyPhase::queued).count(of.submitted_ns, begun_ns);
        return handler;
    }
    found->of(LatencyPhase::waiting).count(of.completed_ns, begun_ns);
    if (of.handed_ns == 0 || goes_on(kind)) return handler;
    found->of(LatencyPhase::queued).count(of.submitted_ns, of.handed_ns);
    found->of(LatencyPhase::kernel).count(of.handed_ns, of.completed_ns);
    return handler;
}

}  // namespace whorl::detail
