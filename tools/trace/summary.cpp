// SPDX-License-Identifier: MIT
// What a loop has done, counted from its records.
#include <algorithm>
#include <map>

#include "common/json.hpp"
#include "print.hpp"

namespace trace {

using tools::add;
using tools::add_quoted;

namespace {

unsigned long long number(std::uint64_t value) { return value; }

struct Kind {
    std::uint64_t submitted = 0, completed = 0, failed = 0, cancelled = 0, dropped = 0;
    std::uint64_t handlers = 0, handlers_ns = 0, longest_ns = 0;
};

// Handlers by the place at which their operations were submitted.
struct At {
    std::string kind;
    std::uint64_t handlers = 0, total_ns = 0, longest_ns = 0;
};

struct Loop {
    std::uint64_t records = 0, first_ns = 0, last_ns = 0;
    std::uint64_t waits = 0, waiting_ns = 0, slow = 0, stuck = 0, panics = 0;
    std::map<std::string, Kind> kinds;
    std::map<std::string, At> places;
};

class Counting {
  public:
    explicit Counting(Loop& loop) : loop_(loop) {}

    void add(const Entry& entry) {
        const Record& record = *entry.record;
        if (loop_.records++ == 0) loop_.first_ns = record.time_ns;
        loop_.last_ns = record.time_ns;
        switch (static_cast<Event>(record.event)) {
            case Event::wait_begin:
                running_.clear();  // none runs while the loop waits
                waiting_since_ = record.time_ns;
                waits_ = true;
                break;
            case Event::wait_end:
                ++loop_.waits;
                if (waits_) loop_.waiting_ns += record.time_ns - waiting_since_;
                waits_ = false;
                break;
            case Event::slow:
                ++loop_.slow;
                break;
            case Event::stuck:
                ++loop_.stuck;
                break;
            case Event::panic:
                ++loop_.panics;
                break;
            default:
                add_operation(entry, loop_.kinds[kind_text(entry)]);
        }
    }

  private:
    void add_operation(const Entry& entry, Kind& kind) {
        const Record& record = *entry.record;
        switch (static_cast<Event>(record.event)) {
            case Event::submit:
            case Event::post:
                ++kind.submitted;
                break;
            case Event::complete:
                ++kind.completed;
                if (record.value < 0) ++kind.failed;
                break;
            case Event::cancel:
                ++kind.cancelled;
                break;
            case Event::drop:
                ++kind.dropped;
                break;
            case Event::handler_begin:
                running_.push_back(place_text(entry));
                break;
            case Event::handler_end: {
                const auto took = static_cast<std::uint64_t>(std::max(record.value, 0));
                ++kind.handlers;
                kind.handlers_ns += took;
                kind.longest_ns = std::max(kind.longest_ns, took);
                add_place(entry, took);
                break;
            }
            default:
                break;
        }
    }
    void add_place(const Entry& entry, std::uint64_t took) {
        std::string place = place_text(entry);
        if (!running_.empty()) {
            if (place.empty()) place = running_.back();
            running_.pop_back();
        }
        if (place.empty()) return;
        At& at = loop_.places[place];
        at.kind = kind_text(entry);
        ++at.handlers;
        at.total_ns += took;
        at.longest_ns = std::max(at.longest_ns, took);
    }

