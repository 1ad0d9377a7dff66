// SPDX-License-Identifier: MIT
// Goal: connections that go to and fro between two loops on two threads, under traffic in both directions,
// lose, double and reorder no byte.
// Method: visitors in a process of their own send bytes that tell their place, and compare the echo. They
// begin when all are connected. The server hands each connection over after every few KiB, by channel.
//
//   handover [--connections N] [--bytes N] [--backend io_uring|libev]
#include <whorl/whorl.hpp>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace {

using whorl::Buffer;
using whorl::Closed;
using whorl::DetachDone;
using whorl::DetachedStream;
using whorl::Error;
using whorl::Loop;
using whorl::Stream;

struct Settings {
    std::uint32_t connections = 200;
    std::uint64_t bytes = 131072;  // each way, of each connection
    whorl::LoopOptions loop;
};

constexpr std::uint64_t hop_bytes = 3000;  // received on one loop, before it goes to the other
constexpr std::uint64_t window = 24576;    // sent and not yet back
constexpr std::uint32_t connecting_max = 256;
// Ten thousand windows may wait at once.
constexpr whorl::StreamBudget budget = {std::size_t{1} << 30, std::size_t{1} << 31};

bool complain(const char* what, Error error) {
    std::fprintf(stderr, "%s: %s\n", what, error.text());
    return false;
}

// --- The visitors

char byte_at(std::uint32_t who, std::uint64_t offset) {
    return static_cast<char>((offset + who * 1'000'003ull) * 0x9E3779B97F4A7C15u >> 56);
}

struct Visitors {
    explicit Visitors(const Settings& given, whorl::Address address)
        : settings(given), server(address), streams(given.connections) {}

    void connect(Loop& loop) {
        while (started < settings.connections && started - connected < connecting_max) {
            const std::uint32_t who = started++;
            if (!loop.submit(whorl::Connect{server},
                             [this, who](Loop& inner, whorl::Connect::Done done) {
                                 if (done.error) return fail(inner, "connect", done.error);
                                 arrive(inner, who, done.socket);
                             })) {
                return loop.stop();
            }
        }
    }
    void arrive(Loop& loop, std::uint32_t who, whorl::Socket socket);
    void fail(Loop& loop, const char* what, Error error) {
        if (!failed) complain(what, error);
        failed = true;
        loop.stop();
    }

    const Settings& settings;
    whorl::Address server;
    std::vector<Stream*> streams;
    std::uint32_t started = 0;
    std::uint32_t connected = 0;
    std::uint32_t right = 0;
    bool failed = false;
};

struct Visitor {
    Visitors* all;
    std::uint32_t who;
    std::uint64_t sent = 0;
    std::uint64_t got = 0;

    void begin(Stream& stream) {
        while (sent < all->settings.bytes && sent - got < window) {
            char piece[1700];
            std::size_t size = 100 + (who + sent) % 1600;
            if (size > all->settings.bytes - sent) {
                size = static_cast<std::size_t>(all->settings.bytes - sent);
            }
            for (std::size_t at = 0; at < size; ++at) piece[at] = byte_at(who, sent + at);
            sent += size;
            stream.write(std::string_view(piece, size));
        }
        if (sent == all->settings.bytes) stream.end();
    }
    void opened(Stream& stream) {
        all->streams[who] = &stream;
        all->connect(stream.loop());
        if (++all->connected != all->settings.connections) return;
        // Now. It has written nothing yet, so resuming is what starts each.
        for (Stream* each : all->streams) each->unread(Buffer::copy_of(whorl::Bytes("!")));
    }
    void received(Stream& stream, Buffer buffer) {
        std::string_view text = buffer.text();
        if (sent == 0) {
            if (text != "!") return all->fail(stream.loop(), "before", Error::frame_malformed);
            return begin(stream);
        }
        for (const char byte : text) {
            if (got >= sent || byte != byte_at(who, got++)) {
                std::fprintf(stderr, "connection %u is wrong at byte %llu\n", who,
                             static_cast<unsigned long long>(got));
                return all->fail(stream.loop(), "echo", Error::frame_malformed);
            }
        }
        begin(stream);
    }
    void closed(Stream& stream, Closed reason) {
        if (reason.error) return all->fail(stream.loop(), "closed", reason.error);
        if (got != all->settings.bytes) {
            return all->fail(stream.loop(), "bytes are missing", Error::end_of_file);
        }
        ++all->right;
    }
};

