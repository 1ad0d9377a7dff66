// SPDX-License-Identifier: MIT
#pragma once

#include <whorl/hooks.hpp>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>

// The library's memory, by hooks that a test controls, in the one source of a program that includes this:
// counted, given back as it was taken, and refused when the test wants it so.

namespace {

// Which allocations of an `Owner` are refused.
template <class Owner>
struct Refusals {
    static bool refused() {
        const std::uint64_t number = asked++;
        return number == refuse_at || (refuse_on && number > refuse_at);
    }
    // The `number`-th from now on is refused, and with `on` all that follow it.
    static void refuse(std::uint64_t number, bool on = false) {
        refuse_at = asked + number;
        refuse_on = on;
    }
    static void refuse_none() {
        refuse_at = UINT64_MAX;
        refuse_on = false;
    }

    static inline std::atomic<std::uint64_t> asked{0};
    static inline std::atomic<std::uint64_t> refuse_at{UINT64_MAX};
    static inline std::atomic<bool> refuse_on{false};
};

struct Host : Refusals<Host> {
    struct Front {
        std::size_t size;
        std::size_t alignment;
    };
    static std::size_t front_of(std::size_t alignment) {
        return alignment > sizeof(Front) ? alignment : sizeof(Front);
    }
    static void* allocate(void*, std::size_t size, std::size_t alignment) noexcept;
    static void release(void*, void* memory, std::size_t size, std::size_t alignment) noexcept;

    static inline std::atomic<std::int64_t> bytes{0};
    static inline std::atomic<bool> mistaken{false};
};

void* Host::allocate(void*, std::size_t size, std::size_t alignment) noexcept {
    if (refused()) return nullptr;
    const std::size_t front = front_of(alignment);
    const std::size_t whole = (front + size + alignment - 1) / alignment * alignment;
    auto* memory =
        static_cast<unsigned char*>(std::aligned_alloc(front, (whole + front - 1) / front * front));
    if (memory == nullptr) std::abort();
    std::memset(memory + front, 0xA5, size);  // nobody relies on zeros
    const Front note{size, alignment};
    std::memcpy(memory + front - sizeof note, &note, sizeof note);
    bytes += static_cast<std::int64_t>(size);
    return memory + front;
}

void Host::release(void*, void* memory, std::size_t size, std::size_t alignment) noexcept {
    auto* at = static_cast<unsigned char*>(memory);
    Front note{};
    std::memcpy(&note, at - sizeof note, sizeof note);
    if (note.size != size || note.alignment != alignment) mistaken = true;
    bytes -= static_cast<std::int64_t>(note.size);
    std::free(at - front_of(note.alignment));
}

// Before anything else takes memory.
const whorl::Error hooked = [] {
    whorl::Hooks hooks;
    hooks.allocate = &Host::allocate;
    hooks.release = &Host::release;
    hooks.log = [](void*, whorl::LogLevel, const char*) noexcept {
    };  // loops are given up early here
    return whorl::set_hooks(hooks);
}();

}  // namespace
