// SPDX-License-Identifier: MIT
// The trace event format that chrome://tracing and ui.perfetto.dev read: a process's loops are its threads,
// handlers and waits are slices on them, an operation is an asynchronous slice from its submission to its
// last handler, and an arrow leads from where something left for another loop to where it arrived.
// Source: "Trace Event Format", the document of the Chromium project.
#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "common/json.hpp"
#include "print.hpp"

namespace trace {

using tools::add;
using tools::add_quoted;

namespace {

constexpr std::size_t handlers_most = 1000;  // within each other; more are no program's

using OperationKey = std::pair<std::uint8_t, std::uint64_t>;  // kind, handle

struct Running {
    bool is = false;
    const Record* record = nullptr;
};

// What is open on one loop.
struct Lane {
    const Dump* dump = nullptr;
    Running wait;
    std::vector<const Record*> handlers;  // that run, the outermost first
    std::uint64_t first_ns = 0;
    std::map<OperationKey, bool> operations;
    std::uint64_t last_ns = 0;
};

struct Sent {
    const Dump* dump;
    std::uint64_t time_ns;
};

class Writer {
  public:
    Writer(const Dumps& dumps, std::uint64_t first_ns) : first_ns_(first_ns) {
        out_ = "{\"displayTimeUnit\": \"ns\", \"otherData\": {\"tool\": \"whorl-trace\"},\n";
        out_ += "\"traceEvents\": [";
        for (const auto& dump : dumps) name_lane(*dump);
    }

    void add_entry(const Entry& entry) {
        const Record& record = *entry.record;
        Lane& lane = lanes_[entry.dump];
        if (lane.dump == nullptr) lane.first_ns = record.time_ns;
        lane.dump = entry.dump;
        lane.last_ns = record.time_ns;
        switch (static_cast<Event>(record.event)) {
            case Event::submit:
            case Event::post:
                begin_operation(lane, entry);
                break;
            case Event::handler_begin:
                if (lane.handlers.size() < handlers_most) lane.handlers.push_back(&record);
                break;
            case Event::handler_end:
                end_handler(lane, entry);
                break;
            case Event::drop:
                end_operation(lane, entry);
                break;
            case Event::wait_begin:
                finish_handlers(lane, 0, record.time_ns);  // none runs while the loop waits
                lane.wait = {true, &record};
                break;
            case Event::wait_end:
                end_wait(lane, record);
                break;
            case Event::remote_send:
                point_slice(entry);
                sent_[{entry.dump->header.process, record.id}] = {entry.dump, record.time_ns};
                break;
            case Event::remote_take:
                point_slice(entry);
                arrive(entry);
                break;
            case Event::hand_over:
            case Event::complete:
            case Event::cancel:
                step(lane, entry);
                break;
            default:
                instant(entry);
        }
    }

    std::string finish() {
        for (auto& [dump, lane] : lanes_) {
            finish_handlers(lane, 0, lane.last_ns);
            if (lane.wait.is) slice(*dump, "wait", "wait", lane.wait.record->time_ns, lane.last_ns);
        }
        return out_ + "\n]}\n";
    }

  private:
    // The beginning of an event: everything but its own fields.
    void begin(const Dump& dump, const char* phase, std::uint64_t time_ns) {
        const std::uint64_t since = time_ns >= first_ns_ ? time_ns - first_ns_ : 0;
        add(out_, "%s\n{\"ph\": \"%s\", \"pid\": %d, \"tid\": %llu, \"ts\": %llu.%03u", comma_,
            phase, dump.header.process, static_cast<unsigned long long>(dump.header.loop),
            static_cast<unsigned long long>(since / 1000), static_cast<unsigned>(since % 1000));
        comma_ = ",";
    }
    void name(std::string_view category, std::string_view text) {
        add(out_, ", \"cat\": \"%s\", \"name\": ", std::string(category).c_str());
        add_quoted(out_, text);
    }
    void duration(std::uint64_t ns) {
        add(out_, ", \"dur\": %llu.%03u", static_cast<unsigned long long>(ns / 1000),
            static_cast<unsigned>(ns % 1000));
    }
    void place(const Dump& dump, const Record& record) {
        const std::string text = place_text({&dump, &record});
        add(out_, ", \"args\": {\"operation\": \"%#llx\"",
            static_cast<unsigned long long>(record.id));
        if (!text.empty()) {
            out_ += ", \"submitted\": ";
            add_quoted(out_, text);
        }
    }

    void name_lane(const Dump& dump) {
        const Header& header = dump.header;
        const std::string backend(header.backend, ::strnlen(header.backend, sizeof header.backend));
        begin(dump, "M", first_ns_);
        out_ += ", \"name\": \"process_name\", \"args\": {\"name\": \"whorl\"}}";
        begin(dump, "M", first_ns_);
        out_ += ", \"name\": \"thread_name\", \"args\": {\"name\": ";
        add_quoted(out_, "loop " + std::to_string(header.loop) + " (" + backend + ", thread " +
                             std::to_string(header.thread) + ")");
        out_ += "}}";
    }

