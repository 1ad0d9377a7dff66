// SPDX-License-Identifier: MIT
// The load generator: one thread, epoll, N connections with D messages under way on each. Every echoed
// byte is compared with what was sent; a server that is fast and wrong has no figures.
//
//   bench_load --port P [--host A] [--connections N] [--size BYTES] [--depth D]
//              [--rate MESSAGES_A_SECOND] [--storm | --udp]
//              [--warmup S] [--seconds S] [--cpu N]
//       one measurement, one line of JSON.
//   bench_load --port P … --control
//       keeps its connections open and measures on demand: reads lines "run SECONDS" and "count
//       REQUESTS" from standard input until its end and answers each with one line of JSON. Between
//       two runs nothing is under way, so a driver can read the server's CPU clock around a run.
//   bench_load --port P --idle N [--size BYTES] [--seconds S]
//       opens N connections, sends one message on each and checks its echo, prints a line, holds
//       them for S seconds (without --seconds: until standard input ends), checks again.
//
// Without --rate the loop is closed: an echo that came home sends the next message, and a latency is the
// time from handing a message to the socket to having read the last byte of its echo. It leaves out the
// waiting that others would have seen while the server was busy: compare two servers by it under the
// same load, do not read it as what users see. With --rate the loop is open: messages are due at fixed
// times, and a latency counts from the time the message was due, whoever kept it from being sent (no
// coordinated omission). --storm opens a connection for every message and closes it after the echo.
// --udp sends every message as a datagram; one that is lost counts as an error after five seconds, so keep
// fewer under way than the sockets' buffers hold (some hundreds).
//
// "generator_bound" says that the generator and not the server set the figures: it had its CPU for more
// than 95 % of the time, or in an open loop sent one message in a hundred late by more than a tenth of
// the p99 latency although there was room for it.
//
// Exit status: 0; 1 when a byte was wrong, a connection ended early or an echo did not come.
#include <poll.h>
#include <sched.h>
#include <sys/resource.h>

#include "generator.hpp"
#include "storm.hpp"

