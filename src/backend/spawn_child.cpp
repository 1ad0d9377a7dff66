// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/process_calls.hpp"

#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <csignal>

// A child is made by clone(2) with CLONE_VFORK, so that the parent's thread (one of the work pool)
// waits until the child runs its program or has said why not, and with CLONE_PIDFD, so that its process
// ID is never used before it could be somebody else's.
//
// Usually the child shares our memory until then (CLONE_VM): no page table is copied, however large the
// process is. Not when it changes its user: a process that has less privilege must not share memory with
// one that has more, where others of that user could reach it, and the kernel would mark our memory as
// no longer dumpable. Then it is an ordinary fork.
//
// The road not taken: posix_spawn(3). It cannot tell which step failed, change the user, or (before
// glibc 2.39) answer a pidfd.
//
// What the child runs is ours alone: bare system calls, on a stack of its own that parent and child
// share in both cases, no allocation, no lock, nothing of libc that keeps state. glibc's setresuid()
// would change all threads of the parent. All signals are blocked, so that no handler of the parent's
// runs in the child's half-made world, until no handler is left.

// The child never returns from its frames, and a sanitizer would remember them.
#if defined(__clang__)
#define WHORL_CHILD_CODE __attribute__((no_sanitize("address", "thread", "memory", "undefined")))
#else
#define WHORL_CHILD_CODE \
    __attribute__((no_sanitize_address, no_sanitize_thread, no_sanitize_undefined))
#endif

namespace whorl::detail {

namespace {

constexpr std::size_t stack_size = std::size_t{64} * 1024;  // two paths, and room to spare
constexpr int signals_max = 64;

// What the kernel's rt_sigaction(2) reads; all zero is SIG_DFL on every architecture.
struct DefaultAction {
    unsigned long words[8];
};

struct ChildPlan {
    const SpawnBlock* block;
    // What the child says when it fails: `error` last.
    SpawnStep step;
    int error;
};

WHORL_CHILD_CODE int child_failed(ChildPlan& plan, SpawnStep step) noexcept {
    plan.step = step;
    plan.error = errno;
    return -1;
}

// What is up to `last` may be overwritten: what stands there and is still needed moves up.
WHORL_CHILD_CODE int child_above(int fd, int last) noexcept {
    if (fd < 0 || fd > last) return fd;
    return static_cast<int>(::syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, last + 1));
}

WHORL_CHILD_CODE int child_source(int stream, int last) noexcept {
    if (stream == stream_inherited) return INT_MAX;
    if (stream != stream_null) return child_above(stream, last);
    const long made = ::syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0);
    return child_above(static_cast<int>(made), last);
}

// dup3(2) leaves its copy open across execve(2), in blocking or non-blocking mode as it was.
WHORL_CHILD_CODE int child_streams(const SpawnBlock& block) noexcept {
    const std::uint32_t count = block.others_count;
    const int last = count != 0 ? block.others[count - 1].as : 2;
    int sources[3];
    for (int index = 0; index < 3; ++index) {
        sources[index] = child_source(block.streams[index], last);
        if (sources[index] < 0) return -1;
    }
    int others[spawn_others_max];
    for (std::uint32_t index = 0; index < count; ++index) {
        others[index] = child_above(block.others[index].fd, last);
        if (others[index] < 0) return -1;
    }
    for (std::uint32_t index = 0; index < count; ++index) {
        if (::syscall(SYS_dup3, others[index], block.others[index].as, 0) < 0) return -1;
    }
    for (int index = 0; index < 3; ++index) {
        // What is inherited stays as it is: with O_CLOEXEC it may be anything, even our ring.
        if (sources[index] == INT_MAX) continue;
        if (::syscall(SYS_dup3, sources[index], index, 0) < 0) return -1;
    }
    return 0;
}

// From `first` to before `end`.
WHORL_CHILD_CODE void child_close_range(rlim_t first, rlim_t end) noexcept {
#ifdef SYS_close_range
    const rlim_t most = ~0u;
    if (::syscall(SYS_close_range, first, end <= most ? end - 1 : most, 0) == 0) return;
#endif
    for (rlim_t fd = first; fd < end; ++fd) ::syscall(SYS_close, static_cast<int>(fd));
}

// The program gets no descriptor but those that it is to have, whoever forgot O_CLOEXEC elsewhere.
// Descriptors beyond the limit may be there from before it was lowered.
WHORL_CHILD_CODE void child_close_others(const SpawnBlock& block, rlim_t limit) noexcept {
    rlim_t first = 3;
    for (std::uint32_t index = 0; index < block.others_count; ++index) {
        const auto kept = static_cast<rlim_t>(block.others[index].as);
        if (kept != first) child_close_range(first, kept);
        first = kept + 1;
    }
#ifdef SYS_close_range
    if (::syscall(SYS_close_range, first, ~0u, 0) == 0) return;
#endif
    if (first < limit) child_close_range(first, limit);
}

WHORL_CHILD_CODE int child_credentials(const SpawnBlock& block) noexcept {
    if (block.user == no_id && block.group == no_id) return 0;
    if (::syscall(SYS_setgroups, 0, nullptr) != 0) return -1;
    const std::uint32_t group = block.group;
    if (group != no_id && ::syscall(SYS_setresgid, group, group, group) != 0) return -1;
    const std::uint32_t user = block.user;
    if (user != no_id && ::syscall(SYS_setresuid, user, user, user) != 0) return -1;
    return 0;
}

