// SPDX-License-Identifier: MIT
// An echo server on libevent's bufferevents, which is what most programs on libevent are: the input
// moves to the output with evbuffer_add_buffer, without a copy, as the libevent book has it. A peer
// that does not read stops being read from at one buffer of output. No lock in the base.
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

#include <unordered_set>

#include "echo.hpp"

namespace {

class Server {
  public:
    explicit Server(const bench::Options& options)
        : output_max_(options.buffer_size), stop_fd_(bench::stop_descriptor()) {
        event_config* config = event_config_new();
        if (config == nullptr) bench::fail("event_config_new", ENOMEM);
        (void)event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
        base_ = event_base_new_with_config(config);
        event_config_free(config);
        if (base_ == nullptr) bench::fail("event_base_new_with_config", ENOSYS);
        listener_ = evconnlistener_new(base_, &Server::on_accept, this, LEV_OPT_CLOSE_ON_FREE, 0,
                                       bench::listen_on(options, SOCK_NONBLOCK));
        stop_ = event_new(
            base_, stop_fd_, EV_READ,
            [](evutil_socket_t, short, void* base) {
                (void)event_base_loopbreak(static_cast<event_base*>(base));
            },
            base_);
        if (listener_ == nullptr || stop_ == nullptr) bench::fail("evconnlistener_new", ENOMEM);
        (void)event_add(stop_, nullptr);
    }
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    ~Server() {
        for (bufferevent* stream : streams_) bufferevent_free(stream);
        event_free(stop_);
        evconnlistener_free(listener_);
        event_base_free(base_);
        (void)close(stop_fd_);
    }

    void run() {
        bench::announce(evconnlistener_get_fd(listener_));
        if (event_base_dispatch(base_) < 0) bench::fail("event_base_dispatch", errno);
    }

  private:
    static void on_accept(evconnlistener*, evutil_socket_t fd, sockaddr*, int, void* user) {
        Server& server = *static_cast<Server*>(user);
        bufferevent* stream = bufferevent_socket_new(server.base_, fd, BEV_OPT_CLOSE_ON_FREE);
        if (stream == nullptr) {
            (void)close(fd);
            return;
        }
        server.streams_.insert(stream);
        bufferevent_setcb(stream, &Server::on_readable, nullptr, &Server::on_event, user);
        (void)bufferevent_enable(stream, EV_READ);
    }
    static void on_readable(bufferevent* stream, void* user) {
        const Server& server = *static_cast<Server*>(user);
        evbuffer* output = bufferevent_get_output(stream);
        (void)evbuffer_add_buffer(output, bufferevent_get_input(stream));
        if (evbuffer_get_length(output) < server.output_max_) return;
        (void)bufferevent_disable(stream, EV_READ);
        bufferevent_setcb(stream, &Server::on_readable, &Server::on_drained, &Server::on_event,
                          user);
    }
    static void on_drained(bufferevent* stream, void* user) {
        bufferevent_setcb(stream, &Server::on_readable, nullptr, &Server::on_event, user);
        (void)bufferevent_enable(stream, EV_READ);
        if (evbuffer_get_length(bufferevent_get_input(stream)) != 0) on_readable(stream, user);
    }
    static void on_event(bufferevent* stream, short, void* user) {
        static_cast<Server*>(user)->streams_.erase(stream);
        bufferevent_free(stream);
    }

    std::size_t output_max_;
    int stop_fd_;
    event_base* base_ = nullptr;
    evconnlistener* listener_ = nullptr;
    event* stop_ = nullptr;
    std::unordered_set<bufferevent*> streams_;
};

}  // namespace

int main(int argc, char** argv) {
    {
        Server server(bench::parse_options(argc, argv, {}));
        server.run();
    }
    bench::print_report("bufferevent");
    return 0;
}
