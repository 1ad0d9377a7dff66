// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <cstdint>

namespace whorl {

// A place in the program: where an operation was submitted. Functions that take one have it as their last
// argument with Site::here() as its default, which names the line of their call (one of its lines, when
// it has several). Hand your own through to name your caller instead. Lifetime: a value; `file` is a
// string literal of the program, null when the place is unknown.
// Cost: two registers. Source: GCC manual, __builtin_FILE and __builtin_LINE; clang has them as well.
struct Site {
    const char* file = nullptr;  // as the compiler was given it: often with a path
    std::uint32_t line = 0;      // from 1; 0 when the place is unknown

    // The place of the call that it is the default argument of, else its own.
    static constexpr Site here(const char* file = __builtin_FILE(),
                               std::uint32_t line = __builtin_LINE()) noexcept {
        Site site;
        site.file = file;
        site.line = line;
        return site;
    }
};

}  // namespace whorl
