// SPDX-License-Identifier: MIT
// whorl-trace: what the loops of a program did last, from their flight recorders, or all that one did, from its
// run log. See its manual page, tools/man/whorl-trace.1.
#include <whorl/version.hpp>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <utility>

#include "print.hpp"
#include "run_log.hpp"
#include "source.hpp"

namespace {

enum Exit { good = 0, damaged = 1, nothing = 2, usage = 3 };

struct Arguments {
    std::vector<std::string> files;
    int process = 0;
    bool json = false, summary = false, chrome = false;
    std::string output;
    trace::Filter filter;
};

int fail(int status, const std::string& what) {
    std::fprintf(stderr, "whorl-trace: %s\n", what.c_str());
    return status;
}

void declare(CLI::App& app, Arguments& arguments) {
    app.set_version_flag("--version", WHORL_VERSION_STRING);
    app.footer(
        "Exit status: 0 all was read; 1 something is damaged or cut off, the rest is printed; 2 "
        "nothing could be read; 3 wrong usage or nowhere to write to.");
    app.add_option("file", arguments.files, "Dumps and core files, or run logs");
    app.add_option("--pid,-p", arguments.process, "A process that runs, and goes on running")
        ->check(CLI::PositiveNumber);
    CLI::Option* summary = app.add_flag("--summary", arguments.summary, "Count instead of listing");
    CLI::Option* json = app.add_flag("--json", arguments.json, "Print JSON");
    app.add_flag("--chrome", arguments.chrome,
                 "Print a trace for ui.perfetto.dev, chrome://tracing")
        ->excludes(json)
        ->excludes(summary);
    app.add_option("--output,-o", arguments.output, "Write to a file");
    app.add_option("--event,-e", arguments.filter.events, "Only these, as in submit,complete")
        ->delimiter(',')
        ->allow_extra_args(false);
    app.add_option("--kind,-k", arguments.filter.kinds,
                   "Only of these operations: recv_stream,timer")
        ->delimiter(',')
        ->allow_extra_args(false);
    app.add_option("--loop,-l", arguments.filter.loop, "Only this one, counted from 1");
    app.add_option("--from", arguments.filter.from_s,
                   "Seconds since the first record; negative: before the last");
    app.add_option("--to", arguments.filter.to_s, "The same");
    app.add_option("--last,-n", arguments.filter.last, "So many records at most");
}

// What is asked for must be there, or an empty answer would be taken for a quiet loop.
std::string unknown_name(const trace::Dumps& dumps, const std::vector<std::string>& names,
                         std::string_view (trace::Dump::*name_of)(std::uint8_t) const,
                         unsigned count) {
    for (const std::string& name : names) {
        bool known = false;
        for (const auto& dump : dumps) {
            for (unsigned number = 0; number < count; ++number) {
                known = known || (*dump.*name_of)(static_cast<std::uint8_t>(number)) == name;
            }
        }
        if (!known) return name;
    }
    return {};
}

std::string printed(const Arguments& arguments, const trace::Dumps& dumps) {
    const std::vector<trace::Entry> entries = trace::entries_of(dumps, arguments.filter);
    if (arguments.chrome) return trace::chrome_of(dumps, entries);
    if (arguments.summary && arguments.json) return trace::summary_json(dumps, entries);
    if (arguments.summary) return trace::summary_text(dumps, entries);
    return arguments.json ? trace::json_of(dumps, entries) : trace::text_of(dumps, entries);
}

// Where the results go.
class Output {
  public:
    explicit Output(const std::string& path)
        : name_(path.empty() ? "standard output" : path),
          file_(path.empty() ? stdout : std::fopen(path.c_str(), "we")) {
        if (file_ == nullptr) (void)failed();
    }
    Output(const Output&) = delete;
    Output& operator=(const Output&) = delete;
    ~Output() {
        if (file_ != nullptr && file_ != stdout) (void)std::fclose(file_);
    }
    bool good() const { return good_; }
    bool write(const std::string& text) {
        return good_ &&
               (std::fwrite(text.data(), 1, text.size(), file_) == text.size() || failed());
    }
    // False: something did not arrive; it has been said why.
    bool end() {
        if (good_ && std::fflush(file_) != 0) return failed();
        std::FILE* const file = std::exchange(file_, nullptr);
        if (file != nullptr && file != stdout && std::fclose(file) != 0) return failed();
        return good_;
    }