    Loop& loop_;
    std::uint64_t waiting_since_ = 0;
    bool waits_ = false;
    std::vector<std::string> running_;  // places of the handlers that run, the outermost first
};

Loop loop_of(const Dump& dump, const std::vector<Entry>& entries) {
    Loop loop;
    Counting counting(loop);
    for (const Entry& entry : entries) {
        if (entry.dump == &dump) counting.add(entry);
    }
    return loop;
}

using Named = std::pair<std::string, At>;

// The places whose handlers took most, ten at most.
std::vector<Named> top_of(const Loop& loop) {
    std::vector<Named> top(loop.places.begin(), loop.places.end());
    std::stable_sort(top.begin(), top.end(), [](const Named& a, const Named& b) {
        return a.second.total_ns > b.second.total_ns;
    });
    if (top.size() > 10) top.resize(10);
    return top;
}

double us(std::uint64_t ns) { return static_cast<double>(ns) * 1e-3; }

void add_loop(std::string& out, const Dump& dump, const Loop& loop) {
    const double seconds = us(loop.last_ns - loop.first_ns) * 1e-6;
    add(out, "loop %llu of process %d: %llu records in %.6f s", number(dump.header.loop),
        dump.header.process, number(loop.records), seconds);
    if (dump.lost != 0) add(out, ", %llu before them overwritten", number(dump.lost));
    if (dump.damaged != 0) add(out, ", %llu DAMAGED", number(dump.damaged));
    add(out, "\n  %llu waits", number(loop.waits));
    if (seconds > 0) add(out, ", %.1f %% of the time", us(loop.waiting_ns) * 1e-4 / seconds);
    for (const auto& [count, what] :
         {std::pair{loop.slow, "slow handlers"}, std::pair{loop.stuck, "stuck"},
          std::pair{loop.panics, "PANIC"}}) {
        if (count != 0) add(out, ", %llu %s", number(count), what);
    }
    add(out, "\n  %-15s %9s %9s %7s %9s %7s %9s %12s %12s\n", "operation", "submitted", "completed",
        "failed", "cancelled", "dropped", "handlers", "mean us", "longest us");
    for (const auto& [name, kind] : loop.kinds) {
        const double mean =
            kind.handlers == 0 ? 0 : us(kind.handlers_ns) / static_cast<double>(kind.handlers);
        add(out, "  %-15s %9llu %9llu %7llu %9llu %7llu %9llu %12.3f %12.3f\n", name.c_str(),
            number(kind.submitted), number(kind.completed), number(kind.failed),
            number(kind.cancelled), number(kind.dropped), number(kind.handlers), mean,
            us(kind.longest_ns));
    }
    const std::vector<Named> top = top_of(loop);
    if (top.empty()) return;
    add(out, "  %-44s %9s %12s %12s\n", "handlers by place", "calls", "total us", "longest us");
    for (const auto& [place, at] : top) {
        add(out, "  %-44s %9llu %12.3f %12.3f\n", (place + " " + at.kind).c_str(),
            number(at.handlers), us(at.total_ns), us(at.longest_ns));
    }
}

void add_json_kinds(std::string& out, const Loop& loop) {
    const char* comma = "";
    for (const auto& [name, kind] : loop.kinds) {
        out += comma;
        add_quoted(out, name);
        add(out, ": {\"submitted\": %llu, \"completed\": %llu, \"failed\": %llu, ",
            number(kind.submitted), number(kind.completed), number(kind.failed));
        add(out, "\"cancelled\": %llu, \"dropped\": %llu, \"handlers\": %llu, ",
            number(kind.cancelled), number(kind.dropped), number(kind.handlers));
        add(out, "\"handlers_ns\": %llu, \"longest_ns\": %llu}", number(kind.handlers_ns),
            number(kind.longest_ns));
        comma = ", ";
    }
}

}  // namespace

std::string summary_text(const Dumps& dumps, const std::vector<Entry>& entries) {
    std::string out;
    for (const auto& dump : dumps) {
        const Loop loop = loop_of(*dump, entries);
        if (loop.records != 0 || dumps.size() == 1) add_loop(out, *dump, loop);
    }
    return out;
}

std::string summary_json(const Dumps& dumps, const std::vector<Entry>& entries) {
    std::string out = "{\n  \"tool\": \"whorl-trace\",\n";
    add_json_recorders(out, dumps);
    out += ",\n  \"loops\": [";
    const char* comma = "";
    for (const auto& dump : dumps) {
        const Loop loop = loop_of(*dump, entries);
        add(out, "%s\n    {\"process\": %d, \"loop\": %llu, \"records\": %llu, ", comma,
            dump->header.process, number(dump->header.loop), number(loop.records));
        add(out, "\"first_ns\": %llu, \"last_ns\": %llu, \"waits\": %llu, \"waiting_ns\": %llu, ",
            number(loop.first_ns), number(loop.last_ns), number(loop.waits),
            number(loop.waiting_ns));
        add(out, "\"slow\": %llu, \"stuck\": %llu, \"panics\": %llu,\n     \"kinds\": {",
            number(loop.slow), number(loop.stuck), number(loop.panics));
        add_json_kinds(out, loop);
        out += "},\n     \"places\": [";
        const char* between = "";
        for (const auto& [place, at] : top_of(loop)) {
            out += between;
            out += "{\"place\": ";
            add_quoted(out, place);
            out += ", \"kind\": ";
            add_quoted(out, at.kind);
            add(out, ", \"handlers\": %llu, \"total_ns\": %llu, \"longest_ns\": %llu}",
                number(at.handlers), number(at.total_ns), number(at.longest_ns));
            between = ", ";
        }
        out += "]}";
        comma = ",";
    }
    return out + "\n  ]\n}\n";
}

}  // namespace trace
