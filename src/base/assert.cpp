// SPDX-License-Identifier: MIT
// Floor: 1
#include <whorl/assert.hpp>
#include <whorl/hooks.hpp>

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace whorl::detail {

namespace {
thread_local PanicNote panic_note;
}

namespace {
std::atomic<void (*)() noexcept> panic_hook{nullptr};
}

void panic_hook_set(void (*hook)() noexcept) noexcept { panic_hook.store(hook); }

PanicNote panic_note_set(PanicNote note) noexcept { return std::exchange(panic_note, note); }

void assert_failed(const char* condition, const char* file, int line,
                   const char* function) noexcept {
    panic("assertion failed: %s (%s:%d, %s)", condition, file, line, function);
}

void panic(const char* format, ...) noexcept {
    std::va_list arguments;
    va_start(arguments, format);
    char message[1024];
    std::vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (!panic_told(message)) std::fprintf(stderr, "whorl: %s\n", message);
    // Once: what prints may fail as well.
    const PanicNote note = panic_note_set({});
    if (note.print != nullptr) note.print(note.context);
    if (auto* hook = panic_hook.exchange(nullptr)) hook();
    std::abort();
}

}  // namespace whorl::detail
