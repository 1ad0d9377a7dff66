// SPDX-License-Identifier: MIT
// docs/guide/hooks.md: memory, log, panics and threads in the hands of the program.
#include "expect.hpp"

#include <whorl/whorl.hpp>

#include <pthread.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>

namespace {

// [functions]
// What the program has: its log, its counters, its allocator.
struct Host {
    std::atomic<std::size_t> bytes{0};
    std::atomic<int> threads{0};

    static void* allocate(void* context, std::size_t size, std::size_t alignment) noexcept {
        static_cast<Host*>(context)->bytes += size;
        return std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
    }
    static void release(void* context, void* memory, std::size_t size, std::size_t) noexcept {
        static_cast<Host*>(context)->bytes -= size;
        std::free(memory);
    }
    static void log(void*, whorl::LogLevel level, const char* message) noexcept {
        std::printf("%s %s\n", level == whorl::LogLevel::warning ? "W" : "I", message);
    }
    static void panic(void*, const char* message) noexcept {
        std::printf("F %s\n", message);  // flush the log, write a report; then the program aborts
        std::fflush(stdout);
    }
    static void thread_begins(void* context, whorl::ThreadRole, std::uint32_t index) noexcept {
        ++static_cast<Host*>(context)->threads;
        char name[16];
        std::snprintf(name, sizeof name, "db-io-%u", index);
        pthread_setname_np(pthread_self(), name);
    }
};
// [end]

}  // namespace

int main() {
    static Host host;
    // [set]
    whorl::Hooks hooks;
    hooks.context = &host;
    hooks.allocate = &Host::allocate;
    hooks.release = &Host::release;
    hooks.log = &Host::log;
    hooks.panic = &Host::panic;
    hooks.thread_begins = &Host::thread_begins;
    expect(whorl::set_hooks(hooks));  // before the first loop
    // [end]

    {
        whorl::Result<whorl::Loop> loop = whorl::Loop::create();
        if (!loop) expect(loop.error());
        expect(host.bytes > 0, "the loop is of the host's memory");
        const whorl::Buffer large = loop->buffer(1 << 20);
        expect(host.bytes >= 1 << 20, "counted");
        (void)loop->submit(whorl::Work{[] {}},
                           [](whorl::Loop&, whorl::WorkDone<whorl::NoResult>) {});
        expect(loop->run());
        expect(host.threads == 1, "a thread for the work");
    }
    expect(host.bytes == 0, "given back");
}
