// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/export.hpp>
#include <whorl/handler.hpp>
#include <whorl/loop.hpp>

#include <new>
#include <type_traits>
#include <utility>

namespace whorl {

namespace detail {

struct RemoteState;

// One posted handler on its way: made by the posting thread, run and freed by the loop.
struct RemotePost {
    RemotePost* next;
    void (*run)(Loop* loop, RemotePost* post);  // loop null: free without calling
};

template <class Stored>
struct RemotePostOf : RemotePost, Allocated<RemotePostOf<Stored>> {
    Stored handler;
    explicit RemotePostOf(Stored&& stored) noexcept : handler(std::move(stored)) {
        next = nullptr;
        run = [](Loop* loop, RemotePost* post) {
            auto* self = static_cast<RemotePostOf*>(post);
            if (loop == nullptr) {
                delete self;
                return;
            }
            Stored moved(std::move(self->handler));
            delete self;
            handler_call(moved, *loop);
        };
    }
};

}  // namespace detail

// A thread-safe, weak way into a loop, from Loop::remote(). Lifetime: copies are independent of each
// other and of the loop; a Remote whose loop is gone answers false. Thread: any, all members.
class WHORL_EXPORT Remote {
  public:
    Remote() noexcept = default;
    Remote(const Remote& other) noexcept;
    Remote(Remote&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    Remote& operator=(Remote other) noexcept {
        std::swap(state_, other.state_);
        return *this;
    }
    ~Remote();

    // Runs `handler(Loop&)` on the loop's thread, in order for each posting thread.
    // Owns: the handler; when it answers false it has been destroyed without a call, or not been taken.
    // Returns false once the loop is gone (or going), or when memory is exhausted. True: it will run,
    // or be destroyed with the loop. Cost: one allocation and one compare-and-swap; a system call only
    // when the loop sleeps and nobody has woken it yet.
    template <class Handler>
    bool post(Handler&& handler) const noexcept {
        using Stored = std::decay_t<Handler>;
        detail::handler_check<Stored, Loop&>();
        if (!alive()) return false;
        auto* post =
            new (std::nothrow) detail::RemotePostOf<Stored>(Stored(std::forward<Handler>(handler)));
        return post != nullptr && push(post);
    }
    // Asks the loop to stop, as Loop::stop() does. False once it is gone.
    bool stop() const noexcept;
    // False once the loop is gone; true may be out of date by the time it is read.
    bool alive() const noexcept;

  private:
    friend struct detail::RemoteState;
    friend class Loop;
    explicit Remote(detail::RemoteState* state) noexcept : state_(state) {}
    bool push(detail::RemotePost* post) const noexcept;

    detail::RemoteState* state_ = nullptr;
};

}  // namespace whorl
