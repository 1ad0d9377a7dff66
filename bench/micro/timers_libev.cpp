// SPDX-License-Identifier: MIT
// libev's timers: an intrusive ev_timer and an entry of a 4-heap.
#include <ev.h>

#include "timers.hpp"

namespace {

class Libev {
  public:
    static constexpr const char* name = "libev";
    explicit Libev(std::size_t count)
        : loop_(ev_loop_new(EVFLAG_NOENV | EVBACKEND_EPOLL)), timers_(count) {
        std::uintptr_t index = 0;
        for (ev_timer& timer : timers_) {
            ev_init(&timer, [](struct ev_loop*, ev_timer* expired, int) {
                bench::fired += reinterpret_cast<std::uintptr_t>(expired->data);
            });
            timer.data = reinterpret_cast<void*>(index++);
        }
    }
    Libev(const Libev&) = delete;
    Libev& operator=(const Libev&) = delete;
    ~Libev() { ev_loop_destroy(loop_); }
    void arm(std::size_t i, std::uint64_t delay_ms) {
        ev_timer_set(&timers_[i], static_cast<double>(delay_ms) * 1e-3, 0.);
        ev_timer_start(loop_, &timers_[i]);
    }
    void cancel(std::size_t i) { ev_timer_stop(loop_, &timers_[i]); }
    void push(std::size_t i, std::uint64_t delay_ms) {
        timers_[i].repeat = static_cast<double>(delay_ms) * 1e-3;
        ev_timer_again(loop_, &timers_[i]);
    }
    void step() { ev_run(loop_, EVRUN_NOWAIT); }

  private:
    struct ev_loop* loop_;
    std::vector<ev_timer> timers_;
};

}  // namespace

WHORL_BENCH_TIMERS_MAIN(Libev)
