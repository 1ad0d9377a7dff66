// SPDX-License-Identifier: MIT
// What the servers with a loop for each core share: their arguments, their port, and the signals that end
// them.
#pragma once

#include <whorl/core_set.hpp>
#include <whorl/whorl.hpp>

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

struct CoreArguments {
    std::uint16_t port = 7007;
    whorl::CoreSetOptions options;
};

// With `spread`: further words that the program takes after --spread.
inline bool core_parse(int count, char** words, CoreArguments& arguments,
                       std::string* spread = nullptr) {
    for (int index = 1; index + 1 < count; index += 2) {
        const std::string name = words[index], value = words[index + 1];
        if (name == "--port") arguments.port = static_cast<std::uint16_t>(std::atoi(value.c_str()));
        else if (name == "--loops")
            arguments.options.loops = static_cast<std::uint32_t>(std::atoi(value.c_str()));
        else if (name == "--backend" && value == "io_uring")
            arguments.options.loop.backend = whorl::Backend::io_uring;
        else if (name == "--backend" && value == "libev")
            arguments.options.loop.backend = whorl::Backend::libev;
        else if (name == "--spread" && spread != nullptr) *spread = value;
        else if (name != "--backend" || value != "automatic") return false;
    }
    return count % 2 == 1;
}

inline int core_failed(const char* what, const char* why) {
    std::fprintf(stderr, "%s: %s\n", what, why);
    return 1;
}

// SIGINT and SIGTERM, blocked: before there are threads, so that all of them inherit that and one waits.
inline sigset_t core_signals() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    return signals;
}

// The port that all loops listen on (ListenOptions::reuse_port), chosen once. It is bound and does not listen: no
// connection is given to it.
class CorePort {
  public:
    explicit CorePort(std::uint16_t wanted)
        : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)),
          address_(whorl::Address::loopback_v4(wanted)) {
        const int on = 1;
        sockaddr_storage bound{};
        socklen_t size = sizeof bound;
        auto* const at = reinterpret_cast<sockaddr*>(&bound);
        const bool held = ::setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
                          ::setsockopt(fd_, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0 &&
                          ::bind(fd_, address_.data(), address_.length()) == 0 &&
                          ::getsockname(fd_, at, &size) == 0;
        if (held) address_ = *whorl::Address::from_sockaddr(at, size);
        else error_ = whorl::Error::from_errno(errno);
    }
    CorePort(const CorePort&) = delete;
    CorePort& operator=(const CorePort&) = delete;
    ~CorePort() { ::close(fd_); }

    whorl::Error error() const { return error_; }
    const whorl::Address& address() const { return address_; }

  private:
    int fd_;
    whorl::Address address_;
    whorl::Error error_;
};
