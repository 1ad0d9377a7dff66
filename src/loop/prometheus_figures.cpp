// SPDX-License-Identifier: MIT
// Floor: 4
#include "loop/prometheus_text.hpp"

#include <whorl/loop_details.hpp>
#include <whorl/operation_latency.hpp>
#include <whorl/prometheus.hpp>
#include <whorl/statistics_page.hpp>

#include <cstddef>
#include <cstdio>

// What a page has besides the statistics.

namespace whorl {

namespace {

using detail::PrometheusText;

struct Loops {
    const LoopFigures* figures;
    const StatisticsPage& names;
    const std::string_view* labels;
    std::size_t count;
};

struct Number {
    std::string_view name;
    std::string_view help;
    std::uint64_t LoopFigures::*value;
    bool seconds;
};

const Number numbers[] = {
    {"wait_seconds_total", "Time in the backend: asleep, looking, submitting.",
     &LoopFigures::wait_ns, true},
    {"handler_seconds_total", "Time in handlers.", &LoopFigures::handler_ns, true},
    {"own_seconds_total", "Time in the loop itself.", &LoopFigures::own_ns, true},
    {"cpu_seconds_total", "Processor time of the loop's thread.", &LoopFigures::cpu_ns, true},
    {"posts", "Posts waiting.", &LoopFigures::posts, false},
    {"timers", "Timers armed.", &LoopFigures::timers, false},
    {"operations_max", "LoopOptions::ops_max.", &LoopFigures::operations_max, false},
    {"handles_max", "LoopOptions::handles_max.", &LoopFigures::handles_max, false},
    {"posts_max", "LoopOptions::posts_max.", &LoopFigures::posts_max, false},
    {"works_max", "LoopOptions::work_max.", &LoopFigures::works_max, false},
    {"buffer_bytes_max", "LoopOptions::buffer_bytes_max.", &LoopFigures::buffer_bytes_max, false},
    {"completions_batch_max", "LoopOptions::completions_per_turn.",
     &LoopFigures::completions_batch_max, false},
};

void print_numbers(PrometheusText& text, const Loops& loops) noexcept {
    for (const Number& number : numbers) {
        text.head(number.name, number.help);
        for (std::size_t index = 0; index < loops.count; ++index) {
            text.sample(number.name, loops.labels[index], {});
            const std::uint64_t value = loops.figures[index].*number.value;
            if (number.seconds) text.add_seconds(value);
            else text.add(value);
            text.add("\n");
        }
    }
}

// Row n has up to 2^n - 1 completions; the last has no limit.
void print_batches(PrometheusText& text, const Loops& loops) noexcept {
    text.head("turn_completions", "Completions collected by a turn.", "histogram");
    for (std::size_t index = 0; index < loops.count; ++index) {
        const LoopFigures& figures = loops.figures[index];
        std::uint64_t below = 0;
        for (std::uint32_t row = 0; row < LoopFigures::batch_rows; ++row) {
            below += figures.batches[row];
            char label[24] = "le=\"+Inf\"";
            if (row + 1 < LoopFigures::batch_rows) {
                std::snprintf(label, sizeof label, "le=\"%u\"", (1u << row) - 1);
            }
            text.sample("turn_completions_bucket", loops.labels[index], label);
            text.add(below);
            text.add("\n");
        }
        text.sample("turn_completions_sum", loops.labels[index], {});
        text.add(figures.statistics.completions);
        text.add("\n");
        text.sample("turn_completions_count", loops.labels[index], {});
        text.add(below);
        text.add("\n");
    }
}

void print_submitted(PrometheusText& text, const Loops& loops) noexcept {
    text.head("submitted_total", "Operations, timers and posts accepted, by kind.");
    for (std::size_t index = 0; index < loops.count; ++index) {
        const LoopFigures& figures = loops.figures[index];
        for (std::uint32_t row = 0; row < figures.kinds_count; ++row) {
            if (figures.kinds[row].submitted == 0) continue;
            char label[48];
            std::snprintf(label, sizeof label, "kind=\"%s\"", loops.names.kind_name(row));
            text.sample("submitted_total", loops.labels[index], label);
            text.add(figures.kinds[row].submitted);
            text.add("\n");
        }
    }
}

void print_phase(PrometheusText& text, std::string_view labels, const char* kind,
                 LatencyPhase phase, const LatencyFigures& figures) noexcept {
    if (figures.count == 0) return;
    const auto line = [&](const char* name, const char* quantile) {
        char label[96];
        std::snprintf(label, sizeof label, "kind=\"%s\",phase=\"%s\"%s", kind, name_of(phase),
                      quantile);
        text.sample(name, labels, label);
    };
    const struct {
        const char* label;
        std::uint64_t value;
    } quantiles[] = {{",quantile=\"0.5\"", figures.p50},
                     {",quantile=\"0.99\"", figures.p99},
                     {",quantile=\"1\"", figures.max}};
    for (const auto& quantile : quantiles) {
        line("operation_latency_seconds", quantile.label);
        text.add_seconds(quantile.value);
        text.add("\n");
    }
    line("operation_latency_seconds_sum", "");
    text.add_seconds(figures.sum);
    text.add("\n");
    line("operation_latency_seconds_count", "");
    text.add(figures.count);
    text.add("\n");
}

void print_latencies(PrometheusText& text, const Loops& loops) noexcept {
    text.head("operation_latency_seconds", "Where the time of operations went.", "summary");
    for (std::size_t index = 0; index < loops.count; ++index) {
        const LoopFigures& figures = loops.figures[index];
        for (std::uint32_t row = 0; row < figures.kinds_count; ++row) {
            for (std::uint32_t phase = 0; phase < latency_phases; ++phase) {
                print_phase(text, loops.labels[index], loops.names.kind_name(row),
                            static_cast<LatencyPhase>(phase), figures.kinds[row].latency[phase]);
            }
        }
    }
}

}  // namespace

std::size_t print_prometheus(const LoopFigures* figures, const StatisticsPage& names,
                             const std::string_view* labels, std::size_t count, char* out,
                             std::size_t size) noexcept {
    PrometheusText text(out, size);
    const Loops loops{figures, names, labels, count};
    if (count != 0) {
        detail::print_statistics(text, {&figures->statistics, sizeof(LoopFigures)}, labels, count);
    }
    print_numbers(text, loops);
    print_batches(text, loops);
    print_submitted(text, loops);
    print_latencies(text, loops);
    return text.length();
}

namespace {

// A place as labels, which may hold anything.
void print_place(PrometheusText& text, const char* name, std::string_view labels,
                 const SlowFigures& slow) noexcept {
    char line[24];
    char label[1024];
    std::snprintf(line, sizeof line, "%llu", static_cast<unsigned long long>(slow.line));
    const struct {
        const char* name;
        const char* value;
    } parts[] = {
        {"file", slow.file}, {"line", line}, {"kind", slow.kind}, {"handler", slow.handler}};
    std::size_t length = 0;
    for (const auto& part : parts) {
        if (length != 0) label[length++] = ',';
        length += prometheus_label(part.name, part.value, label + length, sizeof label - length);
    }
    static_assert(sizeof label > 2 * (sizeof slow.file + sizeof slow.kind + sizeof slow.handler) +
                                     sizeof line + 64,
                  "every letter may have to be escaped");
    text.sample(name, labels, {label, length});
}

struct SlowNumber {
    std::string_view name;
    std::string_view help;
    std::uint64_t SlowFigures::*value;
    bool seconds;
};

const SlowNumber slow_numbers[] = {
    {"slow_place_handlers_total", "Slow handlers, by where they were submitted.",
     &SlowFigures::count, false},
    {"slow_place_seconds_total", "How long slow handlers took, by where they were submitted.",
     &SlowFigures::total_ns, true},
};

}  // namespace

std::size_t print_prometheus(const LoopDetails* details, const std::string_view* labels,
                             std::size_t count, char* out, std::size_t size) noexcept {
    PrometheusText text(out, size);
    const struct {
        std::string_view name;
        std::string_view help;
        std::uint64_t LoopDetails::*value;
    } totals[] = {
        {"slow_handlers_total", "Handlers that took longer than LoopOptions::slow_handler.",
         &LoopDetails::slow_handlers},
        {"stuck_handlers_total", "Handlers that took longer than LoopOptions::stuck_handler.",
         &LoopDetails::stuck_handlers},
    };
    for (const auto& total : totals) {
        text.head(total.name, total.help);
        for (std::size_t index = 0; index < count; ++index) {
            text.sample(total.name, labels[index], {});
            text.add(details[index].*total.value);
            text.add("\n");
        }
    }
    for (const SlowNumber& number : slow_numbers) {
        text.head(number.name, number.help);
        for (std::size_t index = 0; index < count; ++index) {
            for (std::uint64_t row = 0; row < details[index].slow_count; ++row) {
                const SlowFigures& slow = details[index].slow[row];
                print_place(text, number.name.data(), labels[index], slow);
                if (number.seconds) text.add_seconds(slow.*number.value);
                else text.add(slow.*number.value);
                text.add("\n");
            }
        }
    }
    return text.length();
}

}  // namespace whorl
