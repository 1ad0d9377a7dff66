// SPDX-License-Identifier: MIT
// docs/migrating/epoll.md: the program before, on epoll alone.
#include "lines.hpp"

#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <memory>
#include <unordered_map>

namespace {

// [connection]
struct Connection {
    int fd;
    int timer;  // a timerfd for each connection
    std::string in, out;
    bool ending = false;
};

class Server {
  public:
    Server(int idle_ms) : idle_ms_(idle_ms), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {}

    void watch(int fd, std::uint32_t events, int how = EPOLL_CTL_ADD) const {
        epoll_event event{};
        event.events = events;
        event.data.fd = fd;  // not a pointer: an event may come after its object has gone
        ::epoll_ctl(epoll_, how, fd, &event);
    }
    void accept(int listener) {
        const int fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        const int timer = ::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        auto connection = std::make_shared<Connection>(Connection{fd, timer, {}, {}});
        by_fd_[fd] = by_fd_[timer] = connection;
        watch(fd, EPOLLIN);
        watch(timer, EPOLLIN);
        push_timeout(*connection);
    }
    void ready(int fd, std::uint32_t events) {
        const auto found = by_fd_.find(fd);
        if (found == by_fd_.end()) return;  // closed by an event before it, in this very batch
        const std::shared_ptr<Connection> connection = found->second;
        if (fd == connection->timer) return close(*connection);
        push_timeout(*connection);
        if (!connection->ending && (events & ~EPOLLOUT) != 0 && !read(*connection)) return;
        write(*connection);
    }
    int epoll() const { return epoll_; }

  private:
    bool read(Connection& connection) {
        char bytes[4096];
        const ssize_t got = ::recv(connection.fd, bytes, sizeof bytes, 0);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) return true;
        if (got < 0) return close(connection), false;
        connection.in.append(bytes, static_cast<std::size_t>(got));
        if (got == 0 || !answer_lines(connection.in, connection.out)) connection.ending = true;
        return true;
    }
    void write(Connection& connection) {
        const std::string& out = connection.out;
        const ssize_t sent = ::send(connection.fd, out.data(), out.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) return close(connection);
        if (sent > 0) connection.out.erase(0, static_cast<std::size_t>(sent));
        if (out.empty() && connection.ending) return close(connection);
        // Reads on only when everything is sent: a peer that does not read is held back.
        watch(connection.fd, out.empty() ? EPOLLIN : EPOLLOUT, EPOLL_CTL_MOD);
    }
    void push_timeout(const Connection& connection) const {
        itimerspec time{};
        time.it_value.tv_sec = idle_ms_ / 1000;
        time.it_value.tv_nsec = idle_ms_ % 1000 * 1'000'000L;
        ::timerfd_settime(connection.timer, 0, &time, nullptr);
    }
    void close(const Connection& connection) {
        const int fd = connection.fd, timer = connection.timer;
        ::close(fd);
        ::close(timer);
        by_fd_.erase(fd);
        by_fd_.erase(timer);
    }

    int idle_ms_;
    int epoll_;
    std::unordered_map<int, std::shared_ptr<Connection>> by_fd_;
};
// [end]

int listen_on(int port) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int on = 1;
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const plain = reinterpret_cast<sockaddr*>(&address);
    if (::bind(fd, plain, size) != 0 || ::listen(fd, 128) != 0) std::exit(1);
    ::getsockname(fd, plain, &size);
    listening(ntohs(address.sin_port));
    return fd;
}

}  // namespace

// [main]
int main(int count, char** words) {
    const Words given(count, words);
    Server server(given.idle_ms);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    const int signal_fd = ::signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    server.watch(signal_fd, EPOLLIN);
    const int listener = listen_on(given.port);
    server.watch(listener, EPOLLIN);

    for (;;) {
        epoll_event events[64];
        const int ready = ::epoll_wait(server.epoll(), events, 64, -1);
        for (int index = 0; index < ready; ++index) {
            const int fd = events[index].data.fd;
            if (fd == signal_fd) return 0;
            if (fd == listener) server.accept(fd);
            else server.ready(fd, events[index].events);
        }
    }
}
// [end]
