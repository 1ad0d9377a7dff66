// SPDX-License-Identifier: MIT
// The scenarios of guest_test.hpp inside sd-event.
#include "guests/guest_test.hpp"

#include <whorl/adapters/sd_event_guest.hpp>

#include <deque>

namespace {

class SdEvent {
  public:
    SdEvent() { EXPECT_GE(sd_event_new(&event_), 0); }
    ~SdEvent() {
        for (sd_event_source* each : sources_) sd_event_source_disable_unref(each);
        sd_event_unref(event_);
    }
    whorl::Error attach(whorl::Loop& loop) { return guest_.attach(loop, event_); }
    void detach() { guest_.detach(); }
    whorl::Error error() const { return guest_.error(); }
    void watch(int fd, std::function<void()> call) {
        const auto ready = [](sd_event_source*, int, std::uint32_t, void* of) {
            (*static_cast<std::function<void()>*>(of))();
            return 0;
        };
        sd_event_source* source = nullptr;
        sd_event_add_io(event_, &source, fd, EPOLLIN, ready, keep(std::move(call)));
        sources_.push_back(source);
    }
    void after(int ms, std::function<void()> call) {
        const auto due = [](sd_event_source*, std::uint64_t, void* of) {
            (*static_cast<std::function<void()>*>(of))();
            return 0;
        };
        sd_event_source* source = nullptr;
        sd_event_add_time_relative(event_, &source, CLOCK_MONOTONIC,
                                   static_cast<std::uint64_t>(ms) * 1000, 1, due,
                                   keep(std::move(call)));
        sources_.push_back(source);
    }
    // Not sd_event_loop(), which an exit would end for good.
    void run() {
        running_ = true;
        while (running_) sd_event_run(event_, UINT64_MAX);
    }
    void stop() { running_ = false; }
    sd_event* event() const { return event_; }

  private:
    std::function<void()>* keep(std::function<void()> call) {
        return &calls_.emplace_back(std::move(call));
    }
    sd_event* event_ = nullptr;
    bool running_ = false;
    std::deque<std::function<void()>> calls_;
    std::vector<sd_event_source*> sources_;
    whorl::adapters::SdEventGuest guest_;
};

WHORL_GUEST_TESTS(SdEvent)

// sd-event takes a descriptor once.
TEST_P(Guest, a_loop_that_is_attached_already_is_refused) {
    ASSERT_FALSE(host->attach(*loop));
    whorl::adapters::SdEventGuest other;
    EXPECT_EQ(other.attach(*loop, host->event()), whorl::Error::from_errno(EEXIST));
    host->detach();
    ASSERT_FALSE(other.attach(*loop, host->event()));
    other.detach();
    ping_pong(20);
}

}  // namespace