WHORL_CHILD_CODE void child_signals() noexcept {
    const DefaultAction action{};
    for (int number = 1; number <= signals_max; ++number) {
        ::syscall(SYS_rt_sigaction, number, &action, nullptr, signals_max / 8);
    }
    const unsigned long none[2] = {};
    ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, none, nullptr, signals_max / 8);
}

WHORL_CHILD_CODE void child_execute(const SpawnBlock& block, const char* path) noexcept {
    ::syscall(SYS_execve, path, block.arguments, block.environment);
}

// A name without a slash is tried in each directory of PATH, as execvp(3) does: what is not there, or
// may not be executed, does not end the search, but the latter is told.
WHORL_CHILD_CODE void child_search(const SpawnBlock& block) noexcept {
    char path[PATH_MAX];
    bool denied = false;
    const char* from = block.search;
    for (;;) {
        std::size_t size = 0;
        while (from[size] != '\0' && from[size] != ':') ++size;
        std::size_t at = 0;
        for (; at < size && at < PATH_MAX; ++at) path[at] = from[at];
        if (size != 0 && at < PATH_MAX) path[at++] = '/';
        const char* name = block.program;
        while (*name != '\0' && at < PATH_MAX) path[at++] = *name++;
        if (at < PATH_MAX) {
            path[at] = '\0';
            child_execute(block, path);
            if (errno == EACCES) denied = true;
            else if (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG) return;
        }
        if (from[size] == '\0') break;
        from += size + 1;
    }
    errno = denied ? EACCES : ENOENT;
}

WHORL_CHILD_CODE int child_prepare(ChildPlan& plan, const SpawnBlock& block) noexcept {
    rlimit files{};
    ::syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, nullptr, &files);
    if (block.session && ::syscall(SYS_setsid) < 0) return child_failed(plan, SpawnStep::session);
    if (block.group_changes && ::syscall(SYS_setpgid, 0, block.process_group) < 0) {
        return child_failed(plan, SpawnStep::group);
    }
    if (child_streams(block) != 0) return child_failed(plan, SpawnStep::streams);
    child_close_others(block, files.rlim_cur);
    if (child_credentials(block) != 0) return child_failed(plan, SpawnStep::credentials);
    if (block.directory != nullptr && ::syscall(SYS_chdir, block.directory) != 0) {
        return child_failed(plan, SpawnStep::directory);
    }
    return 0;
}

WHORL_CHILD_CODE int child_main(void* given) noexcept {
    auto& plan = *static_cast<ChildPlan*>(given);
    const SpawnBlock& block = *plan.block;
    if (child_prepare(plan, block) == 0) {
        child_signals();
        if (block.search != nullptr) child_search(block);
        else child_execute(block, block.program);
        child_failed(plan, SpawnStep::program);
    }
    ::syscall(SYS_exit_group, 127);
    return 127;
}

// A child that has said why it failed is about to end: it leaves no zombie. Somebody who ignores
// SIGCHLD has none anyway.
void reap_failed(int pidfd) noexcept {
    constexpr int by_pidfd = 3;  // P_PIDFD
    siginfo_t info{};
    while (::syscall(SYS_waitid, by_pidfd, pidfd, &info, WEXITED, nullptr) != 0 && errno == EINTR) {
    }
    ::close(pidfd);
}

int clone_child(SpawnBlock& block, ChildPlan& plan, void* stack_top) noexcept {
    const bool changes_user = block.user != no_id || block.group != no_id;
    const int flags = CLONE_VFORK | CLONE_PIDFD | SIGCHLD | (changes_user ? 0 : CLONE_VM);
    const unsigned long all[2] = {~0ul, ~0ul};
    unsigned long before[2] = {};
    // The bare call: that of libc leaves two signals of its own out.
    ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, all, before, signals_max / 8);
    int pidfd = -1;
    const int pid = ::clone(&child_main, stack_top, flags, &plan, &pidfd);
    const int error = errno;
    ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, before, nullptr, signals_max / 8);
    if (pid < 0) return -error;
    block.pid = pid;
    block.pidfd = pidfd;
    return 0;
}

}  // namespace

int spawn_child(SpawnBlock& block) noexcept {
    const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t size = page + stack_size;
    block.step = SpawnStep::process;
    // Shared, so that what a forked child says is heard.
    void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return -errno;
    ::mprotect(memory, page, PROT_NONE);  // a guard, and no more
    char* top = static_cast<char*>(memory) + size - sizeof(ChildPlan);
    top -= reinterpret_cast<std::uintptr_t>(top) % 64;
    auto* plan = ::new (static_cast<void*>(top)) ChildPlan{&block, SpawnStep::none, 0};
    int result = clone_child(block, *plan, top);
    if (result == 0 && plan->error != 0) {
        reap_failed(block.pidfd);
        block.step = plan->step;
        result = -plan->error;
    } else if (result == 0) {
        block.step = SpawnStep::none;
    }
    ::munmap(memory, size);
    return result;
}

}  // namespace whorl::detail
