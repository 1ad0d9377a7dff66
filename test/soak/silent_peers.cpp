// SPDX-License-Identifier: MIT
// Goal: peers that never read hold no more of the sender's memory than the watermark allows, however many
// they are; and connections that come and go at random leave it as large as it was.
// Method: a server writes to each peer whenever it may. The peers are plain sockets that read nothing. When
// every stream has been told to hold back, the queues are added up. Then peers are cut off at random and
// others come in their place, some of which read a little.
//
//   silent_peers [--connections N] [--churn N] [--high BYTES] [--backend io_uring|libev] [--deaf]
//
// --deaf: the server does not listen to write(), which must show as a failure.
#include "model/random.hpp"

#include <whorl/whorl.hpp>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <vector>

namespace {

using whorl::Error;
using whorl::Loop;
using whorl::Stream;

constexpr std::size_t piece_size = 4096;
constexpr int exit_skipped = 77;

struct Settings {
    std::uint32_t connections = 200;
    std::uint32_t churn = 2000;
    std::size_t high = 16384;
    bool deaf = false;
    whorl::LoopOptions loop;
};

struct Totals {
    const Settings& settings;
    std::vector<Stream*> streams;
    std::uint32_t held_back = 0;  // streams that wait for `writable`
    std::uint64_t opened = 0;
    std::uint64_t closed = 0;
    std::size_t queued_most = 0;
};

// The server's end.
struct Sender {
    explicit Sender(Totals& totals) : all(&totals) {}

    void opened(Stream& stream) {
        all->streams.push_back(&stream);
        ++all->opened;
        send(stream);
    }
    void writable(Stream& stream) {
        --all->held_back;
        waits = false;
        send(stream);
    }
    void received(Stream&, const whorl::Buffer&) {}
    void closed(Stream& stream, whorl::Closed) {
        if (waits) --all->held_back;
        note(stream);
        ++all->closed;
        for (Stream*& each : all->streams) {
            if (each == &stream) {
                each = all->streams.back();
                all->streams.pop_back();
                return;
            }
        }
    }
    void send(Stream& stream) {
        static char piece[piece_size];
        std::uint32_t deaf_left = 64;
        while (stream.write(std::string_view(piece, sizeof piece)) ||
               (all->settings.deaf && --deaf_left > 0)) {
        }
        note(stream);
        waits = true;
        ++all->held_back;
    }
    void note(const Stream& stream) const {
        if (stream.queued() > all->queued_most) all->queued_most = stream.queued();
    }

    Totals* all;
    bool waits = false;
};

[[noreturn]] void give_up(const char* what, const char* why) {
    std::fprintf(stderr, "%s: %s\n", what, why);
    std::exit(1);
}

// A peer: a socket that nobody reads.
int connect_socket(const sockaddr_in& server) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int small = 4096;
    if (fd < 0) give_up("socket", std::strerror(errno));
    (void)::setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&server), sizeof server) != 0) {
        give_up("connect", std::strerror(errno));
    }
    return fd;
}

// With a reset, or in order as far as that goes with bytes unread.
void cut_off(int fd, bool reset) {
    const linger now = {1, 0};
    if (reset) (void)::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    (void)::close(fd);
}

class Run {
  public:
    Run(Loop& loop, const Settings& settings)
        : loop_(loop), settings_(settings), totals_{settings, {}} {}

    int go();

  private:
    bool open();
    void peers_come();
    bool bounded(const char* when);
    void churn();
    bool nothing_left();
    int connect_peer() {
        ++connected_;
        return connect_socket(server_);
    }
    void turn() {
        if (const Error error = loop_.run_for(std::chrono::milliseconds(1))) {
            give_up("run_for", error.text());
        }
    }
    // Until it holds; the bound only ends a hang.
    template <class Holds>
    void await(const char* what, Holds&& holds) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(120);
        while (!holds()) {
            if (std::chrono::steady_clock::now() > end) give_up(what, "not within two minutes");
            turn();
        }
    }
    // The kernel's queue of connections that nobody has accepted is short.
    void await_accepted() {
        await("accepted connections", [this] { return totals_.opened == connected_; });
    }
    bool all_held_back() const {
        return totals_.streams.size() == settings_.connections &&
               totals_.held_back == settings_.connections;
    }

    Loop& loop_;
    const Settings& settings_;
    Totals totals_;
    sockaddr_in server_{};
    whorl::Acceptor* acceptor_ = nullptr;
    std::vector<int> peers_;
    std::uint64_t connected_ = 0;
};

bool Run::open() {
    const std::size_t most = std::size_t{settings_.connections} * (settings_.high + 4 * piece_size);
    const whorl::StreamBudget budget = {most * 64, most * 128};  // not what is looked at here
    if (set_stream_budget(loop_, budget)) return false;
    whorl::AcceptorOptions options;
    options.stream.high = settings_.high;
    options.stream.low = settings_.high / 4;
    options.listen.accepted.send_buffer = 4096;  // the kernel's share would be megabytes
    options.connections_max = settings_.connections * 2;
    const auto acceptor = whorl::serve(
        loop_, whorl::Address::loopback_v4(0),
        [this](const whorl::Accepted&) { return Sender(totals_); }, options);
    if (!acceptor) give_up("serve", acceptor.error().text());
    acceptor_ = *acceptor;
    const auto address = local_address(loop_, acceptor_->listener());
    if (!address) give_up("local_address", address.error().text());
    server_.sin_family = AF_INET;
    server_.sin_port = htons(address->port());
    server_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return true;
}

