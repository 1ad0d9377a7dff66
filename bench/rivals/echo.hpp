// SPDX-License-Identifier: MIT
// What the rival echo servers share, so that a comparison compares their loops and nothing else:
// flags, the listening socket, the stop signal, the report at exit, and for the three servers on
// readiness (epoll, libevent, libev) also the reading and writing itself.
//
// Every server does the same work in the same order: one recv per readiness event into one warm
// buffer, then one send of what came. What the socket does not take is kept, and the connection
// is not read again before it is gone, so a peer that does not read costs one buffer at most.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace bench {

// Exit status of a server whose platform feature is missing; test runners read it as "skipped".
constexpr int exit_skipped = 77;

[[noreturn]] inline void fail(const char* what, int error) {
    std::fprintf(stderr, "%s: %s\n", what, std::strerror(error));
    std::exit(1);
}

struct Options {
    std::string bind = "127.0.0.1";
    std::uint16_t port = 0;  // 0: the kernel chooses
    int sndbuf = 0;          // 0: the kernel's default and its autotuning
    int rcvbuf = 0;
    std::uint32_t buffer_size = 65536;
    std::uint32_t buffer_count = 64;  // read by the io_uring server only
};

// A decimal number in [0, max]; anything else ends the program with a message.
inline unsigned long parse_number(const char* flag, const char* text, unsigned long max) {
    char* end = nullptr;
    errno = 0;
    const unsigned long value = std::strtoul(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *text == '-' || value > max) {
        std::fprintf(stderr, "%s: '%s' is not a number up to %lu\n", flag, text, max);
        std::exit(2);
    }
    return value;
}

inline Options parse_options(int argc, char** argv, Options options) {
    for (int index = 1; index < argc; index += 2) {
        const std::string flag = argv[index];
        if (index + 1 == argc) {
            std::fprintf(stderr,
                         "usage: %s [--port N] [--bind A] [--sndbuf BYTES] [--rcvbuf BYTES]\n"
                         "          [--buffer-size BYTES] [--buffer-count N]\n",
                         argv[0]);
            std::exit(2);
        }
        const char* text = argv[index + 1];
        const auto number = [&](unsigned long max) {
            return parse_number(flag.c_str(), text, max);
        };
        if (flag == "--bind") options.bind = text;
        else if (flag == "--port") options.port = static_cast<std::uint16_t>(number(65535));
        else if (flag == "--sndbuf") options.sndbuf = static_cast<int>(number(1u << 30));
        else if (flag == "--rcvbuf") options.rcvbuf = static_cast<int>(number(1u << 30));
        else if (flag == "--buffer-size")
            options.buffer_size = static_cast<std::uint32_t>(number(1u << 24));
        else if (flag == "--buffer-count")
            options.buffer_count = static_cast<std::uint32_t>(number(32768));
        else {
            std::fprintf(stderr, "%s: unknown flag %s\n", argv[0], flag.c_str());
            std::exit(2);
        }
    }
    if (options.buffer_size == 0 || options.buffer_count == 0) {
        std::fprintf(stderr, "%s: buffers cannot be empty\n", argv[0]);
        std::exit(2);
    }
    return options;
}

inline void set_option(int fd, int level, int name, int value, const char* what) {
    if (setsockopt(fd, level, name, &value, sizeof value) != 0) fail(what, errno);
}

// The listening socket. TCP_NODELAY and the buffer sizes are set here and not on every accepted
// socket: Linux hands them down to it, which saves three system calls a connection.
inline int listen_on(const Options& options, int type_flags) {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | type_flags, 0);
    if (fd < 0) fail("socket", errno);
    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
    if (options.sndbuf != 0) set_option(fd, SOL_SOCKET, SO_SNDBUF, options.sndbuf, "SO_SNDBUF");
    if (options.rcvbuf != 0) set_option(fd, SOL_SOCKET, SO_RCVBUF, options.rcvbuf, "SO_RCVBUF");
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(options.port);
    if (inet_pton(AF_INET, options.bind.c_str(), &address.sin_addr) != 1) {
        fail(options.bind.c_str(), EINVAL);
    }
    if (bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fail("bind", errno);
    if (listen(fd, 4096) != 0) fail("listen", errno);
    return fd;
}

