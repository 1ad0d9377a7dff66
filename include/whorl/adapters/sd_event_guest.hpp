// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/adapters/guest.hpp>

#include <systemd/sd-event.h>

#include <ctime>

// whorl inside an sd-event loop; see guest.hpp for the contract.
//
//   whorl::adapters::SdEventGuest guest;
//   if (whorl::Error error = guest.attach(loop, event)) …
//   sd_event_loop(event);
//
// Limits: the timer's accuracy is 1 µs; sd-event's default of 250 ms would delay every deadline.
// Source: sd-event(3), sd_event_add_io(3), sd_event_add_time(3).

namespace whorl::adapters {

// Lifetime: from attach() to detach() it stays where it is, and both loops live. Thread: theirs.
class SdEventGuest {
  public:
    SdEventGuest() noexcept = default;
    SdEventGuest(const SdEventGuest&) = delete;
    SdEventGuest& operator=(const SdEventGuest&) = delete;
    ~SdEventGuest() { detach(); }

    // From now on `event` runs `loop`; what is due at once runs before this returns. What was attached before
    // is detached.
    // Errors: as Loop::notify_fd(), Loop::process(); the errno that sd-event refuses with.
    Error attach(Loop& loop, sd_event* event) noexcept {
        detach();
        const Result<int> fd = loop.notify_fd();
        if (!fd) return fd.error();
        loop_ = &loop;
        const auto readable = [](sd_event_source*, int, std::uint32_t, void* self) {
            return static_cast<SdEventGuest*>(self)->run();
        };
        const auto due = [](sd_event_source*, std::uint64_t, void* self) {
            return static_cast<SdEventGuest*>(self)->run();
        };
        int refused = sd_event_add_io(event, &readable_, *fd, EPOLLIN, readable, this);
        if (refused >= 0)
            refused = sd_event_add_time(event, &due_, CLOCK_MONOTONIC, 0, 1, due, this);
        if (refused < 0) {
            detach();
            return Error::from_errno(-refused);
        }
        run();
        return error_;
    }

    // The host runs the loop no longer, and has nothing of it. Again: nothing. Not from inside
    // a handler of the loop.
    void detach() noexcept {
        readable_ = sd_event_source_disable_unref(readable_);
        due_ = sd_event_source_disable_unref(due_);
    }

    // Why Loop::process() has failed, which detaches: the loop can no longer work. None otherwise.
    Error error() const noexcept { return error_; }

  private:
    // A negative answer would only disable the source and not tell the program.
    int run() {
        error_ = loop_->process();
        if (error_) {
            detach();
            return 0;
        }
        const Nanoseconds delay = guest_delay(*loop_, std::chrono::microseconds(1));
        if (delay < Nanoseconds::zero()) return sd_event_source_set_enabled(due_, SD_EVENT_OFF);
        const Nanoseconds at = clock_now().time_since_epoch() + delay;
        sd_event_source_set_time(due_, static_cast<std::uint64_t>(at.count() / 1000) + 1);
        return sd_event_source_set_enabled(due_, SD_EVENT_ONESHOT);
    }

    Loop* loop_ = nullptr;
    sd_event_source* readable_ = nullptr;
    sd_event_source* due_ = nullptr;
    Error error_;
};

}  // namespace whorl::adapters
