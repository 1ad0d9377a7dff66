// SPDX-License-Identifier: MIT
// Goal: what the library asks the system is answered as the system says, with no side effects: a broken pipe
// raises no signal and takes none that is somebody else's, a child is waited for as long as was said and no
// longer, and how it ended is what the kernel says. Method: the calls alone, with pipes and children of the
// test's own; waitid(2) is asked the same question first.
#include "backend/system.hpp"
#include "backend/process_calls.hpp"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string>

namespace whorl::detail {
namespace {

using namespace std::chrono_literals;

class BrokenPipe : public testing::Test {
  protected:
    void SetUp() override {
        sigemptyset(&pipe_);
        sigaddset(&pipe_, SIGPIPE);
        ASSERT_EQ(pthread_sigmask(SIG_UNBLOCK, &pipe_, &mask_), 0);
        struct sigaction counting {};
        counting.sa_handler = [](int) { ++raised; };
        ASSERT_EQ(sigaction(SIGPIPE, &counting, &action_), 0);
        raised = 0;
        ASSERT_EQ(::pipe2(ends_, O_CLOEXEC), 0);
        ::close(ends_[0]);
    }
    void TearDown() override {
        ::close(ends_[1]);
        const timespec at_once{0, 0};
        while (sigtimedwait(&pipe_, nullptr, &at_once) > 0) {
        }
        sigaction(SIGPIPE, &action_, nullptr);
        pthread_sigmask(SIG_SETMASK, &mask_, nullptr);
    }
    // Each call that may meet a pipe that nobody reads.
    void write_all() const {
        System& system = real_system();
        const iovec parts[] = {{const_cast<char*>("x"), 1}, {const_cast<char*>("y"), 1}};
        EXPECT_EQ(system.write_quietly(ends_[1], "x", 1), -EPIPE);
        EXPECT_EQ(system.writev_quietly(ends_[1], parts, 2), -EPIPE);
        int source[2];
        ASSERT_EQ(::pipe2(source, O_CLOEXEC), 0);
        ASSERT_EQ(::write(source[1], "x", 1), 1);
        EXPECT_EQ(system.tee(source[0], ends_[1], 1), -EPIPE);
        EXPECT_EQ(system.splice(source[0], ends_[1], 1), -EPIPE);
        ::close(source[0]);
        ::close(source[1]);
    }
    static bool is_pending() {
        sigset_t pending;
        sigpending(&pending);
        return sigismember(&pending, SIGPIPE) == 1;
    }
    static bool is_blocked() {
        sigset_t now;
        pthread_sigmask(SIG_BLOCK, nullptr, &now);
        return sigismember(&now, SIGPIPE) == 1;
    }

    static inline int raised = 0;
    sigset_t pipe_{}, mask_{};
    struct sigaction action_ {};
    int ends_[2] = {-1, -1};
};

TEST_F(BrokenPipe, raises_no_signal) {
    write_all();
    EXPECT_EQ(raised, 0);
    EXPECT_FALSE(is_pending());
    EXPECT_FALSE(is_blocked());
    EXPECT_EQ(::write(ends_[1], "x", 1), -1);
    EXPECT_EQ(raised, 1) << "the system itself does";
}

TEST_F(BrokenPipe, leaves_none_behind_for_who_has_blocked_it) {
    ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &pipe_, nullptr), 0);
    write_all();
    EXPECT_FALSE(is_pending());
    EXPECT_TRUE(is_blocked());
    EXPECT_EQ(raised, 0);
}

TEST_F(BrokenPipe, takes_none_that_was_waiting) {
    ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &pipe_, nullptr), 0);
    ASSERT_EQ(pthread_kill(pthread_self(), SIGPIPE), 0);
    write_all();
    EXPECT_TRUE(is_pending()) << "it is somebody else's";
    ASSERT_EQ(pthread_sigmask(SIG_UNBLOCK, &pipe_, nullptr), 0);
    EXPECT_EQ(raised, 1);
}

TEST_F(BrokenPipe, where_it_is_ignored) {
    signal(SIGPIPE, SIG_IGN);
    write_all();
    EXPECT_FALSE(is_pending());
    EXPECT_FALSE(is_blocked());
}

TEST(RealSystem, says_what_is_wrong_with_a_descriptor_or_a_name) {
    System& system = real_system();
    EXPECT_EQ(system.set_blocking(-1), -EBADF);
    EXPECT_EQ(system.pipe_access(-1), -EBADF);
    EXPECT_EQ(system.unlink_socket("/nowhere/at/all"), -ENOENT);
    EXPECT_EQ(system.unlink_socket("/dev/null"), -ENOTSOCK);
    EXPECT_EQ(::access("/dev/null", F_OK), 0);
}

// A child of the test's own, with its descriptor.
struct Child {
    template <class Does>
    explicit Child(Does does) : pid(::fork()) {
        if (pid == 0) {
            does();
            ::_exit(0);
        }
        fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
        EXPECT_GE(fd, 0);
    }
    ~Child() {
        ::close(fd);
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
    }
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    pid_t pid;
    int fd = -1;
};

TEST(RealProcesses, a_child_is_waited_for_as_long_as_was_said) {
    ProcessCalls& calls = real_system().process_calls();
    Child child([] { ::pause(); });
    EXPECT_EQ(calls.child_wait(child.fd, nullptr), -EAGAIN);
    EXPECT_EQ(calls.child_settle(child.fd, 0ns), -EAGAIN);
    const Instant before = clock_now();
    EXPECT_EQ(calls.child_settle(child.fd, 20ms), -EAGAIN);
    EXPECT_GE(clock_now() - before, 20ms);
    ASSERT_EQ(::kill(child.pid, SIGTERM), 0);
    EXPECT_EQ(calls.child_settle(child.fd, 24h), 0);
    EXPECT_EQ(calls.child_settle(child.fd, 24h), -ECHILD) << "it is gone";
}

// Whether a core is written depends on the machine; the kernel says it to waitid(2), too.
TEST(RealProcesses, how_a_child_ended_is_what_the_kernel_says) {
    ProcessCalls& calls = real_system().process_calls();
    const auto check = [&](auto does) {
        Child child(does);
        siginfo_t told{};
        ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child.pid), &told, WEXITED | WNOWAIT), 0);
        ChildExit ended;
        ASSERT_EQ(calls.child_wait(child.fd, &ended), 0);
        EXPECT_EQ(ended.status, told.si_status);
        EXPECT_EQ(ended.how == ChildExit::How::exited, told.si_code == CLD_EXITED);
        EXPECT_EQ(ended.how == ChildExit::How::killed, told.si_code == CLD_KILLED);
        EXPECT_EQ(ended.how == ChildExit::How::dumped, told.si_code == CLD_DUMPED);
    };
    check([] { ::_exit(7); });
    check([] { ::raise(SIGKILL); });
    char folder[] = "/tmp/whorl-core-XXXXXX";
    ASSERT_NE(::mkdtemp(folder), nullptr);
    check([&] {
        const rlimit all{RLIM_INFINITY, RLIM_INFINITY};
        if (::setrlimit(RLIMIT_CORE, &all) != 0 || ::chdir(folder) != 0) ::_exit(1);
        signal(SIGQUIT, SIG_DFL);
        ::raise(SIGQUIT);
    });
    EXPECT_EQ(std::system(("rm -rf " + std::string(folder)).c_str()), 0);
}

}  // namespace
}  // namespace whorl::detail
