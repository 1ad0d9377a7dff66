// SPDX-License-Identifier: MIT
#pragma once

#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

// Text of the tools: JSON, and lines for a terminal. What they print may come from files and processes that
// need not be trusted, so nothing in it is left that a terminal or a reader of JSON takes for something else.

namespace tools {

// Appends printf's output, of at most 1023 bytes.
__attribute__((format(printf, 2, 3))) inline void add(std::string& out, const char* format, ...) {
    char text[1024];
    std::va_list arguments;
    va_start(arguments, format);
    (void)std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    out += text;
}

// Bytes of the character that `text` begins with, as RFC 3629 has them; 0 for none.
inline std::size_t character_size(std::string_view text) {
    const auto byte = [&](std::size_t index) { return static_cast<unsigned char>(text[index]); };
    const unsigned char first = byte(0);
    if (first < 0x80) return 1;
    const std::size_t size = first >= 0xC2 && first < 0xE0   ? 2
                             : first >= 0xE0 && first < 0xF0 ? 3
                             : first >= 0xF0 && first < 0xF5 ? 4
                                                             : 0;
    if (size == 0 || text.size() < size) return 0;
    for (std::size_t index = 1; index < size; ++index) {
        if (byte(index) < 0x80 || byte(index) > 0xBF) return 0;
    }
    // Longer than it need be, a surrogate, or beyond the last one.
    if (first == 0xE0 && byte(1) < 0xA0) return 0;
    if (first == 0xED && byte(1) > 0x9F) return 0;
    if (first == 0xF0 && byte(1) < 0x90) return 0;
    if (first == 0xF4 && byte(1) > 0x8F) return 0;
    return size;
}

// In quotes; what is no UTF-8 becomes U+FFFD, since a text may come from a damaged file.
inline void add_quoted(std::string& out, std::string_view text) {
    out += '"';
    while (!text.empty()) {
        const std::size_t size = character_size(text);
        const char letter = text[0];
        const auto code = static_cast<unsigned char>(letter);
        if (size == 0) {
            out += "\\ufffd";
        } else if (code < 0x20 || code == 0x7F) {
            add(out, "\\u%04x", code);
        } else {
            if (letter == '"' || letter == '\\') out += '\\';
            out += text.substr(0, size);
        }
        text.remove_prefix(size == 0 ? 1 : size);
    }
    out += '"';
}

inline std::string quoted(std::string_view text) {
    std::string out;
    add_quoted(out, text);
    return out;
}

// For a line of text: control characters and what is no UTF-8 become '?'.
inline std::string printable(std::string_view text) {
    std::string out;
    while (!text.empty()) {
        const std::size_t size = character_size(text);
        const auto code = static_cast<unsigned char>(text[0]);
        if (size == 0 || code < 0x20 || code == 0x7F) out += '?';
        else out += text.substr(0, size);
        text.remove_prefix(size == 0 ? 1 : size);
    }
    return out;
}

// From the opening brace, which it writes, to the closing one.
class Object {
  public:
    explicit Object(std::string& out) : out_(out) { out_ += '{'; }
    Object(const Object&) = delete;
    Object& operator=(const Object&) = delete;
    ~Object() { out_ += '}'; }
    // The value is the caller's to write.
    void key(std::string_view name) {
        if (!first_) out_ += ',';
        first_ = false;
        add_quoted(out_, name);
        out_ += ':';
    }
    void add(std::string_view name, std::uint64_t value) {
        key(name);
        out_ += std::to_string(value);
    }
    void add(std::string_view name, double value) {
        key(name);
        tools::add(out_, "%.3f", value);
    }
    void add(std::string_view name, const std::string& value) {
        key(name);
        add_quoted(out_, value);
    }

  private:
    std::string& out_;
    bool first_ = true;
};

}  // namespace tools
