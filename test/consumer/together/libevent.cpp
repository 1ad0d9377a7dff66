// SPDX-License-Identifier: MIT
// See together.hpp.
#include "together.hpp"

#include <event2/event.h>

bool together::run_other(int fd) {
    event_base* base = event_base_new();
    bool fired = false, seen = false;
    const auto set = [](evutil_socket_t, short, void* flag) { *static_cast<bool*>(flag) = true; };
    event* timer = event_new(base, -1, 0, set, &fired);
    event* bytes = event_new(base, fd, EV_READ, set, &seen);
    const timeval soon{0, 1000};
    event_add(timer, &soon);
    event_add(bytes, nullptr);
    event_base_dispatch(base);
    event_free(timer);
    event_free(bytes);
    event_base_free(base);
    return fired && seen;
}
