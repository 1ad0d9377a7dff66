// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <cstdarg>
#include <cstddef>
#include <cstdio>

namespace whorl::detail {

// Appends to a text for which there may be too little room, and counts what it would be.
class Text {
  public:
    Text(char* out, std::size_t size) noexcept : out_(out), size_(size) {
        if (size_ != 0) out_[0] = 0;
    }
    __attribute__((format(printf, 2, 3))) void add(const char* format, ...) noexcept {
        std::va_list arguments;
        va_start(arguments, format);
        char* at = length_ < size_ ? out_ + length_ : nullptr;
        const std::size_t room = length_ < size_ ? size_ - length_ : 0;
        const int more = std::vsnprintf(at, room, format, arguments);
        va_end(arguments);
        if (more > 0) length_ += static_cast<std::size_t>(more);
    }
    std::size_t length() const noexcept { return length_; }

  private:
    char* out_;
    std::size_t size_;
    std::size_t length_ = 0;
};

}  // namespace whorl::detail
