// SPDX-License-Identifier: MIT
#include "panels.hpp"

#include <algorithm>
#include <cstring>

#include "common/json.hpp"

namespace top {

namespace {

std::string since(std::uint64_t time_ns, std::uint64_t now_ns) {
    return time_ns == 0 || now_ns < time_ns ? "-" : short_time(now_ns - time_ns);
}

// The end of a path is what tells files apart.
std::string place_of(const whorl::SlowFigures& slow) {
    if (slow.file[0] == 0) return "-";
    const char* slash = std::strrchr(slow.file, '/');
    return std::string(slash == nullptr ? slow.file : slash + 1) + ":" + std::to_string(slow.line);
}

void add_kinds(const Row& row, std::vector<Line>& lines) {
    lines.push_back(
        {format("%-16s %7s  %-23s %-23s %-23s %-23s", "KIND", "SUBM/S", "QUEUED p50 p99 max",
                "KERNEL p50 p99 max", "WAITING p50 p99 max", "HANDLER p50 p99 max"),
         true});
    for (const Row::Kind& kind : row.kinds) {
        std::string text =
            format("%-16.16s %7s", kind.name.c_str(), short_number(kind.rate).c_str());
        for (const whorl::LatencyFigures& phase : kind.figures.latency) {
            text += phase.count == 0
                        ? format("  %-22s", "-")
                        : format("  %6s %7s %7s", short_time(phase.p50).c_str(),
                                 short_time(phase.p99).c_str(), short_time(phase.max).c_str());
        }
        lines.push_back({text});
    }
}

void add_slow(const Row& row, const View& view, std::uint64_t time_ns, std::vector<Line>& lines) {
    const whorl::LoopDetails& details = row.details;
    if (details.slow_threshold_ns == 0) {
        lines.push_back({"nobody looks for slow handlers: LoopOptions::slow_handler"});
        return;
    }
    lines.push_back({format("%s handlers took longer than %s, %s were stuck; by %s",
                            short_number(static_cast<double>(details.slow_handlers)).c_str(),
                            short_time(details.slow_threshold_ns).c_str(),
                            short_number(static_cast<double>(details.stuck_handlers)).c_str(),
                            name_of(view.slow_order))});
    lines.push_back({format("%-14s %7s %8s %8s %8s %8s  %-28s %s", "SLOW", "TIMES", "LAST",
                            "LONGEST", "TOTAL", "AGO", "SUBMITTED AT", "HANDLER"),
                     true});
    for (const whorl::SlowFigures* slow : slow_rows(row, view.slow_order)) {
        lines.push_back(
            {format("%-14.14s %7s %8s %8s %8s %8s  %-28s %s", slow->kind,
                    short_number(static_cast<double>(slow->count)).c_str(),
                    short_time(slow->last_ns).c_str(), short_time(slow->longest_ns).c_str(),
                    short_time(slow->total_ns).c_str(), since(slow->ended_ns, time_ns).c_str(),
                    place_of(*slow).c_str(), slow->handler)});
    }
}

std::string handle_text(const Row& row, const whorl::HandleFigures& handle, std::uint64_t time_ns) {
    const whorl::LoopDetails& details = row.details;
    const double rate = details.recent_ns == 0 ? 0
                                               : static_cast<double>(handle.bytes_recent) * 1e9 /
                                                     static_cast<double>(details.recent_ns);
    const auto name = row.names.find(static_cast<int>(handle.fd));
    return format("%6lld %-8.8s %-10.10s %8s %8s %8s %8s %8s %5s  ",
                  static_cast<long long>(handle.fd), handle.kind, handle.state,
                  since(handle.opened_ns, time_ns).c_str(), short_number(rate).c_str(),
                  short_number(static_cast<double>(handle.bytes_in)).c_str(),
                  short_number(static_cast<double>(handle.bytes_out)).c_str(),
                  short_number(static_cast<double>(handle.completions)).c_str(),
                  short_number(static_cast<double>(handle.operations)).c_str()) +
           (name == row.names.end() ? "" : tools::printable(name->second));
}

void add_handles(const Row& row, const View& view, std::uint64_t time_ns,
                 std::vector<Line>& lines) {
    const whorl::LoopDetails& details = row.details;
    if (details.handles_wanted == 0) {
        lines.push_back({"nobody looks at handles: LoopOptions::top_handles"});
        return;
    }
    lines.push_back({format("%s handles, looked at %s ago; the first %s by %s",
                            short_number(static_cast<double>(details.handles_open)).c_str(),
                            since(details.looked_ns, time_ns).c_str(),
                            short_number(static_cast<double>(details.handles_wanted)).c_str(),
                            whorl::name_of(view.handle_order))});
    lines.push_back({format("%6s %-8s %-10s %8s %8s %8s %8s %8s %5s  %s", "FD", "HANDLE", "STATE",
                            "AGE", "BYTES/S", "IN", "OUT", "ANSWERS", "OPS", "WHAT"),
                     true});
    const auto order = static_cast<std::uint32_t>(view.handle_order);
    for (std::uint64_t index = 0; index < details.handles_count[order]; ++index) {
        lines.push_back({handle_text(row, details.handles[order][index], time_ns)});
    }
}

constexpr const char* panel_names[panel_count] = {"kinds", "slow", "handles"};
constexpr const char* slow_names[slow_orders] = {"recent", "longest", "times", "total"};

std::uint64_t weight(const whorl::SlowFigures& slow, SlowOrder order) {
    switch (order) {
        case SlowOrder::recent:
            return slow.ended_ns;
        case SlowOrder::longest:
            return slow.longest_ns;
        case SlowOrder::times:
            return slow.count;
        case SlowOrder::total:
            return slow.total_ns;
    }
    return 0;
}

}  // namespace

const char* name_of(Panel panel) { return panel_names[static_cast<int>(panel)]; }
const char* name_of(SlowOrder order) { return slow_names[static_cast<int>(order)]; }

bool panel_of(std::string_view name, Panel& panel) {
    for (int index = 0; index < panel_count; ++index) {
        if (name != panel_names[index]) continue;
        panel = static_cast<Panel>(index);
        return true;
    }
    return false;
}

bool order_of(std::string_view name, View& view) {
    if (view.panel == Panel::slow) {
        for (int index = 0; index < slow_orders; ++index) {
            if (name != slow_names[index]) continue;
            view.slow_order = static_cast<SlowOrder>(index);
            return true;
        }
    }
    if (view.panel == Panel::handles) {
        for (std::uint32_t index = 0; index < whorl::handle_orders; ++index) {
            const auto order = static_cast<whorl::HandleOrder>(index);
            if (name != whorl::name_of(order)) continue;
            view.handle_order = order;
            return true;
        }
    }
    return false;
}

std::vector<const whorl::SlowFigures*> slow_rows(const Row& row, SlowOrder order) {
    std::vector<const whorl::SlowFigures*> rows;
    for (std::uint64_t index = 0; index < row.details.slow_count; ++index) {
        rows.push_back(&row.details.slow[index]);
    }
    std::stable_sort(rows.begin(), rows.end(),
                     [order](const whorl::SlowFigures* one, const whorl::SlowFigures* two) {
                         return weight(*one, order) > weight(*two, order);
                     });
    return rows;
}

std::vector<Line> panel(const Row& row, const View& view, std::uint64_t time_ns) {
    std::vector<Line> lines;
    if (view.panel == Panel::kinds) add_kinds(row, lines);
    if (view.panel == Panel::slow) add_slow(row, view, time_ns, lines);
    if (view.panel == Panel::handles) add_handles(row, view, time_ns, lines);
    return lines;
}

}  // namespace top
