// SPDX-License-Identifier: MIT
// What whorl's servers for comparisons share: the flags of the rivals and --backend, the stop signal, the
// report at the end.
#pragma once

#include "../rivals/echo.hpp"

#include <whorl/whorl.hpp>

#include <string>
#include <utility>
#include <vector>

namespace bench {

inline void check(whorl::Error error, const char* what) {
    if (!error) return;
    std::fprintf(stderr, "%s: %s\n", what, error.text());
    std::exit(1);
}

// Takes `--backend NAME` out of the words; what is left is the rivals' flags.
inline whorl::Backend take_backend(std::vector<char*>& words) {
    whorl::Backend backend = whorl::Backend::automatic;
    for (std::size_t index = 1; index + 1 < words.size(); index += 2) {
        if (std::string(words[index]) != "--backend") continue;
        const std::string name = words[index + 1];
        if (name == "io_uring") backend = whorl::Backend::io_uring;
        if (name == "libev") backend = whorl::Backend::libev;
        const auto first = words.begin() + static_cast<std::ptrdiff_t>(index);
        words.erase(first, first + 2);
        break;
    }
    return backend;
}

// The value of `flag`, taken out of the words; 0 when it is not there.
inline long take_number(std::vector<char*>& words, const char* flag) {
    for (std::size_t index = 1; index + 1 < words.size(); index += 2) {
        if (std::string(words[index]) != flag) continue;
        const long value = std::strtol(words[index + 1], nullptr, 10);
        const auto first = words.begin() + static_cast<std::ptrdiff_t>(index);
        words.erase(first, first + 2);
        return value;
    }
    return 0;
}

class WhorlServer {
  public:
    WhorlServer(int count, char** arguments) : loop_(make(count, arguments)) {
        stop_fd_ = stop_descriptor();
        check(loop_
                  .watch(stop_fd_, whorl::Interest::readable,
                         [](whorl::Loop& stopped, whorl::Watched) { stopped.stop(); })
                  .error(),
              "watch");
    }
    WhorlServer(const WhorlServer&) = delete;
    WhorlServer& operator=(const WhorlServer&) = delete;
    ~WhorlServer() { (void)::close(stop_fd_); }

    whorl::Loop& loop() { return loop_; }
    const Options& options() const { return options_; }

    // Serves until the stop signal.
    void run() {
        check(loop_.run(), "run");
        check(loop_.drain(std::chrono::seconds(5)), "drain");
        print_report(loop_.backend_report().chosen == whorl::Backend::io_uring ? "whorl:io_uring"
                                                                               : "whorl:libev");
    }

  private:
    whorl::Loop make(int count, char** arguments) {
        std::vector<char*> words(arguments, arguments + count);
        whorl::LoopOptions loop_options;
        loop_options.backend = take_backend(words);
        // What insight and busy polling cost and gain (docs/insight.md, docs/latency.md).
        loop_options.statistics_page = take_number(words, "--statistics") != 0;
        loop_options.operation_latency = take_number(words, "--latency") != 0;
        loop_options.insight = take_number(words, "--insight") != 0;
        loop_options.recorder_events = static_cast<std::uint32_t>(take_number(words, "--recorder"));
        loop_options.slow_handler = std::chrono::milliseconds(take_number(words, "--slow-handler"));
        loop_options.busy_poll = std::chrono::microseconds(take_number(words, "--busy-poll"));
        options_.buffer_size = loop_options.recv_buffer_size;
        options_ = parse_options(static_cast<int>(words.size()), words.data(), options_);
        loop_options.recv_buffer_size = options_.buffer_size;
        loop_options.recv_ring_depth = options_.buffer_count;
        whorl::BackendReport report;
        whorl::Result<whorl::Loop> made = whorl::Loop::create(loop_options, report);
        if (made) return std::move(*made);
        std::fprintf(stderr, "%s\n", report.text);
        std::exit(exit_skipped);
    }

    Options options_;
    whorl::Loop loop_;
    int stop_fd_ = -1;
};

}  // namespace bench
