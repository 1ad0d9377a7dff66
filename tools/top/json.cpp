// SPDX-License-Identifier: MIT
#include "view.hpp"

#include <whorl/operation_latency.hpp>

#include <cstdio>

namespace top {

namespace {

// Text of pages is printable ASCII already (statistics_page.cpp), a path need not be.
std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (const char letter : text) {
        if (letter == '"' || letter == '\\') out += '\\';
        const auto code = static_cast<unsigned char>(letter);
        if (code < 0x20) {
            char escaped[8];
            std::snprintf(escaped, sizeof escaped, "\\u%04x", code);
            out += escaped;
        } else {
            out += letter;
        }
    }
    return out + '"';
}

class Object {
  public:
    explicit Object(std::string& out) : out_(out) { out_ += '{'; }
    Object(const Object&) = delete;
    Object& operator=(const Object&) = delete;
    ~Object() { out_ += '}'; }
    void key(const char* name) {
        if (!first_) out_ += ',';
        first_ = false;
        out_ += '"';
        out_ += name;
        out_ += "\":";
    }
    void add(const char* name, std::uint64_t value) {
        key(name);
        out_ += std::to_string(value);
    }
    void add(const char* name, double value) {
        key(name);
        char text[48];
        std::snprintf(text, sizeof text, "%.3f", value);
        out_ += text;
    }
    void add(const char* name, const std::string& value) {
        key(name);
        out_ += quoted(value);
    }

  private:
    std::string& out_;
    bool first_ = true;
};

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
