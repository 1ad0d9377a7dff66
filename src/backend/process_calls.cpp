// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/process_calls.hpp"

#include "backend/payload.hpp"
#include "base/lasting.hpp"

#include <poll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <mutex>

// Signals by signalfd(2), children by pidfd: both are descriptors that a loop polls as any other.
//
// A signal mask belongs to a thread, and threads and loops are different things: so there is one account
// in the process of which sets are open in which thread, and which signals were not blocked there before.
// The end of a set does not unblock what another one of the thread still waits for.

namespace whorl::detail {

namespace {

struct OpenSet {
    std::uint32_t thread = 0;  // 0: the place is free
    std::uint64_t mask = 0;
    std::uint64_t blocked = 0;  // by us, to be unblocked when no set of the thread has it
};

struct MaskAccount {
    static constexpr std::uint32_t sets_max = 256;
    std::mutex mutex;
    OpenSet sets[sets_max];
    std::uint32_t threads = 0;  // that have a number

    // The first other set of the thread that has one of these signals.
    OpenSet* heir(const OpenSet& left, std::uint64_t signals) noexcept {
        for (OpenSet& set : sets) {
            if (&set != &left && set.thread == left.thread && (set.mask & signals) != 0) {
                return &set;
            }
        }
        return nullptr;
    }
};

MaskAccount& mask_account() noexcept {
    static MaskAccount account;
    return account;
}

// With the account locked. A number is never given to a second thread, as those of the system are.
std::uint32_t own_thread(MaskAccount& account) noexcept {
    thread_local std::uint32_t number = 0;
    if (number == 0) number = ++account.threads;
    return number;
}

sigset_t set_of(std::uint64_t mask) noexcept {
    sigset_t set;
    sigemptyset(&set);
    for (int number = 1; number <= 64; ++number) {
        if ((mask >> (number - 1) & 1) != 0) sigaddset(&set, number);
    }
    return set;
}

std::uint64_t blocked_now() noexcept {
    sigset_t set;
    pthread_sigmask(SIG_SETMASK, nullptr, &set);
    std::uint64_t mask = 0;
    for (int number = 1; number <= 64; ++number) {
        if (sigismember(&set, number) == 1) mask |= std::uint64_t{1} << (number - 1);
    }
    return mask;
}

void change_mask(int how, std::uint64_t mask) noexcept {
    const sigset_t set = set_of(mask);
    pthread_sigmask(how, &set, nullptr);
}

Nanoseconds time_of(const timeval& time) noexcept {
    return std::chrono::seconds(time.tv_sec) + std::chrono::microseconds(time.tv_usec);
}

ChildExit exit_of(const siginfo_t& info, const rusage& used) noexcept {
    ChildExit ended;
    ended.status = info.si_status;
    if (info.si_code == CLD_KILLED) ended.how = ChildExit::How::killed;
    if (info.si_code == CLD_DUMPED) ended.how = ChildExit::How::dumped;
    ended.user_time = time_of(used.ru_utime);
    ended.system_time = time_of(used.ru_stime);
    ended.memory_max = static_cast<std::uint64_t>(used.ru_maxrss) * 1024;
    ended.faults_minor = static_cast<std::uint64_t>(used.ru_minflt);
    ended.faults_major = static_cast<std::uint64_t>(used.ru_majflt);
    ended.blocks_read = static_cast<std::uint64_t>(used.ru_inblock);
    ended.blocks_written = static_cast<std::uint64_t>(used.ru_oublock);
    ended.switches_voluntary = static_cast<std::uint64_t>(used.ru_nvcsw);
    ended.switches_forced = static_cast<std::uint64_t>(used.ru_nivcsw);
    return ended;
}

class RealProcessCalls final : public ProcessCalls {
  public:
    int signals_open(std::uint64_t mask, std::uint32_t& key) noexcept override;
    void signals_close(int fd, std::uint32_t key) noexcept override;
    int signal_take(int fd, SignalInfo& info) noexcept override;
    int spawn(SpawnBlock& block) noexcept override { return spawn_child(block); }
    int child_wait(int pidfd, ChildExit* ended) noexcept override;
    int child_settle(int pidfd, Nanoseconds most) noexcept override;
    int child_signal(int pidfd, int number) noexcept override {
        return ::syscall(SYS_pidfd_send_signal, pidfd, number, nullptr, 0) == 0 ? 0 : -errno;
    }
};

int RealProcessCalls::signals_open(std::uint64_t mask, std::uint32_t& key) noexcept {
    MaskAccount& account = mask_account();
    const std::lock_guard<std::mutex> lock(account.mutex);
    key = 0;
    while (key < MaskAccount::sets_max && account.sets[key].thread != 0) ++key;
    if (key == MaskAccount::sets_max) return -ENOSPC;
    const sigset_t set = set_of(mask);
    const int fd = ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) return -errno;
    account.sets[key] = {own_thread(account), mask, mask & ~blocked_now()};
    change_mask(SIG_BLOCK, mask);
    return fd;
}

// Another thread's mask cannot be changed from here: it stays as it is.
void RealProcessCalls::signals_close(int fd, std::uint32_t key) noexcept {
    ::close(fd);
    MaskAccount& account = mask_account();
    const std::lock_guard<std::mutex> lock(account.mutex);
    OpenSet& set = account.sets[key];
    while (OpenSet* heir = account.heir(set, set.blocked)) {
        const std::uint64_t common = set.blocked & heir->mask;
        heir->blocked |= common;
        set.blocked &= ~common;
    }
    if (set.thread == own_thread(account) && set.blocked != 0)
        change_mask(SIG_UNBLOCK, set.blocked);
    set = {};
}

int RealProcessCalls::signal_take(int fd, SignalInfo& info) noexcept {
    signalfd_siginfo taken{};
    const ssize_t size = ::read(fd, &taken, sizeof taken);
    if (size < 0) return -errno;
    info.number = static_cast<std::int32_t>(taken.ssi_signo);
    info.code = taken.ssi_code;
    info.pid = static_cast<std::int32_t>(taken.ssi_pid);
    info.uid = taken.ssi_uid;
    info.value = taken.ssi_int;
    info.status = taken.ssi_status;
    info.pointer = reinterpret_cast<void*>(static_cast<std::uintptr_t>(taken.ssi_ptr));
    return 0;
}

// The system call, since waitid(3) has no place for what the child used.
int RealProcessCalls::child_wait(int pidfd, ChildExit* ended) noexcept {
    constexpr int by_pidfd = 3;  // P_PIDFD
    siginfo_t info{};
    rusage used{};
    long done = -1;
    do {
        done = ::syscall(SYS_waitid, by_pidfd, pidfd, &info, WEXITED | WNOHANG, &used);
    } while (done != 0 && errno == EINTR);
    if (done != 0) return -errno;
    if (info.si_pid == 0) return -EAGAIN;
    if (ended != nullptr) *ended = exit_of(info, used);
    return 0;
}

int RealProcessCalls::child_settle(int pidfd, Nanoseconds most) noexcept {
    const Instant deadline = add_saturating(clock_now(), most);
    int done = child_wait(pidfd, nullptr);
    while (done == -EAGAIN) {
        const Nanoseconds left = deadline - clock_now();
        if (left <= Nanoseconds::zero()) return done;
        const std::int64_t milliseconds = left.count() / 1'000'000 + 1;
        pollfd asked{pidfd, POLLIN, 0};
        ::poll(&asked, 1, milliseconds < 60'000 ? static_cast<int>(milliseconds) : 60'000);
        done = child_wait(pidfd, nullptr);
    }
    return done;
}

}  // namespace

ProcessCalls& real_process_calls() noexcept {
    static Lasting<RealProcessCalls> calls;
    return *calls;
}

std::int32_t process_transfer(System& system, const Descriptor& descriptor,
                              OpRecord& record) noexcept {
    ProcessCalls& calls = system.process_calls();
    std::int32_t result = -EINTR;
    while (result == -EINTR) {
        if (record.kind != OpKind::wait_child) {
            result = calls.signal_take(descriptor.fd, record.as<SignalInfo>());
        } else {
            Buffer& memory = record.as<Buffer>();
            auto* ended = memory ? reinterpret_cast<ChildExit*>(memory.data()) : nullptr;
            result = calls.child_wait(descriptor.fd, ended);
        }
    }
    return result;
}

}  // namespace whorl::detail