  private:
    bool failed() {
        if (good_) (void)fail(usage, name_ + ": " + std::strerror(errno));
        return good_ = false;
    }

    std::string name_;
    std::FILE* file_;
    bool good_ = true;
};

// Run logs, each for itself: their loops have no clock in common.
int run_logs(const Arguments& arguments) {
    if (arguments.chrome || arguments.filter.loop != 0) {
        return fail(usage, "--chrome and --loop are for recorders; a run log is one loop's");
    }
    for (const std::string& name : arguments.filter.events) {
        if (!trace::is_run_event(name)) return fail(usage, name + ": no event of run logs");
    }
    for (const std::string& name : arguments.filter.kinds) {
        if (!trace::is_run_kind(name)) {
            return fail(usage, name + ": no operation, call or question of run logs");
        }
    }
    int status = good;
    std::vector<trace::RunLog> logs;
    for (const std::string& path : arguments.files) {
        trace::RunLog log;
        log.source = path;
        const bool read = trace::read_run_log(log, [](const trace::RunRecord&) { return true; });
        std::string problem = log.problem;
        if (log.strange != 0) {
            problem += (problem.empty() ? "" : "; ") + std::to_string(log.strange) +
                       " entries have parts that are not understood";
        }
        if (!problem.empty()) {
            status = std::max<int>(status, read ? damaged : nothing);
            (void)fail(status, path + ": " + problem);
        }
        if (read) logs.push_back(std::move(log));
    }
    if (logs.empty()) return nothing;
    Output output(arguments.output);
    (void)trace::print_runs(logs, arguments.filter, {arguments.json, arguments.summary},
                            [&](const std::string& text) { return output.write(text); });
    return output.end() ? status : usage;
}

int run(const Arguments& arguments) {
    trace::Dumps dumps;
    int status = good;
    const auto read = [&](const std::string& name, const std::string& problem, std::size_t before) {
        if (problem.empty()) return;
        status = std::max<int>(status, dumps.size() == before ? nothing : damaged);
        (void)fail(status, name + ": " + problem);
    };
    for (const std::string& file : arguments.files) {
        const std::size_t before = dumps.size();
        const std::string problem = trace::read_file(file, dumps);
        read(file, problem, before);
    }
    if (arguments.process != 0) {
        const std::size_t before = dumps.size();
        const std::string problem = trace::read_process(arguments.process, dumps);
        read("process " + std::to_string(arguments.process), problem, before);
    }
    if (dumps.empty()) return nothing;
    std::stable_sort(dumps.begin(), dumps.end(), [](const auto& a, const auto& b) {
        return std::pair(a->header.process, a->header.loop) <
               std::pair(b->header.process, b->header.loop);
    });
    std::string unknown =
        unknown_name(dumps, arguments.filter.events, &trace::Dump::event_name, 32);
    if (unknown.empty()) {
        unknown = unknown_name(dumps, arguments.filter.kinds, &trace::Dump::kind_name, 256);
    }
    if (!unknown.empty()) return fail(usage, unknown + ": no event or kind of these recorders");
    Output output(arguments.output);
    if (output.good()) (void)output.write(printed(arguments, dumps));
    return output.end() ? status : usage;
}

}  // namespace

int main(int count, char** words) {
    (void)std::signal(SIGPIPE, SIG_IGN);
    CLI::App app(
        "Shows what the loops of a program did last, from their flight recorders, or all that a "
        "loop did, from its run log.",
        "whorl-trace");
    Arguments arguments;
    declare(app, arguments);
    try {
        app.parse(count, words);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? good : usage;
    }
    if (arguments.files.empty() == (arguments.process == 0)) {
        return fail(usage, "a file or --pid, one of them; see --help");
    }
    const auto logs =
        std::count_if(arguments.files.begin(), arguments.files.end(), trace::is_run_log);
    if (logs == 0) return run(arguments);
    if (static_cast<std::size_t>(logs) == arguments.files.size()) return run_logs(arguments);
    return fail(usage, "run logs and recorders are shown apart: give files of one sort");
}
