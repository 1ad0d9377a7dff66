// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/loop.hpp>

#include <hiredis/async.h>

#include <new>

// hiredis on a whorl loop: the context's descriptor is watched as hiredis asks.
//
//   redisAsyncContext* context = redisAsyncConnect("127.0.0.1", 6379);
//   if (whorl::Error error = whorl::adapters::attach_hiredis(loop, context)) …
//   redisAsyncCommand(context, &answered, user, "PING");
//   loop.run();
//
// Owns: a small object that hiredis has freed with the context (its cleanup hook). The loop must
// outlive the context; redisAsyncFree() it before, also after drain(), which ends the watch only.
// Calls: hiredis and so its callbacks, from the loop's dispatch; they may call every function of
// hiredis and of the loop, redisAsyncFree() of their own context included.
// Thread: the loop's.
// Errors: EBUSY (the context has an adapter already), slots_exhausted, loop_closed, invalid_argument (the
// context has failed already: see its err), ENOMEM. A context that is refused stays the caller's to free.
// Limits: as long as the context lives, run() goes on.
// Cost: one watch a context; no allocation after attaching but hiredis's own.
// Source: <hiredis/async.h>.

namespace whorl::adapters {

// See above. Made by attach_hiredis(), and freed by hiredis.
class HiredisEvents : public detail::Allocated<HiredisEvents> {
  public:
    // As attach_hiredis().
    static Error attach(Loop& loop, redisAsyncContext* context) noexcept {
        if (context->ev.data != nullptr) return Error::from_errno(EBUSY);
        auto* events = new (std::nothrow) HiredisEvents(loop, context);
        if (events == nullptr) return Error::from_errno(ENOMEM);
        const Result<Watch> made =
            loop.watch(context->c.fd, Interest::none,
                       [events](Loop&, Watched watched) { events->ready(watched); });
        if (!made) {
            delete events;
            return made.error();
        }
        events->watch_ = *made;
        context->ev.addRead = [](void* self) { of(self).want(Interest::readable, true); };
        context->ev.delRead = [](void* self) { of(self).want(Interest::readable, false); };
        context->ev.addWrite = [](void* self) { of(self).want(Interest::writable, true); };
        context->ev.delWrite = [](void* self) { of(self).want(Interest::writable, false); };
        context->ev.cleanup = [](void* self) { delete &of(self); };
        context->ev.data = events;
        return {};
    }

  private:
    HiredisEvents(Loop& loop, redisAsyncContext* context) noexcept
        : loop_(loop), context_(context) {}
    HiredisEvents(const HiredisEvents&) = delete;
    HiredisEvents& operator=(const HiredisEvents&) = delete;
    ~HiredisEvents() {
        loop_.cancel(watch_);
        if (gone_ != nullptr) *gone_ = true;
    }
    static HiredisEvents& of(void* self) noexcept { return *static_cast<HiredisEvents*>(self); }

    void want(Interest bit, bool on) noexcept {
        const auto bits = static_cast<unsigned>(wanted_), mask = static_cast<unsigned>(bit);
        const auto wanted = static_cast<Interest>(on ? bits | mask : bits & ~mask);
        if (wanted == wanted_) return;
        wanted_ = wanted;
        static_cast<void>(loop_.modify(watch_, wanted));  // gone only when the loop was drained
    }

    // Each call may free the context, and this object with it.
    void ready(const Watched& watched) {
        bool gone = false;
        gone_ = &gone;
        if (watched.error || watched.readable) redisAsyncHandleRead(context_);
        if (!gone && watched.writable) redisAsyncHandleWrite(context_);
        if (!gone) gone_ = nullptr;
    }

    Loop& loop_;
    redisAsyncContext* context_;
    Watch watch_;
    Interest wanted_ = Interest::none;
    bool* gone_ = nullptr;  // a flag of ready(), while that runs
};

// Watches what `context` is connected to. Owns, errors: see above.
inline Error attach_hiredis(Loop& loop, redisAsyncContext* context) noexcept {
    return HiredisEvents::attach(loop, context);
}

}  // namespace whorl::adapters