void Run::peers_come() {
    for (std::uint32_t number = 0; number < settings_.connections; ++number) {
        peers_.push_back(connect_peer());
        if (number % 256 == 255) await_accepted();
    }
    await("streams that are held back", [this] { return all_held_back(); });
}

// What is queued is at most the watermark and the piece that crossed it, for each.
bool Run::bounded(const char* when) {
    std::size_t queued = 0;
    for (const Stream* stream : totals_.streams) queued += stream->queued();
    const whorl::StreamStatistics statistics = stream_statistics(loop_);
    const std::size_t most = settings_.high + piece_size;
    std::printf("%s: %zu streams, %zu bytes queued, %zu each, at most %zu; pool %llu KiB\n", when,
                totals_.streams.size(), queued, queued / totals_.streams.size(),
                totals_.queued_most,
                static_cast<unsigned long long>(loop_.statistics().buffer_bytes_mapped / 1024));
    const bool right =
        totals_.queued_most <= most && statistics.bytes <= most * totals_.streams.size();
    if (!right) std::printf("FAILED: more than %zu bytes each\n", most);
    return right;
}

void Run::churn() {
    model::Random random(settings_.connections);
    char sink[2048];
    for (std::uint32_t number = 0; number < settings_.churn; ++number) {
        int& peer = peers_[static_cast<std::size_t>(random.below(peers_.size()))];
        if (random.below(4) == 0) {
            (void)::recv(peer, sink, sizeof sink, MSG_DONTWAIT);
            continue;
        }
        cut_off(peer, random.below(2) == 0);
        peer = connect_peer();
        if (number % 64 == 0) await_accepted();
    }
    await("the streams after the churn", [this] { return all_held_back(); });
}

bool Run::nothing_left() {
    for (const int peer : peers_) cut_off(peer, true);
    await("the ends of the streams", [this] { return totals_.streams.empty(); });
    acceptor_->close();
    if (const Error error = loop_.drain(std::chrono::seconds(30))) give_up("drain", error.text());
    const whorl::StreamStatistics statistics = stream_statistics(loop_);
    const whorl::Statistics& loop = loop_.statistics();
    std::printf("at the end: %llu closed, %zu bytes, %u operations, %u handles\n",
                static_cast<unsigned long long>(totals_.closed), statistics.bytes, loop.operations,
                loop.handles);
    return statistics.bytes == 0 && statistics.streams == 0 && loop.operations == 0 &&
           loop.handles == 0 && statistics.opened == statistics.closed;
}

int Run::go() {
    if (!open()) return 1;
    peers_come();
    bool right = bounded("peers that do not read");
    churn();
    const std::uint64_t mapped = loop_.statistics().buffer_bytes_mapped;
    right = bounded("after half of the churn") && right;
    churn();
    right = bounded("after all of it") && right;
    const std::uint64_t grown = loop_.statistics().buffer_bytes_mapped - mapped;
    if (grown > mapped / 10 + (1 << 20)) {
        std::printf("FAILED: the pool grew by %llu bytes\n",
                    static_cast<unsigned long long>(grown));
        right = false;
    }
    if (!nothing_left()) {
        std::printf("FAILED: something is left\n");
        right = false;
    }
    return right ? 0 : 1;
}

Settings read_settings(int count, char** words) {
    Settings settings;
    for (int at = 1; at < count; ++at) {
        const std::string_view word = words[at];
        if (word == "--deaf") {
            settings.deaf = true;
            continue;
        }
        if (at + 1 == count) give_up(words[at], "needs a value, or is unknown");
        const char* value = words[++at];
        if (word == "--connections") {
            settings.connections = static_cast<std::uint32_t>(std::strtoul(value, nullptr, 10));
        } else if (word == "--churn") {
            settings.churn = static_cast<std::uint32_t>(std::strtoul(value, nullptr, 10));
        } else if (word == "--high") {
            settings.high = std::strtoul(value, nullptr, 10);
        } else if (word == "--backend") {
            settings.loop.backend = std::string_view(value) == "libev" ? whorl::Backend::libev
                                                                       : whorl::Backend::io_uring;
        } else {
            give_up(words[at - 1], "unknown");
        }
    }
    if (settings.connections == 0 || settings.high < piece_size) give_up("settings", "too small");
    return settings;
}

}  // namespace

int main(int count, char** words) {
    Settings settings = read_settings(count, words);
    settings.loop.buffer_bytes_max = std::size_t{1} << 31;  // what is written is copied into it
    rlimit files{};
    (void)::getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    (void)::setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < 2 * std::uint64_t{settings.connections} + 64) {
        std::fprintf(stderr, "skipped: %u connections need more descriptors than %llu\n",
                     settings.connections, static_cast<unsigned long long>(files.rlim_cur));
        return exit_skipped;
    }
    whorl::BackendReport report;
    whorl::Result<Loop> made = Loop::create(settings.loop, report);
    if (!made) {
        std::fprintf(stderr, "skipped: %s\n", report.text);
        return exit_skipped;
    }
    return Run(*made, settings).go();
}
