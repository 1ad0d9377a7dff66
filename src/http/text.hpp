// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/error.hpp>
#include <whorl/http_parser.hpp>

#include <array>
#include <cerrno>
#include <cstdint>
#include <string_view>

// Which bytes may stand where, and what it means that they do not. Source: RFC 9110, 5.5 and 5.6.2; RFC 3986, 2 and 3.2.2.

namespace whorl::http {

enum : std::uint8_t { is_token = 1, is_value = 2, is_target = 4, is_host = 8 };

constexpr std::array<std::uint8_t, 256> make_signs() noexcept {
    std::array<std::uint8_t, 256> signs{};
    for (unsigned sign = 0x21; sign < 0x7F; ++sign) signs[sign] = is_value | is_target;
    for (unsigned sign = 0x80; sign < 0x100; ++sign) signs[sign] = is_value;
    signs[' '] = signs['\t'] = is_value;
    // A fragment is never sent; a backslash, quotes and the like are read in two ways.
    for (const char sign : std::string_view("#\"<>\\^`{|}")) {
        signs[static_cast<unsigned char>(sign)] = is_value;
    }
    for (unsigned sign = 0; sign < 0x80; ++sign) {
        const bool letter = (sign | 0x20) >= 'a' && (sign | 0x20) <= 'z';
        if (letter || (sign >= '0' && sign <= '9')) signs[sign] |= is_token | is_host;
    }
    for (const char sign : std::string_view("!#$%&'*+-.^_`|~")) {
        signs[static_cast<unsigned char>(sign)] |= is_token;
    }
    for (const char sign : std::string_view("-._~!$&'()*+,;=%:[]")) {
        signs[static_cast<unsigned char>(sign)] |= is_host;
    }
    return signs;
}
inline constexpr std::array<std::uint8_t, 256> signs = make_signs();

inline bool has(std::uint8_t kind, char sign) noexcept {
    return (signs[static_cast<unsigned char>(sign)] & kind) != 0;
}
inline bool all_are(std::uint8_t kind, std::string_view text) noexcept {
    std::uint8_t all = kind;
    for (const char sign : text) all &= signs[static_cast<unsigned char>(sign)];
    return (all & kind) != 0;
}
inline std::string_view trimmed(std::string_view text) noexcept {
    const auto blank = [](char sign) { return sign == ' ' || sign == '\t'; };
    while (!text.empty() && blank(text.front())) text.remove_prefix(1);
    while (!text.empty() && blank(text.back())) text.remove_suffix(1);
    return text;
}
inline bool all_digits(std::string_view text) noexcept {
    for (const char sign : text) {
        if (sign < '0' || sign > '9') return false;
    }
    return !text.empty();
}
// What a fault of the parser is to whoever has sent a question. Without memory it is not the peer's.
inline Error error_of(const Fault& fault) noexcept {
    if (fault.status == 500) return Error::from_errno(ENOMEM);
    const bool large = fault.status == 413 || fault.status == 414 || fault.status == 431;
    return large ? Error::frame_too_large : Error::frame_malformed;
}
inline char lower(char sign) noexcept {
    return sign >= 'A' && sign <= 'Z' ? static_cast<char>(sign | 0x20) : sign;
}

}  // namespace whorl::http
