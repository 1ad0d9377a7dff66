// SPDX-License-Identifier: MIT
#include "view.hpp"

#include <algorithm>
#include <cstdio>

#include "panels.hpp"

namespace top {

namespace {

constexpr const char* column_names[column_count] = {"loop",    "name", "busy",  "handlers",
                                                    "turns",   "ops",  "calls", "batch",
                                                    "handles", "pool", "p99",   "slow"};

// What a column is sorted by: more is first.
double weight(const Row& row, Column column) {
    switch (column) {
        case Column::busy:
            return row.busy;
        case Column::handlers:
            return row.handlers;
        case Column::turns:
            return row.turns;
        case Column::operations:
            return row.operations;
        case Column::calls:
            return row.calls;
        case Column::batch:
            return row.batch;
        case Column::handles:
            return row.figures.statistics.handles;
        case Column::pool:
            return static_cast<double>(row.figures.statistics.buffers_out);
        case Column::p99:
            return static_cast<double>(std::max(row.p99_waiting_ns, row.p99_handler_ns));
        case Column::slow:
            return static_cast<double>(row.details.slow_handlers);
        case Column::loop:
        case Column::name:
            break;
    }
    return 0;
}

std::string row_text(const Row& row) {
    const whorl::LoopFigures& figures = row.figures;
    return format(
        "%4llu %-12.12s %-8.8s %-5s %5.1f %5.1f %5.1f %5.1f %7s %7s %7s %6.1f %6s %5s "
        "%7s %6s %7s %7s %5s",
        static_cast<unsigned long long>(row.number), row.name.empty() ? "-" : row.name.c_str(),
        row.backend.c_str(), row.state.c_str(), row.busy, row.waiting, row.handlers, row.own,
        short_number(row.turns).c_str(), short_number(row.operations).c_str(),
        short_number(row.calls).c_str(), row.batch,
        short_number(static_cast<double>(figures.timers)).c_str(),
        short_number(static_cast<double>(figures.posts)).c_str(),
        short_number(figures.statistics.handles).c_str(),
        short_number(figures.statistics.buffers_out).c_str(),
        short_time(row.p99_waiting_ns).c_str(), short_time(row.p99_handler_ns).c_str(),
        short_number(static_cast<double>(row.details.slow_handlers)).c_str());
}

// A limit of 0 is none.
std::string mark(const char* name, std::uint64_t now, std::uint64_t high, std::uint64_t limit) {
    std::string text =
        format("%s %s, most %s", name, short_number(static_cast<double>(now)).c_str(),
               short_number(static_cast<double>(high)).c_str());
    if (limit != 0) text += " of " + short_number(static_cast<double>(limit));
    return text;
}

void add_limits(const Row& row, std::vector<Line>& lines) {
    const whorl::LoopFigures& figures = row.figures;
    const whorl::Statistics& statistics = figures.statistics;
    lines.push_back(
        {mark("operations", statistics.operations, statistics.operations_high,
              figures.operations_max) +
         "; " + mark("handles", statistics.handles, statistics.handles_high, figures.handles_max)});
    lines.push_back({mark("posts", figures.posts, statistics.posts_high, figures.posts_max) +
                     "; works most " + short_number(statistics.works_high) + " of " +
                     short_number(static_cast<double>(figures.works_max)) + "; a turn's most " +
                     short_number(statistics.completions_batch_high) + " of " +
                     short_number(static_cast<double>(figures.completions_batch_max))});
    lines.push_back({mark("pool: buffers", statistics.buffers_out, statistics.buffers_out_high, 0) +
                     "; " + short_number(static_cast<double>(statistics.buffer_bytes_mapped)) +
                     "B mapped of " + short_number(static_cast<double>(figures.buffer_bytes_max)) +
                     "B; starved " + short_number(static_cast<double>(statistics.recv_starved)) +
                     ", paused " + short_number(static_cast<double>(statistics.recv_paused))});
    std::string batches = "completions of a turn: ";
    for (std::uint32_t index = 0; index < whorl::LoopFigures::batch_rows; ++index) {
        if (figures.batches[index] == 0) continue;
        batches += format("%s%u:%s ", index > 1 ? ">=" : "", index == 0 ? 0 : 1u << (index - 1),
                          short_number(static_cast<double>(figures.batches[index])).c_str());
    }
    lines.push_back({batches});
}

}  // namespace

const char* name_of(Column column) { return column_names[static_cast<int>(column)]; }

bool column_of(std::string_view name, Column& column) {
    for (int index = 0; index < column_count; ++index) {
        if (name != column_names[index]) continue;
        column = static_cast<Column>(index);
        return true;
    }
    return false;
}

std::string short_number(double value) {
    const char* units[] = {"", "k", "M", "G", "T"};
    int unit = 0;
    while (value >= 999.5 && unit < 4) {
        value /= 1000;
        ++unit;
    }
    const int places = unit == 0 ? (value < 10 && value != static_cast<int>(value) ? 1 : 0)
                                 : (value < 9.995   ? 2
                                    : value < 99.95 ? 1
                                                    : 0);
    return format("%.*f%s", places, value, units[unit]);
}

std::string short_time(std::uint64_t ns) {
    if (ns == 0) return "-";
    const char* units[] = {"ns", "us", "ms", "s"};
    auto value = static_cast<double>(ns);
    int unit = 0;
    while (value >= 999.5 && unit < 3) {
        value /= 1000;
        ++unit;
    }
    return format("%.*f%s", unit > 0 && value < 9.95 ? 1 : 0, value, units[unit]);
}

void sort_rows(std::vector<Row>& rows, const View& view) {
    std::stable_sort(rows.begin(), rows.end(), [&](const Row& one, const Row& two) {
        if (view.sort == Column::loop) return one.number < two.number;
        if (view.sort == Column::name) return one.name < two.name;
        return weight(one, view.sort) > weight(two, view.sort);
    });
    if (view.reversed) std::reverse(rows.begin(), rows.end());
}

std::vector<Line> table(const Sample& sample, const View& view) {
    std::vector<Row> rows = sample.rows;
    sort_rows(rows, view);
    std::vector<Line> lines;
    lines.push_back({format("%4s %-12s %-8s %-5s %5s %5s %5s %5s %7s %7s %7s %6s %6s %5s %7s %6s "
                            "%7s %7s %5s",
                            "LOOP", "NAME", "BACKEND", "STATE", "BUSY%", "WAIT%", "HAND%", "OWN%",
                            "TURNS/S", "OPS/S", "CALLS/S", "BATCH", "TIMERS", "POSTS", "HANDLES",
                            "POOL", "P99WAIT", "P99HAND", "SLOW"),
                     true});
    for (const Row& row : rows) lines.push_back({row_text(row), row.number == view.selected});
    return lines;
}

std::vector<Line> screen(const std::string& title, const Sample& sample, const View& view,
                         int width, int height) {
    std::vector<Line> lines;
    lines.push_back({format("whorl-top  %s  %zu loops  every %.1fs  by %s%s%s", title.c_str(),
                            sample.rows.size(), view.interval_s, name_of(view.sort),
                            view.reversed ? " reversed" : "", view.paused ? "  PAUSED" : "")});
    lines.push_back(
        {"q quit  s sort  r reverse  up/down loop  v kinds/slow/handles  o its order  + - interval "
         " p pause"});
    View shown = view;
    if (shown.selected == 0 && !sample.rows.empty()) {
        std::vector<Row> rows = sample.rows;
        sort_rows(rows, view);
        shown.selected = rows.front().number;
    }
    for (Line& line : table(sample, shown)) lines.push_back(std::move(line));
    for (const Row& row : sample.rows) {
        if (row.number != shown.selected) continue;
        lines.push_back({""});
        lines.push_back({format("loop %llu %s", static_cast<unsigned long long>(row.number),
                                row.name.c_str())});
        add_limits(row, lines);
        for (Line& line : panel(row, view, sample.time_ns)) lines.push_back(std::move(line));
    }
    if (lines.size() > static_cast<std::size_t>(height))
        lines.resize(static_cast<std::size_t>(height));
    for (Line& line : lines) {
        if (line.text.size() > static_cast<std::size_t>(width)) {
            line.text.resize(static_cast<std::size_t>(width));
        }
    }
    return lines;
}

}  // namespace top
