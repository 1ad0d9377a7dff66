// SPDX-License-Identifier: MIT
// Goal: the hooks of the host program do what hooks.hpp says. Method: hooks that count, refuse and print;
// what ends the process is done in a child.
#include <whorl/hooks.hpp>

#include <whorl/assert.hpp>
#include <whorl/core_set.hpp>
#include <whorl/loop.hpp>
#include <whorl/work.hpp>

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>

namespace whorl {
namespace {

using namespace std::chrono_literals;

// Memory that remembers who has what, and can be used up.
struct Memory {
    std::mutex mutex;
    std::map<void*, std::pair<std::size_t, std::size_t>> taken;
    bool exhausted = false;

    static void* allocate(void* context, std::size_t size, std::size_t alignment) noexcept {
        auto& self = *static_cast<Memory*>(context);
        const std::lock_guard lock(self.mutex);
        if (self.exhausted) return nullptr;
        const std::size_t whole = (size + alignment - 1) / alignment * alignment;
        void* memory = std::aligned_alloc(alignment, whole);
        self.taken[memory] = {size, alignment};
        return memory;
    }
    static void release(void* context, void* memory, std::size_t size,
                        std::size_t alignment) noexcept {
        auto& self = *static_cast<Memory*>(context);
        const std::lock_guard lock(self.mutex);
        const auto found = self.taken.find(memory);
        const bool known = found != self.taken.end();
        EXPECT_TRUE(known) << "it was taken here";
        if (!known) return;
        EXPECT_EQ(found->second, (std::pair{size, alignment}));
        self.taken.erase(found);
        std::free(memory);
    }
};
Memory memory;

Hooks memory_hooks() {
    Hooks hooks;
    hooks.context = &memory;
    hooks.allocate = &Memory::allocate;
    hooks.release = &Memory::release;
    return hooks;
}

// Before any test: memory must be the first.
const Error set_at_start = set_hooks(memory_hooks());

TEST(Hooks, buffers_of_the_heap_are_taken_from_the_host_and_given_back) {
    ASSERT_FALSE(set_at_start);
    {
        Buffer buffer = Buffer::allocate(1000);
        ASSERT_TRUE(buffer);
        EXPECT_EQ(memory.taken.size(), 1u);
        const Buffer copy = Buffer::copy_of(Bytes("abc"));
        EXPECT_EQ(memory.taken.size(), 2u);
        const Buffer shared = buffer.share();
        buffer.reset();
        EXPECT_EQ(memory.taken.size(), 2u) << "one sharer is left";
    }
    EXPECT_EQ(memory.taken.size(), 0u);
}

TEST(Hooks, a_pool_takes_large_buffers_from_the_host) {
    LoopOptions options;
    options.backend = Backend::libev;
    Result<Loop> loop = Loop::create(options);
    ASSERT_TRUE(loop);
    const std::size_t of_the_loop = memory.taken.size();
    {
        const Buffer large = loop->buffer(1'000'000);
        ASSERT_TRUE(large);
        EXPECT_EQ(memory.taken.size(), of_the_loop + 1);
        const std::size_t chunks = memory.taken.size();
        const Buffer small = loop->buffer(1000);
        EXPECT_EQ(memory.taken.size(), chunks + 1) << "what the pool writes down of a mapping";
        const Buffer another = loop->buffer(1000);
        EXPECT_EQ(memory.taken.size(), chunks + 1) << "small ones are mapped";
    }
    EXPECT_EQ(memory.taken.size(), of_the_loop + 1);
}

TEST(Hooks, a_loop_is_made_of_the_hosts_memory) {
    LoopOptions options;
    options.backend = Backend::libev;
    const std::size_t before = memory.taken.size();
    {
        const Result<Loop> loop = Loop::create(options);
        ASSERT_TRUE(loop);
        EXPECT_GT(memory.taken.size(), before);
    }
    EXPECT_EQ(memory.taken.size(), before);
    memory.exhausted = true;
    const Result<Loop> none = Loop::create(options);
    memory.exhausted = false;
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().value(), ENOMEM);
}

TEST(Hooks, exhausted_memory_is_a_null_buffer) {
    memory.exhausted = true;
    EXPECT_FALSE(Buffer::allocate(1000));
    EXPECT_FALSE(Buffer::copy_of(Bytes("abc")));
    memory.exhausted = false;
    EXPECT_TRUE(Buffer::allocate(1000));
}

TEST(Hooks, functions_for_memory_come_in_pairs_and_stay) {
    Hooks half = memory_hooks();
    half.release = nullptr;
    EXPECT_EQ(set_hooks(half), Error::invalid_argument);
    const Buffer taken = Buffer::allocate(10);
    EXPECT_EQ(set_hooks({}).value(), EBUSY);
    Hooks other_context = memory_hooks();
    other_context.context = nullptr;
    EXPECT_EQ(set_hooks(other_context).value(), EBUSY);
    Hooks also_log = memory_hooks();
    also_log.log = [](void*, LogLevel, const char*) noexcept {};
    EXPECT_FALSE(set_hooks(also_log)) << "the rest may change";
    EXPECT_FALSE(set_hooks(memory_hooks()));
}

// --- log

void print(void*, LogLevel level, const char* message) noexcept {
    std::fprintf(stderr, "%s<%s>\n", level == LogLevel::info ? "info" : "warning", message);
}

TEST(HooksDeathTest, messages_are_given_to_the_log) {
    EXPECT_EXIT(
        {
            detail::log_message(LogLevel::info, "not seen");
            detail::log_message(LogLevel::warning, "seen %d", 1);
            std::exit(0);
        },
        ::testing::ExitedWithCode(0), "^whorl: seen 1\n$");
    EXPECT_EXIT(
        {
            Hooks hooks = memory_hooks();
            hooks.log = &print;
            static_cast<void>(set_hooks(hooks));
            detail::log_message(LogLevel::info, "info %s", "too");
            detail::log_message(LogLevel::warning, "%s", std::string(2000, 'x').c_str());
            std::exit(0);
        },
        ::testing::ExitedWithCode(0), "^info<info too>\nwarning<x+>\n$");
}

// From now on io_uring_setup(2) is refused with EPERM.
void refuse_io_uring() {
    sock_filter rules[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{4, rules};
    const bool on = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
                    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
    if (!on) std::exit(9);
}

TEST(HooksDeathTest, a_loop_on_the_fallback_says_why) {
    EXPECT_EXIT(
        {
            Hooks hooks = memory_hooks();
            hooks.log = &print;
            static_cast<void>(set_hooks(hooks));
            unsetenv("WHORL_BACKEND");
            refuse_io_uring();
            const Result<Loop> loop = Loop::create();
            std::exit(loop ? 0 : 1);
        },
        ::testing::ExitedWithCode(0), "^info<libev: .*EPERM.*>\n$");
}

// --- panic

void report(void*, const char* message) noexcept { std::fprintf(stderr, "hook<%s>\n", message); }

void panic_with(void (*hook)(void*, const char*) noexcept) {
    Hooks hooks = memory_hooks();
    hooks.panic = hook;
    static_cast<void>(set_hooks(hooks));
    detail::panic("number %d", 7);
}

TEST(HooksDeathTest, a_panic_is_told_once_and_aborts) {
    EXPECT_EXIT(detail::panic("number %d", 7), ::testing::KilledBySignal(SIGABRT),
                "^whorl: number 7\n");
    EXPECT_EXIT(panic_with(&report), ::testing::KilledBySignal(SIGABRT), "^hook<number 7>\n$");
    EXPECT_EXIT(panic_with([](void* context, const char* message) noexcept {
                    report(context, message);
                    detail::panic("in the hook");
                }),
                ::testing::KilledBySignal(SIGABRT), "^hook<number 7>\nwhorl: in the hook\n$");
    EXPECT_EXIT(panic_with([](void*, const char*) noexcept { _exit(3); }),
                ::testing::ExitedWithCode(3), "^$");
}

// --- threads

struct Threads {
    std::mutex mutex;
    std::string begun, ended;
    static std::string line(ThreadRole role, std::uint32_t index) {
        char name[16] = {};
        pthread_getname_np(pthread_self(), name, sizeof name);
        return std::string(role == ThreadRole::work ? "work " : "core ") + std::to_string(index) +
               " " + name + "\n";
    }
};
Threads threads;

Hooks thread_hooks() {
    Hooks hooks = memory_hooks();
    hooks.thread_begins = [](void*, ThreadRole role, std::uint32_t index) noexcept {
        const std::lock_guard lock(threads.mutex);
        threads.begun += Threads::line(role, index);
        pthread_setname_np(pthread_self(), ("mine-" + std::to_string(index)).c_str());
    };
    hooks.thread_ends = [](void*, ThreadRole role, std::uint32_t index) noexcept {
        const std::lock_guard lock(threads.mutex);
        threads.ended += Threads::line(role, index);
    };
    return hooks;
}

TEST(Hooks, threads_of_the_pool_are_told_of_and_may_be_named) {
    threads.begun.clear();
    threads.ended.clear();
    ASSERT_FALSE(set_hooks(thread_hooks()));
    {
        LoopOptions options;
        options.backend = Backend::libev;
        options.work_threads = 1;
        Result<Loop> loop = Loop::create(options);
        ASSERT_TRUE(loop);
        std::string name;
        const auto work = [&name] {
            char text[16] = {};
            pthread_getname_np(pthread_self(), text, sizeof text);
            name = text;
        };
        ASSERT_TRUE(loop->submit(Work{work}, [](Loop&, const WorkDone<NoResult>&) {}));
        ASSERT_FALSE(loop->run());
        EXPECT_EQ(name, "mine-0") << "before its first work";
        EXPECT_EQ(threads.begun, "work 0 whorl-work\n");
        EXPECT_EQ(threads.ended, "");
    }
    EXPECT_EQ(threads.ended, "work 0 mine-0\n");
    EXPECT_FALSE(set_hooks(memory_hooks()));
}

TEST(Hooks, threads_of_a_core_set_are_told_of) {
    threads.begun.clear();
    threads.ended.clear();
    ASSERT_FALSE(set_hooks(thread_hooks()));
    CoreSetOptions options;
    options.loops = 1;
    options.pin = false;
    options.loop.backend = Backend::libev;
    Result<CoreSet> cores =
        CoreSet::start(options, [](Loop&, std::uint32_t) -> Error { return {}; });
    ASSERT_TRUE(cores);
    cores->stop();
    EXPECT_FALSE(cores->join());
    EXPECT_EQ(threads.begun, "core 0 whorl-0\n");
    EXPECT_EQ(threads.ended, "core 0 mine-0\n");
    EXPECT_FALSE(set_hooks(memory_hooks()));
}

}  // namespace
}  // namespace whorl
