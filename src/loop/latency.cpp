// SPDX-License-Identifier: MIT
// Floor: 4
#include "loop/latency.hpp"

#include "loop/core.hpp"

#include <cstring>
#include <new>
#include <utility>

namespace whorl::detail {

std::uint32_t row_of(std::uint8_t kind) noexcept {
    if (kind <= row_timer) return kind;
    if (kind == kind_post) return row_post;
    return kind == kind_remote_post ? row_remote_post : kind_rows;
}

const char* name_of_row(std::uint32_t row) noexcept {
    if (row <= row_timer) return name_of(static_cast<OpKind>(row));
    if (row == row_post) return "post";
    return row == row_remote_post ? "remote_post" : "";
}

namespace {

// What answers more than once by nature.
constexpr bool goes_on(OpKind kind) noexcept {
    return kind == OpKind::accept_stream || kind == OpKind::recv_stream ||
           kind == OpKind::message_stream || kind == OpKind::signal_stream || kind == OpKind::watch;
}

}  // namespace

LatencyTable::~LatencyTable() {
    for (Row* row : rows_) delete row;
}

// Null: there is no memory for it, and this handler goes uncounted.
LatencyTable::Row* LatencyTable::row(std::uint32_t index) noexcept {
    if (rows_[index] != nullptr) return rows_[index];
    Result<Histogram> one = Histogram::create(latency_histogram);
    Result<Histogram> two = Histogram::create(latency_histogram);
    Result<Histogram> three = Histogram::create(latency_histogram);
    Result<Histogram> four = Histogram::create(latency_histogram);
    if (!one || !two || !three || !four) return nullptr;
    rows_[index] = new (std::nothrow)
        Row{{}, {{std::move(*one)}, {std::move(*two)}, {std::move(*three)}, {std::move(*four)}}};
    return rows_[index];
}

void LatencyTable::Phase::count(std::uint64_t from, std::uint64_t to) noexcept {
    const std::uint64_t time = to > from ? to - from : 0;
    histogram.record(time);
    sum += time;
}

void LatencyTable::record(const HandlerRun& run, std::uint64_t collected_ns,
                          std::uint64_t end_ns) noexcept {
    const std::uint32_t index = row_of(run.kind);
    if (index == kind_rows) return;
    Row* row = this->row(index);
    if (row == nullptr) return;
    Phase* phases = row->phases;
    phases[static_cast<int>(LatencyPhase::handler)].count(run.begun_ns, end_ns);
    if (index == row_post && run.submitted_ns != 0) {
        phases[static_cast<int>(LatencyPhase::queued)].count(run.submitted_ns, run.begun_ns);
    }
    // An older answer than the last ones was an earlier event's, and this end is the loop's own.
    if (run.completed_ns == 0 || run.completed_ns != collected_ns) return;
    phases[static_cast<int>(LatencyPhase::waiting)].count(run.completed_ns, run.begun_ns);
    if (run.handed_ns == 0 || goes_on(static_cast<OpKind>(run.kind))) return;
    phases[static_cast<int>(LatencyPhase::queued)].count(run.submitted_ns, run.handed_ns);
    phases[static_cast<int>(LatencyPhase::kernel)].count(run.handed_ns, run.completed_ns);
}

const Histogram* LatencyTable::find(std::uint32_t row, LatencyPhase phase) const noexcept {
    const auto index = static_cast<std::uint32_t>(phase);
    if (row >= kind_rows || index >= latency_phases || rows_[row] == nullptr) return nullptr;
    return &rows_[row]->phases[index].histogram;
}

void LatencyTable::reset() noexcept {
    for (Row* row : rows_) {
        if (row == nullptr) continue;
        for (Phase& phase : row->phases) {
            phase.histogram.reset();
            phase.sum = 0;
        }
    }
}

void LatencyTable::fill(KindFigures* kinds) noexcept {
    for (std::uint32_t index = 0; index < kind_rows; ++index) {
        if (rows_[index] == nullptr) continue;
        for (std::uint32_t phase = 0; phase < latency_phases; ++phase) {
            const Phase& counted = rows_[index]->phases[phase];
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
