// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/export.hpp>
#include <whorl/loop.hpp>

#include <cstdint>

// Ends operations, timers and watches that know nothing of each other.
//
//   whorl::CancelSource shutdown(loop);
//   shutdown.attach(loop.submit(whorl::Recv{socket, …}, handler));
//   shutdown.attach(loop.every(1s, heartbeat));
//   … shutdown.cancel();                       // also what is attached later

namespace whorl {

// What is attached is cancelled as Loop::cancel does it: an operation still has its final completion, a timer
// and a watch are gone. Anything may be attached to any number of sources, and to one several times; what has
// ended is left alone, and forgotten. To wait until all have ended: scope.hpp.
// Lifetime: its end forgets what is attached, which goes on. Not used any more when its loop is gone, but for
// its end. Thread: the loop's.
class WHORL_EXPORT CancelSource {
  public:
    // Cancels on this loop, and on no other.
    explicit CancelSource(Loop& loop) noexcept : core_(&loop.core()) {}
    CancelSource(const CancelSource&) = delete;
    CancelSource& operator=(const CancelSource&) = delete;
    ~CancelSource() { detail::drop_array(attached_); }

    // Attaches what was started; when cancel() has been called, it is cancelled here and now. A timer's or
    // watch's handler is then destroyed before this returns.
    // Errors: ENOMEM: it goes on unattached. Of a Result: also its own error; nothing was started then.
    // Cost: O(1) on average; 32 bytes at most for each that is alive.
    Error attach(Operation operation) noexcept { return attach_handle(operation.value()); }
    // As above.
    Error attach(Timer timer) noexcept { return attach_handle(timer.value()); }
    // As above.
    Error attach(Watch watch) noexcept { return attach_handle(watch.value()); }
    // What submit(), after(), every() and the like have returned, at once; its error is passed on.
    template <class Started>
    Error attach(const Result<Started>& started) noexcept {
        return started ? attach(*started) : started.error();
    }

    // Cancels all that is attached and has not ended. From everywhere, also from a handler of one of them,
    // and while it runs the source may be destroyed by a handler's end. Again: nothing.
    void cancel() noexcept;
    // Whether cancel() has been called; it cannot be taken back.
    bool cancelled() const noexcept { return cancelled_; }

  private:
    Error attach_handle(std::uint64_t handle) noexcept;
    Error make_room() noexcept;

    detail::LoopCore* core_;
    std::uint64_t* attached_ = nullptr;
    std::uint32_t count_ = 0;
    std::uint32_t capacity_ = 0;
    bool cancelled_ = false;
};

}  // namespace whorl
