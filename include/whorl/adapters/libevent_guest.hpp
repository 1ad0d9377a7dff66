// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/adapters/guest.hpp>

#include <event2/event.h>

// whorl inside a libevent base; see guest.hpp for the contract.
//
//   whorl::adapters::LibeventGuest guest;
//   if (whorl::Error error = guest.attach(loop, base)) …
//   event_base_dispatch(base);
//
// Its two events keep event_base_dispatch() running, as any pending event does, until detach().
// Source: event(3), <event2/event.h>.

namespace whorl::adapters {

// Lifetime: from attach() to detach() it stays where it is, and both loops live. Thread: theirs.
class LibeventGuest {
  public:
    LibeventGuest() noexcept = default;
    LibeventGuest(const LibeventGuest&) = delete;
    LibeventGuest& operator=(const LibeventGuest&) = delete;
    ~LibeventGuest() { detach(); }

    // From now on `base` runs `loop`; what is due at once runs before this returns. What was attached before
    // is detached.
    // Errors: as Loop::notify_fd(), Loop::process(); ENOMEM.
    Error attach(Loop& loop, event_base* base) noexcept {
        detach();
        const Result<int> fd = loop.notify_fd();
        if (!fd) return fd.error();
        loop_ = &loop;
        readable_ = event_new(base, *fd, EV_READ | EV_PERSIST, &run, this);
        due_ = event_new(base, -1, 0, &run, this);
        if (readable_ == nullptr || due_ == nullptr || event_add(readable_, nullptr) != 0) {
            detach();
            return Error::from_errno(ENOMEM);
        }
        run(-1, 0, this);
        return error_;
    }

    // The host runs the loop no longer, and has nothing of it. Again: nothing. Not from inside
    // a handler of the loop.
    void detach() noexcept {
        for (event* each : {readable_, due_}) {
            if (each != nullptr) event_free(each);
        }
        readable_ = due_ = nullptr;
    }

    // Why Loop::process() has failed, which detaches: the loop can no longer work. None otherwise.
    Error error() const noexcept { return error_; }

  private:
    static void run(evutil_socket_t, short, void* self) {
        auto& guest = *static_cast<LibeventGuest*>(self);
        guest.error_ = guest.loop_->process();
        if (guest.error_) return guest.detach();
        const Nanoseconds delay = guest_delay(*guest.loop_, std::chrono::microseconds(1));
        if (delay < Nanoseconds::zero()) return static_cast<void>(event_del(guest.due_));
        const std::int64_t us = delay.count() / 1000;
        const timeval time{us / 1'000'000, us % 1'000'000};
        event_add(guest.due_, &time);
    }

    Loop* loop_ = nullptr;
    event* readable_ = nullptr;
    event* due_ = nullptr;
    Error error_;
};

}  // namespace whorl::adapters
