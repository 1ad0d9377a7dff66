// SPDX-License-Identifier: MIT
// whorl-latency: how long a server's answers take, from when they should have been asked for. See its manual
// page, tools/man/whorl-latency.1.
#include <whorl/signals.hpp>
#include <whorl/version.hpp>

#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <sstream>

#include "client.hpp"
#include "report.hpp"
#include "serve.hpp"

namespace {

using latency::Outcome;
using whorl::Loop;

enum Exit { good = 0, unmet = 1, failed = 2, usage = 3 };

struct Arguments {
    latency::Plan plan;
    std::string target, command, backend = "automatic";
    double duration_s = 10, warmup_s = 1, patience_s = 1;
    std::uint32_t depth = 0;
    int cpu = -1;
    bool busy_poll = false, json = false, csv = false, progress = false, quiet = false;
    std::string hgrm, svg, html, save;
    std::vector<std::string> compare, asserted;
    std::vector<latency::Expectation> expectations;
    std::string serve_target;
    bool serve = false, watched = false;
};

int fail(int status, const std::string& what) {
    std::fprintf(stderr, "whorl-latency: %s\n", what.c_str());
    return status;
}

void declare(CLI::App& app, Arguments& arguments) {
    app.set_version_flag("--version", WHORL_VERSION_STRING);
    app.footer(
        "Exit status: 0 measured, and every --assert holds; 1 one does not; 2 it could not be "
        "measured to the end; 3 wrong usage or nowhere to write to.");
    app.add_option(
        "target", arguments.target,
        "tcp://HOST:PORT, udp://HOST:PORT, unix:PATH, unix:@NAME, pipe, timer, file:PATH, channel "
        "or http://HOST:PORT/PATH");
    app.add_option("--rate,-r", arguments.plan.rate, "Messages a second, all connections together");
    app.add_flag("--closed", arguments.plan.closed,
                 "An answer sends the next message: no schedule");
    app.add_option("--connections,-c", arguments.plan.connections, "How many");
    app.add_option("--size,-s", arguments.plan.size, "Bytes of a message");
    app.add_option("--depth", arguments.depth,
                   "Messages under way on a connection: 1024; 1 in a closed loop and for HTTP");
    app.add_option("--duration,-d", arguments.duration_s, "Seconds that are measured");
    app.add_option("--warmup,-w", arguments.warmup_s, "Seconds before that count for nothing");
    app.add_option("--patience", arguments.patience_s, "Seconds to wait for the last answers");
    app.add_option("--command", arguments.command,
                   "What a pipe goes through; default: this program");
    app.add_option("--method", arguments.plan.ask.method, "HTTP: default GET");
    app.add_option("--header", arguments.plan.ask.fields, "HTTP: 'Name: value'; any number of them")
        ->take_all()
        ->allow_extra_args(false);
    app.add_option("--body", arguments.plan.ask.body, "HTTP: what is sent with each request");
    app.add_option("--cpu", arguments.cpu, "The processor to run on");
    app.add_option("--peer-cpu", arguments.plan.peer_cpu, "A channel: that of its other loop");
    app.add_option("--backend", arguments.backend, "automatic, io_uring or libev")
        ->check(CLI::IsMember({"automatic", "io_uring", "libev"}));
    app.add_flag("--busy-poll", arguments.busy_poll, "Look for answers without ever sleeping");
    CLI::Option* json = app.add_flag("--json", arguments.json, "Print JSON");
    app.add_flag("--csv", arguments.csv, "Print a line for each window")->excludes(json);
    app.add_option("--save", arguments.save, "Write the JSON to a file as well");
    app.add_option("--hgrm", arguments.hgrm, "Write HdrHistogram's percentile text to a file");
    app.add_option("--svg", arguments.svg, "Write the percentile curve to a file");
    app.add_option("--html", arguments.html, "Write a report to a file");
    app.add_flag("--progress", arguments.progress, "Tell of the run although no terminal hears it");
    app.add_flag("--quiet", arguments.quiet, "Do not");
    app.add_option("--assert", arguments.asserted, "For example 'p99<50us'; any number of times")
        ->take_all()
        ->allow_extra_args(false);
    app.add_option("--compare", arguments.compare, "Two files of --save, --json or --hgrm")
        ->expected(2);
    CLI::App* serve = app.add_subcommand("serve", "Send back what comes");
    serve->add_option("target", arguments.serve_target, "As above; pipe: standard input and output")
        ->required();
    serve->add_option("--cpu", arguments.cpu, "The processor to run on");
    serve->add_option("--backend", arguments.backend, "automatic, io_uring or libev")
        ->check(CLI::IsMember({"automatic", "io_uring", "libev"}));
    serve->add_flag("--busy-poll", arguments.busy_poll, "Look for work without ever sleeping");
    serve->add_flag("--watched", arguments.watched,
                    "Publish statistics and latencies for whorl-top");
    serve->callback([&arguments] { arguments.serve = true; });
}

whorl::Nanoseconds nanoseconds(double seconds) {
    return whorl::Nanoseconds(static_cast<std::int64_t>(seconds * 1e9));
}

// What CLI11 does not check. Empty: fine.
std::string complete(Arguments& arguments) {
    latency::Plan& plan = arguments.plan;
    std::string why;
    const std::string& target = arguments.serve ? arguments.serve_target : arguments.target;
    if (target.empty()) return "no target; see --help";
    if (!latency::parse_target(target, plan.target, why)) return target + ": " + why;
    if (arguments.serve) return {};
    for (const double seconds : {arguments.duration_s, arguments.warmup_s, arguments.patience_s}) {
        if (!(seconds >= 0 && seconds <= 1e6)) return "times: 0 to 1000000 seconds";
    }
    plan.duration = nanoseconds(arguments.duration_s);
    plan.warmup = nanoseconds(arguments.warmup_s);
    plan.patience = nanoseconds(arguments.patience_s);
    plan.depth = arguments.depth;
    const bool one = plan.closed || plan.target.kind == latency::Kind::http;
    if (plan.depth == 0) plan.depth = one ? 1 : 1024;
    plan.busy_poll = arguments.busy_poll;
    std::istringstream words(arguments.command);
    for (std::string word; words >> word;) plan.command.push_back(word);
    if (plan.command.empty()) plan.command = {"/proc/self/exe", "serve", "pipe"};
    for (const std::string& text : arguments.asserted) {
        arguments.expectations.emplace_back();
        if (!latency::parse_expectation(text, arguments.expectations.back(), why)) {
            return "--assert " + text + ": " + why;
        }
    }
    return latency::plan_problem(plan);
}

std::string set_processor(int cpu) {
    if (cpu < 0) return {};
    cpu_set_t set;
    CPU_ZERO(&set);
    if (cpu < CPU_SETSIZE) CPU_SET(static_cast<std::size_t>(cpu), &set);
    if (::sched_setaffinity(0, sizeof set, &set) == 0) return {};
    return "--cpu " + std::to_string(cpu) + ": " + std::strerror(errno);
}

whorl::LoopOptions loop_options(const Arguments& arguments) {
    whorl::LoopOptions options;
    if (arguments.backend == "io_uring") options.backend = whorl::Backend::io_uring;
    if (arguments.backend == "libev") options.backend = whorl::Backend::libev;
    options.name = "whorl-latency";
    options.statistics_page = options.operation_latency = arguments.watched;
    options.top_handles = arguments.watched ? 8 : 0;
    return options;
}

// Runs until `done`. SIGINT, SIGTERM and SIGHUP call `interrupt`.
template <class Done, class Interrupt>
std::string run(Loop& loop, bool busy_poll, const Done& done, const Interrupt& interrupt) {
    const auto signals = whorl::open_signals(loop, {SIGINT, SIGTERM, SIGHUP});
    if (!signals) return std::string("signals: ") + signals.error().text();
    const auto waiting = loop.submit(whorl::SignalStream{*signals},
                                     [&interrupt](Loop&, whorl::SignalStream::Done taken) {
                                         if (taken.more && !taken.error) interrupt();
                                     });
    if (!waiting) return std::string("signals: ") + waiting.error().text();
    while (!done()) {
        const whorl::Error error = busy_poll ? loop.poll() : loop.run_once();
        if (error) return error.text();
    }
    return {};
}

int serve(const Arguments& arguments) {
    whorl::BackendReport report;
    whorl::Result<Loop> loop = Loop::create(loop_options(arguments), report);
    if (!loop) return fail(failed, std::string(loop.error().text()) + ": " + report.text);
    latency::Target target = arguments.plan.target;
    std::string where, why;
    bool ended = false;
    if (!latency::resolve_target(*loop, target, why) ||
        !latency::serve(*loop, target, ended, where, why)) {
        return fail(failed, target.text + ": " + why);
    }
    int untold = 0;  // errno of what could not be written
    const auto tell = [&](Loop& serving) {
        std::printf("serving %s on %s\n", where.c_str(), serving.backend_name());
        if (std::fflush(stdout) == 0) return;
        untold = errno;
        ended = true;
    };
    // From inside the loop: whoever reads it may send a signal, which is waited for by then.
    if (target.kind != latency::Kind::pipe) (void)loop->post(tell);
    why = run(
        *loop, arguments.busy_poll, [&] { return ended; }, [&] { ended = true; });
    if (target.kind == latency::Kind::unix_stream) {
        (void)whorl::remove_socket_file(*loop, target.unix_address);
    }
    if (untold != 0) return fail(usage, std::string("standard output: ") + std::strerror(untold));
    return why.empty() ? good : fail(failed, why);
}

double thread_cpu_s() {
    timespec time{};
    (void)::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// Where a terminal is, the line is written over the one before.
void tell_progress(latency::Client& client, const Outcome& outcome) {
    if (!client.begun() || client.finished()) return;
    const double elapsed = static_cast<double>(client.elapsed().count()) * 1e-9;
    const std::string line = latency::progress_of(outcome, elapsed, client.under_way());
    const bool terminal = ::isatty(STDERR_FILENO) != 0;
    std::fprintf(stderr, terminal ? "\r\033[K%s" : "%s\n", line.c_str());
    (void)std::fflush(stderr);
}

// Fills `outcome`. Empty: it ran, though its failure may be in the outcome.
std::string measure(const Arguments& arguments, Loop& loop, Outcome& outcome) {
    latency::Client client(loop, outcome, [](Loop&) { return whorl::clock_now(); });
    const bool terminal = ::isatty(STDERR_FILENO) != 0;
    const bool progress = !arguments.quiet && (arguments.progress || terminal);
    const whorl::Instant started = whorl::clock_now();
    const double cpu_started = thread_cpu_s();
    client.start();
    if (progress) {
        const auto telling = loop.every(std::chrono::seconds(1), [&](Loop&, const whorl::Expired&) {
            tell_progress(client, outcome);
        });
        if (!telling) return telling.error().text();
    }
    std::string why = run(
        loop, arguments.busy_poll, [&] { return client.finished(); }, [&] { client.interrupt(); });
    if (progress && terminal) std::fputs("\r\033[K", stderr);
    const auto wall = static_cast<double>((whorl::clock_now() - started).count()) * 1e-9;
    outcome.cpu_share = (thread_cpu_s() - cpu_started) / wall;
    return why;
}

bool print(const std::string& text) {
    const bool whole = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
    if (whole && std::fflush(stdout) == 0) return true;
    std::fprintf(stderr, "whorl-latency: standard output: %s\n", std::strerror(errno));
    return false;
}

bool write_files(const Arguments& arguments, const Outcome& outcome) {
    bool written = true;
    const auto write = [&](const std::string& path, const std::string& content) {
        if (!path.empty() && !latency::write_file(path, content)) written = false;
    };
    write(arguments.save, latency::json_of(outcome));
    write(arguments.hgrm, latency::hgrm_of(outcome.intended));
    write(arguments.html, latency::html_of(outcome));
    const std::string& name = outcome.plan.target.text;
    write(arguments.svg, latency::svg_of({latency::curve_of(outcome.intended, name)}));
    return written;
}

int client(const Arguments& arguments) {
    whorl::BackendReport report;
    whorl::Result<Loop> loop = Loop::create(loop_options(arguments), report);
    if (!loop) return fail(failed, std::string(loop.error().text()) + ": " + report.text);
    latency::Plan plan = arguments.plan;
    std::string why;
    if (!latency::resolve_target(*loop, plan.target, why)) {
        return fail(failed, plan.target.text + ": " + why);
    }
    Outcome outcome(plan);
    outcome.busy_poll = arguments.busy_poll;
    why = measure(arguments, *loop, outcome);
    if (!why.empty()) return fail(failed, why);
    if (!outcome.failure.empty()) {
        (void)fail(failed, outcome.failure);
        if (outcome.intended.count() == 0) return failed;
    }
    const bool written = write_files(arguments, outcome);
    const std::string text = arguments.json  ? latency::json_of(outcome)
                             : arguments.csv ? latency::csv_of(outcome)
                                             : latency::text_of(outcome);
    if (!print(text) || !written) return usage;
    int status = outcome.failure.empty() ? good : failed;
    if (outcome.answered == 0) status = fail(failed, "no message was answered");
    if (!arguments.expectations.empty() && outcome.refuses()) {
        const std::string counts =
            std::to_string(outcome.refused()) + " of " + std::to_string(outcome.answered);
        (void)fail(unmet, counts + " answers have a status of 400 or more: no --assert holds");
        if (status == good) status = unmet;
    }
    for (const latency::Expectation& expectation : arguments.expectations) {
        const std::string instead = latency::unmet(expectation, outcome.intended);
        if (instead.empty()) continue;
        (void)fail(unmet, expectation.text + " does not hold: " + instead);
        if (status == good) status = unmet;
    }
    return status;
}

int compare(const Arguments& arguments) {
    latency::Curve curves[2];
    for (std::size_t index = 0; index < 2; ++index) {
        std::string why;
        if (!latency::load_curve(arguments.compare[index], curves[index], why)) {
            return fail(usage, arguments.compare[index] + ": " + why);
        }
    }
    bool written = true;
    if (!arguments.svg.empty()) {
        written = latency::write_file(arguments.svg, latency::svg_of({curves[0], curves[1]}));
    }
    if (!arguments.html.empty()) {
        const std::string page = latency::html_of_comparison(curves[0], curves[1]);
        written = latency::write_file(arguments.html, page) && written;
    }
    return print(latency::compare_text(curves[0], curves[1])) && written ? good : usage;
}

// A closed standard descriptor would be given to the first thing that is opened.
bool standard_descriptors_are_open() {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
        if (::fcntl(fd, F_GETFD) >= 0) continue;
        if (fd == STDOUT_FILENO) return false;
        if (::open("/dev/null", O_RDWR) != fd) return false;
    }
    return true;
}

}  // namespace

int main(int count, char** words) {
    if (!standard_descriptors_are_open()) return fail(usage, "standard output is closed");
    (void)std::signal(SIGPIPE, SIG_IGN);
    (void)::prctl(PR_SET_TIMERSLACK, 1);  // messages go out when they are due
    CLI::App app("Measures how long a server's answers take, from when they were due.",
                 "whorl-latency");
    Arguments arguments;
    declare(app, arguments);
    try {
        app.parse(count, words);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? good : usage;
    }
    if (!arguments.compare.empty()) return compare(arguments);
    std::string problem = complete(arguments);
    if (problem.empty()) problem = set_processor(arguments.cpu);
    if (!problem.empty()) return fail(usage, problem);
    return arguments.serve ? serve(arguments) : client(arguments);
}
