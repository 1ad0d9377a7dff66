// SPDX-License-Identifier: MIT
// An echo server with a loop for each core: each has a listener of its own on the same port (SO_REUSEPORT), the
// kernel spreads connections over them, and nothing is shared.
//
//   core_echo [--port N] [--loops N] [--backend automatic|io_uring|libev]
//
// It stops on SIGINT or SIGTERM, and tells how many connections each loop has accepted.
#include "core_serve.hpp"
#include "echo.hpp"

#include <cstdio>
#include <memory>
#include <string>

namespace {

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
    CoreArguments arguments;
    if (!core_parse(count, words, arguments)) {
        return core_failed("usage", "[--port N] [--loops N] [--backend automatic|io_uring|libev]");
    }
    const sigset_t signals = core_signals();

    // The port is chosen once; a listener of its own keeps it until all have theirs.
    whorl::Result<whorl::Loop> chooser = whorl::Loop::create();
    if (!chooser) return core_failed("loop", chooser.error().text());
    whorl::ListenOptions shared;
    shared.reuse_port = true;
    whorl::Result<whorl::Listener> first =
        whorl::listen(*chooser, whorl::Address::loopback_v4(arguments.port), shared);
    if (!first) return core_failed("listen", first.error().text());
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
    if (!cores) return core_failed("start", cores.error().text());
    (void)chooser->drain(std::chrono::seconds(1));  // closes the listener that kept the port
    std::printf("listening on %s\nbackend %s\n", address.print().data, report.text);
    std::fflush(stdout);

    int signal = 0;
    sigwait(&signals, &signal);
    cores->stop();
    if (whorl::Error error = cores->join()) return core_failed("join", error.text());
    for (std::uint32_t core = 0; core < cores->size(); ++core) {
        std::printf("loop %u on processor %d accepted %llu\n", core, cores->cpu(core),
                    static_cast<unsigned long long>(servers[core].accepted));
    }
    std::puts("stopped");
    return 0;
}
