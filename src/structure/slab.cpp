// SPDX-License-Identifier: MIT
// Floor: 2
#include <whorl/slab.hpp>

#include <sys/mman.h>

namespace whorl::detail {

void* address_reserve(std::size_t bytes) noexcept {
    void* start =
        mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return start == MAP_FAILED ? nullptr : start;
}

bool address_commit(void* start, std::size_t bytes) noexcept {
    return mprotect(start, bytes, PROT_READ | PROT_WRITE) == 0;
}

void address_release(void* start, std::size_t bytes) noexcept { munmap(start, bytes); }

}  // namespace whorl::detail
