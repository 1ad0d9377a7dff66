// SPDX-License-Identifier: MIT
// What the four steps of docs/migrating/libevent.md have in common: the words of the chat.
#pragma once

#include "lines.hpp"

#include <string>
#include <string_view>

constexpr std::size_t queue_max = 256 << 10;  // who takes nothing is put out

inline std::string welcome(int number) { return "* welcome " + std::to_string(number) + "\n"; }
inline std::string joined(int number) { return "* " + std::to_string(number) + " joined\n"; }
inline std::string left(int number) { return "* " + std::to_string(number) + " left\n"; }
inline std::string said(int number, std::string_view line) {
    return std::to_string(number) + ": " + std::string(line) + "\n";
}
