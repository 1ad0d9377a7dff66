// SPDX-License-Identifier: MIT
// An echo server on libev: one ev_io per connection, inside the connection, turned from reading
// to writing when the socket does not take everything. The backend is named, because libev would
// otherwise obey LIBEV_FLAGS and Debian's 4.33 could pick its own experimental io_uring.
#include <ev.h>

#include <memory>
#include <unordered_map>

#include "echo.hpp"

namespace {

class Server {
  public:
    explicit Server(const bench::Options& options)
        : buffer_(options.buffer_size), listener_(bench::listen_on(options, SOCK_NONBLOCK)),
          loop_(ev_default_loop(EVFLAG_NOENV | EVBACKEND_EPOLL)) {
        if (loop_ == nullptr) bench::fail("ev_default_loop", ENOSYS);
        ev_io_init(&accept_, &Server::on_accept, listener_, EV_READ);
        ev_signal_init(&terminate_, &Server::on_stop, SIGTERM);
        ev_signal_init(&interrupt_, &Server::on_stop, SIGINT);
        accept_.data = this;
        ev_io_start(loop_, &accept_);
        ev_signal_start(loop_, &terminate_);
        ev_signal_start(loop_, &interrupt_);
    }
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    ~Server() {
        connections_.clear();
        ev_io_stop(loop_, &accept_);
        ev_signal_stop(loop_, &terminate_);
        ev_signal_stop(loop_, &interrupt_);
        ev_loop_destroy(loop_);
        (void)close(listener_);
    }

    void run() {
        bench::announce(listener_);
        (void)ev_run(loop_, 0);
    }

  private:
    struct Connection {
        Connection(Server& owner, int fd) : server(owner), echo(fd) {
            ev_io_init(&watcher, &Server::on_ready, fd, EV_READ);
            watcher.data = this;
            ev_io_start(owner.loop_, &watcher);
        }
        Connection(const Connection&) = delete;
        Connection& operator=(const Connection&) = delete;
        ~Connection() { ev_io_stop(server.loop_, &watcher); }
        Server& server;
        bench::Echo echo;
        ev_io watcher;
    };

    static void on_stop(struct ev_loop* loop, ev_signal*, int) { ev_break(loop, EVBREAK_ALL); }

    static void on_accept(struct ev_loop* loop, ev_io* watcher, int) {
        Server& server = *static_cast<Server*>(watcher->data);
        const bool room = bench::accept_waiting(watcher->fd, [&server](int fd) {
            server.connections_[fd] = std::make_unique<Connection>(server, fd);
        });
        if (room) return;
        server.accept_paused_ = true;
        ev_io_stop(loop, watcher);
    }

    static void on_ready(struct ev_loop* loop, ev_io* watcher, int events) {
        Connection& connection = *static_cast<Connection*>(watcher->data);
        const bench::Next next = (events & EV_WRITE) != 0
                                     ? connection.echo.writable()
                                     : connection.echo.readable(connection.server.buffer_);
        if (next == bench::Next::close) return connection.server.end(connection);
        const int interest = next == bench::Next::write ? EV_WRITE : EV_READ;
        if (interest == (events & (EV_READ | EV_WRITE))) return;
        ev_io_stop(loop, watcher);
        ev_io_set(watcher, watcher->fd, interest);
        ev_io_start(loop, watcher);
    }

    void end(Connection& connection) {
        connections_.erase(connection.echo.fd());
        if (!accept_paused_) return;
        accept_paused_ = false;
        ev_io_start(loop_, &accept_);
    }

    std::vector<char> buffer_;
    int listener_;
    bool accept_paused_ = false;
    struct ev_loop* loop_;
    ev_io accept_;
    ev_signal terminate_;
    ev_signal interrupt_;
    std::unordered_map<int, std::unique_ptr<Connection>> connections_;
};

}  // namespace

int main(int argc, char** argv) {
    {
        Server server(bench::parse_options(argc, argv, {}));
        server.run();
    }
    bench::print_report("libev");
    return 0;
}
