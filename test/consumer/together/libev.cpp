// SPDX-License-Identifier: MIT
// See together.hpp. The libev of the program and the one that whorl loads are the same library.
#include "together.hpp"

#include <ev.h>

bool together::run_other(int fd) {
    struct ev_loop* loop = ev_loop_new(EVFLAG_AUTO);
    bool fired = false, seen = false;
    ev_timer timer;
    ev_io bytes;
    ev_timer_init(
        &timer, [](struct ev_loop*, ev_timer* of, int) { *static_cast<bool*>(of->data) = true; },
        0.001, 0.0);
    ev_io_init(
        &bytes,
        [](struct ev_loop* inner, ev_io* of, int) {
            *static_cast<bool*>(of->data) = true;
            ev_io_stop(inner, of);
        },
        fd, EV_READ);
    timer.data = &fired;
    bytes.data = &seen;
    ev_timer_start(loop, &timer);
    ev_io_start(loop, &bytes);
    ev_run(loop, 0);
    ev_loop_destroy(loop);
    return fired && seen;
}
