// SPDX-License-Identifier: MIT
// The scenarios of guest_test.hpp inside libuv.
#include "guests/guest_test.hpp"

#include <whorl/adapters/libuv_guest.hpp>

#include <deque>

namespace {

class Libuv {
  public:
    Libuv() { uv_loop_init(&loop_); }
    ~Libuv() {
        for (uv_poll_t& each : polls_) uv_close(reinterpret_cast<uv_handle_t*>(&each), nullptr);
        for (uv_timer_t& each : timers_) uv_close(reinterpret_cast<uv_handle_t*>(&each), nullptr);
        uv_run(&loop_, UV_RUN_DEFAULT);
        EXPECT_EQ(uv_loop_close(&loop_), 0) << "a handle was left";
    }
    whorl::Error attach(whorl::Loop& loop) { return guest_.attach(loop, &loop_); }
    void detach() { guest_.detach(); }
    whorl::Error error() const { return guest_.error(); }
    void watch(int fd, std::function<void()> call) {
        uv_poll_t& poll = polls_.emplace_back();
        uv_poll_init(&loop_, &poll, fd);
        poll.data = &calls_.emplace_back(std::move(call));
        uv_poll_start(&poll, UV_READABLE, [](uv_poll_t* of, int, int) {
            (*static_cast<std::function<void()>*>(of->data))();
        });
    }
    void after(int ms, std::function<void()> call) {
        uv_timer_t& timer = timers_.emplace_back();
        uv_timer_init(&loop_, &timer);
        timer.data = &calls_.emplace_back(std::move(call));
        uv_update_time(&loop_);
        uv_timer_start(
            &timer, [](uv_timer_t* of) { (*static_cast<std::function<void()>*>(of->data))(); },
            static_cast<std::uint64_t>(ms), 0);
    }
    void run() { uv_run(&loop_, UV_RUN_DEFAULT); }
    void stop() { uv_stop(&loop_); }
    uv_loop_t* uv() { return &loop_; }

  private:
    uv_loop_t loop_;
    std::deque<std::function<void()>> calls_;
    std::deque<uv_poll_t> polls_;
    std::deque<uv_timer_t> timers_;
    whorl::adapters::LibuvGuest guest_;
};

WHORL_GUEST_TESTS(Libuv)

// libuv takes a descriptor once.
TEST_P(Guest, a_loop_that_is_attached_already_is_refused) {
    ASSERT_FALSE(host->attach(*loop));
    whorl::adapters::LibuvGuest other;
    EXPECT_EQ(other.attach(*loop, host->uv()), whorl::Error::from_errno(EEXIST));
    host->detach();
    expect_alone();
    ASSERT_FALSE(other.attach(*loop, host->uv()));
    other.detach();
    ping_pong(20);
}

}  // namespace
