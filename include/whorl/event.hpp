// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/loop.hpp>
#include <whorl/wait.hpp>

#include <cstdint>

// Something that happens inside a loop, and operations that wait for it.
//
//   whorl::Event ready;
//   loop.submit(whorl::AwaitEvent{ready}, whorl::within(1s), handler);
//   ready.set();                              // the handler runs in the next dispatch

namespace whorl {

// Set or not; it stays set until reset(). Lifetime: its end ends those who wait with `cancelled`; a loop's end
// ends those who wait on that loop. Thread: the loop's.
class Event {
  public:
    // Whether set() was called last, and not reset().
    bool is_set() const noexcept { return set_; }
    // Ends everybody's waiting, in the order in which they came. Cost: O(1) for each.
    void set() noexcept {
        set_ = true;
        queue_.end_all(Error());
    }
    // Those who begin to wait from now on wait. Those who were ended are not called back.
    void reset() noexcept { set_ = false; }

  private:
    friend struct AwaitEvent;
    detail::WaitQueue queue_;
    bool set_ = false;
};

// Waits until the event is set; at once when it is.
// Owns: nothing. Calls: the handler once, from dispatch: no error, cancelled (also by the event's end),
//   timed_out. An event that was reset meanwhile has been set nevertheless.
// Errors: as Loop::submit. Cost: no allocation.
struct AwaitEvent {
    struct Done {
        Error error;
    };
    // The event must outlive the submission; what waits is ended by its end.
    explicit AwaitEvent(Event& given) noexcept : event(given) {}
    Event& event;  // what is waited for

    static constexpr detail::OpKind kind = detail::OpKind::wait;
    static constexpr bool opens = true;
    static constexpr std::uint64_t target() noexcept { return 0; }
    static Error check() noexcept { return {}; }
    Error open(Loop& loop, detail::OpRecord& record) const noexcept {
        if (event.set_) detail::WaitQueue::pass(loop, record);
        else event.queue_.join(loop, record);
        return {};
    }
    static void store(detail::OpRecord&) noexcept {}
    static Done finish(detail::OpRecord&, detail::Delivery& delivery) noexcept {
        return {delivery.error};
    }
};

}  // namespace whorl
