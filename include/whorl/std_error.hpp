// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <whorl/error.hpp>
#include <whorl/export.hpp>

#include <system_error>

// For host programs that carry std::error_code. Nothing else of whorl includes this.

namespace whorl {

// The category of whorl's own errors (those that are no errno values). `cancelled`, `timed_out` and
// `invalid_argument` compare equal to the std::errc of the same meaning.
// Thread: any. Lifetime: for ever.
WHORL_EXPORT const std::error_category& error_category() noexcept;

// An errno value becomes one of std::system_category(), whorl's own of error_category(), success none.
// Thread: any. Cost: none.
WHORL_EXPORT std::error_code to_error_code(Error error) noexcept;

}  // namespace whorl
