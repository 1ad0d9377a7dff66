// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <whorl/buffer.hpp>

#include <cstddef>

// Memory that somebody else has now (the kernel, a simulator, the pool's free list) is marked as
// untouchable for AddressSanitizer, so that a program that reads or writes it dies on the spot, with
// the place. In other builds these functions are empty.
//
// Only memory that nobody else may legitimately reach is marked (guardable()): one buffer over an owner
// that says it is exclusive. Static and shared bytes may be read by all while they are being sent; what
// stands behind a view or a pointer with a deleter of the caller's is not ours to judge.
//
// AddressSanitizer knows pieces of eight bytes, of which it can mark an end but no beginning. So the
// last few bytes of a region whose neighbour is in use stay unmarked, and a neighbour never is marked.
// Unmarking gives back exactly what was there: what ends an allocation ends it again.

#if defined(__SANITIZE_ADDRESS__)
#define WHORL_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WHORL_ADDRESS_SANITIZER
#endif
#endif

#if defined(WHORL_ADDRESS_SANITIZER)
extern "C" void __asan_poison_memory_region(void const volatile* start, std::size_t bytes);
extern "C" void __asan_unpoison_memory_region(void const volatile* start, std::size_t bytes);
#endif

namespace whorl::detail {

#if defined(WHORL_ADDRESS_SANITIZER)
inline constexpr bool guarding = true;
inline void guard(const void* start, std::size_t bytes) noexcept {
    if (bytes != 0) __asan_poison_memory_region(start, bytes);
}
inline void unguard(const void* start, std::size_t bytes) noexcept {
    if (bytes != 0) __asan_unpoison_memory_region(start, bytes);
}
#else
inline constexpr bool guarding = false;
inline void guard(const void*, std::size_t) noexcept {}
inline void unguard(const void*, std::size_t) noexcept {}
#endif

// Whether only `buffer` reaches its memory. The whole of it is guarded then, headroom included.
inline bool guardable(const Buffer& buffer) noexcept {
    const BufferOwner* owner = buffer.owner();
    return owner != nullptr && owner->exclusive != 0 && owner->references == 1;
}

inline void guard(const Buffer& buffer) noexcept {
    if constexpr (guarding) {
        if (guardable(buffer)) guard(buffer.owner()->base, buffer.owner()->capacity);
    }
}

inline void unguard(const Buffer& buffer) noexcept {
    if constexpr (guarding) {
        if (guardable(buffer)) unguard(buffer.owner()->base, buffer.owner()->capacity);
    }
}

}  // namespace whorl::detail
