// SPDX-License-Identifier: MIT
// What the modes of the load generator share: flags, clocks, the bytes that are sent, the result.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <utility>
#include <vector>

#include <whorl/histogram.hpp>

namespace bench {

struct Options {
    std::string host = "127.0.0.1";
    std::uint16_t port = 0;
    std::size_t connections = 1;
    std::size_t size = 64;
    std::size_t depth = 1;
    double seconds = -1;  // not given
    double warmup = 0.2;
    double rate = 0;  // messages a second, of all connections together; 0: a closed loop
    int cpu = -1;
    bool control = false;
    bool idle = false;
    bool storm = false;
    bool udp = false;
};

constexpr std::size_t chunk_max = 256 * 1024;  // bytes in one send or recv
constexpr std::size_t source_max = 20'000;     // connections from one 127.0.0.x
constexpr std::uint64_t stall_ns = 5'000'000'000;

[[noreturn]] inline void fail(const char* what, int error) {
    std::fprintf(stderr, "bench_load: %s: %s\n", what, std::strerror(error));
    std::exit(1);
}

// Known to 0.8 %, up to an hour.
inline whorl::Histogram make_histogram() {
    whorl::Result<whorl::Histogram> made = whorl::Histogram::create();
    if (!made) fail("histogram", made.error().value());
    return std::move(*made);
}

inline std::uint64_t clock_ns(clockid_t clock) {
    timespec time{};
    (void)clock_gettime(clock, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(time.tv_nsec);
}

inline std::uint64_t now_ns() { return clock_ns(CLOCK_MONOTONIC); }

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

// The server's address.
inline sockaddr_in server_address(const Options& options) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(options.port);
    if (inet_pton(AF_INET, options.host.c_str(), &address.sin_addr) != 1) {
        fail(options.host.c_str(), EINVAL);
    }
    return address;
}

// Connects from 127.0.0.(1 + number) instead of 127.0.0.1, when the server is on loopback.
inline void bind_source(const Options& options, int fd, std::uint64_t number) {
    if (number == 0 || options.host.rfind("127.", 0) != 0) return;
    const int on = 1;
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(0x7F000001u + static_cast<std::uint32_t>(number));
    if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fail("bind", errno);
}

// One measurement.
struct Outcome {
    std::uint64_t requests = 0;
    double seconds = 0;
    double cpu_share = 0;  // of this thread
    std::size_t errors = 0;
    std::size_t alive = 0;
};

}  // namespace bench
