// SPDX-License-Identifier: MIT
// An echo server as a careful user of libevent writes it: raw persistent events and no
// bufferevents (those cost 1.4 to 1.7 times as much on small messages), no lock in the base, and
// a read and a write event made once per connection, of which one is added.
#include <event2/event.h>

#include <memory>
#include <unordered_map>

#include "echo.hpp"

namespace {

class Server {
  public:
    explicit Server(const bench::Options& options)
        : buffer_(options.buffer_size), listener_(bench::listen_on(options, SOCK_NONBLOCK)) {
        event_config* config = event_config_new();
        if (config == nullptr) bench::fail("event_config_new", ENOMEM);
        (void)event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
        base_ = event_base_new_with_config(config);
        event_config_free(config);
        if (base_ == nullptr) bench::fail("event_base_new_with_config", ENOSYS);
        accept_ = make(listener_, EV_READ | EV_PERSIST, &Server::on_accept, this);
        terminate_ = make(SIGTERM, EV_SIGNAL | EV_PERSIST, &Server::on_stop, this);
        interrupt_ = make(SIGINT, EV_SIGNAL | EV_PERSIST, &Server::on_stop, this);
        (void)event_add(accept_, nullptr);
        (void)event_add(terminate_, nullptr);
        (void)event_add(interrupt_, nullptr);
    }
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    ~Server() {
        connections_.clear();
        event_free(accept_);
        event_free(terminate_);
        event_free(interrupt_);
        event_base_free(base_);
        (void)close(listener_);
    }

    void run() {
        bench::announce(listener_);
        if (event_base_dispatch(base_) < 0) bench::fail("event_base_dispatch", errno);
    }

  private:
    struct Connection {
        Connection(Server& owner, int fd)
            : server(owner), echo(fd),
              read(owner.make(fd, EV_READ | EV_PERSIST, &Server::on_readable, this)),
              write(owner.make(fd, EV_WRITE | EV_PERSIST, &Server::on_writable, this)) {}
        Connection(const Connection&) = delete;
        Connection& operator=(const Connection&) = delete;
        ~Connection() {  // Events first: libevent wants them gone before the descriptor is.
            event_free(read);
            event_free(write);
        }
        Server& server;
        bench::Echo echo;
        event* read;
        event* write;
    };

    event* make(int fd, short what, event_callback_fn callback, void* user) {
        event* made = event_new(base_, fd, what, callback, user);
        if (made == nullptr) bench::fail("event_new", ENOMEM);
        return made;
    }

    static void on_stop(evutil_socket_t, short, void* user) {
        (void)event_base_loopbreak(static_cast<Server*>(user)->base_);
    }

    static void on_accept(evutil_socket_t listener, short, void* user) {
        Server& server = *static_cast<Server*>(user);
        const bool room = bench::accept_waiting(listener, [&server](int fd) {
            auto& connection = server.connections_[fd];
            connection = std::make_unique<Connection>(server, fd);
            (void)event_add(connection->read, nullptr);
        });
        if (room) return;
        server.accept_paused_ = true;
        (void)event_del(server.accept_);
    }

    static void on_readable(evutil_socket_t, short, void* user) {
        Connection& connection = *static_cast<Connection*>(user);
        const bench::Next next = connection.echo.readable(connection.server.buffer_);
        if (next == bench::Next::read) return;
        if (next == bench::Next::close) return connection.server.end(connection);
        (void)event_del(connection.read);
        (void)event_add(connection.write, nullptr);
    }

    static void on_writable(evutil_socket_t, short, void* user) {
        Connection& connection = *static_cast<Connection*>(user);
        const bench::Next next = connection.echo.writable();
        if (next == bench::Next::write) return;
        if (next == bench::Next::close) return connection.server.end(connection);
        (void)event_del(connection.write);
        (void)event_add(connection.read, nullptr);
    }

    void end(Connection& connection) {
        connections_.erase(connection.echo.fd());
        if (!accept_paused_) return;
        accept_paused_ = false;
        (void)event_add(accept_, nullptr);
    }

    std::vector<char> buffer_;
    int listener_;
    bool accept_paused_ = false;
    event_base* base_ = nullptr;
    event* accept_ = nullptr;
    event* terminate_ = nullptr;
    event* interrupt_ = nullptr;
    std::unordered_map<int, std::unique_ptr<Connection>> connections_;
};

}  // namespace

int main(int argc, char** argv) {
    {
        Server server(bench::parse_options(argc, argv, {}));
        server.run();
    }
    bench::print_report("libevent");
    return 0;
}
