// SPDX-License-Identifier: MIT
// Floor: 2
#include <whorl/slab.hpp>

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>

namespace whorl::detail {

void* address_reserve(std::size_t bytes) noexcept {
    void* start =
        mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return start == MAP_FAILED ? nullptr : start;
}

bool address_commit(void* start, std::size_t bytes) noexcept {
    return mprotect(start, bytes, PROT_READ | PROT_WRITE) == 0;
}

namespace {

constexpr std::size_t piece = std::size_t{64} * 1024;
constexpr std::size_t huge_page = std::size_t{2} * 1024 * 1024;
// A slab that is smaller keeps small pages: of a huge one that is hardly used too much would be wasted.
constexpr std::size_t huge_from = 2 * huge_page;

}  // namespace

std::size_t address_extend(void* start, std::size_t committed, std::size_t reserved) noexcept {
    std::byte* const next = static_cast<std::byte*>(start) + committed;
    const std::size_t left = reserved - committed;
    if (committed >= huge_from) {
        // The first of them goes on to where a huge page begins, and is one besides.
        const std::size_t odd = (0 - reinterpret_cast<std::uintptr_t>(next)) & (huge_page - 1);
        const std::size_t bytes = std::min(odd + huge_page, left);
        if (address_commit(next, bytes)) {
            static_cast<void>(madvise(next, bytes, MADV_HUGEPAGE));  // refused: small pages it is
            return bytes;
        }
    }
    const std::size_t bytes = std::min(piece, left);
    return address_commit(next, bytes) ? bytes : 0;
}

void address_release(void* start, std::size_t bytes) noexcept { munmap(start, bytes); }

}  // namespace whorl::detail
