// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "base/guard.hpp"

#include <cstddef>
#include <cstdint>
#include <vector>

#if defined(WHORL_ADDRESS_SANITIZER)
extern "C" void __asan_get_shadow_mapping(std::size_t* scale, std::size_t* offset);
#endif

// While a simulated ring reads or writes memory that a program has lent it. That memory is guarded
// against the program (base/guard.hpp), not against the kernel; but what was freed in spite of the
// loan is still found out. So only what was guarded by hand is opened, piece by piece, and closed
// again.

namespace whorl::detail {

#if defined(WHORL_ADDRESS_SANITIZER)

class SimAccess {
  public:
    SimAccess(const void* data, std::size_t size) {
        if (data == nullptr || size == 0) return;
        const auto first = reinterpret_cast<std::uintptr_t>(data);
        shadow_ = shadow_of(first);
        const unsigned char* last = shadow_of(first + size - 1);
        saved_.assign(static_cast<std::size_t>(last - shadow_) + 1, 0);
        open();
    }
    SimAccess(const SimAccess&) = delete;
    SimAccess& operator=(const SimAccess&) = delete;
    ~SimAccess() { close(); }

  private:
    static constexpr unsigned char by_hand = 0xF7;

    static unsigned char* shadow_of(std::uintptr_t address) noexcept {
        std::size_t scale = 0, offset = 0;
        __asan_get_shadow_mapping(&scale, &offset);
        return reinterpret_cast<unsigned char*>((address >> scale) + offset);
    }
    __attribute__((no_sanitize("address"))) void open() noexcept {
        for (std::size_t index = 0; index < saved_.size(); ++index) {
            if (shadow_[index] != by_hand) continue;
            saved_[index] = by_hand;
            shadow_[index] = 0;
        }
    }
    __attribute__((no_sanitize("address"))) void close() noexcept {
        for (std::size_t index = 0; index < saved_.size(); ++index) {
            if (saved_[index] == by_hand && shadow_[index] == 0) shadow_[index] = by_hand;
        }
    }

    unsigned char* shadow_ = nullptr;
    std::vector<unsigned char> saved_;
};

#else

class SimAccess {
  public:
    SimAccess(const void*, std::size_t) noexcept {}
    SimAccess(const SimAccess&) = delete;
    SimAccess& operator=(const SimAccess&) = delete;
    ~SimAccess() = default;
};

#endif

}  // namespace whorl::detail
