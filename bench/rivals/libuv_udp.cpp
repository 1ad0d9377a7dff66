// SPDX-License-Identifier: MIT
// A UDP echo server on libuv: uv_udp_recv_start with recvmmsg, which wants one buffer for many datagrams,
// and uv_udp_try_send for the answers.
#include <uv.h>

#include "udp.hpp"

namespace {

char buffer[20 * 64 * 1024];  // libuv cuts it into pieces of 64 KiB, at most 20

void on_buffer(uv_handle_t*, size_t, uv_buf_t* given) {
    *given = uv_buf_init(buffer, sizeof buffer);
}

void on_received(uv_udp_t* socket, ssize_t got, const uv_buf_t* piece, const sockaddr* from,
                 unsigned) {
    if (got <= 0 || from == nullptr) return;
    const uv_buf_t answer = uv_buf_init(piece->base, static_cast<unsigned>(got));
    (void)uv_udp_try_send(socket, &answer, 1, from);
}

}  // namespace

int main(int argc, char** argv) {
    const bench::Options options = bench::parse_options(argc, argv, {});
    const int fd = bench::bind_udp(options), stop_fd = bench::stop_descriptor();
    uv_loop_t loop;
    uv_udp_t socket;
    uv_poll_t stop;
    if (uv_loop_init(&loop) != 0 || uv_udp_init_ex(&loop, &socket, UV_UDP_RECVMMSG) != 0 ||
        uv_udp_open(&socket, fd) != 0 || uv_udp_recv_start(&socket, on_buffer, on_received) != 0 ||
        uv_poll_init(&loop, &stop, stop_fd) != 0) {
        bench::fail("libuv", ENOSYS);
    }
    (void)uv_poll_start(&stop, UV_READABLE, [](uv_poll_t* poll, int, int) { uv_stop(poll->loop); });
    bench::announce(fd);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    uv_close(reinterpret_cast<uv_handle_t*>(&socket), nullptr);
    uv_close(reinterpret_cast<uv_handle_t*>(&stop), nullptr);
    (void)uv_run(&loop, UV_RUN_DEFAULT);
    (void)uv_loop_close(&loop);
    bench::print_report("libuv");
    return 0;
}
