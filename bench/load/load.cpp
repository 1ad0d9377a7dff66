// SPDX-License-Identifier: MIT
// The load generator: one thread, epoll, a closed loop over N connections with D messages under
// way on each. Every echoed byte is compared with what was sent; a server that is fast and wrong
// has no figures.
//
//   bench_load --port P [--host A] [--connections N] [--size BYTES] [--depth D]
//              [--warmup S] [--seconds S] [--cpu N]
//       one measurement, one line of JSON.
//   bench_load --port P … --control
//       keeps its connections open and measures on demand: reads lines "run SECONDS" from
//       standard input until its end and answers each with one line of JSON. Between two runs
//       nothing is under way, so a driver can read the server's CPU clock around a run.
//   bench_load --port P --idle N [--size BYTES] [--seconds S]
//       opens N connections, sends one message on each and checks its echo, prints a line, holds
//       them for S seconds (without --seconds: until standard input ends), checks again.
//
// A latency is the time from handing a message to the socket to having read the last byte of its
// echo. A closed loop does not see the waiting that an open one would: compare the latencies of
// two servers under the same load, do not read them as what users would see.
//
// Exit status: 0; 1 when a byte was wrong, a connection ended early or an echo did not come.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

#include "histogram.hpp"

namespace {

struct Options {
    std::string host = "127.0.0.1";
    std::uint16_t port = 0;
    std::size_t connections = 1;
    std::size_t size = 64;
    std::size_t depth = 1;
    double seconds = -1;  // not given
    double warmup = 0.2;
    int cpu = -1;
    bool control = false;
    bool idle = false;
};

constexpr std::size_t chunk_max = 256 * 1024;  // bytes in one send or recv
constexpr std::size_t source_max = 20'000;     // connections from one 127.0.0.x
constexpr std::uint64_t stall_ns = 5'000'000'000;

[[noreturn]] void fail(const char* what, int error) {
    std::fprintf(stderr, "bench_load: %s: %s\n", what, std::strerror(error));
    std::exit(1);
}

std::uint64_t clock_ns(clockid_t clock) {
    timespec time{};
    (void)clock_gettime(clock, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(time.tv_nsec);
}

std::uint64_t now_ns() { return clock_ns(CLOCK_MONOTONIC); }

// The bytes that connection c sends from offset o on: a pseudo-random table read from (o + c *
// stride) modulo a prime, so that a lost, doubled or misplaced piece of any round size shows.
// The table runs on past its period by one chunk, hence any piece is contiguous.
class Pattern {
  public:
    Pattern() : table_(period + chunk_max) {
        std::uint64_t state = 0x9E3779B97F4A7C15;
        for (std::size_t index = 0; index < table_.size(); ++index) {
            if (index >= period) {
                table_[index] = table_[index - period];
                continue;
            }
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            table_[index] = static_cast<char>(state >> 32);
        }
    }
    const char* at(std::size_t connection, std::uint64_t offset) const {
        return table_.data() + (offset + connection * stride) % period;
    }

  private:
    static constexpr std::size_t period = 65'521;
    static constexpr std::size_t stride = 7'919;
    std::vector<char> table_;
};

struct Peer {
    int fd = -1;
    bool writing = false;      // waits for EPOLLOUT too
    std::uint64_t target = 0;  // bytes that may be sent
    std::uint64_t sent = 0;
    std::uint64_t received = 0;
    std::uint64_t issued = 0;  // messages
    std::uint64_t completed = 0;
    std::vector<std::uint64_t> started;  // of the messages under way, by number modulo depth
};

struct Outcome {
    std::uint64_t requests = 0;
    double seconds = 0;
    double cpu_share = 0;  // of this thread
    std::size_t errors = 0;
    std::size_t alive = 0;
};

class Generator {
  public:
    explicit Generator(const Options& options)
        : options_(options), buffer_(chunk_max), epoll_(epoll_create1(EPOLL_CLOEXEC)),
          peers_(options.connections) {
        if (epoll_ < 0) fail("epoll_create1", errno);
        for (std::size_t index = 0; index < peers_.size(); ++index) open(index);
        alive_ = peers_.size();
    }
    Generator(const Generator&) = delete;
    Generator& operator=(const Generator&) = delete;
    ~Generator() {
        for (Peer& peer : peers_) {
            if (peer.fd >= 0) (void)close(peer.fd);
        }
        (void)close(epoll_);
    }

    const bench::Histogram& latencies() const { return latencies_; }

    // Keeps depth messages under way on every connection for so long, then lets them come home.
    // What comes home counts, so requests and the server's work are of one piece. With 0 seconds
    // every connection exchanges exactly depth messages.
    Outcome run(double seconds) {
        latencies_.clear();
        errors_ = 0;
        requests_ = 0;
        const std::uint64_t cpu_begin = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        const std::uint64_t begin = now_ns();
        const auto length = static_cast<std::uint64_t>(seconds * 1e9);
        deadline_ = begin + length;
        run_prime();
        std::uint64_t progress = begin;
        std::uint64_t progress_requests = 0;
        while (under_way_ > 0) {
            run_turn();
            if (requests_ != progress_requests) {
                progress_requests = requests_;
                progress = turn_ns_;
            } else if (now_ns() - progress > stall_ns) {
                run_stalled();
            }
        }
        const std::uint64_t end = requests_ > 0 ? turn_ns_ : now_ns();
        const std::uint64_t cpu = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_begin;
        Outcome outcome;
        outcome.requests = requests_;
        outcome.seconds = static_cast<double>(end - begin) * 1e-9;
        outcome.cpu_share = static_cast<double>(cpu) / static_cast<double>(now_ns() - begin);
        outcome.errors = errors_;
        outcome.alive = alive_;
        return outcome;
    }

  private:
    // Connects while blocking, which over loopback is one exchange; beyond source_max
    // connections another source address is used, since one has 28,000 ports by default.
    void open(std::size_t index) {
        Peer& peer = peers_[index];
        peer.started.resize(options_.depth);
        peer.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (peer.fd < 0) fail("socket", errno);
        const int on = 1;
        (void)setsockopt(peer.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        const timeval patience{5, 0};
        (void)setsockopt(peer.fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        if (index >= source_max && options_.host.rfind("127.", 0) == 0) {
            (void)setsockopt(peer.fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
            const auto last = static_cast<std::uint32_t>(1 + index / source_max);
            address.sin_addr.s_addr = htonl(0x7F000000u + last);
            if (bind(peer.fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
                fail("bind", errno);
            }
        }
        address.sin_port = htons(options_.port);
        if (inet_pton(AF_INET, options_.host.c_str(), &address.sin_addr) != 1) {
            fail(options_.host.c_str(), EINVAL);
        }
        if (connect(peer.fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
            fail("connect", errno);
        }
        control(EPOLL_CTL_ADD, index, EPOLLIN);
    }

    void control(int operation, std::size_t index, std::uint32_t interest) {
        epoll_event event{};
        event.events = interest;
        event.data.u64 = index;
        if (epoll_ctl(epoll_, operation, peers_[index].fd, &event) != 0) fail("epoll_ctl", errno);
    }

    void run_prime() {
        for (std::size_t index = 0; index < peers_.size(); ++index) {
            if (peers_[index].fd >= 0) issue(index, options_.depth, now_ns());
        }
        turn_ns_ = now_ns();
    }

    void run_turn() {
        const int count = epoll_wait(epoll_, events_, events_max, 1000);
        if (count < 0 && errno != EINTR) fail("epoll_wait", errno);
        for (int index = 0; index < count; ++index) {
            const auto peer = static_cast<std::size_t>(events_[index].data.u64);
            if ((events_[index].events & EPOLLOUT) != 0) push(peer);
            if ((events_[index].events & ~std::uint32_t{EPOLLOUT}) != 0) pull(peer);
        }
    }

    void run_stalled() {
        for (std::size_t index = 0; index < peers_.size(); ++index) {
            if (peers_[index].issued != peers_[index].completed) end(index, "no echo came");
        }
    }

    void issue(std::size_t index, std::size_t count, std::uint64_t at) {
        Peer& peer = peers_[index];
        for (std::size_t message = 0; message < count; ++message) {
            peer.started[peer.issued % options_.depth] = at;
            ++peer.issued;
        }
        peer.target += count * options_.size;
        under_way_ += count;
        if (!peer.writing) push(index);
    }

    // Sends what is due. All messages due are one piece of the pattern, so one send serves a
    // whole window.
    void push(std::size_t index) {
        Peer& peer = peers_[index];
        if (peer.fd < 0) return;
        while (peer.sent < peer.target) {
            std::uint64_t size = peer.target - peer.sent;
            if (size > chunk_max) size = chunk_max;
            const ssize_t count =
                send(peer.fd, pattern_.at(index, peer.sent), size, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (count < 0 && errno == EINTR) continue;
            if (count < 0 && errno != EAGAIN) return end(index, std::strerror(errno));
            if (count >= 0) peer.sent += static_cast<std::uint64_t>(count);
            if (count < static_cast<ssize_t>(size)) break;
        }
        const bool writing = peer.sent < peer.target;
        if (writing == peer.writing) return;
        peer.writing = writing;
        control(EPOLL_CTL_MOD, index, writing ? EPOLLIN | EPOLLOUT : EPOLLIN);
    }

    void pull(std::size_t index) {
        Peer& peer = peers_[index];
        if (peer.fd < 0) return;
        const ssize_t count = recv(peer.fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
        if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (count < 0) return end(index, std::strerror(errno));
        if (count == 0) return end(index, "the server closed");
        const auto size = static_cast<std::size_t>(count);
        if (peer.received + size > peer.sent) return end(index, "more came than was sent");
        if (std::memcmp(buffer_.data(), pattern_.at(index, peer.received), size) != 0) {
            return end(index, "a wrong byte came");
        }
        peer.received += size;
        turn_ns_ = now_ns();
        std::size_t done = 0;
        while ((peer.completed + 1) * options_.size <= peer.received) {
            latencies_.add(turn_ns_ - peer.started[peer.completed % options_.depth]);
            ++peer.completed;
            ++done;
        }
        requests_ += done;
        under_way_ -= done;
        if (done > 0 && turn_ns_ < deadline_) issue(index, done, turn_ns_);
    }

    void end(std::size_t index, const char* why) {
        Peer& peer = peers_[index];
        if (errors_total_ == 0) {
            std::fprintf(stderr, "bench_load: connection %zu, at byte %llu: %s\n", index,
                         static_cast<unsigned long long>(peer.received), why);
        }
        ++errors_;
        ++errors_total_;
        --alive_;
        under_way_ -= peer.issued - peer.completed;
        peer.completed = peer.issued;
        (void)close(peer.fd);
        peer.fd = -1;
    }

    static constexpr int events_max = 256;

    const Options& options_;
    const Pattern pattern_;
    std::vector<char> buffer_;
    int epoll_;
    std::vector<Peer> peers_;
    std::uint64_t deadline_ = 0;
    std::uint64_t turn_ns_ = 0;  // when the last echo came
    std::uint64_t requests_ = 0;
    std::uint64_t under_way_ = 0;  // messages on all connections
    std::size_t errors_ = 0;       // in this run
    std::size_t errors_total_ = 0;
    std::size_t alive_ = 0;
    bench::Histogram latencies_;
    epoll_event events_[events_max];
};

void print(const Options& options, const Outcome& outcome, const bench::Histogram& latencies) {
    const auto us = [&](double share) {
        return static_cast<double>(latencies.quantile(share)) * 1e-3;
    };
    const double rps =
        outcome.seconds > 0 ? static_cast<double>(outcome.requests) / outcome.seconds : 0;
    std::printf(
        "{\"connections\":%zu,\"size\":%zu,\"depth\":%zu,\"requests\":%llu,"
        "\"seconds\":%.6f,\"rps\":%.1f,\"p50_us\":%.2f,\"p90_us\":%.2f,\"p99_us\":%.2f,"
        "\"p999_us\":%.2f,\"max_us\":%.2f,\"generator_cpu\":%.3f,"
        "\"generator_bound\":%s,\"errors\":%zu}\n",
        options.connections, options.size, options.depth,
        static_cast<unsigned long long>(outcome.requests), outcome.seconds, rps, us(0.5), us(0.9),
        us(0.99), us(0.999), static_cast<double>(latencies.max()) * 1e-3, outcome.cpu_share,
        outcome.cpu_share > 0.95 ? "true" : "false", outcome.errors);
    std::fflush(stdout);
}

int measure(const Options& options) {
    Generator generator(options);
    std::size_t errors = 0;
    if (options.warmup > 0) errors += generator.run(options.warmup).errors;
    const Outcome outcome = generator.run(options.seconds >= 0 ? options.seconds : 1.0);
    print(options, outcome, generator.latencies());
    return errors + outcome.errors == 0 ? 0 : 1;
}

int serve_control(const Options& options) {
    Generator generator(options);
    std::printf("{\"ready\":true,\"connections\":%zu}\n", options.connections);
    std::fflush(stdout);
    std::size_t errors = 0;
    char line[128];
    while (std::fgets(line, sizeof line, stdin) != nullptr) {
        double seconds = 0;
        if (std::sscanf(line, "run %lf", &seconds) != 1 || !(seconds >= 0 && seconds < 1e6)) {
            std::fprintf(stderr, "bench_load: not a command: %s", line);
            return 2;
        }
        const Outcome outcome = generator.run(seconds);
        errors += outcome.errors;
        print(options, outcome, generator.latencies());
    }
    return errors == 0 ? 0 : 1;
}

int hold_idle(const Options& options) {
    const std::uint64_t begin = now_ns();
    Generator generator(options);
    const double connect_seconds = static_cast<double>(now_ns() - begin) * 1e-9;
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
        if (flag == "--control") {
            options.control = true;
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
    if (options.control) return serve_control(options);
    return measure(options);
}