void Visitors::arrive(Loop& loop, std::uint32_t who, whorl::Socket socket) {
    const whorl::Result<Stream*> stream = attach(loop, socket, Visitor{this, who});
    if (!stream) fail(loop, "attach", stream.error());
}

int visit(const Settings& settings, int port_from) {
    std::uint16_t port = 0;
    if (::read(port_from, &port, sizeof port) != sizeof port) return 1;
    whorl::Result<Loop> loop = Loop::create(settings.loop);
    if (!loop) return 1;
    if (set_stream_budget(*loop, budget)) return 1;
    Visitors all(settings, whorl::Address::loopback_v4(port));
    all.connect(*loop);
    if (Error error = loop->run()) complain("run", error);
    if (all.right == settings.connections && !all.failed) return 0;
    std::fprintf(stderr, "%u of %u were right\n", all.right, settings.connections);
    return 1;
}

// --- The server

struct Server;

struct alignas(128) Core {
    Server* server = nullptr;
    whorl::Sender<DetachedStream> out;
    whorl::Receiver<DetachedStream> in;
    std::uint64_t accepted = 0;
    std::uint64_t handovers = 0;
    std::uint64_t full = 0;  // handed back by the channel
    std::uint64_t held = 0;  // bytes that went along, received and sent
    std::uint64_t queued = 0;
    std::uint64_t errors = 0;

    Error start(Loop& loop);
    void take(Loop& loop, DetachedStream stream);
    void depart(Loop& loop, DetachDone done);
};

struct Server {
    Core cores[2];
    std::uint64_t connections = 0;
    std::atomic<whorl::CoreSet*> set{nullptr};  // before the first visitor hears of the port
    std::atomic<std::uint64_t> closed{0};
};

struct Echo {
    Core* core;
    std::uint64_t here = 0;

    void received(Stream& stream, Buffer buffer) {
        here += buffer.size();
        stream.write(std::move(buffer));
        if (here < hop_bytes) return;
        here = 0;
        // Refused at its end, where it closes.
        static_cast<void>(detach(stream, [on = core](Loop& loop, DetachDone done) {
            on->depart(loop, std::move(done));
        }));
    }
    void closed(Stream&, Closed reason) {
        if (reason.error) ++core->errors;
        if (core->server->closed.fetch_add(1) + 1 == core->server->connections) {
            core->server->set.load()->stop();
        }
    }
};

Error Core::start(Loop& loop) {
    return loop
        .submit(whorl::Receive<DetachedStream>{std::move(in)},
                [this](Loop& inner, whorl::Receive<DetachedStream>::Done done) {
                    while (DetachedStream* stream = done.next()) take(inner, std::move(*stream));
                })
        .error();
}

void Core::take(Loop& loop, DetachedStream stream) {
    if (!attach(loop, std::move(stream), Echo{this})) ++errors;
}

void Core::depart(Loop& loop, DetachDone done) {
    if (done.error) {
        ++errors;
        return;
    }
    held += done.stream.held();
    queued += done.stream.queued();
    if (!out.send(std::move(done.stream))) {
        ++handovers;
        return;
    }
    ++full;
    take(loop, std::move(done.stream));
}

