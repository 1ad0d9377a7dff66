// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <whorl/error.hpp>
#include <whorl/export.hpp>

#include <cstddef>
#include <cstdint>

// What the program around the library wants to do itself: memory, log, the end after a failed assertion,
// the threads that the library makes. One set for the process.
//
//   whorl::Hooks hooks;
//   hooks.log = [](void*, whorl::LogLevel level, const char* message) noexcept { my_log(level, message); };
//   if (whorl::Error error = whorl::set_hooks(hooks)) …          // before the first loop
//
// The clock is no hook: tests run in a world that has its own (testing.hpp).

namespace whorl {

// How much a message wants to be looked at.
enum class LogLevel : std::uint8_t {
    info,     // what an operator wants to know once: a loop runs on the fallback, and why
    warning,  // what should not be: memory was leaked because the kernel did not let go of it
};

// Threads that the library makes.
enum class ThreadRole : std::uint8_t {
    work,  // of a loop's pool for blocking work; called "whorl-work"
    core,  // of a CoreSet, with a loop; called CoreSetOptions::name and its number
};

// A null function leaves things as they are without it. No function may throw, or call the library.
struct Hooks {
    void* context = nullptr;  // handed to each of them

    // Memory. Both or none.
    //   allocate: at least `size` bytes (never 0) at a multiple of `alignment` (a power of two), or null,
    //     which is ENOMEM to whoever asked. release: with the same size and alignment.
    // Thread: any, several at once.
    // What comes from them: everything that the library makes: loops and all that belongs to them, streams,
    //   channels, what an operation, a handler or a connection needs of the heap; buffers that are too large
    //   for the pool (Loop::buffer beyond 64 KiB, Buffer::allocate, copy_of). Optional libraries
    //   (whorl::tls, whorl::dns, whorl::http) and adapters: what is theirs.
    // What does not: pools and tables, which are address space (mmap); rings, which are the kernel's;
    //   texts handed out as std::string (WholeFileDone); a simulated world; what libev, OpenSSL, c-ares and
    //   the C library take.
    // In steady state no operation, timer, post or message takes any.
    // Default: operator new (nothrow) for objects, malloc(3) for buffers.
    void* (*allocate)(void* context, std::size_t size, std::size_t alignment) noexcept = nullptr;
    // Takes back what `allocate` gave; never null. Called on any thread, also after the last loop has gone.
    void (*release)(void* context, void* memory, std::size_t size,
                    std::size_t alignment) noexcept = nullptr;

    // A message, one line without its end; valid during the call.
    // Thread: any, several at once. Default: warnings to stderr as "whorl: …", nothing else.
    void (*log)(void* context, LogLevel level, const char* message) noexcept = nullptr;

    // An assertion has failed, or the library cannot go on: the message, one line of at most 1,023 bytes.
    // Called once in a process, by the thread that found it, in whatever state that is; when it returns, the
    // program aborts. It need not return: it may end the process by exec or _exit. What fails while it
    // runs, in it or elsewhere, is printed to stderr and aborts at once.
    // Default: "whorl: …" to stderr.
    void (*panic)(void* context, const char* message) noexcept = nullptr;

    // On a thread that the library has made, before it does anything and when it has done everything: to
    // name it (pthread_setname_np(3); it has its default name by then), bind it, tell a profiler. `index`
    // counts within a pool or CoreSet, from 0.
    // Signals: of the pool's threads all are blocked.
    void (*thread_begins)(void* context, ThreadRole role, std::uint32_t index) noexcept = nullptr;
    // As thread_begins, on the same thread; nothing of the library runs there afterwards.
    void (*thread_ends)(void* context, ThreadRole role, std::uint32_t index) noexcept = nullptr;
};

// Sets all of them, and takes the place of what was set before.
// Owns: nothing; what the functions and the context need lives as long as the library is used.
// Thread: any one, while no other uses the library: before the first loop.
// Errors: invalid_argument (allocate without release, or the reverse); EBUSY (other functions for memory,
//   or another context with such functions, after memory has been taken). Nothing was set then.
// Cost: a copy.
WHORL_EXPORT Error set_hooks(const Hooks& hooks) noexcept;

namespace detail {
// Memory by the hooks. Null: exhausted.
void* heap_take(std::size_t size, std::size_t alignment) noexcept;
void heap_give(void* memory, std::size_t size, std::size_t alignment) noexcept;
// A printf-style message for the log.
void log_message(LogLevel level, const char* format, ...) noexcept
    __attribute__((format(printf, 2, 3)));
// Answers false when nobody has taken the message.
bool panic_told(const char* message) noexcept;
void thread_begun(ThreadRole role, std::uint32_t index) noexcept;
void thread_ended(ThreadRole role, std::uint32_t index) noexcept;
}  // namespace detail

}  // namespace whorl
