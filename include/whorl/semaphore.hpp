// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/loop.hpp>
#include <whorl/wait.hpp>

#include <cstdint>

// Permits inside a loop: at most so many of something at once.
//
//   whorl::Semaphore connections(100);
//   loop.submit(whorl::Acquire{connections}, whorl::within(5s), handler);
//   … connections.release();

namespace whorl {

// Lifetime: its end ends those who wait with `cancelled`; a loop's end ends those who wait on that loop.
// Thread: the loop's.
class Semaphore {
  public:
    // With so many permits at the beginning; release() may add to them.
    explicit Semaphore(std::uint64_t permits) noexcept
        : queue_([](void* self) noexcept { static_cast<Semaphore*>(self)->serve(); }, this),
          permits_(permits) {}

    // Permits that nobody has.
    std::uint64_t available() const noexcept { return permits_; }
    // Takes permits now. False: there are too few, or others wait, who come first. Cost: a few instructions.
    bool try_acquire(std::uint64_t count = 1) noexcept {
        if (!queue_.empty() || count > permits_) return false;
        permits_ -= count;
        return true;
    }
    // Gives permits back, or new ones; who waits gets them in order. Cost: O(1) for each that gets some.
    void release(std::uint64_t count = 1) noexcept {
        permits_ += count;
        serve();
    }

  private:
    friend struct Acquire;
    void serve() noexcept {
        while (!queue_.empty() && queue_.front_number() <= permits_) {
            permits_ -= queue_.front_number();
            queue_.end_front(Error());
        }
    }

    detail::WaitQueue queue_;
    std::uint64_t permits_;
};

// Waits for permits. First come, first served: one that wants many is not overtaken by those that want few.
// Owns: nothing. Without an error the permits are the handler's, which gives them back by release().
// Calls: the handler once, from dispatch: no error, cancelled (also by the semaphore's end), timed_out.
//   A cancel or deadline that comes after the permits were given changes nothing: the completion has them.
// Errors: as Loop::submit. Limits: more permits than will ever be there are waited for in vain.
// Cost: no allocation.
struct Acquire {
    // The permits were given, or why not.
    struct Done {
        Error error;  // none: they are the handler's
    };
    // So many permits of `given`, all at once.
    explicit Acquire(Semaphore& given, std::uint64_t permits = 1) noexcept
        : semaphore(given), count(permits) {}
    Semaphore& semaphore;  // it is asked in submit
    std::uint64_t count;   // permits, taken together

    static constexpr detail::OpKind kind = detail::OpKind::wait;
    static constexpr bool opens = true;
    static constexpr std::uint64_t target() noexcept { return 0; }
    static Error check() noexcept { return {}; }
    Error open(Loop& loop, detail::OpRecord& record) const noexcept {
        if (semaphore.try_acquire(count)) detail::WaitQueue::pass(loop, record);
        else semaphore.queue_.join(loop, record, count);
        return {};
    }
    static void store(detail::OpRecord&) noexcept {}
    static Done finish(detail::OpRecord&, detail::Delivery& delivery) noexcept {
        return {delivery.error};
    }
};

}  // namespace whorl
