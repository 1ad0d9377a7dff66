// SPDX-License-Identifier: MIT
#include "interleave/explorer.hpp"

#include "base/guard.hpp"

#include <cstdlib>
#include <cstring>
#include <new>

// The library allocates with `new (std::nothrow)` only, the explorer never does; so that is the way to
// tell the two apart. Nothing is handed out twice in one execution: a use after free finds rubbish, and
// an address means the same thing throughout.

namespace interleave {

namespace {

constexpr std::size_t thread_bytes = 1 << 20;
constexpr unsigned char rubbish = 0xDD;

struct Header {
    std::size_t bytes;
    std::size_t live;
};

alignas(128) unsigned char memory[threads_max * thread_bytes];
std::size_t used[threads_max];
std::uint64_t live = 0;

bool inside(const void* at) noexcept { return at >= memory && at < memory + sizeof memory; }

void* take(std::size_t bytes) noexcept {
    const std::uint32_t thread = explorer().current();
    if (thread == threads_max) return std::malloc(bytes);
    const std::size_t whole = ((bytes + 127) & ~std::size_t{127}) + 128;
    if (used[thread] + whole > thread_bytes) return nullptr;
    unsigned char* at = memory + thread * thread_bytes + used[thread];
    used[thread] += whole;
    whorl::detail::unguard(at, whole);  // clang's sanitizer poisons the count before an array
    const Header header{bytes, 1};
    std::memcpy(at, &header, sizeof header);
    ++live;
    return at + 128;
}

void give_back(void* pointer) noexcept {
    if (pointer == nullptr) return;
    if (!inside(pointer)) return std::free(pointer);
    unsigned char* at = static_cast<unsigned char*>(pointer) - 128;
    Header header;
    std::memcpy(&header, at, sizeof header);
    if (header.live != 1) explorer().fail("memory was given back twice");
    whorl::detail::unguard(pointer, header.bytes);
    std::memset(pointer, rubbish, header.bytes);
    header.live = 0;
    std::memcpy(at, &header, sizeof header);
    --live;
}

}  // namespace

void arena_reset(std::uint32_t threads) {
    for (std::uint32_t thread = 0; thread < threads; ++thread) used[thread] = 0;
    live = 0;
}

std::uint64_t arena_live() { return live; }
bool arena_holds(const void* at) { return inside(at); }

}  // namespace interleave

void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
    return interleave::take(bytes);
}
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept {
    return interleave::take(bytes);
}
void* operator new(std::size_t bytes, std::align_val_t, const std::nothrow_t&) noexcept {
    return interleave::take(bytes);
}
void* operator new(std::size_t bytes) {
    if (void* memory = std::malloc(bytes)) return memory;
    std::abort();
}
void* operator new[](std::size_t bytes) { return operator new(bytes); }
void operator delete(void* memory) noexcept { interleave::give_back(memory); }
void operator delete[](void* memory) noexcept { interleave::give_back(memory); }
void operator delete(void* memory, std::size_t) noexcept { interleave::give_back(memory); }
void operator delete[](void* memory, std::size_t) noexcept { interleave::give_back(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { interleave::give_back(memory); }
void operator delete(void* memory, std::align_val_t, const std::nothrow_t&) noexcept {
    interleave::give_back(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
    interleave::give_back(memory);
}
