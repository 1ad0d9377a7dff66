// SPDX-License-Identifier: MIT
#pragma once

#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <whorl/whorl.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <thread>
#include <vector>

// What an echo costs when whorl is the guest of another loop. A thread of its own writes one message to
// each of `connections` sockets and reads them all back, `rounds` times; whorl sends back what comes, inside
// of the host. One line is printed: processor time of the host's thread for a message, and a sum over all
// bytes that came back.
//   guest_HOST io_uring|libev CONNECTIONS ROUNDS
// A program defines Host with attach(loop), detach(), run(), and stop(), which is called in a handler of
// whorl's, and ends with WHORL_GUEST_BENCH(Host, "name").

namespace bench {

constexpr std::size_t message_size = 64;

inline void must(bool fine, const char* what) {
    if (fine) return;
    std::perror(what);
    std::exit(1);
}

inline std::uint64_t thread_cpu_ns() {
    timespec time{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000u +
           static_cast<std::uint64_t>(time.tv_nsec);
}

inline void read_all(int fd, char* to, std::size_t size) {
    while (size != 0) {
        const ssize_t got = ::recv(fd, to, size, 0);
        must(got > 0, "recv");
        to += got;
        size -= static_cast<std::size_t>(got);
    }
}

// The other ends. Answers the sum.
inline std::uint64_t play(const std::vector<int>& ends, std::uint32_t rounds) {
    std::uint64_t sum = 0;
    char message[message_size];
    for (std::uint32_t round = 0; round < rounds; ++round) {
        for (std::size_t end = 0; end < ends.size(); ++end) {
            std::memset(message, static_cast<int>((round + end) % 251), sizeof message);
            must(::send(ends[end], message, sizeof message, 0) == sizeof message, "send");
        }
        for (const int end : ends) {
            read_all(end, message, sizeof message);
            for (const char byte : message) sum = sum * 31 + static_cast<unsigned char>(byte);
        }
    }
    for (const int end : ends) ::shutdown(end, SHUT_WR);
    return sum;
}

template <class Host>
class Echoes {
  public:
    Echoes(whorl::Loop& loop, Host& host, int connections) : loop_(loop), host_(host) {
        for (int number = 0; number < connections; ++number) {
            int pair[2];
            must(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0, "socketpair");
            ends.push_back(pair[1]);
            const whorl::Result<whorl::Socket> socket = whorl::adopt_socket(loop_, pair[0]);
            must(socket.has_value(), "adopt_socket");
            receive(*socket);
        }
        open_ = connections;
    }
    std::vector<int> ends;

  private:
    void receive(whorl::Socket socket) {
        const auto made = loop_.submit(
            whorl::RecvStream{socket},
            [this, socket](whorl::Loop& loop, whorl::RecvStream::Done done) {
                if (!done.buffer.empty()) {
                    const auto sent = loop.submit(whorl::SendAll{socket, std::move(done.buffer)},
                                                  [](whorl::Loop&, whorl::SendAll::Done) {});
                    must(sent.has_value(), "submit");
                }
                if (done.more) return;
                static_cast<void>(loop.close(socket));
                if (--open_ == 0) host_.stop();
            });
        must(made.has_value(), "submit");
    }
    whorl::Loop& loop_;
    Host& host_;
    int open_ = 0;
};

template <class Host>
int guest_main(const char* name, int count, char** arguments) {
    if (count != 4) return std::fprintf(stderr, "usage: io_uring|libev CONNECTIONS ROUNDS\n"), 2;
    whorl::LoopOptions options;
    options.backend = std::string_view(arguments[1]) == "libev" ? whorl::Backend::libev
                                                                : whorl::Backend::io_uring;
    const int connections = std::atoi(arguments[2]);
    const auto rounds = static_cast<std::uint32_t>(std::atoi(arguments[3]));
    whorl::Result<whorl::Loop> loop = whorl::Loop::create(options);
    if (!loop) return std::fprintf(stderr, "%s: %s\n", arguments[1], loop.error().name()), 77;
    std::uint64_t sum = 0;
    std::uint64_t cpu_ns = 0;
    {
        Host host;
        Echoes<Host> echoes(*loop, host, connections);
        must(!host.attach(*loop), "attach");
        std::thread player([&] { sum = play(echoes.ends, rounds); });
        const std::uint64_t begin = thread_cpu_ns();
        host.run();
        cpu_ns = thread_cpu_ns() - begin;
        player.join();
        host.detach();
        for (const int end : echoes.ends) ::close(end);
        must(!loop->drain(std::chrono::seconds(10)), "drain");
    }
    const std::uint64_t messages = std::uint64_t{rounds} * static_cast<std::uint64_t>(connections);
    std::printf("%s %s %d %llu %llu %016llx\n", name, arguments[1], connections,
                static_cast<unsigned long long>(messages),
                static_cast<unsigned long long>(messages == 0 ? 0 : cpu_ns / messages),
                static_cast<unsigned long long>(sum));
    return 0;
}

}  // namespace bench

#define WHORL_GUEST_BENCH(Host, name)                             \
    int main(int count, char** arguments) {                       \
        return ::bench::guest_main<Host>(name, count, arguments); \
    }