whorl::Result<whorl::CoreSet> start(const Settings& settings, Server& server, std::uint16_t& port) {
    for (int index = 0; index < 2; ++index) {
        auto channel = whorl::Channel<DetachedStream>::create(256);
        if (!channel) return channel.error();
        server.cores[index].out = std::move(channel->sender);
        server.cores[1 - index].in = std::move(channel->receiver);
        server.cores[index].server = &server;
    }
    whorl::CoreSetOptions options;
    options.loops = 2;
    options.pin = false;
    options.loop = settings.loop;
    return whorl::CoreSet::start(options, [&](Loop& loop, std::uint32_t index) -> Error {
        Core& core = server.cores[index];
        if (Error error = set_stream_budget(loop, budget)) return error;
        if (Error error = core.start(loop)) return error;
        if (index != 0) return {};
        const auto acceptor =
            whorl::serve(loop, whorl::Address::loopback_v4(0), [&core](const whorl::Accepted&) {
                ++core.accepted;
                return Echo{&core};
            });
        if (!acceptor) return acceptor.error();
        const auto address = whorl::local_address(loop, (*acceptor)->listener());
        if (!address) return address.error();
        port = address->port();
        return {};
    });
}

int report(const Settings& settings, const Server& server, double seconds) {
    const Core& one = server.cores[0];
    const Core& other = server.cores[1];
    const std::uint64_t handovers = one.handovers + other.handovers;
    const std::uint64_t errors = one.errors + other.errors;
    std::printf("connections %u, bytes of each %llu both ways, handovers %llu\n",
                settings.connections, static_cast<unsigned long long>(settings.bytes),
                static_cast<unsigned long long>(handovers));
    std::printf("went along: %llu bytes received, %llu to be sent; back from a full channel %llu\n",
                static_cast<unsigned long long>(one.held + other.held),
                static_cast<unsigned long long>(one.queued + other.queued),
                static_cast<unsigned long long>(one.full + other.full));
    std::printf("errors %llu, seconds %.1f\n", static_cast<unsigned long long>(errors), seconds);
    return errors == 0 && one.accepted == settings.connections &&
                   (handovers != 0 || settings.bytes < hop_bytes)
               ? 0
               : 1;
}

int serve_all(const Settings& settings, int port_to, pid_t visitors) {
    Server server;
    server.connections = settings.connections;
    std::uint16_t port = 0;
    const auto begun = std::chrono::steady_clock::now();
    whorl::Result<whorl::CoreSet> cores = start(settings, server, port);
    if (!cores) return complain("start", cores.error()) ? 0 : 1;
    server.set = &*cores;
    if (::write(port_to, &port, sizeof port) != sizeof port) return 1;
    int status = 1;
    ::waitpid(visitors, &status, 0);
    if (status != 0) cores->stop();
    const Error error = cores->join();
    if (error) complain("join", error);
    const std::chrono::duration<double> time = std::chrono::steady_clock::now() - begun;
    const int result = report(settings, server, time.count());
    return status == 0 && !error ? result : 1;
}

bool parse(int count, char** words, Settings& settings) {
    for (int index = 1; index + 1 < count; index += 2) {
        const std::string_view name = words[index], value = words[index + 1];
        if (name == "--connections") {
            settings.connections = static_cast<std::uint32_t>(std::atoi(words[index + 1]));
        } else if (name == "--bytes") {
            settings.bytes = static_cast<std::uint64_t>(std::atoll(words[index + 1]));
        } else if (name == "--backend" && value == "io_uring") {
            settings.loop.backend = whorl::Backend::io_uring;
        } else if (name == "--backend" && value == "libev") {
            settings.loop.backend = whorl::Backend::libev;
        } else {
            return false;
        }
    }
    return count % 2 == 1 && settings.connections != 0 && settings.bytes != 0;
}

}  // namespace

int main(int count, char** words) {
    Settings settings;
    settings.loop.buffer_bytes_max = budget.high;  // what is written is copied into the pool
    if (!parse(count, words, settings)) {
        std::fputs("usage: handover [--connections N] [--bytes N] [--backend io_uring|libev]\n",
                   stderr);
        return 2;
    }
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
    if (!Loop::create(settings.loop)) {
        std::puts("skipped: this machine refuses the backend");
        return 77;
    }
    int pipe[2];
    if (::pipe(pipe) != 0) return 1;
    const pid_t child = ::fork();
    if (child < 0) return 1;
    if (child == 0) ::_exit(visit(settings, pipe[0]));
    return serve_all(settings, pipe[1], child);
}
