// SPDX-License-Identifier: MIT
// docs/migrating/libev.md: the program before, on libev.
#include "lines.hpp"

#include <arpa/inet.h>
#include <errno.h>
#include <ev.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

// [connection]
struct Connection {
    ev_io io;
    ev_timer idle;
    std::string in, out;
    bool ending = false;
};

void end(struct ev_loop* loop, Connection* connection) {
    ev_io_stop(loop, &connection->io);
    ev_timer_stop(loop, &connection->idle);
    ::close(connection->io.fd);
    delete connection;
}

void ready(struct ev_loop* loop, ev_io* io, int events) {
    auto* connection = static_cast<Connection*>(io->data);
    ev_timer_again(loop, &connection->idle);
    if ((events & EV_READ) != 0) {
        char bytes[4096];
        const ssize_t got = ::recv(io->fd, bytes, sizeof bytes, 0);
        if (got < 0 && errno != EAGAIN && errno != EINTR) return end(loop, connection);
        if (got > 0) connection->in.append(bytes, static_cast<std::size_t>(got));
        if (got == 0 || !answer_lines(connection->in, connection->out)) connection->ending = true;
    }
    std::string& out = connection->out;
    const ssize_t sent = ::send(io->fd, out.data(), out.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) return end(loop, connection);
    if (sent > 0) out.erase(0, static_cast<std::size_t>(sent));
    if (out.empty() && connection->ending) return end(loop, connection);
    ev_io_stop(loop, io);
    ev_io_set(io, io->fd, out.empty() ? EV_READ : EV_WRITE);
    ev_io_start(loop, io);
}

void timeout(struct ev_loop* loop, ev_timer* timer, int) {
    end(loop, static_cast<Connection*>(timer->data));
}

void acceptable(struct ev_loop* loop, ev_io* listener, int) {
    const int fd = ::accept4(listener->fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    auto* connection = new Connection();
    ev_io_init(&connection->io, ready, fd, EV_READ);
    ev_init(&connection->idle, timeout);
    connection->idle.repeat = *static_cast<double*>(listener->data);
    connection->io.data = connection->idle.data = connection;
    ev_io_start(loop, &connection->io);
    ev_timer_again(loop, &connection->idle);
}
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
    struct ev_loop* loop = ev_loop_new(EVFLAG_NOENV | EVBACKEND_EPOLL);
    if (loop == nullptr) return 1;
    double idle = given.idle_ms / 1000.0;
    ev_signal term;
    ev_signal_init(
        &term, [](struct ev_loop* now, ev_signal*, int) { ev_break(now, EVBREAK_ALL); }, SIGTERM);
    ev_signal_start(loop, &term);
    ev_io listener;
    ev_io_init(&listener, acceptable, listen_on(given.port), EV_READ);
    listener.data = &idle;
    ev_io_start(loop, &listener);
    ev_run(loop, 0);
    return 0;
}
// [end]
