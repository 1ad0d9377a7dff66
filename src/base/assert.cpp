// SPDX-License-Identifier: MIT
// Floor: 1
#include <whorl/assert.hpp>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>

namespace whorl::detail {

void assert_failed(const char* condition, const char* file, int line,
                   const char* function) noexcept {
    panic("assertion failed: %s (%s:%d, %s)", condition, file, line, function);
}

void panic(const char* format, ...) noexcept {
    std::va_list arguments;
    va_start(arguments, format);
    std::fputs("whorl: ", stderr);
    std::vfprintf(stderr, format, arguments);  // NOLINT(clang-analyzer-valist.Uninitialized)
    std::fputc('\n', stderr);
    va_end(arguments);
    std::abort();
}

}  // namespace whorl::detail
