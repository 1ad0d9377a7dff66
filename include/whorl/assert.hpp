// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <whorl/export.hpp>

// Three grades of assertion. They are for errors of the programmer; errors of the world are returned.
//
//   WHORL_ASSERT(c)  proven and cheap; stays on in release builds. Failing prints and aborts.
//   WHORL_VERIFY(c)  expensive truth; on in debug, fuzz and simulator builds (WHORL_VERIFY_ON).
//   WHORL_MAYBE(c)   "sometimes true": tells the reader that both outcomes are expected here.

namespace whorl::detail {

// Tells threads apart that are alive at the same time. Cost: one load.
inline unsigned long thread_token() noexcept {
    return reinterpret_cast<unsigned long>(__builtin_thread_pointer());
}

// Prints the failed condition with its place to stderr and aborts.
// Thread: any. Cost: does not return.
[[noreturn]] WHORL_EXPORT void assert_failed(const char* condition, const char* file, int line,
                                             const char* function) noexcept;

// Prints a printf-style message (one line) to stderr and aborts. For failures that need numbers.
// Thread: any. Cost: does not return.
[[noreturn]] WHORL_EXPORT void panic(const char* format, ...) noexcept
    __attribute__((format(printf, 1, 2)));

// What this thread wants printed after the message of a panic: a simulated world names its seed.
struct PanicNote {
    void (*print)(void* context) noexcept = nullptr;
    void* context = nullptr;
};
// Sets it and returns the one before. Thread: any, for itself. Cost: none.
WHORL_EXPORT PanicNote panic_note_set(PanicNote note) noexcept;

// What is done once in the process by a panic, after its message. Thread: any. Cost: none.
void panic_hook_set(void (*hook)() noexcept) noexcept;

}  // namespace whorl::detail

// Ends the program with a message unless the condition holds. In every build.
#define WHORL_ASSERT(condition)         \
    (__builtin_expect(!!(condition), 1) \
         ? static_cast<void>(0)         \
         : ::whorl::detail::assert_failed(#condition, __FILE__, __LINE__, __func__))

#if defined(WHORL_VERIFY_ON)
#define WHORL_VERIFY(condition) WHORL_ASSERT(condition)
#else
// The same in builds with WHORL_VERIFY_ON (debug, fuzz, simulator); elsewhere it is compiled, never
// computed.
#define WHORL_VERIFY(condition) static_cast<void>(sizeof(!!(condition)))
#endif

// Tells the reader what is sometimes true. Compiled, never computed.
#define WHORL_MAYBE(condition) static_cast<void>(sizeof(!!(condition)))
