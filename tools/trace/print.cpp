// SPDX-License-Identifier: MIT
#include "print.hpp"

#include <whorl/error.hpp>

#include <cstring>

#include "common/json.hpp"

namespace trace {

using tools::add;
using tools::add_quoted;
using tools::printable;

namespace {

unsigned long long number(std::uint64_t value) { return value; }

template <std::size_t size>
std::string_view text_in(const char (&text)[size]) {
    return {text, ::strnlen(text, size)};
}

std::string duration_text(double ns) {
    const char* unit = ns < 1e3 ? "ns" : ns < 1e6 ? "us" : ns < 1e9 ? "ms" : "s";
    const double value = ns < 1e3 ? ns : ns < 1e6 ? ns * 1e-3 : ns < 1e9 ? ns * 1e-6 : ns * 1e-9;
    std::string out;
    add(out, "%.*f %s", ns < 1e3 ? 0 : value >= 100 ? 1 : value >= 10 ? 2 : 3, value, unit);
    return out;
}

std::string result_text(std::int32_t value) {
    std::string out = std::to_string(value);
    if (value < 0 && value > -4096)
        out += std::string(" ") + whorl::Error::from_errno(-value).name();
    return out;
}

// What `value` says, by the event.
std::string value_text(const Record& record) {
    const std::int32_t value = record.value;
    switch (static_cast<Event>(record.event)) {
        case Event::submit:
            return value >= 0 ? "fd " + std::to_string(value) : "";
        case Event::complete:
            return result_text(value);
        case Event::handler_begin:
            return "waited " + duration_text(value);
        case Event::handler_end:
            return "took " + duration_text(value);
        case Event::wait_begin:
            return value < 0 ? "no timeout" : "at most " + duration_text(value * 1e3);
        case Event::wait_end:
            return std::to_string(value) + " completions";
        case Event::slow:
        case Event::stuck:
            return "for " + duration_text(value * 1e6);
        case Event::hand_over:
        case Event::cancel:
        case Event::drop:
        case Event::post:
        case Event::remote_send:
        case Event::remote_take:
        case Event::panic:
        case Event::none:
            return "";
    }
    return std::to_string(value);  // an event of a later version
}

std::string id_text(const Record& record) {
    std::string out;
    switch (static_cast<Event>(record.event)) {
        case Event::wait_begin:
            add(out, "%llu handed", number(record.id));
            return out;
        case Event::wait_end:
        case Event::panic:
            return out;
        case Event::post:
            add(out, "%llu", number(record.id));
            return out;
        default:
            add(out, "%#llx", number(record.id));
            return out;
    }
}

void add_recorder(std::string& out, const Dump& dump) {
    const Header& header = dump.header;
    add(out, "# process %d, loop %llu (thread %d) on ", header.process, number(header.loop),
        header.thread);
    out += printable(text_in(header.backend)) + ", clock " + printable(text_in(header.clock)) +
           ", whorl " + printable(text_in(header.library_version));
    add(out, ": %zu records", dump.records.size());
    if (dump.lost != 0) add(out, ", %llu before them overwritten", number(dump.lost));
    if (dump.damaged != 0) add(out, ", %llu DAMAGED", number(dump.damaged));
    out += '\n';
}

}  // namespace

std::string event_text(const Entry& entry) {
    const std::string_view name = entry.dump->event_name(entry.record->event);
    return name.empty() ? "event " + std::to_string(entry.record->event) : printable(name);
}

std::string kind_text(const Entry& entry) {
    const Record& record = *entry.record;
    const std::string_view name = entry.dump->kind_name(record.kind);
    if (name.empty()) return record.kind == 0 ? "" : "kind " + std::to_string(record.kind);
    switch (static_cast<Event>(record.event)) {
        case Event::wait_begin:
        case Event::wait_end:
        case Event::panic:
            return "";
        default:
            return printable(name);
    }
}

std::string place_text(const Entry& entry) {
    const Place* place = entry.dump->place(entry.record->place);
    if (place == nullptr) return "";
    const std::string_view file = text_in(place->file);
    if (file.empty()) return "";
    return printable(file) + ":" + std::to_string(place->line);
}

std::string text_of(const Dumps& dumps, const std::vector<Entry>& entries) {
    std::string out;
    for (const auto& dump : dumps) add_recorder(out, *dump);
    const std::uint64_t first = first_time(dumps);
    for (const Entry& entry : entries) {
        const Record& record = *entry.record;
        const std::uint64_t since = record.time_ns - first;
        add(out, "%5llu.%09llu  %llu  %-13s  %-15s  %-18s  %-18s  ", number(since / 1'000'000'000),
            number(since % 1'000'000'000), number(entry.dump->header.loop),
            event_text(entry).c_str(), kind_text(entry).c_str(), id_text(record).c_str(),
            value_text(record).c_str());
        out += place_text(entry);
        out.erase(out.find_last_not_of(' ') + 1);
        out += '\n';
    }
    return out;
}

void add_json_recorders(std::string& out, const Dumps& dumps) {
    out += "  \"recorders\": [";
    const char* comma = "";
    for (const auto& dump : dumps) {
        const Header& header = dump->header;
        add(out, "%s\n    {\"source\": ", comma);
        add_quoted(out, dump->source);
        add(out, ", \"process\": %d, \"thread\": %d, \"loop\": %llu, \"backend\": ", header.process,
            header.thread, number(header.loop));
        add_quoted(out, text_in(header.backend));
        out += ", \"clock\": ";
        add_quoted(out, text_in(header.clock));
        out += ", \"library_version\": ";
        add_quoted(out, text_in(header.library_version));
        add(out, ",\n     \"made_ns\": %llu, \"made_unix_ns\": %llu, \"written\": %llu, ",
            number(header.made_ns), number(header.made_unix_ns), number(header.written));
        add(out, "\"kept\": %zu, \"overwritten\": %llu, \"damaged\": %llu}", dump->records.size(),
            number(dump->lost), number(dump->damaged));
        comma = ",";
    }
    out += "\n  ]";
}

std::string json_of(const Dumps& dumps, const std::vector<Entry>& entries) {
    std::string out = "{\n  \"tool\": \"whorl-trace\",\n";
    add_json_recorders(out, dumps);
    out += ",\n  \"records\": [";
    const char* comma = "";
    for (const Entry& entry : entries) {
        const Record& record = *entry.record;
        add(out, "%s\n    {\"time_ns\": %llu, \"loop\": %llu, \"event\": ", comma,
            number(record.time_ns), number(entry.dump->header.loop));
        add_quoted(out, event_text(entry));
        out += ", \"kind\": ";
        add_quoted(out, kind_text(entry));
        add(out, ", \"id\": \"%#llx\", \"value\": %d, \"more\": %u", number(record.id),
            record.value, record.more);
        if (const Place* place = entry.dump->place(record.place)) {
            out += ", \"file\": ";
            add_quoted(out, text_in(place->file));
            add(out, ", \"line\": %u, \"handler\": ", place->line);
            add_quoted(out, text_in(place->symbol));
            out += ", \"module\": ";
            add_quoted(out, text_in(place->module));
            add(out, ", \"offset\": \"%#llx\"", number(place->offset));
        }
        out += '}';
        comma = ",";
    }
    return out + "\n  ]\n}\n";
}

}  // namespace trace
