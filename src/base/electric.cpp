// SPDX-License-Identifier: MIT
// Floor: 1
#include "base/electric.hpp"

#if defined(WHORL_ELECTRIC)

#include <whorl/assert.hpp>

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <mutex>

namespace whorl::detail {

namespace {

struct Retired {
    void* start;
    std::size_t bytes;
};

// The last to be retired. All inaccessible pages together are one entry of the kernel's table where
// they are neighbours, but in the worst case each is one, and a process has 65,530.
constexpr std::uint32_t retired_max = 8192;
std::mutex retired_mutex;
Retired retired[retired_max];
std::uint32_t retired_next;

void protect(void* start, std::size_t bytes, int access) noexcept {
    const auto first = reinterpret_cast<std::uintptr_t>(start);
    const std::uintptr_t page = electric_pages(1);
    const std::uintptr_t begin = first / page * page;
    const std::size_t size = electric_pages(first + bytes - begin);
    if (mprotect(reinterpret_cast<void*>(begin), size, access) != 0) {
        panic("electric mode: mprotect failed with errno %d (see vm.max_map_count)", errno);
    }
}

}  // namespace

std::size_t electric_pages(std::size_t bytes) noexcept {
    static const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    return (bytes + page - 1) / page * page;
}

void* electric_map(std::size_t bytes) noexcept {
    const std::size_t pages = electric_pages(bytes);
    const std::size_t mapped = pages + electric_pages(1);
    void* start = mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return nullptr;
    if (mprotect(start, pages, PROT_READ | PROT_WRITE) == 0) return start;
    munmap(start, mapped);
    return nullptr;
}

void electric_retire(void* start, std::size_t bytes) noexcept {
    const std::size_t pages = electric_pages(bytes);
    protect(start, pages, PROT_NONE);
    madvise(start, pages, MADV_DONTNEED);
    const std::lock_guard<std::mutex> lock(retired_mutex);
    Retired& slot = retired[retired_next++ % retired_max];
    if (slot.start != nullptr) munmap(slot.start, slot.bytes);
    slot = {start, pages + electric_pages(1)};
}

void electric_open(void* start, std::size_t bytes) noexcept {
    protect(start, bytes, PROT_READ | PROT_WRITE);
}

void electric_shut(void* start, std::size_t bytes) noexcept { protect(start, bytes, PROT_NONE); }

}  // namespace whorl::detail

#endif
