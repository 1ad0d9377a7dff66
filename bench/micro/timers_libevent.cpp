// SPDX-License-Identifier: MIT
// libevent's timers: an event in a binary heap of pointers; no lock in the base. The events' memory is
// one array of event_get_struct_event_size() each, as event_assign allows.
#include <event2/event.h>
#include <event2/event_struct.h>

#include "timers.hpp"

namespace {

class Libevent {
  public:
    static constexpr const char* name = "libevent";
    explicit Libevent(std::size_t count) : timers_(count) {
        event_config* config = event_config_new();
        (void)event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
        base_ = event_base_new_with_config(config);
        event_config_free(config);
        std::uintptr_t index = 0;
        for (event& timer : timers_) {
            (void)evtimer_assign(
                &timer, base_,
                [](evutil_socket_t, short, void* user) {
                    bench::fired += reinterpret_cast<std::uintptr_t>(user);
                },
                reinterpret_cast<void*>(index++));
        }
    }
    Libevent(const Libevent&) = delete;
    Libevent& operator=(const Libevent&) = delete;
    ~Libevent() {
        for (event& timer : timers_) (void)event_del(&timer);
        event_base_free(base_);
    }
    void arm(std::size_t i, std::uint64_t delay_ms) {
        const timeval delay{static_cast<time_t>(delay_ms / 1000),
                            static_cast<suseconds_t>(delay_ms % 1000 * 1000)};
        (void)event_add(&timers_[i], &delay);
    }
    void cancel(std::size_t i) { (void)event_del(&timers_[i]); }
    void push(std::size_t i, std::uint64_t delay_ms) { arm(i, delay_ms); }
    void step() { (void)event_base_loop(base_, EVLOOP_NONBLOCK); }

  private:
    event_base* base_ = nullptr;
    std::vector<event> timers_;
};

}  // namespace

WHORL_BENCH_TIMERS_MAIN(Libevent)
