// SPDX-License-Identifier: MIT
#include "view.hpp"

#include <string>
#include <utility>
#include <whorl/operation_latency.hpp>

#include "common/json.hpp"
#include "panels.hpp"

namespace top {

namespace {

using tools::Object;

void add_latency(const whorl::KindFigures& figures, Object& kind, std::string& out) {
    kind.key("latency_ns");
    Object phases(out);
    for (std::uint32_t index = 0; index < whorl::latency_phases; ++index) {
        const whorl::LatencyFigures& phase = figures.latency[index];
        if (phase.count == 0) continue;
        phases.key(whorl::name_of(static_cast<whorl::LatencyPhase>(index)));
        Object values(out);
        values.add("count", phase.count);
        values.add("sum", phase.sum);
        values.add("p50", phase.p50);
        values.add("p99", phase.p99);
        values.add("max", phase.max);
    }
}

void add_kinds(const Row& row, Object& loop, std::string& out) {
    loop.key("kinds");
    Object kinds(out);
    for (const Row::Kind& kind : row.kinds) {
        kinds.key(kind.name.c_str());
        Object values(out);
        values.add("submitted", kind.figures.submitted);
        values.add("per_second", kind.rate);
        add_latency(kind.figures, values, out);
    }
}

void add_slow(const Row& row, Object& loop, std::string& out) {
    const whorl::LoopDetails& details = row.details;
    loop.key("slow");
    Object all(out);
    all.add("threshold_ns", details.slow_threshold_ns);
    all.add("handlers", details.slow_handlers);
    all.add("stuck", details.stuck_handlers);
    all.key("places");
    out += '[';
    const char* comma = "";
    for (const whorl::SlowFigures* slow : slow_rows(row, SlowOrder::recent)) {
        out += std::exchange(comma, ",");
        Object place(out);
        place.add("file", std::string(slow->file));
        place.add("line", slow->line);
        place.add("kind", std::string(slow->kind));
        place.add("handler", std::string(slow->handler));
        place.add("times", slow->count);
        place.add("last_ns", slow->last_ns);
        place.add("longest_ns", slow->longest_ns);
        place.add("total_ns", slow->total_ns);
        place.add("ended_ns", slow->ended_ns);
    }
    out += ']';
}

void add_handle(const Row& row, const whorl::HandleFigures& handle, std::string& out) {
    Object values(out);
    values.add("handle", handle.handle);
    values.key("fd");
    out += std::to_string(handle.fd);
    values.add("kind", std::string(handle.kind));
    values.add("state", std::string(handle.state));
    values.add("opened_ns", handle.opened_ns);
    values.add("bytes_in", handle.bytes_in);
    values.add("bytes_out", handle.bytes_out);
    values.add("bytes_recent", handle.bytes_recent);
    values.add("completions", handle.completions);
    values.add("operations", handle.operations);
    const auto name = row.names.find(static_cast<int>(handle.fd));
    if (name != row.names.end()) values.add("what", name->second);
}

void add_handles(const Row& row, Object& loop, std::string& out) {
    const whorl::LoopDetails& details = row.details;
    loop.key("top_handles");
    Object all(out);
    all.add("wanted", details.handles_wanted);
    all.add("open", details.handles_open);
    all.add("looks", details.looks);
    all.add("looked_ns", details.looked_ns);
    all.add("recent_ns", details.recent_ns);
    for (std::uint32_t order = 0; order < whorl::handle_orders; ++order) {
        all.key(whorl::name_of(static_cast<whorl::HandleOrder>(order)));
        out += '[';
        for (std::uint64_t index = 0; index < details.handles_count[order]; ++index) {
            if (index != 0) out += ',';
            add_handle(row, details.handles[order][index], out);
        }
        out += ']';
    }
}

void add_loop(const Row& row, std::string& out) {
    const whorl::LoopFigures& figures = row.figures;
    const whorl::Statistics& statistics = figures.statistics;
    Object loop(out);
    loop.add("loop", row.number);
    loop.add("name", row.name);
    loop.add("backend", row.backend);
    loop.add("state", row.state);
    loop.add("thread", figures.thread);
    loop.add("age_s", row.age_s);
    loop.add("busy_percent", row.busy);
    loop.add("wait_percent", row.waiting);
    loop.add("handlers_percent", row.handlers);
    loop.add("own_percent", row.own);
    loop.add("turns_per_second", row.turns);
    loop.add("operations_per_second", row.operations);
    loop.add("calls_per_second", row.calls);
    loop.add("batch", row.batch);
    loop.add("timers", figures.timers);
    loop.add("posts", figures.posts);
    loop.add("posts_high", std::uint64_t{statistics.posts_high});
    loop.add("posts_max", figures.posts_max);
    loop.add("operations", std::uint64_t{statistics.operations});
    loop.add("operations_high", std::uint64_t{statistics.operations_high});
    loop.add("operations_max", figures.operations_max);
    loop.add("handles", std::uint64_t{statistics.handles});
    loop.add("handles_high", std::uint64_t{statistics.handles_high});
    loop.add("handles_max", figures.handles_max);
    loop.add("buffers_out", std::uint64_t{statistics.buffers_out});
    loop.add("buffer_bytes_mapped", statistics.buffer_bytes_mapped);
    loop.add("buffer_bytes_max", figures.buffer_bytes_max);
    loop.add("completions_stale", statistics.completions_stale);
    loop.add("p99_waiting_ns", row.p99_waiting_ns);
    loop.add("p99_handler_ns", row.p99_handler_ns);
    loop.key("batches");
    out += '[';
    for (std::uint32_t index = 0; index < whorl::LoopFigures::batch_rows; ++index) {
        if (index != 0) out += ',';
        out += std::to_string(figures.batches[index]);
    }
    out += ']';
    add_kinds(row, loop, out);
    add_slow(row, loop, out);
    add_handles(row, loop, out);
}

}  // namespace

std::string json(const std::string& title, const Sample& sample) {
    std::string out;
    Object all(out);
    all.add("target", title);
    all.add("time_ns", sample.time_ns);
    all.add("interval_s", sample.interval_s);
    all.key("loops");
    out += '[';
    for (std::size_t index = 0; index < sample.rows.size(); ++index) {
        if (index != 0) out += ',';
        add_loop(sample.rows[index], out);
    }
    out += ']';
    return out + "}";
}

}  // namespace top
