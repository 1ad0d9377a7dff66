// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <cstddef>
#include <cstdint>

namespace whorl::detail {

// The errno values that a simulated operation may fail with: those that its manual page names, and one
// that it does not. Points to a static array.
struct ErrorList {
    const int* first;
    std::uint32_t count;
};

template <std::size_t Count>
constexpr ErrorList list_of(const int (&errors)[Count]) noexcept {
    return {errors, static_cast<std::uint32_t>(Count)};
}

}  // namespace whorl::detail
