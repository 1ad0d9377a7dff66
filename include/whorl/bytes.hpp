// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <cstddef>
#include <string_view>

namespace whorl {

// A view of bytes that somebody else owns: a pointer and a count. Lifetime: as long as the owner's.
struct Bytes {
    const std::byte* data = nullptr;
    std::size_t size = 0;

    constexpr Bytes() noexcept = default;
    constexpr Bytes(std::nullptr_t, std::size_t) noexcept {}
    constexpr Bytes(const std::byte* first, std::size_t count) noexcept
        : data(first), size(count) {}
    Bytes(const void* first, std::size_t count) noexcept
        : data(static_cast<const std::byte*>(first)), size(count) {}
    explicit Bytes(std::string_view text) noexcept : Bytes(text.data(), text.size()) {}

    bool empty() const noexcept { return size == 0; }
    std::string_view text() const noexcept { return {reinterpret_cast<const char*>(data), size}; }
    const std::byte* begin() const noexcept { return data; }
    const std::byte* end() const noexcept { return data + size; }
};

}  // namespace whorl
