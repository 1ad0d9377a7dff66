// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/assert.hpp>
#include <whorl/export.hpp>
#include <whorl/loop.hpp>

#include <cerrno>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

// One object of a kind for each loop.
//
//   whorl::PerLoop<Cache> caches;
//   auto cores = whorl::CoreSet::start(options, [&](whorl::Loop& loop, std::uint32_t) -> whorl::Error {
//       return caches.make(loop, [](whorl::Loop& own) { return Cache(own, 4096); });
//   });
//   …
//   caches.at(loop).look_up(key);                      // in any handler: its own loop's, without a lock

namespace whorl {

namespace detail {

// What a loop keeps until its end.
struct WHORL_EXPORT LoopLocal : Allocated<LoopLocal> {
    LoopLocal() noexcept = default;
    LoopLocal(const LoopLocal&) = delete;
    LoopLocal& operator=(const LoopLocal&) = delete;
    virtual ~LoopLocal() = default;
    LoopLocal* older = nullptr;  // made before it on the same loop
    std::uint32_t key = 0;
};

template <class T>
struct LoopLocalOf final : LoopLocal {
    template <class Factory>
    LoopLocalOf(Factory& factory, Loop& loop) : value(factory(loop)) {}
    T value;
};

inline constexpr std::uint32_t local_keys_max = 256;

// A key is taken once and had by its PerLoop and by each object.
WHORL_EXPORT std::uint32_t local_key_take() noexcept;  // local_keys_max: there is none
WHORL_EXPORT void local_key_drop(std::uint32_t key) noexcept;
WHORL_EXPORT Error local_prepare(Loop& loop, std::uint32_t key) noexcept;
WHORL_EXPORT void local_keep(Loop& loop, std::uint32_t key, LoopLocal& made) noexcept;
WHORL_EXPORT LoopLocal* local_find(Loop& loop, std::uint32_t key) noexcept;
WHORL_EXPORT LoopLocal* local_take(Loop& loop, std::uint32_t key) noexcept;

}  // namespace detail

// Names the objects; they belong to their loops. Lifetime: any; what was made stays until its loop's end.
// Thread: any, all members, each for the loop that is this thread's own (asserted, in release builds, too).
// Limits: 256 at once in a process.
template <class T>
class PerLoop {
  public:
    PerLoop() noexcept : key_(detail::local_key_take()) {}
    PerLoop(const PerLoop&) = delete;
    PerLoop& operator=(const PerLoop&) = delete;
    ~PerLoop() {
        if (key_ != detail::local_keys_max) detail::local_key_drop(key_);
    }

    // Makes this loop's object: what `factory(Loop&)` returns, in place, so that T need not move.
    // It is destroyed by destroy(), or with the loop: by the thread that does that, when no operation and no
    // handler is left, the newest object first. It cannot use the loop then, but what T has of it (buffers,
    // mailboxes, semaphores, scopes) may end there.
    // Errors: invalid_argument (it has one already), slots_exhausted (256 PerLoops), ENOMEM; then the
    //   factory was not called. Cost: one allocation.
    template <class Factory>
    Error make(Loop& loop, Factory&& factory) const noexcept {
        static_assert(std::is_same_v<std::invoke_result_t<Factory&, Loop&>, T>,
                      "a factory returns the object");
        using Local = detail::LoopLocalOf<T>;
        if (Error error = detail::local_prepare(loop, key_)) return error;
        auto* made = new (std::nothrow) Local(factory, loop);
        if (made == nullptr) return Error::from_errno(ENOMEM);
        detail::local_keep(loop, key_, *made);
        return {};
    }
    // This loop's object; null: it has none. Cost: O(1), a few ns.
    T* find(Loop& loop) const noexcept {
        detail::LoopLocal* local = detail::local_find(loop, key_);
        return local == nullptr ? nullptr : &static_cast<detail::LoopLocalOf<T>*>(local)->value;
    }
    // The same where there must be one (asserted).
    T& at(Loop& loop) const noexcept {
        T* found = find(loop);
        WHORL_ASSERT(found != nullptr);
        return *found;
    }
    // Destroys this loop's object, if it has one.
    void destroy(Loop& loop) const noexcept { delete detail::local_take(loop, key_); }

  private:
    std::uint32_t key_;
};

}  // namespace whorl
