// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/assert.hpp>
#include <whorl/export.hpp>
#include <whorl/loop.hpp>
#include <whorl/remote.hpp>

#include <cerrno>
#include <new>
#include <utility>

// An owner that may travel, of an object that stays: it is used on its home loop only, and destroyed there.
//
//   auto session = whorl::HomePtr<Session>::make(loop, arguments…);   // on its home
//   other.post([session = std::move(*session)](whorl::Loop&) { … });  // kept, and let go, by another thread
//   session.at(loop).go_on();                                         // back home

namespace whorl {

namespace detail {

template <class T>
struct HomeBlock : RemotePost, Allocated<HomeBlock<T>> {
    template <class... Arguments>
    explicit HomeBlock(Arguments&&... arguments) : value(std::forward<Arguments>(arguments)...) {
        next = nullptr;
        run = [](Loop*, RemotePost* post) { delete static_cast<HomeBlock*>(post); };
    }
    T value;
};

WHORL_EXPORT bool home_is(const Remote& home, Loop& loop) noexcept;
WHORL_EXPORT void home_send(const Remote& home, RemotePost& block) noexcept;

}  // namespace detail

// Owns a T. Move-only. Lifetime: any, also longer than the loop's.
// Thread: any one at a time; at() on the loop's own.
//
// The object is destroyed when the owner lets go (reset(), its end, or being assigned to):
//   while the loop is there  in its dispatch, after the posts that came before; never inside the call
//   when it goes before that  with the loop, on the thread that destroys it
//   when it is gone           at once, on the thread that lets go: the object must stand that, as it must
//                             stand that its loop is gone
// It is never leaked.
template <class T>
class HomePtr {
  public:
    HomePtr() noexcept = default;
    HomePtr(HomePtr&& other) noexcept
        : home_(std::move(other.home_)), block_(std::exchange(other.block_, nullptr)) {}
    HomePtr& operator=(HomePtr&& other) noexcept {
        HomePtr moved(std::move(other));
        std::swap(home_, moved.home_);
        std::swap(block_, moved.block_);
        return *this;
    }
    ~HomePtr() { reset(); }

    // Makes a T whose home is this loop. A constructor that throws ends the program.
    // Errors: ENOMEM, EMFILE (as Loop::remote()). Cost: one allocation.
    template <class... Arguments>
    static Result<HomePtr> make(Loop& loop, Arguments&&... arguments) noexcept {
        Result<Remote> home = loop.remote();
        if (!home) return home.error();
        auto* block =
            new (std::nothrow) detail::HomeBlock<T>(std::forward<Arguments>(arguments)...);
        if (block == nullptr) return Error::from_errno(ENOMEM);
        return HomePtr(std::move(home).value(), block);
    }

    // The object. Limits: there is one, `loop` is its home, and this is its thread (asserted, in release
    // builds, too). Cost: a few ns.
    T& at(Loop& loop) const noexcept {
        WHORL_ASSERT(block_ != nullptr);
        WHORL_ASSERT(detail::home_is(home_, loop));
        return block_->value;
    }
    // Lets go. Cost: a Remote::post without its allocation.
    void reset() noexcept {
        if (block_ == nullptr) return;
        detail::home_send(home_, *std::exchange(block_, nullptr));
        home_ = Remote();
    }
    // Whether it owns an object. Thread: as the owner, not only the home's.
    explicit operator bool() const noexcept { return block_ != nullptr; }

  private:
    HomePtr(Remote&& home, detail::HomeBlock<T>* block) noexcept
        : home_(std::move(home)), block_(block) {}

    Remote home_;
    detail::HomeBlock<T>* block_ = nullptr;
};

}  // namespace whorl
