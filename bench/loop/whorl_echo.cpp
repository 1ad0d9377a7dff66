// SPDX-License-Identifier: MIT
// whorl's echo server for comparisons: the connections of examples/echo_server.cpp with the flags and
// the report of the rivals, and --backend.
#include "../../examples/echo.hpp"
#include "../rivals/echo.hpp"

#include <whorl/whorl.hpp>

#include <string>
#include <utility>
#include <vector>

namespace {

void check(whorl::Error error, const char* what) {
    if (!error) return;
    std::fprintf(stderr, "%s: %s\n", what, error.text());
    std::exit(1);
}

// Takes `--backend NAME` out of the words; what is left is the rivals' flags.
whorl::Backend take_backend(std::vector<char*>& words) {
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

}  // namespace

int main(int count, char** arguments) {
    std::vector<char*> words(arguments, arguments + count);
    whorl::LoopOptions loop_options;
    loop_options.backend = take_backend(words);
    bench::Options defaults;
    defaults.buffer_size = loop_options.recv_buffer_size;
    const bench::Options options =
        bench::parse_options(static_cast<int>(words.size()), words.data(), defaults);
    loop_options.recv_buffer_size = options.buffer_size;
    loop_options.recv_ring_depth = options.buffer_count;

    whorl::BackendReport report;
    whorl::Result<whorl::Loop> made = whorl::Loop::create(loop_options, report);
    if (!made) {
        std::fprintf(stderr, "%s\n", report.text);
        return bench::exit_skipped;
    }
    whorl::Loop& loop = *made;
    const int listening = bench::listen_on(options, 0);
    const whorl::Result<whorl::Listener> listener = whorl::adopt_listener(loop, listening);
    check(listener.error(), "adopt_listener");
    const int stop_fd = bench::stop_descriptor();
    check(loop.watch(stop_fd, whorl::Interest::readable,
                     [](whorl::Loop& stopped, whorl::Watched) { stopped.stop(); })
              .error(),
          "watch");
    check(loop.submit(whorl::AcceptStream{*listener},
                      [](whorl::Loop& accepting, whorl::AcceptStream::Done done) {
                          if (!done.error) (new Echo(done.socket))->start(accepting);
                      })
              .error(),
          "accept");
    bench::announce(listening);
    check(loop.run(), "run");
    check(loop.drain(std::chrono::seconds(5)), "drain");
    bench::print_report(loop.backend_report().chosen == whorl::Backend::io_uring ? "whorl:io_uring"
                                                                                 : "whorl:libev");
    ::close(stop_fd);
    return 0;
}