namespace {

using bench::fail;
using bench::Generator;
using bench::Options;
using bench::Outcome;

template <class Load>
void print(const Options& options, const Outcome& outcome, const Load& load) {
    const whorl::Histogram& latencies = load.latencies();
    const auto us = [&](double percent) {
        return static_cast<double>(latencies.percentile(percent)) * 1e-3;
    };
    const double rps =
        outcome.seconds > 0 ? static_cast<double>(outcome.requests) / outcome.seconds : 0;
    const double lag_us = static_cast<double>(load.lags().percentile(99)) * 1e-3;
    const bool bound = outcome.cpu_share > 0.95 || lag_us > 0.1 * us(99);
    std::printf(
        "{\"connections\":%zu,\"size\":%zu,\"depth\":%zu,\"rate\":%.0f,\"requests\":%llu,"
        "\"seconds\":%.6f,\"rps\":%.1f,\"p50_us\":%.2f,\"p90_us\":%.2f,\"p99_us\":%.2f,"
        "\"p999_us\":%.2f,\"max_us\":%.2f,\"lag_p99_us\":%.2f,\"generator_cpu\":%.3f,"
        "\"generator_bound\":%s,\"errors\":%zu}\n",
        options.connections, options.size, options.depth, options.rate,
        static_cast<unsigned long long>(outcome.requests), outcome.seconds, rps, us(50), us(90),
        us(99), us(99.9), static_cast<double>(latencies.max()) * 1e-3, lag_us, outcome.cpu_share,
        bound ? "true" : "false", outcome.errors);
    std::fflush(stdout);
}

template <class Load>
int measure(const Options& options) {
    Load load(options);
    std::size_t errors = 0;
    if (options.warmup > 0) errors += load.run(options.warmup).errors;
    const Outcome outcome = load.run(options.seconds >= 0 ? options.seconds : 1.0);
    print(options, outcome, load);
    return errors + outcome.errors == 0 ? 0 : 1;
}

template <class Load>
int serve_control(const Options& options) {
    Load load(options);
    std::printf("{\"ready\":true,\"connections\":%zu}\n", options.connections);
    std::fflush(stdout);
    std::size_t errors = 0;
    char line[128];
    while (std::fgets(line, sizeof line, stdin) != nullptr) {
        double seconds = 0;
        unsigned long long requests = 0;
        const bool timed = std::sscanf(line, "run %lf", &seconds) == 1;
        if (timed ? !(seconds >= 0 && seconds < 1e6)
                  : std::sscanf(line, "count %llu", &requests) != 1) {
            std::fprintf(stderr, "bench_load: not a command: %s", line);
            return 2;
        }
        const Outcome outcome = load.run(seconds, requests);
        errors += outcome.errors;
        print(options, outcome, load);
    }
    return errors == 0 ? 0 : 1;
}

template <class Load>
int load_with(const Options& options) {
    return options.control ? serve_control<Load>(options) : measure<Load>(options);
}

int hold_idle(const Options& options) {
    const std::uint64_t begin = bench::now_ns();
    Generator generator(options);
    const double connect_seconds = static_cast<double>(bench::now_ns() - begin) * 1e-9;
    const Outcome first = generator.run(0);
    std::printf(
        "{\"idle\":%zu,\"verified\":%zu,\"errors\":%zu,\"connect_seconds\":%.6f,"
        "\"exchange_seconds\":%.6f}\n",
        options.connections, first.alive, first.errors, connect_seconds, first.seconds);
    std::fflush(stdout);
    if (options.seconds >= 0) {
        (void)poll(nullptr, 0, static_cast<int>(options.seconds * 1e3));
    } else {
        while (std::getchar() != EOF) {
        }
    }
    const Outcome second = generator.run(0);
    std::printf("{\"idle\":%zu,\"still_open\":%zu,\"errors\":%zu,\"exchange_seconds\":%.6f}\n",
                options.connections, second.alive, second.errors, second.seconds);
    return first.errors + second.errors == 0 ? 0 : 1;
}

double parse(const std::string& flag, const char* text, double min, double max) {
    char* end = nullptr;
    const double value = std::strtod(text, &end);
    if (end != text && *end == '\0' && value >= min && value <= max) return value;
    std::fprintf(stderr, "bench_load: %s: '%s' is not in [%g, %g]\n", flag.c_str(), text, min, max);
    std::exit(2);
}

Options parse_options(int argc, char** argv) {
    Options options;
    for (int index = 1; index < argc; ++index) {
        const std::string flag = argv[index];
        if (flag == "--control" || flag == "--storm" || flag == "--udp") {
            options.control |= flag == "--control";
            options.storm |= flag == "--storm";
            options.udp |= flag == "--udp";
            continue;
        }
        if (++index == argc) {
            std::fprintf(stderr, "bench_load: %s needs a value; see the head of load.cpp\n",
                         flag.c_str());
            std::exit(2);
        }
        const char* text = argv[index];
        const auto whole = [&](double min, double max) {
            return static_cast<std::size_t>(parse(flag, text, min, max));
        };
        if (flag == "--host") options.host = text;
        else if (flag == "--port") options.port = static_cast<std::uint16_t>(whole(1, 65535));
        else if (flag == "--connections") options.connections = whole(1, 1e6);
        else if (flag == "--size") options.size = whole(1, 1 << 26);
        else if (flag == "--depth") options.depth = whole(1, 65536);
        else if (flag == "--seconds") options.seconds = parse(flag, text, 0, 1e6);
        else if (flag == "--warmup") options.warmup = parse(flag, text, 0, 1e6);
        else if (flag == "--rate") options.rate = parse(flag, text, 0, 1e9);
        else if (flag == "--cpu") options.cpu = static_cast<int>(whole(0, CPU_SETSIZE - 1));
        else if (flag == "--idle") {
            options.idle = true;
            options.connections = whole(1, 1e6);
        } else {
            std::fprintf(stderr, "bench_load: unknown flag %s\n", flag.c_str());
            std::exit(2);
        }
    }
    if (options.port == 0) {
        std::fprintf(stderr, "bench_load: --port is needed\n");
        std::exit(2);
    }
    if (options.udp && (options.storm || options.size > 2048)) {
        std::fprintf(stderr, "bench_load: --udp goes with 2048 bytes and without --storm\n");
        std::exit(2);
    }
    if (options.idle) options.depth = 1;
    return options;
}

void raise_descriptor_limit(std::size_t connections) {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < connections + 16) {
        std::fprintf(stderr, "bench_load: %zu connections, but only %llu descriptors\n",
                     connections, static_cast<unsigned long long>(limit.rlim_cur));
        std::exit(1);
    }
}

void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(static_cast<unsigned>(cpu), &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) fail("--cpu", errno);
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse_options(argc, argv);
    raise_descriptor_limit(options.connections);
    if (options.cpu >= 0) pin(options.cpu);
    if (options.idle) return hold_idle(options);
    return options.storm ? load_with<bench::Storm>(options) : load_with<Generator>(options);
}
