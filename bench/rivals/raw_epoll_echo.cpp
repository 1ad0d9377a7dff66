// SPDX-License-Identifier: MIT
// An echo server on plain epoll, with no library: the least that a readiness loop can cost.
// Level-triggered: with one recv per event there is nothing that edges would save, and a level
// cannot be missed. Interest is changed only when a socket stops or starts taking bytes again, so
// in the good case a turn is one epoll_wait and two calls per connection.
#include <sys/epoll.h>

#include <memory>
#include <unordered_map>

#include "echo.hpp"

namespace {

class Server {
  public:
    explicit Server(const bench::Options& options)
        : buffer_(options.buffer_size), stop_(bench::stop_descriptor()),
          listener_(bench::listen_on(options, SOCK_NONBLOCK)),
          epoll_(epoll_create1(EPOLL_CLOEXEC)) {
        if (epoll_ < 0) bench::fail("epoll_create1", errno);
        control(EPOLL_CTL_ADD, stop_, EPOLLIN, &stop_);
        control(EPOLL_CTL_ADD, listener_, EPOLLIN, &listener_);
    }
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    ~Server() {
        connections_.clear();
        (void)close(listener_);
        (void)close(epoll_);
        (void)close(stop_);
    }

    void run() {
        bench::announce(listener_);
        while (!stopping_) {
            const int count = epoll_wait(epoll_, events_, events_max, -1);
            if (count < 0 && errno != EINTR) bench::fail("epoll_wait", errno);
            for (int index = 0; index < count; ++index) dispatch(events_[index]);
        }
    }

  private:
    struct Connection {
        explicit Connection(int fd) : echo(fd) {}
        bench::Echo echo;
        bool writing = false;  // waits for EPOLLOUT, not for EPOLLIN
    };

    void control(int operation, int fd, std::uint32_t interest, void* user) {
        epoll_event event{};
        event.events = interest;
        event.data.ptr = user;
        if (epoll_ctl(epoll_, operation, fd, &event) != 0) bench::fail("epoll_ctl", errno);
    }

    // A descriptor has one event in a batch, and a connection ends only in its own: no event of
    // this batch can point to a connection that is gone.
    void dispatch(const epoll_event& event) {
        if (event.data.ptr == &listener_) return accept_all();
        if (event.data.ptr == &stop_) {
            stopping_ = true;
            return;
        }
        Connection& connection = *static_cast<Connection*>(event.data.ptr);
        const bench::Next next =
            connection.writing ? connection.echo.writable() : connection.echo.readable(buffer_);
        if (next == bench::Next::close) return end(connection);
        const bool writing = next == bench::Next::write;
        if (writing == connection.writing) return;
        connection.writing = writing;
        control(EPOLL_CTL_MOD, connection.echo.fd(), writing ? EPOLLOUT : EPOLLIN, &connection);
    }

    void accept_all() {
        const bool room = bench::accept_waiting(listener_, [this](int fd) {
            auto& connection = connections_[fd];
            connection = std::make_unique<Connection>(fd);
            control(EPOLL_CTL_ADD, fd, EPOLLIN, connection.get());
        });
        if (room) return;
        accept_paused_ = true;
        control(EPOLL_CTL_MOD, listener_, 0, &listener_);
    }

    void end(Connection& connection) {
        connections_.erase(connection.echo.fd());  // close removes it from the epoll set
        if (!accept_paused_) return;
        accept_paused_ = false;
        control(EPOLL_CTL_MOD, listener_, EPOLLIN, &listener_);
    }

    static constexpr int events_max = 512;

    std::vector<char> buffer_;
    int stop_;
    int listener_;
    int epoll_;
    bool stopping_ = false;
    bool accept_paused_ = false;
    std::unordered_map<int, std::unique_ptr<Connection>> connections_;
    epoll_event events_[events_max];
};

}  // namespace

int main(int argc, char** argv) {
    {
        Server server(bench::parse_options(argc, argv, {}));
        server.run();
    }
    bench::print_report("raw_epoll");
    return 0;
}
