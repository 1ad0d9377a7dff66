// SPDX-License-Identifier: MIT
// docs/migrating/libuv.md: the program before, on libuv.
#include "lines.hpp"

#include <arpa/inet.h>
#include <signal.h>
#include <uv.h>

namespace {

int idle_ms = 0;

// [connection]
struct Connection {
    uv_tcp_t tcp;
    uv_timer_t idle;
    std::string in;
    int handles = 2;  // both must be closed before the memory may go
};

struct Write {
    uv_write_t request;
    std::string bytes;  // must live until the write's callback
};

void end(Connection* connection) {
    const auto closed = [](uv_handle_t* handle) {
        auto* gone = static_cast<Connection*>(handle->data);
        if (--gone->handles == 0) delete gone;
    };
    auto* const tcp = reinterpret_cast<uv_handle_t*>(&connection->tcp);
    if (uv_is_closing(tcp) != 0) return;
    uv_close(tcp, closed);
    uv_close(reinterpret_cast<uv_handle_t*>(&connection->idle), closed);
}

void end_after_writes(Connection* connection) {
    uv_read_stop(reinterpret_cast<uv_stream_t*>(&connection->tcp));
    auto* request = new uv_shutdown_t();
    request->data = connection;
    const int refused = uv_shutdown(request, reinterpret_cast<uv_stream_t*>(&connection->tcp),
                                    [](uv_shutdown_t* done, int) {
                                        end(static_cast<Connection*>(done->data));
                                        delete done;
                                    });
    if (refused != 0) {
        delete request;
        end(connection);
    }
}

void read(uv_stream_t* stream, ssize_t got, const uv_buf_t* buffer) {
    auto* connection = static_cast<Connection*>(stream->data);
    if (got > 0) connection->in.append(buffer->base, static_cast<std::size_t>(got));
    std::free(buffer->base);
    if (got == 0) return;  // EAGAIN
    uv_timer_again(&connection->idle);
    if (got < 0) return end_after_writes(connection);
    auto* write = new Write();
    const bool going = answer_lines(connection->in, write->bytes);
    uv_buf_t out = uv_buf_init(&write->bytes[0], static_cast<unsigned>(write->bytes.size()));
    write->request.data = write;
    // libuv queues without a limit: who does not read makes this grow.
    uv_write(&write->request, stream, &out, 1,
             [](uv_write_t* request, int) { delete static_cast<Write*>(request->data); });
    if (!going) end_after_writes(connection);
}

void accepted(uv_stream_t* listener, int status) {
    if (status < 0) return;
    auto* connection = new Connection();
    uv_tcp_init(listener->loop, &connection->tcp);
    uv_timer_init(listener->loop, &connection->idle);
    connection->tcp.data = connection->idle.data = connection;
    auto* const stream = reinterpret_cast<uv_stream_t*>(&connection->tcp);
    if (uv_accept(listener, stream) != 0) return end(connection);
    const auto expired = [](uv_timer_t* timer) { end(static_cast<Connection*>(timer->data)); };
    const auto time = static_cast<std::uint64_t>(idle_ms);
    uv_timer_start(&connection->idle, expired, time, time);
    uv_read_start(
        stream,
        [](uv_handle_t*, std::size_t size, uv_buf_t* buffer) {
            *buffer =
                uv_buf_init(static_cast<char*>(std::malloc(size)), static_cast<unsigned>(size));
        },
        read);
}
// [end]

}  // namespace

// [main]
int main(int count, char** words) {
    const Words given(count, words);
    idle_ms = given.idle_ms;
    ::signal(SIGPIPE, SIG_IGN);
    uv_loop_t* loop = uv_default_loop();
    uv_signal_t term;
    uv_signal_init(loop, &term);
    uv_signal_start(
        &term, [](uv_signal_t* handle, int) { uv_stop(handle->loop); }, SIGTERM);

    uv_tcp_t listener;
    uv_tcp_init(loop, &listener);
    sockaddr_in address;
    uv_ip4_addr("127.0.0.1", given.port, &address);
    auto* const plain = reinterpret_cast<sockaddr*>(&address);
    if (uv_tcp_bind(&listener, plain, 0) != 0) return 1;
    if (uv_listen(reinterpret_cast<uv_stream_t*>(&listener), 128, accepted) != 0) return 1;
    int size = sizeof address;
    uv_tcp_getsockname(&listener, plain, &size);
    listening(ntohs(address.sin_port));
    uv_run(loop, UV_RUN_DEFAULT);
    return 0;
}
// [end]
