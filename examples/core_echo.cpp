// SPDX-License-Identifier: MIT
// An echo server with a loop for each core, and the ways in which connections come to it:
//
//   core_echo [--port N] [--loops N] [--backend automatic|io_uring|libev] [--spread kernel|cpu|hash|deal]
//
//   kernel, cpu, hash: each loop has a listener of its own on the same port (SO_REUSEPORT), and nothing is
//     shared. The kernel spreads connections by their addresses, gives each to the loop on the processor that
//     received it, or spreads by the packet's hash.
//   deal: the first loop accepts all, and deals them out in turn, by channels.
//
// It stops on SIGINT or SIGTERM, and tells how many connections each loop has had.
#include "core_serve.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

namespace {

using whorl::DetachedStream;
using whorl::Error;
using whorl::Loop;
using whorl::Stream;

struct Echo {
    void received(Stream& stream, whorl::Buffer buffer) { stream.write(std::move(buffer)); }
};

// What a loop has to itself; on lines of its own, as each is written by another core.
struct alignas(128) Server {
    std::uint64_t accepted = 0;
    whorl::Receiver<DetachedStream> dealt;               // of the others
    std::vector<whorl::Sender<DetachedStream>> players;  // of the one that deals: to the others
    std::size_t turn = 0;

    Error listen(Loop& loop, whorl::Listener listener) {
        return loop.submit(whorl::AcceptStream{listener}, this).error();
    }
    Error wait(Loop& loop) {
        return loop.submit(whorl::Receive<DetachedStream>{std::move(dealt)}, this).error();
    }
    void operator()(Loop& loop, whorl::AcceptStream::Done done) {
        if (!done.socket) return;
        if (players.empty()) return serve(loop, done.socket);
        whorl::Result<DetachedStream> card = DetachedStream::of(loop, done.socket);
        if (!card) return (void)loop.close(done.socket);
        const std::size_t player = turn++ % (players.size() + 1);
        // Who has no room for more has enough to do; so it stays here.
        if (player != 0 && !players[player - 1].send(std::move(*card))) return;
        take(loop, std::move(*card));
    }
    void operator()(Loop& loop, whorl::Receive<DetachedStream>::Done done) {
        while (DetachedStream* card = done.next()) take(loop, std::move(*card));
    }

  private:
    void serve(Loop& loop, whorl::Socket socket) {
        ++accepted;
        if (!whorl::attach(loop, socket, Echo{})) (void)loop.close(socket);
    }
    void take(Loop& loop, DetachedStream card) {
        ++accepted;
        (void)whorl::attach(loop, std::move(card), Echo{});  // refused, it is reset
    }
};

// The listeners of all loops, opened in their order by one that does not run: the steering names them so.
struct Listeners {
    whorl::Result<Loop> loop = Loop::create();
    std::vector<whorl::Listener> all;
    std::vector<int> numbers;
    whorl::Address address;

    Error open(std::uint16_t port, std::uint32_t count) {
        if (!loop) return loop.error();
        whorl::ListenOptions shared;
        shared.reuse_port = count > 1;
        address = whorl::Address::loopback_v4(port);
        while (all.size() < count) {
            const whorl::Result<whorl::Listener> made = whorl::listen(*loop, address, shared);
            if (!made) return made.error();
            all.push_back(*made);
            numbers.push_back(*whorl::native_handle(*loop, *made));
            address = *whorl::local_address(*loop, *made);  // the first chooses the port
        }
        return {};
    }
    // Another descriptor of a listener, for the loop that will accept from it.
    whorl::Result<whorl::Listener> give(Loop& to, std::uint32_t index) const {
        const int copy = ::fcntl(numbers[index], F_DUPFD_CLOEXEC, 0);
        if (copy < 0) return Error::from_errno(errno);
        const whorl::Result<whorl::Listener> given = whorl::adopt_listener(to, copy);
        if (!given) ::close(copy);
        return given ? whorl::Result<whorl::Listener>(*given) : given.error();
    }
    Error steer(const std::string& spread, const whorl::CoreSet& cores) {
        if (spread != "cpu" && spread != "hash") return {};
        std::vector<std::uint32_t> cpus;
        for (std::uint32_t core = 0; core < cores.size(); ++core) {
            cpus.push_back(static_cast<std::uint32_t>(cores.cpu(core)));
        }
        const auto by = spread == "cpu" ? whorl::SteerBy::cpu : whorl::SteerBy::hash;
        return whorl::steer(*loop, all[0], {by, cores.size(), cpus.data()});
    }
    // Those of the loops remain.
    void close() { (void)loop->drain(std::chrono::seconds(1)); }
};

Error deal(Server* servers, std::uint32_t loops) {
    for (std::uint32_t core = 1; core < loops; ++core) {
        auto channel = whorl::Channel<DetachedStream>::create(64);
        if (!channel) return channel.error();
        servers[0].players.push_back(std::move(channel->sender));
        servers[core].dealt = std::move(channel->receiver);
    }
    return {};
}

int run(const CoreArguments& arguments, const std::string& spread) {
    const std::uint32_t loops = arguments.options.loops;
    const bool deals = spread == "deal";
    const auto servers = std::make_unique<Server[]>(loops);
    Listeners listeners;
    if (Error error = listeners.open(arguments.port, deals ? 1 : loops)) {
        return core_failed("listen", error.text());
    }
    if (deals) {
        if (Error error = deal(servers.get(), loops)) return core_failed("deal", error.text());
    }
    whorl::BackendReport report;
    whorl::Result<whorl::CoreSet> cores =
        whorl::CoreSet::start(arguments.options, [&](Loop& loop, std::uint32_t core) -> Error {
            if (core == 0) report = loop.backend_report();
            if (deals && core != 0) return servers[core].wait(loop);
            const whorl::Result<whorl::Listener> listener = listeners.give(loop, core);
            return listener ? servers[core].listen(loop, *listener) : listener.error();
        });
    if (!cores) return core_failed("start", cores.error().text());
    if (Error error = listeners.steer(spread, *cores)) return core_failed("steer", error.text());
    std::printf("listening on %s\nbackend %s\n", listeners.address.print().data, report.text);
    std::fflush(stdout);
    listeners.close();

    const sigset_t signals = core_signals();
    int signal = 0;
    sigwait(&signals, &signal);
    cores->stop();
    if (Error error = cores->join()) return core_failed("join", error.text());
    for (std::uint32_t core = 0; core < cores->size(); ++core) {
        std::printf("loop %u on processor %d accepted %llu\n", core, cores->cpu(core),
                    static_cast<unsigned long long>(servers[core].accepted));
    }
    std::puts("stopped");
    return 0;
}

}  // namespace

int main(int count, char** words) {
    const char* const usage =
        "[--port N] [--loops N] [--backend automatic|io_uring|libev] [--spread "
        "kernel|cpu|hash|deal]";
    CoreArguments arguments;
    std::string spread = "kernel";
    const bool parsed = core_parse(count, words, arguments, &spread);
    const bool known =
        spread == "kernel" || spread == "cpu" || spread == "hash" || spread == "deal";
    if (!parsed || !known) return core_failed("usage", usage);
    (void)core_signals();  // before there are threads
    if (arguments.options.loops == 0) {
        const whorl::Result<whorl::Topology> topology = whorl::Topology::read();
        if (!topology) return core_failed("topology", topology.error().text());
        arguments.options.loops = topology->useful();
    }
    return run(arguments, spread);
}
