// SPDX-License-Identifier: MIT
// A UDP echo server on plain epoll.
#include <sys/epoll.h>

#include "udp.hpp"

int main(int argc, char** argv) {
    const bench::Options options = bench::parse_options(argc, argv, {});
    const int fd = bench::bind_udp(options), stop = bench::stop_descriptor();
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll < 0) bench::fail("epoll_create1", errno);
    for (const int watched : {fd, stop}) {
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.fd = watched;
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, watched, &event) != 0) bench::fail("epoll_ctl", errno);
    }
    bench::Datagrams datagrams;
    bench::announce(fd);
    for (bool stopped = false; !stopped;) {
        epoll_event events[2];
        const int count = epoll_wait(epoll, events, 2, -1);
        for (int index = 0; index < count; ++index) {
            if (events[index].data.fd == stop) stopped = true;
            else datagrams.ready(fd);
        }
    }
    bench::print_report("raw_epoll");
    return 0;
}
