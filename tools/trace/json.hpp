// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>

namespace trace {

// Appends printf's output, of at most a few hundred bytes.
__attribute__((format(printf, 2, 3))) void add(std::string& out, const char* format, ...);
// In quotes; what is no UTF-8 becomes U+FFFD, since names may come from a damaged file.
void add_quoted(std::string& out, std::string_view text);
// For a line of text: control characters and what is no UTF-8 become '?'.
std::string printable(std::string_view text);

}  // namespace trace
