// SPDX-License-Identifier: MIT
// What is shown of run logs. A log may be larger than memory, so it is printed while it is read.
#include <whorl/error.hpp>

#include <algorithm>
#include <deque>
#include <map>

#include "backend/run_log_format.hpp"
#include "common/json.hpp"
#include "run_log.hpp"

namespace trace {

using tools::add;
using tools::add_quoted;
using tools::printable;

namespace {

unsigned long long number(std::uint64_t value) { return value; }

bool named(const std::vector<std::string>& names, std::string_view name) {
    return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
}

// Calls `visit` for what the filter leaves of a log that was read before.
bool visit_left(RunLog& log, const Filter& filter, const RunVisit& visit) {
    const auto whole =
        static_cast<std::int64_t>(std::max(log.first_ns, log.last_ns) - log.first_ns);
    const std::int64_t from = bound_of(filter.from_s, whole), to = bound_of(filter.to_s, whole);
    const std::uint64_t first = log.first_ns;
    std::deque<RunRecord> last;
    bool goes_on = true;
    (void)read_run_log(log, [&](const RunRecord& record) {
        const auto at = static_cast<std::int64_t>(record.time_ns - first);
        const bool wanted = at >= from && at <= to && named(filter.events, name_of(record.event)) &&
                            named(filter.kinds, record.kind);
        if (!wanted) return true;
        if (filter.last == 0) return goes_on = visit(record);
        last.push_back(record);
        if (last.size() > filter.last) last.pop_front();
        return true;
    });
    while (goes_on && !last.empty()) {
        goes_on = visit(last.front());
        last.pop_front();
    }
    return goes_on;
}

std::string error_name(std::int64_t value) {
    return whorl::Error::from_value(static_cast<std::int32_t>(value)).name();
}

// "-104 ECONNRESET"
std::string answer_text(std::int64_t value) {
    std::string out = std::to_string(value);
    if (value < 0 && value > -4096) out += " " + error_name(-value);
    return out;
}

std::string value_text(const RunRecord& record) {
    std::string out;
    switch (record.event) {
        case RunEvent::submit:
        case RunEvent::cancel:
            break;
        case RunEvent::wait:
            add(out, "%llu handed over, ", number(record.handed));
            if (record.value < 0) out += "refused: " + error_name(-record.value);
            else out += std::to_string(record.value) + " completions";
            break;
        case RunEvent::call:
        case RunEvent::ask:
        case RunEvent::name:
        case RunEvent::complete:
            out = answer_text(record.value);
            if (record.bytes != 0) add(out, ", %llu bytes kept", number(record.bytes));
            if (record.more) out += ", goes on";
            break;
        case RunEvent::options:
        case RunEvent::end:
            break;
    }
    return out;
}

std::string operation_text(const RunRecord& record) {
    std::string out;
    if (record.handle != 0) add(out, "%#llx", number(record.handle));
    if (record.slot != 0) add(out, " slot %u", record.slot);
    return out;
}

std::string end_text(const RunLog& log) {
    switch (log.end) {
        case whorl::RunEnd::complete:
            return "complete";
        case whorl::RunEnd::unfinished:
            return "unfinished (there is no mark of its end: the process was killed, or goes on)";
        default:
            return std::string("ended by ") + whorl::name_of(log.end);
    }
}

std::string heading(const RunLog& log) {
    std::string out = "# run log " + printable(log.source) + " of " + log.backend;
    add(out, ": %llu bytes, %llu entries, %llu turns, %llu operations, %.6f s, ", number(log.size),
        number(log.entries), number(log.turns), number(log.operations),
        static_cast<double>(log.last_ns - log.first_ns) * 1e-9);
    out += end_text(log);
    if (log.strange != 0) add(out, ", %llu entries NOT UNDERSTOOD", number(log.strange));
    if (!log.problem.empty()) out += ", " + printable(log.problem);
    return out + '\n';
}

std::string line_of(const RunRecord& record, std::uint64_t first_ns) {
    const std::uint64_t since = record.time_ns - first_ns;
    std::string out;
    add(out, "%5llu.%09llu  turn %-6llu %-8s  %-15s  %-24s  ", number(since / 1'000'000'000),
        number(since % 1'000'000'000), number(record.turn), name_of(record.event), record.kind,
        operation_text(record).c_str());
    std::string value = value_text(record);
    add(out, "%-36s  @%llu\n", value.c_str(), number(record.at));
    return out;
}

std::string json_of(const RunRecord& record, std::size_t run) {
    std::string out;
    add(out, "{\"run\": %zu, \"at\": %llu, \"turn\": %llu, \"time_ns\": %llu, \"event\": \"%s\", ",
        run, number(record.at), number(record.turn), number(record.time_ns), name_of(record.event));
    add(out, "\"kind\": \"%s\", \"id\": \"%#llx\", \"slot\": %u, \"value\": %lld, ", record.kind,
        number(record.handle), record.slot, static_cast<long long>(record.value));
    add(out, "\"handed\": %llu, \"bytes\": %llu, \"more\": %d}", number(record.handed),
        number(record.bytes), record.more ? 1 : 0);
    return out;
}

void add_json_run(std::string& out, const RunLog& log) {
    out += "{\"source\": ";
    add_quoted(out, log.source);
    add(out, ", \"backend\": \"%s\", \"end\": \"%s\", \"bytes\": %llu, \"entries\": %llu, ",
        log.backend, whorl::name_of(log.end), number(log.size), number(log.entries));
    add(out, "\"records\": %llu, \"turns\": %llu, \"operations\": %llu, ", number(log.records),
        number(log.turns), number(log.operations));
    add(out, "\"first_ns\": %llu, \"last_ns\": %llu, \"not_understood\": %llu, \"problem\": ",
        number(log.first_ns), number(log.last_ns), number(log.strange));
    add_quoted(out, log.problem);
    out += ",\n     \"options\": {";
    for (std::size_t index = 0; index < whorl::detail::run_options_count; ++index) {
        add(out, "%s\"%s\": %llu", index == 0 ? "" : ", ", whorl::detail::run_options_names[index],
            number(log.options[index]));
    }
    out += '}';
}

// What a run did, counted.
struct Kind {
    std::uint64_t submitted = 0, completed = 0, failed = 0, cancelled = 0, bytes = 0;
};
struct Call {
    std::uint64_t count = 0, failed = 0;
};
struct Sums {
    std::uint64_t records = 0, waits = 0, waits_empty = 0, completions_most = 0;
    std::map<std::string, Kind> kinds;
    std::map<std::string, Call> calls;

    void add(const RunRecord& record) {
        ++records;
        switch (record.event) {
            case RunEvent::submit:
                ++kinds[record.kind].submitted;
                break;
            case RunEvent::cancel:
                ++kinds[*record.kind == 0 ? "unknown" : record.kind].cancelled;
                break;
            case RunEvent::complete: {
                Kind& kind = kinds[*record.kind == 0 ? "unknown" : record.kind];
                ++kind.completed;
                if (record.value < 0) ++kind.failed;
                kind.bytes += record.bytes;
                break;
            }
            case RunEvent::call: {
                Call& call = calls[record.kind];
                ++call.count;
                if (record.value < 0) ++call.failed;
                break;
            }
            case RunEvent::wait:
                ++waits;
                if (record.value <= 0) ++waits_empty;
                else
                    completions_most =
                        std::max(completions_most, static_cast<std::uint64_t>(record.value));
                break;
            default:
                break;
        }
    }
};

std::string summary_text(const RunLog& log, const Sums& sums) {
    std::string out = heading(log);
    add(out, "  %llu waits, %llu without a completion, %llu completions at most\n",
        number(sums.waits), number(sums.waits_empty), number(sums.completions_most));
    add(out, "  %-18s %9s %9s %9s %9s %14s\n", "operation", "submitted", "completed", "failed",
        "cancelled", "bytes kept");
    for (const auto& [name, kind] : sums.kinds) {
        add(out, "  %-18s %9llu %9llu %9llu %9llu %14llu\n", name.c_str(), number(kind.submitted),
            number(kind.completed), number(kind.failed), number(kind.cancelled),
            number(kind.bytes));
    }
    if (!sums.calls.empty()) add(out, "  %-18s %9s %9s\n", "call", "made", "failed");
    for (const auto& [name, call] : sums.calls) {
        add(out, "  %-18s %9llu %9llu\n", name.c_str(), number(call.count), number(call.failed));
    }
    return out;
}

void add_json_sums(std::string& out, const Sums& sums) {
    add(out,
        ",\n     \"waits\": %llu, \"waits_empty\": %llu, \"completions_most\": %llu,\n     "
        "\"kinds\": {",
        number(sums.waits), number(sums.waits_empty), number(sums.completions_most));
    const char* comma = "";
    for (const auto& [name, kind] : sums.kinds) {
        add(out, "%s\"%s\": {\"submitted\": %llu, \"completed\": %llu, \"failed\": %llu, ", comma,
            name.c_str(), number(kind.submitted), number(kind.completed), number(kind.failed));
        add(out, "\"cancelled\": %llu, \"bytes\": %llu}", number(kind.cancelled),
            number(kind.bytes));
        comma = ", ";
    }
    out += "},\n     \"calls\": {";
    comma = "";
    for (const auto& [name, call] : sums.calls) {
        add(out, "%s\"%s\": {\"count\": %llu, \"failed\": %llu}", comma, name.c_str(),
            number(call.count), number(call.failed));
        comma = ", ";
    }
    out += '}';
}

bool print_records(std::vector<RunLog>& logs, const Filter& filter, const Sink& sink) {
    for (RunLog& log : logs) {
        if (!sink(heading(log))) return false;
        const std::uint64_t first = log.first_ns;
        const auto print = [&](const RunRecord& record) { return sink(line_of(record, first)); };
        if (!visit_left(log, filter, print)) return false;
    }
    return true;
}

bool print_records_json(std::vector<RunLog>& logs, const Filter& filter, const Sink& sink) {
    std::string out = "{\n  \"tool\": \"whorl-trace\",\n  \"runs\": [";
    for (const RunLog& log : logs) {
        out += &log == logs.data() ? "\n    " : ",\n    ";
        add_json_run(out, log);
        out += '}';
    }
    if (!sink(out + "\n  ],\n  \"records\": [")) return false;
    const char* comma = "\n    ";
    for (std::size_t run = 0; run < logs.size(); ++run) {
        const bool taken = visit_left(logs[run], filter, [&](const RunRecord& record) {
            const std::string line = comma + json_of(record, run);
            comma = ",\n    ";
            return sink(line);
        });
        if (!taken) return false;
    }
    return sink("\n  ]\n}\n");
}

bool print_sums(std::vector<RunLog>& logs, const Filter& filter, bool json, const Sink& sink) {
    std::string out = json ? "{\n  \"tool\": \"whorl-trace\",\n  \"runs\": [" : "";
    for (RunLog& log : logs) {
        Sums sums;
        (void)visit_left(log, filter, [&](const RunRecord& record) {
            sums.add(record);
            return true;
        });
        if (!json) {
            out += summary_text(log, sums);
            continue;
        }
        out += &log == logs.data() ? "\n    " : ",\n    ";
        add_json_run(out, log);
        add_json_sums(out, sums);
        out += '}';
    }
    return sink(json ? out + "\n  ]\n}\n" : out);
}

}  // namespace

bool print_runs(std::vector<RunLog>& logs, const Filter& filter, RunFormat format,
                const Sink& sink) {
    if (format.summary) return print_sums(logs, filter, format.json, sink);
    return format.json ? print_records_json(logs, filter, sink) : print_records(logs, filter, sink);
}

}  // namespace trace
