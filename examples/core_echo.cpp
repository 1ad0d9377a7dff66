// SPDX-License-Identifier: MIT
// An echo server with a loop for each core: each has a listener of its own on the same port (SO_REUSEPORT), the
// kernel spreads connections over them, and nothing is shared.
//
//   core_echo [--port N] [--loops N] [--backend automatic|io_uring|libev]
//
// It stops on SIGINT or SIGTERM, and tells how many connections each loop has accepted.
#include "echo.hpp"

#include <whorl/core_set.hpp>
#include <whorl/whorl.hpp>

#include <signal.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

namespace {

struct Arguments {
    std::uint16_t port = 7007;
    whorl::CoreSetOptions options;
};

bool parse(int count, char** words, Arguments& arguments) {
    for (int index = 1; index + 1 < count; index += 2) {
        const std::string name = words[index], value = words[index + 1];
        if (name == "--port") arguments.port = static_cast<std::uint16_t>(std::atoi(value.c_str()));
        else if (name == "--loops")
            arguments.options.loops = static_cast<std::uint32_t>(std::atoi(value.c_str()));
        else if (name == "--backend" && value == "io_uring")
            arguments.options.loop.backend = whorl::Backend::io_uring;
        else if (name == "--backend" && value == "libev")
            arguments.options.loop.backend = whorl::Backend::libev;
        else if (name != "--backend" || value != "automatic") return false;
    }
    return count % 2 == 1;
}

int fail(const char* what, const char* why) {
    std::fprintf(stderr, "core_echo: %s: %s\n", what, why);
    return 1;
}

// What a loop has to itself; on lines of its own, as each is written by another core.
struct alignas(128) Server {
    std::uint64_t accepted = 0;

    whorl::Error start(whorl::Loop& loop, whorl::Listener listener) {
        return loop.submit(whorl::AcceptStream{listener}, this).error();
    }
    void operator()(whorl::Loop& loop, whorl::AcceptStream::Done done) {
        if (!done.socket) return;
        ++accepted;
        (new Echo(done.socket))->start(loop);
    }
};

}  // namespace

int main(int count, char** words) {
    Arguments arguments;
    if (!parse(count, words, arguments)) {
        return fail("usage", "[--port N] [--loops N] [--backend automatic|io_uring|libev]");
    }
    // Before there are threads, so that all of them block these signals and this one waits for them.
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);

    // The port is chosen once; a listener of its own keeps it until all have theirs.
    whorl::Result<whorl::Loop> chooser = whorl::Loop::create();
    if (!chooser) return fail("loop", chooser.error().text());
    whorl::ListenOptions shared;
    shared.reuse_port = true;
    whorl::Result<whorl::Listener> first =
        whorl::listen(*chooser, whorl::Address::loopback_v4(arguments.port), shared);
    if (!first) return fail("listen", first.error().text());
    const whorl::Address address = *whorl::local_address(*chooser, *first);

    const auto servers = std::make_unique<Server[]>(1024);
    whorl::BackendReport report;
    whorl::Result<whorl::CoreSet> cores = whorl::CoreSet::start(
        arguments.options, [&](whorl::Loop& loop, std::uint32_t core) -> whorl::Error {
            if (core == 0) report = loop.backend_report();
            const whorl::Result<whorl::Listener> listener = whorl::listen(loop, address, shared);
            if (!listener) return listener.error();
            return servers[core].start(loop, *listener);
        });
    if (!cores) return fail("start", cores.error().text());
    (void)chooser->drain(std::chrono::seconds(1));  // closes the listener that kept the port
    std::printf("listening on %s\nbackend %s\n", address.print().data, report.text);
    std::fflush(stdout);

    int signal = 0;
    sigwait(&signals, &signal);
    cores->stop();
    if (whorl::Error error = cores->join()) return fail("join", error.text());
    for (std::uint32_t core = 0; core < cores->size(); ++core) {
        std::printf("loop %u on processor %d accepted %llu\n", core, cores->cpu(core),
                    static_cast<unsigned long long>(servers[core].accepted));
    }
    std::puts("stopped");
    return 0;
}