// Says on which port the server listens. Called once the loop is ready to accept.
inline void announce(int listener) {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    if (getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
        fail("getsockname", errno);
    }
    char text[INET_ADDRSTRLEN] = "?";
    (void)inet_ntop(AF_INET, &address.sin_addr, text, sizeof text);
    std::printf("listening on %s:%u\n", text, static_cast<unsigned>(ntohs(address.sin_port)));
    std::fflush(stdout);
}

// Becomes readable at SIGTERM or SIGINT, which are blocked: no handler, no race with the wait.
inline int stop_descriptor() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    if (sigprocmask(SIG_BLOCK, &set, nullptr) != 0) fail("sigprocmask", errno);
    const int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0) fail("signalfd", errno);
    return fd;
}

// The most memory that was resident, in KiB. Not ru_maxrss, which survives execve: started from
// a larger program, a small server would report that one's size.
inline long memory_high_kib() {
    long kib = 0;
    std::FILE* status = std::fopen("/proc/self/status", "re");
    if (status == nullptr) return 0;
    char line[256];
    while (std::fgets(line, sizeof line, status) != nullptr) {
        if (std::sscanf(line, "VmHWM: %ld", &kib) == 1) break;
    }
    (void)std::fclose(status);
    return kib;
}

inline void print_report(const char* server) {
    rusage usage{};
    (void)getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& time) {
        return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
    };
    std::printf("{\"server\":\"%s\",\"cpu_user_s\":%.6f,\"cpu_sys_s\":%.6f,\"max_rss_kib\":%ld}\n",
                server, seconds(usage.ru_utime), seconds(usage.ru_stime), memory_high_kib());
    std::fflush(stdout);
}

// ---- for the servers on readiness ----

// Accepts at most this many in a row, so that a flood of connects cannot starve the echoes.
constexpr int accepts_max = 64;

// Accepts what is waiting and calls accepted(fd) for each. False when the process is out of
// descriptors: the caller stops listening until one is closed, for the listener stays readable
// and a level-triggered loop would spin.
template <typename Accepted>
bool accept_waiting(int listener, Accepted accepted) {
    for (int count = 0; count < accepts_max; ++count) {
        const int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            accepted(fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            return false;
        } else if (errno == EAGAIN) {
            return true;
        }
        // Anything else (ECONNABORTED, EINTR, a network error of that one peer): the next one.
    }
    return true;
}

// What a connection waits for next.
enum class Next { read, write, close };

// One echoed stream: its descriptor and the bytes that its socket has not taken yet.
class Echo {
  public:
    explicit Echo(int fd) : fd_(fd) {}
    Echo(const Echo&) = delete;
    Echo& operator=(const Echo&) = delete;
    ~Echo() { (void)close(fd_); }

    int fd() const { return fd_; }

    // One recv, one send. A short recv is no reason for another: the level brings us back.
    Next readable(std::vector<char>& buffer) {
        const ssize_t got = recv(fd_, buffer.data(), buffer.size(), 0);
        if (got > 0) return readable_send(buffer.data(), static_cast<std::size_t>(got));
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return Next::read;
        return Next::close;
    }

    Next writable() {
        const ssize_t sent = send(fd_, pending_.data() + pending_begin_,
                                  pending_.size() - pending_begin_, MSG_NOSIGNAL);
        if (sent < 0) return errno == EAGAIN || errno == EINTR ? Next::write : Next::close;
        pending_begin_ += static_cast<std::size_t>(sent);
        if (pending_begin_ < pending_.size()) return Next::write;
        pending_.clear();
        pending_begin_ = 0;
        return Next::read;
    }

  private:
    Next readable_send(const char* data, std::size_t size) {
        const ssize_t sent = send(fd_, data, size, MSG_NOSIGNAL);
        if (sent == static_cast<ssize_t>(size)) return Next::read;
        if (sent < 0 && errno != EAGAIN && errno != EINTR) return Next::close;
        pending_.assign(data + (sent > 0 ? sent : 0), data + size);
        return Next::write;
    }

    int fd_;
    std::size_t pending_begin_ = 0;
    std::vector<char> pending_;
};

}  // namespace bench
