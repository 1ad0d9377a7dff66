// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/adapters/guest.hpp>
#include <whorl/allocated.hpp>

#include <asio/io_context.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/steady_timer.hpp>

#include <memory>

// whorl inside an Asio io_context that one thread runs; see guest.hpp for the contract.
//
//   whorl::adapters::AsioGuest guest;
//   if (whorl::Error error = guest.attach(loop, context)) …
//   context.run();
//
// Its two waits keep run() running until detach(). What a handler of the guest throws leaves run(), as
// with Asio's own handlers; run() may be called again.
// Source: think-async.com, posix::descriptor::async_wait.

namespace whorl::adapters {

// See above and guest.hpp. Not movable.
class AsioGuest {
  public:
    AsioGuest() noexcept = default;
    AsioGuest(const AsioGuest&) = delete;
    AsioGuest& operator=(const AsioGuest&) = delete;
    ~AsioGuest() { detach(); }

    // Runs `loop` inside of `context`. Errors: see guest.hpp; memory exhausted is std::bad_alloc here.
    Error attach(Loop& loop, asio::io_context& context) {
        detach();
        const Result<int> fd = loop.notify_fd();
        if (!fd) return fd.error();
        state_ = std::allocate_shared<State>(detail::HookAllocator<State>(), loop, context);
        asio::error_code refused;
        state_->readable.assign(*fd, refused);
        if (refused) {
            state_.reset();
            return Error::from_errno(refused.value());
        }
        State::wait(state_);
        return state_->run(state_) ? Error() : state_->error;
    }

    // Waits that are cancelled here are called by the context once more, and do nothing.
    void detach() noexcept {
        if (state_ != nullptr) state_->end();
    }

    // Why the guest has stopped; none while it runs.
    Error error() const noexcept { return state_ != nullptr ? state_->error : Error(); }

  private:
    struct State {
        State(Loop& guest, asio::io_context& context)
            : loop(guest), readable(context), due(context) {}

        static void wait(const std::shared_ptr<State>& self) {
            self->readable.async_wait(asio::posix::stream_descriptor::wait_read,
                                      [self](asio::error_code stopped) {
                                          if (stopped || self->ended) return;
                                          wait(self);
                                          self->run(self);
                                      });
        }
        bool run(const std::shared_ptr<State>& self) {
            try {
                error = loop.process();
            } catch (...) {
                aim(self);  // what the handler left over is due
                throw;
            }
            if (error) end();
            else aim(self);
            return !error;
        }
        void aim(const std::shared_ptr<State>& self) {
            const Nanoseconds delay = guest_delay(loop, Nanoseconds(1));
            if (delay < Nanoseconds::zero()) return static_cast<void>(due.cancel());
            due.expires_after(delay);
            due.async_wait([self](asio::error_code stopped) {
                if (!stopped && !self->ended) self->run(self);
            });
        }
        void end() noexcept {
            if (ended) return;
            ended = true;
            readable.release();  // the descriptor stays the loop's; its wait is cancelled
            due.cancel();
        }

        Loop& loop;
        asio::posix::stream_descriptor readable;
        asio::steady_timer due;
        bool ended = false;
        Error error;
    };

    std::shared_ptr<State> state_;
};

}  // namespace whorl::adapters
