// SPDX-License-Identifier: MIT
// An echo server: every connection is an object with one overload for each event it waits for (echo.hpp).
//
//   echo_server [--port N] [--bind ADDRESS] [--backend automatic|io_uring|libev]
//
// It prints what it listens on, and which backend it got and why, and stops on SIGINT or SIGTERM.
#include "echo.hpp"

#include <whorl/whorl.hpp>

#include <csignal>
#include <cstdio>
#include <string>

namespace {

struct Arguments {
    std::string port = "7007";
    std::string bind = "127.0.0.1";
    whorl::LoopOptions options;
};

bool parse(int count, char** words, Arguments& arguments) {
    for (int index = 1; index + 1 < count; index += 2) {
        const std::string name = words[index], value = words[index + 1];
        if (name == "--port") arguments.port = value;
        else if (name == "--bind") arguments.bind = value;
        else if (name == "--backend" && value == "io_uring")
            arguments.options.backend = whorl::Backend::io_uring;
        else if (name == "--backend" && value == "libev")
            arguments.options.backend = whorl::Backend::libev;
        else if (name != "--backend" || value != "automatic") return false;
    }
    return count % 2 == 1;
}

int fail(const char* what, const char* why) {
    std::fprintf(stderr, "echo_server: %s: %s\n", what, why);
    return 1;
}

}  // namespace

int main(int count, char** words) {
    Arguments arguments;
    if (!parse(count, words, arguments)) {
        return fail("usage", "[--port N] [--bind ADDRESS] [--backend automatic|io_uring|libev]");
    }
    const bool v6 = arguments.bind.find(':') != std::string::npos;
    const std::string text =
        (v6 ? "[" + arguments.bind + "]" : arguments.bind) + ":" + arguments.port;
    const whorl::Result<whorl::Address> address = whorl::Address::parse(text);
    if (!address) return fail(text.c_str(), address.error().text());

    whorl::BackendReport report;
    whorl::Result<whorl::Loop> made = whorl::Loop::create(arguments.options, report);
    if (!made) return fail(made.error().text(), report.text);
    whorl::Loop& loop = *made;

    const whorl::Result<whorl::Listener> listener = whorl::listen(loop, *address);
    if (!listener) return fail(("listen on " + text).c_str(), listener.error().text());
    const whorl::AddressText where = whorl::local_address(loop, *listener)->print();
    std::printf("listening on %s\nbackend %s\n", where.data, loop.backend_report().text);
    std::fflush(stdout);

    // SIGINT and SIGTERM are completions like any other.
    const whorl::Result<whorl::Signals> signals = whorl::open_signals(loop, {SIGINT, SIGTERM});
    if (!signals) return fail("signals", signals.error().text());
    (void)loop.submit(whorl::WaitSignal{*signals},
                      [](whorl::Loop& stopped, whorl::WaitSignal::Done) { stopped.stop(); });

    (void)loop.submit(whorl::AcceptStream{*listener},
                      [](whorl::Loop& accepting, whorl::AcceptStream::Done done) {
                          if (done.socket) (new Echo(done.socket))->start(accepting);
                          else if (done.error != whorl::Error::cancelled)
                              std::fprintf(stderr, "accept: %s\n", done.error.text());
                      });
    if (whorl::Error error = loop.run()) return fail("run", error.text());
    if (whorl::Error error = loop.drain(std::chrono::seconds(5)))
        return fail("drain", error.text());
    std::puts("stopped");
    return 0;
}
