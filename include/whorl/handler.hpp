// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/tracked.hpp>

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

// What may stand where an operation asks for its handler:
//
//   - any move-only callable of at most 48 bytes: a lambda, a function pointer, a functor;
//   - a pointer to an object with an overload for the event: `this`;
//   - bind<&Client::connected>(this): one member function of an object;
//   - boxed(callable): a larger callable, kept on the heap (one allocation, on purpose).
//
// A handler lives inside its operation's slot. It is destroyed when it has run for the last time, or
// when its loop goes without calling it.

namespace whorl {

// The room for a handler inside an operation's slot.
inline constexpr std::size_t handler_size_max = 48;
// And what it may be aligned to.
inline constexpr std::size_t handler_align_max = 16;

// Calls one member function of an object: `bind<&Client::connected>(this)`.
// Owns: nothing; the object must outlive the operation. Cost: one pointer, no allocation.
template <auto Method, class Object>
class Bound {
  public:
    // Owns: nothing. Null is not allowed.
    constexpr explicit Bound(Object* object) noexcept : object_(object) {}
    // Calls it with what the event brings.
    template <class... Arguments>
    auto operator()(Arguments&&... arguments) const
        -> std::invoke_result_t<decltype(Method), Object*, Arguments...> {
        return (object_->*Method)(std::forward<Arguments>(arguments)...);
    }

  private:
    Object* object_;
};

namespace detail {
// The same for an object whose handlers are counted (tracked.hpp).
template <auto Method, class Object>
class TrackedBound {
  public:
    explicit TrackedBound(Object* object) noexcept : object_(object) {}
    template <class... Arguments>
    auto operator()(Arguments&&... arguments)
        -> std::invoke_result_t<decltype(Method), Object*, Arguments...> {
        return object_.call(Method, std::forward<Arguments>(arguments)...);
    }

  private:
    TrackedPointer<Object> object_;
};

template <auto Method, class Object>
using BoundOf = std::conditional_t<PointsToTracked<Object*>::value, TrackedBound<Method, Object>,
                                   Bound<Method, Object>>;
}  // namespace detail

// Names the member function in angle brackets and the object in round ones.
template <auto Method, class Object>
constexpr detail::BoundOf<Method, Object> bind(Object* object) noexcept {
    return detail::BoundOf<Method, Object>(object);
}

// A callable kept on the heap. Made by boxed().
template <class Callable>
class Boxed {
  public:
    // Takes it over. Cost: one allocation.
    explicit Boxed(Callable&& callable)
        : callable_(detail::make_object<Callable>(std::move(callable))) {
        if (callable_ == nullptr) detail::object_exhausted();
    }
    Boxed(Boxed&& other) noexcept : callable_(std::exchange(other.callable_, nullptr)) {}
    Boxed& operator=(Boxed&&) = delete;
    Boxed(const Boxed&) = delete;
    Boxed& operator=(const Boxed&) = delete;
    ~Boxed() { detail::drop_object(callable_); }
    // Calls it with what the event brings. Not once moved from.
    template <class... Arguments>
    auto operator()(Arguments&&... arguments) -> std::invoke_result_t<Callable&, Arguments...> {
        return (*callable_)(std::forward<Arguments>(arguments)...);
    }

  private:
    Callable* callable_;
};

// Puts a callable that is too large for a slot on the heap. Cost: one allocation; memory exhausted is
// std::bad_alloc (or the end of the program without exceptions), as for a plain operator new.
template <class Callable>
Boxed<std::decay_t<Callable>> boxed(Callable&& callable) {
    return Boxed<std::decay_t<Callable>>(std::decay_t<Callable>(std::forward<Callable>(callable)));
}

namespace detail {

// What a slot keeps for a handler: the callable itself; of a pointer to a tracked object, one that counts.
template <class Handler, bool = PointsToTracked<Handler>::value>
struct StoredFor {
    using Type = Handler;
};
template <class Handler>
struct StoredFor<Handler, true> {
    using Type = TrackedPointer<std::remove_pointer_t<Handler>>;
};
template <class Handler>
using StoredHandler = typename StoredFor<std::decay_t<Handler>>::Type;

// True when Stored can be called as a handler: directly, or through a pointer to an object.
template <class Stored, class... Arguments>
inline constexpr bool handler_calls_directly = std::is_invocable_v<Stored&, Arguments...>;

template <class Stored, class... Arguments>
constexpr bool handler_accepts() noexcept {
    if constexpr (handler_calls_directly<Stored, Arguments...>) {
        return true;
    } else if constexpr (std::is_pointer_v<Stored>) {
        using Object = std::remove_pointer_t<Stored>;
        if constexpr (std::is_class_v<Object>) return std::is_invocable_v<Object&, Arguments...>;
    }
    return false;
}

template <class Stored, class... Arguments>
void handler_call(Stored& stored, Arguments&&... arguments) {
    if constexpr (handler_calls_directly<Stored, Arguments...>) {
        static_cast<void>(stored(std::forward<Arguments>(arguments)...));
    } else {
        static_cast<void>((*stored)(std::forward<Arguments>(arguments)...));
    }
}

// Calls with what `make` returns, made in the place of the handler's own parameter: after `stored` has
// been looked at, and without a move.
template <class Argument, class Stored, class First, class Make>
void handler_call_made(Stored& stored, First& first, Make&& make) {
    if constexpr (handler_calls_directly<Stored, First&, Argument>) {
        static_cast<void>(stored(first, make()));
    } else {
        static_cast<void>((*stored)(first, make()));
    }
}

// The checks that every submission makes on its handler, with messages that say what to do.
template <class Stored, class... Arguments>
constexpr void handler_check() noexcept {
    static_assert(
        handler_accepts<Stored, Arguments...>(),
        "whorl: this handler cannot be called with (Loop&, Done) of the operation; write a "
        "callable, or pass a pointer to an object with such an operator()");
    static_assert(sizeof(Stored) <= handler_size_max,
                  "whorl: this handler's captures are larger than 48 bytes; capture a pointer to "
                  "your state, or wrap the handler in whorl::boxed(...) to keep it on the heap");
    static_assert(alignof(Stored) <= handler_align_max,
                  "whorl: this handler needs more than 16-byte alignment; wrap it in boxed(...)");
    static_assert(std::is_nothrow_move_constructible_v<Stored>,
                  "whorl: a handler must be movable without throwing; wrap it in boxed(...)");
}

}  // namespace detail

}  // namespace whorl
