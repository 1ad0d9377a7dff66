// SPDX-License-Identifier: MIT
// Floor: 4
#include "loop/latency.hpp"

#include "loop/core.hpp"

#include <cstring>
#include <new>
#include <utility>

namespace whorl::detail {

const char* name_of_row(std::uint32_t row) noexcept {
    if (row <= row_timer) return name_of(static_cast<OpKind>(row));
    if (row == row_post) return "post";
    return row == row_remote_post ? "remote_post" : "";
}

LatencyTable::~LatencyTable() {
    for (Row* row : rows_) delete row;
}

// Null: there is no memory for it, and this handler goes uncounted.
LatencyTable::Row* LatencyTable::make(std::uint32_t index) noexcept {
    Result<Histogram> one = Histogram::create(latency_histogram);
    Result<Histogram> two = Histogram::create(latency_histogram);
    Result<Histogram> three = Histogram::create(latency_histogram);
    Result<Histogram> four = Histogram::create(latency_histogram);
    if (!one || !two || !three || !four) return nullptr;
    rows_[index] = new (std::nothrow)
        Row{{}, {{std::move(*one)}, {std::move(*two)}, {std::move(*three)}, {std::move(*four)}}};
    return rows_[index];
}

const Histogram* LatencyTable::find(std::uint32_t row, LatencyPhase phase) const noexcept {
    const auto index = static_cast<std::uint32_t>(phase);
    if (row >= kind_rows || index >= latency_phases || rows_[row] == nullptr) return nullptr;
    return &rows_[row]->phases[index].histogram;
}

void LatencyTable::reset() noexcept {
    for (Row* row : rows_) {
        if (row == nullptr) continue;
        for (PhaseCounts& phase : row->phases) {
            phase.histogram.reset();
            phase.sum = 0;
        }
    }
}

void LatencyTable::fill(KindFigures* kinds) noexcept {
    for (std::uint32_t index = 0; index < kind_rows; ++index) {
        if (rows_[index] == nullptr) continue;
        for (std::uint32_t phase = 0; phase < latency_phases; ++phase) {
            const PhaseCounts& counted = rows_[index]->phases[phase];
            LatencyFigures& figures = kinds[index].latency[phase];
            if (figures.count == counted.histogram.count()) continue;
            figures.count = counted.histogram.count();
            figures.sum = counted.sum;
            figures.p50 = counted.histogram.percentile(50);
            figures.p99 = counted.histogram.percentile(99);
            figures.max = counted.histogram.max();
        }
    }
}

}  // namespace whorl::detail

namespace whorl {

const Histogram* Loop::latency(const char* kind, LatencyPhase phase) const noexcept {
    const detail::Insight* insight = core_->insight;
    if (insight == nullptr || insight->latency == nullptr) return nullptr;
    for (std::uint32_t row = 0; row < detail::kind_rows; ++row) {
        if (std::strcmp(kind, detail::name_of_row(row)) == 0) {
            return insight->latency->find(row, phase);
        }
    }
    return nullptr;
}

void Loop::reset_latency() noexcept {
    core_->check_thread();
    if (core_->insight != nullptr && core_->insight->latency != nullptr) {
        core_->insight->latency->reset();
    }
}

}  // namespace whorl
