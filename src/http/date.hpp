// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/loop.hpp>

#include <cstdint>
#include <string_view>

namespace whorl::http {

// "Sun, 06 Nov 1994 08:49:37 GMT" for seconds since 1970, into 29 characters. Source: RFC 9110, 5.6.7.
void print_date(std::int64_t seconds, char* text) noexcept;

// The present date. Valid until the next call on this thread. Cost: a clock reading; printed once a second.
std::string_view date_now(Loop& loop) noexcept;

}  // namespace whorl::http
