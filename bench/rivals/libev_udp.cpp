// SPDX-License-Identifier: MIT
// A UDP echo server on libev.
#include <ev.h>

#include "udp.hpp"

int main(int argc, char** argv) {
    const bench::Options options = bench::parse_options(argc, argv, {});
    const int fd = bench::bind_udp(options), stop_fd = bench::stop_descriptor();
    struct ev_loop* loop = ev_default_loop(EVFLAG_NOENV | EVBACKEND_EPOLL);
    if (loop == nullptr) bench::fail("ev_default_loop", ENOSYS);
    bench::Datagrams datagrams;
    ev_io socket_ready, stop;
    ev_io_init(
        &socket_ready,
        [](struct ev_loop*, ev_io* io, int) {
            static_cast<bench::Datagrams*>(io->data)->ready(io->fd);
        },
        fd, EV_READ);
    socket_ready.data = &datagrams;
    ev_io_init(
        &stop, [](struct ev_loop* stopped, ev_io*, int) { ev_break(stopped, EVBREAK_ALL); },
        stop_fd, EV_READ);
    ev_io_start(loop, &socket_ready);
    ev_io_start(loop, &stop);
    bench::announce(fd);
    (void)ev_run(loop, 0);
    bench::print_report("libev");
    return 0;
}
