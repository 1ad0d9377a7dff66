// SPDX-License-Identifier: MIT
// Floor: 1
#include <whorl/assert.hpp>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace whorl::detail {

namespace {
thread_local PanicNote panic_note;
}

PanicNote panic_note_set(PanicNote note) noexcept { return std::exchange(panic_note, note); }

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
    // Once: what prints may fail as well.
    const PanicNote note = panic_note_set({});
    if (note.print != nullptr) note.print(note.context);
    std::abort();
}

}  // namespace whorl::detail
