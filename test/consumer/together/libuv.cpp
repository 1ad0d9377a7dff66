// SPDX-License-Identifier: MIT
// See together.hpp.
#include "together.hpp"

#include <uv.h>

bool together::run_other(int fd) {
    uv_loop_t loop;
    uv_timer_t timer;
    uv_poll_t bytes;
    bool fired = false, seen = false;
    uv_loop_init(&loop);
    uv_timer_init(&loop, &timer);
    uv_poll_init(&loop, &bytes, fd);
    timer.data = &fired;
    bytes.data = &seen;
    uv_timer_start(
        &timer,
        [](uv_timer_t* of) {
            *static_cast<bool*>(of->data) = true;
            uv_close(reinterpret_cast<uv_handle_t*>(of), nullptr);
        },
        1, 0);
    uv_poll_start(&bytes, UV_READABLE, [](uv_poll_t* of, int, int) {
        *static_cast<bool*>(of->data) = true;
        uv_close(reinterpret_cast<uv_handle_t*>(of), nullptr);
    });
    uv_run(&loop, UV_RUN_DEFAULT);
    return uv_loop_close(&loop) == 0 && fired && seen;
}
