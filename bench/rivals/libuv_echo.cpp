// SPDX-License-Identifier: MIT
// An echo server on libuv, as its guide and its reference advise for the least cost: reads go into one
// buffer of the server (alloc_cb hands out the same one, for the read follows at once), answers go out
// with uv_try_write, and only what the socket does not take is copied and queued with uv_write.
#include <uv.h>

#include <memory>

#include "echo.hpp"

namespace {

void check(int result, const char* what) {
    if (result == 0) return;
    std::fprintf(stderr, "%s: %s\n", what, uv_strerror(result));
    std::exit(1);
}

class Server {
  public:
    explicit Server(const bench::Options& options)
        : buffer_(options.buffer_size), stop_fd_(bench::stop_descriptor()),
          listening_(bench::listen_on(options, SOCK_NONBLOCK)) {
        check(uv_loop_init(&loop_), "uv_loop_init");
        loop_.data = this;
        check(uv_tcp_init(&loop_, &listener_), "uv_tcp_init");
        check(uv_tcp_open(&listener_, listening_), "uv_tcp_open");
        check(uv_listen(reinterpret_cast<uv_stream_t*>(&listener_), 4096, &Server::on_accept),
              "uv_listen");
        check(uv_poll_init(&loop_, &stop_, stop_fd_), "uv_poll_init");
        check(uv_poll_start(&stop_, UV_READABLE,
                            [](uv_poll_t* poll, int, int) { uv_stop(poll->loop); }),
              "uv_poll_start");
    }
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    ~Server() {
        uv_walk(
            &loop_,
            [](uv_handle_t* handle, void*) {
                if (uv_is_closing(handle) == 0) uv_close(handle, &Server::on_walked);
            },
            nullptr);
        (void)uv_run(&loop_, UV_RUN_DEFAULT);
        (void)uv_loop_close(&loop_);
        (void)close(stop_fd_);
    }

    void run() {
        bench::announce(listening_);
        (void)uv_run(&loop_, UV_RUN_DEFAULT);
    }

  private:
    struct Connection {
        uv_tcp_t stream;  // its data is the connection
        uv_write_t write;
        std::vector<char> pending;  // in the write under way
    };

    static Connection& of(void* data) { return *static_cast<Connection*>(data); }
    static uv_stream_t* stream_of(Connection& connection) {
        return reinterpret_cast<uv_stream_t*>(&connection.stream);
    }

    static void on_accept(uv_stream_t* listener, int status) {
        if (status < 0) return;
        auto made = std::make_unique<Connection>();
        if (uv_tcp_init(listener->loop, &made->stream) != 0) return;
        Connection& connection = *made.release();  // until on_closed
        connection.stream.data = &connection;
        if (uv_accept(listener, stream_of(connection)) != 0) return end(connection);
        (void)uv_read_start(stream_of(connection), &Server::on_buffer, &Server::on_read);
    }

    static void on_buffer(uv_handle_t* handle, size_t, uv_buf_t* buffer) {
        Server& server = *static_cast<Server*>(handle->loop->data);
        *buffer = uv_buf_init(server.buffer_.data(), static_cast<unsigned>(server.buffer_.size()));
    }

    static void on_read(uv_stream_t* stream, ssize_t got, const uv_buf_t* buffer) {
        Connection& connection = of(stream->data);
        if (got == 0) return;  // EAGAIN
        if (got < 0) return end(connection);
        uv_buf_t piece = uv_buf_init(buffer->base, static_cast<unsigned>(got));
        int sent = uv_try_write(stream, &piece, 1);
        if (sent == got) return;
        if (sent == UV_EAGAIN) sent = 0;
        if (sent < 0) return end(connection);
        connection.pending.assign(buffer->base + sent, buffer->base + got);
        piece = uv_buf_init(connection.pending.data(),
                            static_cast<unsigned>(connection.pending.size()));
        (void)uv_read_stop(stream);
        if (uv_write(&connection.write, stream, &piece, 1, &Server::on_written) != 0) {
            end(connection);
        }
    }

    static void on_written(uv_write_t* write, int status) {
        Connection& connection = of(write->handle->data);
        if (status == UV_ECANCELED) return;  // it is being closed
        if (status < 0) return end(connection);
        (void)uv_read_start(write->handle, &Server::on_buffer, &Server::on_read);
    }

    static void end(Connection& connection) {
        uv_close(reinterpret_cast<uv_handle_t*>(&connection.stream), &Server::on_closed);
    }
    static void on_closed(uv_handle_t* handle) { delete &of(handle->data); }
    static void on_walked(uv_handle_t* handle) {
        if (handle->type == UV_TCP && handle->data != nullptr) on_closed(handle);
    }

    std::vector<char> buffer_;
    int stop_fd_;
    int listening_;
    uv_loop_t loop_{};
    uv_tcp_t listener_{};
    uv_poll_t stop_{};
};

}  // namespace

int main(int argc, char** argv) {
    {
        Server server(bench::parse_options(argc, argv, {}));
        server.run();
    }
    bench::print_report("libuv");
    return 0;
}
