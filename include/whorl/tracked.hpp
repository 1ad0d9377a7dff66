// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <whorl/export.hpp>

#include <cstdint>
#include <type_traits>
#include <utility>

// Finds objects that are destroyed while handlers still point to them, at the moment when that is done
// and in every build, without a sanitizer.
//
//   class Client : public whorl::Tracked {
//     public:
//       void operator()(whorl::Loop& loop, whorl::Recv::Done done);
//       …  loop.submit(whorl::Recv{socket_, loop.buffer(4096)}, this);
//   };
//
// Destroying a Client while such a handler waits ends the program with a message that says how many do.

namespace whorl {

class Tracked;

namespace detail {

template <class Object>
class TrackedPointer;

// A call of a handler that is under way: its object may be destroyed in it.
struct TrackedCall {
    TrackedCall* outer = nullptr;
    bool gone = false;
};

[[noreturn]] WHORL_EXPORT void tracked_destroyed(std::uint32_t handlers) noexcept;
[[noreturn]] WHORL_EXPORT void tracked_called() noexcept;

}  // namespace detail

// A base class for objects that handlers point to: `this` and bind<…>(this) of operations, timers,
// watches, hooks, posts and closes of a Loop. Captures of lambdas are not seen, nor handlers of Remote and of
// what is composed (files as a whole, trees, resolve).
// Lifetime: an object must outlive its handlers, or its loop go first. In a call of its own handler it may be
// destroyed, when nothing else points to it. Copying and moving leave handlers where they are: with the
// object that they were given.
// Thread: the loop's. Cost: 16 bytes an object; two increments a handler.
class Tracked {
  public:
    // Handlers that point to it and have not had their last call. The one that runs does not count.
    std::uint32_t handlers() const noexcept { return handlers_; }

  protected:
    Tracked() noexcept = default;
    Tracked(const Tracked&) noexcept {}
    // NOLINTNEXTLINE(bugprone-unhandled-self-assignment)
    Tracked& operator=(const Tracked&) noexcept { return *this; }
    // Limits: no handler points to it (asserted).
    ~Tracked() {
        for (detail::TrackedCall* call = running_; call != nullptr; call = call->outer) {
            call->gone = true;
        }
        if (handlers_ != 0) detail::tracked_destroyed(handlers_);
    }

  private:
    template <class Object>
    friend class detail::TrackedPointer;
    mutable detail::TrackedCall* running_ = nullptr;
    mutable std::uint32_t handlers_ = 0;
};

namespace detail {

// A pointer to a Tracked object, as a handler stores it.
template <class Object>
class TrackedPointer {
  public:
    // Implicit: it is built where a plain pointer was given.
    TrackedPointer(Object* object) noexcept
        : object_(object) {  // NOLINT(google-explicit-constructor)
        ++tracked().handlers_;
    }
    TrackedPointer(TrackedPointer&& other) noexcept
        : object_(std::exchange(other.object_, nullptr)) {}
    TrackedPointer(const TrackedPointer&) = delete;
    TrackedPointer& operator=(const TrackedPointer&) = delete;
    TrackedPointer& operator=(TrackedPointer&&) = delete;
    ~TrackedPointer() {
        if (object_ != nullptr) --tracked().handlers_;
    }

    template <class... Arguments>
    auto operator()(Arguments&&... arguments) -> std::invoke_result_t<Object&, Arguments...> {
        Call call(*this);
        return (*call.object)(std::forward<Arguments>(arguments)...);
    }
    template <class Method, class... Arguments>
    auto call(Method method, Arguments&&... arguments)
        -> std::invoke_result_t<Method, Object*, Arguments...> {
        Call call(*this);
        return (call.object->*method)(std::forward<Arguments>(arguments)...);
    }

  private:
    // Takes the pointer's count away during a call, and gives it back when the object is still there: a
    // periodic handler goes on.
    struct Call : TrackedCall {
        TrackedPointer& pointer;
        Object* object;

        explicit Call(TrackedPointer& of) noexcept
            : pointer(of), object(std::exchange(of.object_, nullptr)) {
            if (object == nullptr) tracked_called();
            const Tracked& tracked = *object;
            --tracked.handlers_;
            outer = std::exchange(tracked.running_, this);
        }
        Call(const Call&) = delete;
        Call& operator=(const Call&) = delete;
        ~Call() {
            if (gone) return;
            const Tracked& tracked = *object;
            tracked.running_ = outer;
            ++tracked.handlers_;
            pointer.object_ = object;
        }
    };

    const Tracked& tracked() const noexcept { return *object_; }

    Object* object_;
};

// Whether Handler is a pointer to a tracked object.
template <class Handler, bool = std::is_pointer_v<Handler>>
struct PointsToTracked : std::false_type {};
template <class Handler>
struct PointsToTracked<Handler, true>
    : std::is_base_of<Tracked, std::remove_cv_t<std::remove_pointer_t<Handler>>> {};

}  // namespace detail

}  // namespace whorl
