// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <whorl/export.hpp>

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

// How the library makes its own objects: with the memory of the host program (Hooks::allocate, hooks.hpp),
// or that of operator new where there is no such hook. What is mapped, and what other libraries take, does
// not come this way.

namespace whorl::detail {

// Null: exhausted. Cost: one call.
WHORL_EXPORT void* object_take(std::size_t size, std::size_t alignment) noexcept;
// With the size and alignment it was taken with; null is fine.
WHORL_EXPORT void object_give(void* memory, std::size_t size, std::size_t alignment) noexcept;
// For containers of the standard library, which know no other way: std::bad_alloc, or the end of the
// program without exceptions.
[[noreturn]] WHORL_EXPORT void object_exhausted();

// Base of a class whose objects `new (std::nothrow)` and `delete` make and end. A derived class may be
// deleted through a base that has a virtual destructor. `Self` keeps two such bases within one object apart,
// so that none takes room.
// Limits: constructors do not throw. (Of an object whose constructor has thrown nobody knows the size.)
template <class Self>
struct Allocated {
    static void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
        return object_take(size, __STDCPP_DEFAULT_NEW_ALIGNMENT__);
    }
    static void* operator new(std::size_t size, std::align_val_t alignment,
                              const std::nothrow_t&) noexcept {
        return object_take(size, static_cast<std::size_t>(alignment));
    }
    static void* operator new(std::size_t, void* place) noexcept { return place; }
    static void operator delete(void* memory, std::size_t size) noexcept {
        object_give(memory, size, __STDCPP_DEFAULT_NEW_ALIGNMENT__);
    }
    static void operator delete(void* memory, std::size_t size,
                                std::align_val_t alignment) noexcept {
        object_give(memory, size, static_cast<std::size_t>(alignment));
    }
};

// The same for a class that is not ours, such as a handler's. Null: exhausted; nothing was moved then.
template <class T, class... Arguments>
T* make_object(Arguments&&... arguments) {
    struct Room {
        void* memory = object_take(sizeof(T), alignof(T));
        ~Room() { object_give(memory, sizeof(T), alignof(T)); }
    } room;
    if (room.memory == nullptr) return nullptr;
    T* made = ::new (room.memory) T(std::forward<Arguments>(arguments)...);
    room.memory = nullptr;
    return made;
}
template <class T>
void drop_object(T* object) noexcept {
    if (object == nullptr) return;
    object->~T();
    object_give(object, sizeof(T), alignof(T));
}

// Arrays. In front of the elements stands how many there are.
template <class T>
inline constexpr std::size_t size_of =
    sizeof(T);  // NOLINT(bugprone-sizeof-expression): T may be a pointer
template <class T>
inline constexpr std::size_t array_front = alignof(T) > alignof(std::max_align_t)
                                               ? alignof(T)
                                               : alignof(std::max_align_t);

template <class T>
T* array_room(std::size_t count) noexcept {
    constexpr std::size_t front = array_front<T>;
    if (count > (SIZE_MAX - front) / size_of<T>) return nullptr;
    void* memory = object_take(front + count * size_of<T>, front);
    if (memory == nullptr) return nullptr;
    ::new (memory) std::size_t(count);
    return reinterpret_cast<T*>(static_cast<std::byte*>(memory) + front);
}
// As `new T[count]`: numbers have no value yet. Null: exhausted.
template <class T>
T* make_array(std::size_t count) noexcept {
    static_assert(std::is_nothrow_default_constructible<T>::value, "see Allocated");
    T* first = array_room<T>(count);
    if (first == nullptr || std::is_trivially_default_constructible<T>::value) return first;
    for (std::size_t index = 0; index < count; ++index) ::new (first + index) T;
    return first;
}
// As `new T[count]()`.
template <class T>
T* make_zeros(std::size_t count) noexcept {
    T* first = array_room<T>(count);
    if (first == nullptr) return nullptr;
    for (std::size_t index = 0; index < count; ++index) ::new (first + index) T();
    return first;
}
template <class T>
void drop_array(T* first) noexcept {
    if (first == nullptr) return;
    constexpr std::size_t front = array_front<T>;
    void* memory = reinterpret_cast<std::byte*>(first) - front;
    const std::size_t count = *static_cast<const std::size_t*>(memory);
    for (std::size_t index = count; index > 0; --index) first[index - 1].~T();
    object_give(memory, front + count * size_of<T>, front);
}

// For std::unique_ptr.
struct ObjectDrop {
    template <class T>
    void operator()(T* object) const noexcept {
        drop_object(object);
    }
};
struct ArrayDrop {
    template <class T>
    void operator()(T* first) const noexcept {
        drop_array(first);
    }
};

// For containers of the standard library and std::allocate_shared.
template <class T>
struct HookAllocator {
    using value_type = T;
    HookAllocator() noexcept = default;
    template <class Other>
    HookAllocator(const HookAllocator<Other>&) noexcept {}
    T* allocate(std::size_t count) {
        if (count > SIZE_MAX / size_of<T>) object_exhausted();
        void* memory = object_take(count * size_of<T>, alignof(T));
        if (memory == nullptr) object_exhausted();
        return static_cast<T*>(memory);
    }
    void deallocate(T* memory, std::size_t count) noexcept {
        object_give(memory, count * size_of<T>, alignof(T));
    }
    template <class Other>
    bool operator==(const HookAllocator<Other>&) const noexcept {
        return true;
    }
    template <class Other>
    bool operator!=(const HookAllocator<Other>&) const noexcept {
        return false;
    }
};

}  // namespace whorl::detail
