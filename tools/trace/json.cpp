// SPDX-License-Identifier: MIT
#include "json.hpp"

#include <cstdarg>
#include <cstdio>

namespace trace {

namespace {

// Bytes of the character that `text` begins with, as RFC 3629 has them; 0 for none.
std::size_t character_size(std::string_view text) {
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

}  // namespace

void add(std::string& out, const char* format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    (void)std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    out += text;
}

void add_quoted(std::string& out, std::string_view text) {
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

std::string printable(std::string_view text) {
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

}  // namespace trace
