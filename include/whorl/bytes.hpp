// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <cstddef>
#include <string_view>

namespace whorl {

// A view of bytes that somebody else owns: a pointer and a count. Lifetime: as long as the owner's.
struct Bytes {
    const std::byte* data = nullptr;  // the first; may be null when there are none
    std::size_t size = 0;             // how many

    constexpr Bytes() noexcept = default;
    // None: a null pointer names no bytes, whatever is passed for their count.
    constexpr Bytes(std::nullptr_t, std::size_t) noexcept {}
    // `count` bytes from `first` on.
    constexpr Bytes(const std::byte* first, std::size_t count) noexcept
        : data(first), size(count) {}
    // The same of any object's bytes.
    Bytes(const void* first, std::size_t count) noexcept
        : data(static_cast<const std::byte*>(first)), size(count) {}
    // The characters of a text, without an end mark.
    explicit Bytes(std::string_view text) noexcept : Bytes(text.data(), text.size()) {}

    bool empty() const noexcept { return size == 0; }
    // The same as characters; no copy, no end mark.
    std::string_view text() const noexcept { return {reinterpret_cast<const char*>(data), size}; }
    const std::byte* begin() const noexcept { return data; }
    const std::byte* end() const noexcept { return data + size; }
};

}  // namespace whorl
