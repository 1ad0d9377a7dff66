// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace whorl::detail {

class SimKernel;

// As the hints and arguments of getaddrinfo(3). Empty is none. The texts are the caller's.
struct NameQuestion {
    const char* host = "";
    const char* service = "";
    int family = 0;
    int type = 0;
    int flags = 0;
};

// Whether a service in digits is beyond the last port, which getaddrinfo(3) of glibc would cut in silence.
inline bool beyond_ports(const char* service) noexcept {
    std::uint32_t port = 0;
    for (; *service >= '0' && *service <= '9'; ++service) {
        port = std::min(10 * port + static_cast<std::uint32_t>(*service - '0'), 65536u);
    }
    return *service == 0 && port > 65535;
}

// A sockaddr_in or sockaddr_in6.
struct FoundAddress {
    alignas(sockaddr_in6) unsigned char bytes[sizeof(sockaddr_in6)] = {};
    std::uint32_t length = 0;
};

// What belongs to the machine as a whole: its names and its wall clock. An error is a negated errno value,
// or a negated value of whorl's own errors. Thread: any.
class HostCalls {
  public:
    HostCalls() = default;
    HostCalls(const HostCalls&) = delete;
    HostCalls& operator=(const HostCalls&) = delete;
    virtual ~HostCalls() = default;

    // getaddrinfo(3), which may wait for a network. Answers how many addresses there are; `found` gets
    // `most` of them.
    virtual int resolve(const NameQuestion& question, FoundAddress* found, int most) noexcept = 0;

    virtual std::int64_t wall_clock_ns() noexcept = 0;  // CLOCK_REALTIME
    // timerfd_create(2) and timerfd_settime(2) on that clock, absolute and cancelled when it is set.
    virtual int wall_timer() noexcept = 0;
    virtual int wall_timer_set(int fd, std::int64_t when_ns) noexcept = 0;
};

HostCalls& real_host_calls() noexcept;

// The names and the wall clock of a simulated kernel.
class SimHost : public HostCalls {
  public:
    struct Name {
        std::vector<FoundAddress> addresses;
        int error = 0;              // instead of them: negated
        std::int64_t delay_ns = 0;  // how long the question takes
    };
    virtual void set_name(std::string_view host, Name name) = 0;
    // A discontinuous change, as of settimeofday(2).
    virtual void set_wall_clock(std::int64_t now_ns) = 0;
};
std::unique_ptr<SimHost> make_sim_host(SimKernel& kernel);

}  // namespace whorl::detail
