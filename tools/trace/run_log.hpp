// SPDX-License-Identifier: MIT
// A recorded run's file (LoopOptions::run_log), read. It may be anything, and larger than memory: it is read
// entry by entry, and nothing of it is kept.
#pragma once

#include <whorl/run_log.hpp>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "dump.hpp"

namespace trace {

// What a record of a run says. X(name)
#define TRACE_RUN_EVENTS(X) \
    X(options)              \
    X(call)                 \
    X(ask)                  \
    X(submit)               \
    X(wait)                 \
    X(name)                 \
    X(complete)             \
    X(cancel)               \
    X(end)
enum class RunEvent : std::uint8_t {
#define TRACE_RUN_EVENT(name) name,
    TRACE_RUN_EVENTS(TRACE_RUN_EVENT)
#undef TRACE_RUN_EVENT
};
const char* name_of(RunEvent event);

// One thing that happened. A wait makes several: what was handed over, the wait itself, what came back.
struct RunRecord {
    RunEvent event = RunEvent::end;
    const char* kind = "";      // of the operation; the call's name; what was asked
    std::uint64_t at = 0;       // byte of the file at which its entry begins: what a Replay says
    std::uint64_t turn = 0;     // the loop had gone to the backend so often, this time included
    std::uint64_t time_ns = 0;  // the loop's clock, as it was read last
    std::uint64_t handle = 0;   // the operation's
    std::uint32_t slot = 0;     // of its descriptor; 0 for none
    bool more = false;          // complete: it goes on
    std::int64_t value = 0;     // answer, result, error, a wait's completions
    std::uint64_t handed = 0;   // wait: operations that were handed over
    std::uint64_t bytes = 0;    // that came, and are in the log
};

// What is known of a log when all of it has been read.
struct RunLog {
    std::string source;
    std::string problem;  // what is wrong with it, for people; empty: nothing
    const char* backend = "unknown";
    std::uint64_t options[16] = {};
    std::uint64_t size = 0;  // of the file
    std::uint64_t entries = 0, records = 0, turns = 0, operations = 0;
    std::uint64_t strange = 0;  // entries that have other parts than this whorl-trace knows
    std::uint64_t first_ns = 0, last_ns = 0;
    whorl::RunEnd end = whorl::RunEnd::unfinished;
};

// Whether it begins as a run log does; it may be cut off there.
bool is_run_log(const std::string& path);
// Whether there is an event of this name.
bool is_run_event(std::string_view name);
// Whether there is an operation, a call or a question of this name.
bool is_run_kind(std::string_view name);

// Called for each record in order; false: it need not go on.
using RunVisit = std::function<bool(const RunRecord&)>;
// Reads all of it into `log`, which was read before or is new: only then are times known from the first on.
// False: there is nothing in it, log.problem says why.
bool read_run_log(RunLog& log, const RunVisit& visit);

// Takes text that is to be written; false: it could not.
using Sink = std::function<bool(const std::string&)>;
struct RunFormat {
    bool json = false, summary = false;
};
// Reads each again and writes what the filter leaves. False: the sink took no more.
bool print_runs(std::vector<RunLog>& logs, const Filter& filter, RunFormat format,
                const Sink& sink);

}  // namespace trace
