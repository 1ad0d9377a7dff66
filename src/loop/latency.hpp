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
std::uint32_t row_of(std::uint8_t kind) noexcept;
const char* name_of_row(std::uint32_t row) noexcept;

// Memory: four histograms, 35 KiB, for each kind that has been used; kept to the end of the loop.
// Thread: the loop's.
class LatencyTable : public Allocated<LatencyTable> {
  public:
    LatencyTable() noexcept = default;
    LatencyTable(const LatencyTable&) = delete;
    LatencyTable& operator=(const LatencyTable&) = delete;
    ~LatencyTable();

    // A handler that has run. `collected_ns`: when the backend's last answers were taken.
    void record(const HandlerRun& run, std::uint64_t collected_ns, std::uint64_t end_ns) noexcept;
    // Null: none of this kind was counted.
    const Histogram* find(std::uint32_t row, LatencyPhase phase) const noexcept;
    void reset() noexcept;
    // Cost: O(buckets) for each phase in which something was counted since it was filled.
    void fill(KindFigures* kinds) noexcept;

  private:
    struct Phase {
        Histogram histogram;
        std::uint64_t sum = 0;
        void count(std::uint64_t from, std::uint64_t to) noexcept;
    };
    struct Row : Allocated<Row> {
        Phase phases[latency_phases];
    };
    Row* row(std::uint32_t index) noexcept;

    Row* rows_[kind_rows] = {};
};

}  // namespace whorl::detail
