// SPDX-License-Identifier: MIT
#pragma once

#include "backend/file_calls.hpp"
#include "backend/sim_kernel.hpp"
#include "backend/system.hpp"
#include "conformance/os.hpp"

#include <gtest/gtest.h>
#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// The same questions to two kernels: a script makes system calls and notes what each answered, once on
// the machine's kernel and once in a simulated one; the notes must be the same. What a kernel chooses
// freely (a descriptor's number, a port) is not noted.

namespace whorl::kernel_pair {

namespace os = conformance::os;
using testing::SimulationOptions;

class Notes {
  public:
    Notes()
        : system(os::world() != nullptr ? *os::world() : detail::real_system()),
          files(system.file_calls()) {}
    Notes(const Notes&) = delete;
    Notes& operator=(const Notes&) = delete;
    ~Notes() {
        for (const int fd : kept_) os::close(fd);
    }

    // The answer of a call of System or FileCalls: an error as a negated errno value.
    std::int64_t tell(std::string_view call, std::int64_t answer) {
        const std::string words = answer >= 0 ? std::to_string(answer) : name_of(answer);
        lines.push_back(std::string(call) + ": " + words);
        return answer;
    }
    // That of a call of os: -1 and errno.
    std::int64_t ask(std::string_view call, std::int64_t answer) {
        return tell(call, answer == -1 ? -errno : answer);
    }
    // Of a call that makes a descriptor: which number it has is not noted, and it is closed at the end.
    int made(std::string_view call, std::int64_t answer) {
        tell(call, std::min<std::int64_t>(answer, 0));
        if (answer >= 0) kept_.push_back(static_cast<int>(answer));
        return static_cast<int>(answer);
    }
    int made_by_os(std::string_view call, std::int64_t answer) {
        return made(call, answer == -1 ? -errno : answer);
    }
    void text(std::string_view what, std::string_view value) {
        lines.push_back(std::string(what) + ": '" + std::string(value) + "'");
    }
    void close(int fd) {
        kept_.erase(std::remove(kept_.begin(), kept_.end(), fd), kept_.end());
        ask("close", os::close(fd));
    }

    detail::System& system;
    detail::FileCalls& files;
    std::vector<std::string> lines;

  private:
    static std::string name_of(std::int64_t answer) {
        return std::string(std::strerror(static_cast<int>(-answer)));
    }
    std::vector<int> kept_;
};

using Script = void (*)(Notes&);

inline std::vector<std::string> notes_of(Script script) {
    Notes notes;
    script(notes);
    return notes.lines;
}

inline void compare(Script script, const SimulationOptions& options = {}) {
    std::signal(SIGPIPE, SIG_IGN);
    const std::vector<std::string> machine = notes_of(script);
    os::enter_world(options);
    const std::vector<std::string> simulated = notes_of(script);
    os::leave_world();
    EXPECT_GT(machine.size(), 0u);
    EXPECT_EQ(machine.size(), simulated.size());
    for (std::size_t at = 0; at < std::min(machine.size(), simulated.size()); ++at) {
        EXPECT_EQ(simulated[at], machine[at]) << "in the simulated kernel, step " << at;
    }
}

// --- addresses

inline sockaddr_in v4(std::uint16_t port, std::uint32_t host = INADDR_LOOPBACK) {
    sockaddr_in made{};
    made.sin_family = AF_INET;
    made.sin_port = htons(port);
    made.sin_addr.s_addr = htonl(host);
    return made;
}

inline sockaddr_in6 v6(std::uint16_t port, const in6_addr& host = in6addr_loopback) {
    sockaddr_in6 made{};
    made.sin6_family = AF_INET6;
    made.sin6_port = htons(port);
    made.sin6_addr = host;
    return made;
}

template <class Address>
const sockaddr* plain(const Address& address) {
    return reinterpret_cast<const sockaddr*>(&address);
}

inline std::uint16_t port_of(int fd) {
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    os::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
    return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

// What is under way between the sockets of this thread has arrived.
inline void settle() { os::let_arrive(); }

}  // namespace whorl::kernel_pair
