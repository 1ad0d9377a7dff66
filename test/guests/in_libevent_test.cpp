// SPDX-License-Identifier: MIT
// The scenarios of guest_test.hpp inside libevent.
#include "guests/guest_test.hpp"

#include <whorl/adapters/libevent_guest.hpp>

#include <deque>

namespace {

// libevent's memory, before it takes any: the allocation that is so many away is refused.
int refused_in = -1;
const bool has_its_own = [] {
    event_set_mem_functions(
        [](std::size_t size) { return refused_in-- == 0 ? nullptr : std::malloc(size); },
        [](void* memory, std::size_t size) {
            return refused_in-- == 0 ? nullptr : std::realloc(memory, size);
        },
        [](void* memory) { std::free(memory); });
    return true;
}();

class Libevent {
  public:
    ~Libevent() {
        for (event* each : events_) event_free(each);
        event_base_free(base_);
    }
    whorl::Error attach(whorl::Loop& loop) { return guest_.attach(loop, base_); }
    void detach() { guest_.detach(); }
    whorl::Error error() const { return guest_.error(); }
    void watch(int fd, std::function<void()> call) {
        add(event_new(base_, fd, EV_READ | EV_PERSIST, &run_call, keep(std::move(call))), nullptr);
    }
    void after(int ms, std::function<void()> call) {
        const timeval time{ms / 1000, ms % 1000 * 1000};
        add(event_new(base_, -1, 0, &run_call, keep(std::move(call))), &time);
    }
    void run() { event_base_dispatch(base_); }
    void stop() { event_base_loopbreak(base_); }

  private:
    static void run_call(evutil_socket_t, short, void* call) {
        (*static_cast<std::function<void()>*>(call))();
    }
    std::function<void()>* keep(std::function<void()> call) {
        return &calls_.emplace_back(std::move(call));
    }
    void add(event* made, const timeval* time) {
        event_add(made, time);
        events_.push_back(made);
    }
    event_base* base_ = event_base_new();
    std::deque<std::function<void()>> calls_;
    std::vector<event*> events_;
    whorl::adapters::LibeventGuest guest_;
};

WHORL_GUEST_TESTS(Libevent)

TEST_P(Guest, libevents_memory_may_be_refused) {
    ASSERT_TRUE(has_its_own);
    int refusals = 0;
    for (;; ++refusals) {
        refused_in = refusals;
        const whorl::Error error = host->attach(*loop);
        refused_in = -1;
        if (!error) break;
        EXPECT_EQ(error, whorl::Error::from_errno(ENOMEM));
        expect_alone();
    }
    EXPECT_GE(refusals, 2) << "two events are made";
    ping_pong(20);
}

}  // namespace