    void slice(const Dump& dump, std::string_view category, std::string_view text,
               std::uint64_t from_ns, std::uint64_t to_ns) {
        begin(dump, "X", from_ns);
        duration(to_ns > from_ns ? to_ns - from_ns : 0);
        name(category, text);
        out_ += '}';
    }
    void handler(const Lane& lane, const Record& record, std::uint64_t from_ns, std::uint64_t to_ns,
                 bool ended) {
        begin(*lane.dump, "X", from_ns);
        duration(to_ns > from_ns ? to_ns - from_ns : 0);
        name("handler", kind_text({lane.dump, &record}));
        place(*lane.dump, record);
        out_ += ended ? "}}" : ", \"end\": \"not recorded\"}}";
    }
    // Those whose ends are not among the records, down to `left` of them.
    void finish_handlers(Lane& lane, std::size_t left, std::uint64_t time_ns) {
        for (; lane.handlers.size() > left; lane.handlers.pop_back()) {
            const Record& record = *lane.handlers.back();
            handler(lane, record, record.time_ns, time_ns, false);
        }
    }
    // The innermost of this operation's that runs. Without one its beginning was overwritten; how long it
    // took is in the end.
    void end_handler(Lane& lane, const Entry& entry) {
        const Record& record = *entry.record;
        std::size_t depth = lane.handlers.size();
        while (depth > 0 && (lane.handlers[depth - 1]->id != record.id ||
                             lane.handlers[depth - 1]->kind != record.kind)) {
            --depth;
        }
        if (depth > 0) {
            finish_handlers(lane, depth, record.time_ns);
            const Record& begun = *lane.handlers.back();
            handler(lane, begun, begun.time_ns, record.time_ns, true);
            lane.handlers.pop_back();
        } else {
            const auto took = static_cast<std::uint64_t>(std::max(record.value, 0));
            const std::uint64_t from = record.time_ns > took ? record.time_ns - took : 0;
            if (from < lane.first_ns) handler(lane, record, from, record.time_ns, true);
        }
        if (record.more == 0) end_operation(lane, entry);
    }
    void end_wait(Lane& lane, const Record& record) {
        if (lane.wait.is)
            slice(*lane.dump, "wait", "wait", lane.wait.record->time_ns, record.time_ns);
        lane.wait.is = false;
    }

    // --- operations, across handlers
    void asynchronous(const Entry& entry, const char* phase, std::string_view text) {
        const Record& record = *entry.record;
        begin(*entry.dump, phase, record.time_ns);
        add(out_, ", \"id\": \"%llu:%u:%#llx\"",
            static_cast<unsigned long long>(entry.dump->header.loop), record.kind,
            static_cast<unsigned long long>(record.id));
        name("operation", text);
    }
    void begin_operation(Lane& lane, const Entry& entry) {
        bool& open = lane.operations[{entry.record->kind, entry.record->id}];
        if (open) return;  // its end was lost, and the slot is used again
        open = true;
        asynchronous(entry, "b", kind_text(entry));
        place(*entry.dump, *entry.record);
        out_ += "}}";
    }
    void end_operation(Lane& lane, const Entry& entry) {
        const auto found = lane.operations.find({entry.record->kind, entry.record->id});
        if (found == lane.operations.end()) return;  // begun before the first record
        lane.operations.erase(found);
        asynchronous(entry, "e", kind_text(entry));
        out_ += '}';
    }
    void step(Lane& lane, const Entry& entry) {
        if (lane.operations.count({entry.record->kind, entry.record->id}) == 0) return;
        asynchronous(entry, "n", event_text(entry));
        add(out_, ", \"args\": {\"value\": %d}}", entry.record->value);
    }

    // --- between loops. An arrow begins and ends at slices, so that there must be some.
    void point_slice(const Entry& entry) {
        slice(*entry.dump, "remote", event_text(entry), entry.record->time_ns,
              entry.record->time_ns + 1);
    }
    void arrive(const Entry& entry) {
        const auto found = sent_.find({entry.dump->header.process, entry.record->id});
        if (found == sent_.end()) return;
        ++arrows_;
        begin(*found->second.dump, "s", found->second.time_ns);
        add(out_, ", \"id\": %llu, \"cat\": \"remote\", \"name\": \"remote\"}", arrows_);
        begin(*entry.dump, "f", entry.record->time_ns);
        add(out_, ", \"bp\": \"e\", \"id\": %llu, \"cat\": \"remote\", \"name\": \"remote\"}",
            arrows_);
    }

    void instant(const Entry& entry) {
        begin(*entry.dump, "i", entry.record->time_ns);
        const bool process =
            static_cast<Event>(entry.record->event) == Event::panic;  // a line through all threads
        add(out_, ", \"s\": \"%s\"", process ? "p" : "t");
        name("event", event_text(entry));
        place(*entry.dump, *entry.record);
        out_ += "}}";
    }

    std::string out_;
    const char* comma_ = "";
    std::uint64_t first_ns_;
    std::map<const Dump*, Lane> lanes_;
    std::map<std::pair<std::int32_t, std::uint64_t>, Sent> sent_;  // by process and flow
    unsigned long long arrows_ = 0;
};

// When the first thing began: what took long may have begun before the first record.
std::uint64_t beginning_of(const std::vector<Entry>& entries) {
    std::uint64_t first = entries.empty() ? 0 : entries.front().record->time_ns;
    for (const Entry& entry : entries) {
        const Record& record = *entry.record;
        if (static_cast<Event>(record.event) != Event::handler_end || record.value < 0) continue;
        const auto took = static_cast<std::uint64_t>(record.value);
        first = std::min(first, record.time_ns - std::min(took, record.time_ns));
    }
    return first;
}

}  // namespace

std::string chrome_of(const Dumps& dumps, const std::vector<Entry>& entries) {
    Writer writer(dumps, beginning_of(entries));
    for (const Entry& entry : entries) writer.add_entry(entry);
    return writer.finish();
}

}  // namespace trace
