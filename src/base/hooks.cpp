// SPDX-License-Identifier: MIT
// Floor: 1
#include <whorl/hooks.hpp>

#include <whorl/allocated.hpp>

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <new>

namespace whorl {

namespace {

// Written before other threads use the library, and read by all.
Hooks hooks;
// Memory has been taken: it must go back to whom it came from.
std::atomic<bool> memory_taken{false};
std::atomic<bool> panicking{false};

bool same_memory(const Hooks& a, const Hooks& b) noexcept {
    const bool functions = a.allocate == b.allocate && a.release == b.release;
    return functions && (a.allocate == nullptr || a.context == b.context);
}

}  // namespace

Error set_hooks(const Hooks& given) noexcept {
    if ((given.allocate == nullptr) != (given.release == nullptr)) return Error::invalid_argument;
    if (memory_taken && !same_memory(hooks, given)) return Error::from_errno(EBUSY);
    hooks = given;
    return {};
}

namespace detail {

namespace {
void note_taken() noexcept {
    if (!memory_taken.load(std::memory_order_relaxed)) memory_taken = true;
}
// posix_memalign(3), which may be the host's way, knows no less.
constexpr std::size_t alignment_least = __STDCPP_DEFAULT_NEW_ALIGNMENT__;
}  // namespace

void* object_take(std::size_t size, std::size_t alignment) noexcept {
    note_taken();
    if (alignment < alignment_least) alignment = alignment_least;
    if (hooks.allocate != nullptr) return hooks.allocate(hooks.context, size, alignment);
    if (alignment == alignment_least) return ::operator new(size, std::nothrow);
    return ::operator new (size, std::align_val_t{alignment}, std::nothrow);
}

void object_give(void* memory, std::size_t size, std::size_t alignment) noexcept {
    if (memory == nullptr) return;
    if (alignment < alignment_least) alignment = alignment_least;
    if (hooks.release != nullptr) return hooks.release(hooks.context, memory, size, alignment);
    if (alignment == alignment_least) ::operator delete(memory);
    else ::operator delete (memory, std::align_val_t{alignment});
}

void object_exhausted() {
#if defined(__cpp_exceptions)
    throw std::bad_alloc();
#else
    std::abort();
#endif
}

void* heap_take(std::size_t size, std::size_t alignment) noexcept {
    note_taken();
    if (hooks.allocate != nullptr) return hooks.allocate(hooks.context, size, alignment);
    if (alignment <= alignof(std::max_align_t)) return std::malloc(size);
    return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
}

void heap_give(void* memory, std::size_t size, std::size_t alignment) noexcept {
    if (hooks.release != nullptr) return hooks.release(hooks.context, memory, size, alignment);
    std::free(memory);
}

void log_message(LogLevel level, const char* format, ...) noexcept {
    if (hooks.log == nullptr && level == LogLevel::info) return;
    char message[1024];
    std::va_list arguments;
    va_start(arguments, format);
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it was begun in the line before
    std::vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (hooks.log != nullptr) hooks.log(hooks.context, level, message);
    else std::fprintf(stderr, "whorl: %s\n", message);
}

bool panic_told(const char* message) noexcept {
    if (hooks.panic == nullptr || panicking.exchange(true)) return false;
    hooks.panic(hooks.context, message);
    return true;
}

void thread_begun(ThreadRole role, std::uint32_t index) noexcept {
    if (hooks.thread_begins != nullptr) hooks.thread_begins(hooks.context, role, index);
}

void thread_ended(ThreadRole role, std::uint32_t index) noexcept {
    if (hooks.thread_ends != nullptr) hooks.thread_ends(hooks.context, role, index);
}

}  // namespace detail

}  // namespace whorl
