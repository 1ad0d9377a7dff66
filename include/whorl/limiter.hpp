// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/assert.hpp>
#include <whorl/loop.hpp>
#include <whorl/wait.hpp>

#include <cstdint>
#include <utility>

// At most so many at once, at most so many who wait, and the rest refused. As semaphore.hpp, whose permits are
// counted by hand; here they are given back by their end.
//
//   whorl::Limiter queries(32, 1000);                       // 32 run, 1000 wait
//   auto waiting = loop.submit(whorl::Enter{queries}, whorl::within(2s),
//                              [](whorl::Loop&, whorl::Enter::Done done) {
//       if (done.error) return give_up(done.error);         // timed_out
//       run(std::move(done.permit));                        // its end lets the next one in
//   });
//   if (waiting.error() == whorl::Error::queue_full) …      // busy: say so at once

namespace whorl {

class Limiter;

// The right to run. Move-only. Lifetime: its end gives it back; within that of its Limiter.
// Thread: the Limiter's.
class Permit {
  public:
    Permit() noexcept = default;
    Permit(Permit&& other) noexcept : limiter_(std::exchange(other.limiter_, nullptr)) {}
    Permit& operator=(Permit&& other) noexcept {
        Permit moved(std::move(other));
        std::swap(limiter_, moved.limiter_);
        return *this;
    }
    ~Permit() { release(); }

    // Gives it back; who has waited longest gets it, and is called in the next dispatch. Again: nothing.
    void release() noexcept;
    // Whether it has a permit: not after release(), or when try_enter() had none.
    explicit operator bool() const noexcept { return limiter_ != nullptr; }

  private:
    friend class Limiter;
    friend struct Enter;
    explicit Permit(Limiter* limiter) noexcept : limiter_(limiter) {}
    Limiter* limiter_ = nullptr;
};

// Lifetime: it outlives its permits, and so those who wait (asserted): cancel those, as with a Scope. A loop's
// end ends those who wait on it, and gives back what was on its way to a handler. Thread: the loop's.
class Limiter {
  public:
    // Limits: a permit at least (asserted). With `waiting_max` 0 nobody waits.
    explicit Limiter(std::uint32_t permits, std::uint32_t waiting_max = UINT32_MAX) noexcept
        : queue_([](void* self) noexcept { --static_cast<Limiter*>(self)->waiting_; }, this),
          given_{{nullptr, &take_back}, this}, permits_(permits), free_(permits),
          waiting_max_(waiting_max) {
        WHORL_ASSERT(permits > 0);
    }
    Limiter(const Limiter&) = delete;
    Limiter& operator=(const Limiter&) = delete;
    ~Limiter() { WHORL_ASSERT(free_ == permits_); }

    // A permit now, or none: all are out. Who waits is never overtaken: then all are out.
    Permit try_enter() noexcept {
        if (free_ == 0) return {};
        --free_;
        return Permit(this);
    }
    // Permits that nobody has; 0 while anybody waits.
    std::uint32_t available() const noexcept { return free_; }
    // Operations that wait, `waiting_max` at most.
    std::uint32_t waiting() const noexcept { return waiting_; }

  private:
    friend class Permit;
    friend struct Enter;
    // A permit on its way to a handler. All are alike, so one stands for each of them.
    struct Given : detail::Carried {
        Limiter* limiter;
    };
    static void take_back(detail::Carried* given) noexcept {
        static_cast<Given*>(given)->limiter->give_back();
    }
    void give_back() noexcept {
        if (queue_.empty()) {
            WHORL_ASSERT(free_ < permits_);
            ++free_;
            return;
        }
        WHORL_ASSERT(waiting_ > 0 && free_ == 0);
        --waiting_;
        queue_.end_front(Error(), &given_);
    }

    detail::WaitQueue queue_;
    Given given_;
    std::uint32_t permits_;
    std::uint32_t free_;  // 0 while anybody waits
    std::uint32_t waiting_ = 0;
    std::uint32_t waiting_max_;
};

inline void Permit::release() noexcept {
    if (limiter_ != nullptr) std::exchange(limiter_, nullptr)->give_back();
}

// Waits for a permit, first come, first served.
// Owns: nothing. Calls: the handler once, from dispatch: with a permit and no error, or cancelled,
//   timed_out. A cancel or deadline that comes after the permit was given changes nothing.
//   When the loop ends before the handler was called, the permit goes to the next.
// Errors: as Loop::submit; queue_full from submit: all permits are out, and waiting_max wait.
// Cost: no allocation.
struct Enter {
    // A permit, or why there is none.
    struct Done {
        Error error;    // none with a permit
        Permit permit;  // the handler's, to keep as long as it runs
    };
    // One permit of `given`.
    explicit Enter(Limiter& given) noexcept : limiter(given) {}
    Limiter& limiter;  // it is asked in submit

    static constexpr detail::OpKind kind = detail::OpKind::wait;
    static constexpr bool opens = true;
    static constexpr std::uint64_t target() noexcept { return 0; }
    static Error check() noexcept { return {}; }
    Error open(Loop& loop, detail::OpRecord& record) const noexcept {
        if (limiter.free_ > 0) {
            --limiter.free_;
            detail::WaitQueue::pass(loop, record, Error(), &limiter.given_);
            return {};
        }
        if (limiter.waiting_ >= limiter.waiting_max_) return Error::queue_full;
        limiter.queue_.join(loop, record);
        ++limiter.waiting_;
        return {};
    }
    static void store(detail::OpRecord&) noexcept {}
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        detail::Carried* given = detail::WaitQueue::take(record);
        Limiter* limiter =
            given == nullptr ? nullptr : static_cast<Limiter::Given*>(given)->limiter;
        return {delivery.error, Permit(limiter)};
    }
};

}  // namespace whorl
