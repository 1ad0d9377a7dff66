// SPDX-License-Identifier: MIT
// A UDP echo server on libevent: one raw persistent event, no lock in the base. Bufferevents do not do
// UDP.
#include <event2/event.h>

#include "udp.hpp"

int main(int argc, char** argv) {
    const bench::Options options = bench::parse_options(argc, argv, {});
    const int fd = bench::bind_udp(options), stop_fd = bench::stop_descriptor();
    event_config* config = event_config_new();
    (void)event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    event_base* base = event_base_new_with_config(config);
    event_config_free(config);
    if (base == nullptr) bench::fail("event_base_new_with_config", ENOSYS);
    bench::Datagrams datagrams;
    event* ready = event_new(
        base, fd, EV_READ | EV_PERSIST,
        [](evutil_socket_t socket, short, void* user) {
            static_cast<bench::Datagrams*>(user)->ready(socket);
        },
        &datagrams);
    event* stop = event_new(
        base, stop_fd, EV_READ,
        [](evutil_socket_t, short, void* user) {
            (void)event_base_loopbreak(static_cast<event_base*>(user));
        },
        base);
    (void)event_add(ready, nullptr);
    (void)event_add(stop, nullptr);
    bench::announce(fd);
    if (event_base_dispatch(base) < 0) bench::fail("event_base_dispatch", errno);
    event_free(ready);
    event_free(stop);
    event_base_free(base);
    bench::print_report("libevent");
    return 0;
}
