// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/adapters/guest.hpp>
#include <whorl/allocated.hpp>

#include <uv.h>

#include <new>

// whorl inside a libuv loop; see guest.hpp for the contract.
//
//   whorl::adapters::LibuvGuest guest;
//   if (whorl::Error error = guest.attach(loop, uv_default_loop())) …
//   uv_run(uv_default_loop(), UV_RUN_DEFAULT);
//
// Its two handles keep uv_run() running until detach(), which closes them: libuv frees them in its next
// iteration, so that one must follow before uv_loop_close().
// Limits: libuv's timers count milliseconds, so whorl's fire up to one later than alone.
// Source: docs.libuv.org, uv_poll_t and uv_timer_t.

namespace whorl::adapters {

// Lifetime: from attach() to detach() it stays where it is, and both loops live. Thread: theirs.
class LibuvGuest {
  public:
    LibuvGuest() noexcept = default;
    LibuvGuest(const LibuvGuest&) = delete;
    LibuvGuest& operator=(const LibuvGuest&) = delete;
    ~LibuvGuest() { detach(); }

    // From now on `host` runs `loop`; what is due at once runs before this returns. What was attached before
    // is detached.
    // Errors: as Loop::notify_fd(), Loop::process(); ENOMEM; the errno that libuv refuses with.
    Error attach(Loop& loop, uv_loop_t* host) noexcept {
        detach();
        const Result<int> fd = loop.notify_fd();
        if (!fd) return fd.error();
        handles_ = new (std::nothrow) Handles;
        if (handles_ == nullptr) return Error::from_errno(ENOMEM);
        loop_ = &loop;
        if (const int refused = uv_poll_init(host, &handles_->readable, *fd); refused != 0) {
            delete handles_;  // libuv has nothing of it
            handles_ = nullptr;
            return Error::from_errno(-refused);
        }
        uv_timer_init(host, &handles_->due);
        handles_->readable.data = handles_->due.data = this;
        const int refused = uv_poll_start(
            &handles_->readable, UV_READABLE,
            [](uv_poll_t* poll, int, int) { static_cast<LibuvGuest*>(poll->data)->run(); });
        if (refused != 0) {
            detach();
            return Error::from_errno(-refused);
        }
        run();
        return error_;
    }

    // The two handles outlive this object until libuv lets go of both.
    void detach() noexcept {
        if (handles_ == nullptr) return;
        const auto closed = [](uv_handle_t* handle) {
            auto* handles = static_cast<Handles*>(handle->data);
            if (--handles->open == 0) delete handles;
        };
        handles_->readable.data = handles_->due.data = handles_;
        uv_close(reinterpret_cast<uv_handle_t*>(&handles_->readable), closed);
        uv_close(reinterpret_cast<uv_handle_t*>(&handles_->due), closed);
        handles_ = nullptr;
    }

    // Why Loop::process() has failed, which detaches: the loop can no longer work. None otherwise.
    Error error() const noexcept { return error_; }

  private:
    struct Handles : detail::Allocated<Handles> {
        uv_poll_t readable;
        uv_timer_t due;
        int open = 2;
    };

    void run() {
        error_ = loop_->process();
        if (error_) return detach();
        const Nanoseconds delay = guest_delay(*loop_, std::chrono::milliseconds(1));
        if (delay < Nanoseconds::zero()) return static_cast<void>(uv_timer_stop(&handles_->due));
        const auto fired = [](uv_timer_t* timer) { static_cast<LibuvGuest*>(timer->data)->run(); };
        uv_update_time(handles_->due.loop);  // uv_timer_start() counts from the iteration's start
        uv_timer_start(&handles_->due, fired, static_cast<std::uint64_t>(delay.count() / 1'000'000),
                       0);
    }

    Loop* loop_ = nullptr;
    Handles* handles_ = nullptr;
    Error error_;
};

}  // namespace whorl::adapters
