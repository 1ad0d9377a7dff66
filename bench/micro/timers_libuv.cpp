// SPDX-License-Identifier: MIT
// libuv's timers: a uv_timer_t in a binary heap of pointers.
#include <uv.h>

#include "timers.hpp"

namespace {

class Libuv {
  public:
    static constexpr const char* name = "libuv";
    explicit Libuv(std::size_t count) : timers_(count) {
        uv_loop_init(&loop_);
        std::uintptr_t index = 0;
        for (uv_timer_t& timer : timers_) {
            uv_timer_init(&loop_, &timer);
            timer.data = reinterpret_cast<void*>(index++);
        }
    }
    Libuv(const Libuv&) = delete;
    Libuv& operator=(const Libuv&) = delete;
    ~Libuv() {
        for (uv_timer_t& timer : timers_) uv_close(reinterpret_cast<uv_handle_t*>(&timer), nullptr);
        uv_run(&loop_, UV_RUN_DEFAULT);
        uv_loop_close(&loop_);
    }
    void arm(std::size_t i, std::uint64_t delay_ms) {
        uv_timer_start(
            &timers_[i],
            [](uv_timer_t* timer) {
                bench::fired += reinterpret_cast<std::uintptr_t>(timer->data);
            },
            delay_ms, 0);
    }
    void cancel(std::size_t i) { uv_timer_stop(&timers_[i]); }
    void push(std::size_t i, std::uint64_t delay_ms) { arm(i, delay_ms); }
    void step() { uv_run(&loop_, UV_RUN_NOWAIT); }

  private:
    uv_loop_t loop_;
    std::vector<uv_timer_t> timers_;
};

}  // namespace

WHORL_BENCH_TIMERS_MAIN(Libuv)
