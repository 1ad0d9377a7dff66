// SPDX-License-Identifier: MIT
// Goal: whorl-doctor tells apart why io_uring is missing, and says the cure; its exit status is what the
// manual page says. Method: it is started in a process whose rights, limits and files were taken away.
#include "conformance/backend_child.hpp"

#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <cstdlib>
#include <fstream>
#include <functional>

namespace whorl::conformance {
namespace {

struct Said {
    std::string text;
    bool has(const std::string& words) const { return text.find(words) != std::string::npos; }
};

// What it prints, and then "exit N". `prepare` is called in its process first; false: it cannot be done.
Said doctor(
    std::vector<std::string> words, const std::function<bool()>& prepare = [] { return true; }) {
    int numbers[2];
    EXPECT_EQ(::pipe(numbers), 0);
    const pid_t child = ::fork();
    EXPECT_GE(child, 0);
    if (child == 0) {
        ::dup2(numbers[1], STDOUT_FILENO);
        ::dup2(numbers[1], STDERR_FILENO);
        ::close(numbers[0]);
        ::close(numbers[1]);
        if (!prepare()) ::_exit(99);
        std::string program = WHORL_DOCTOR;
        std::vector<char*> arguments{program.data()};
        for (std::string& word : words) arguments.push_back(word.data());
        arguments.push_back(nullptr);
        ::execv(arguments[0], arguments.data());
        ::_exit(98);
    }
    ::close(numbers[1]);
    Said said;
    char part[4096];
    ssize_t got = 0;
    while ((got = ::read(numbers[0], part, sizeof part)) > 0) {
        said.text.append(part, static_cast<std::size_t>(got));
    }
    ::close(numbers[0]);
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    said.text += "exit " + std::to_string(WIFEXITED(status) ? WEXITSTATUS(status) : -1);
    return said;
}

bool has_io_uring() { return static_cast<bool>(Loop::create(options_for(Backend::io_uring))); }

TEST(Doctor, a_machine_with_io_uring) {
    if (!has_io_uring()) GTEST_SKIP() << "this machine refuses io_uring";
    const Said said = doctor({});
    EXPECT_TRUE(said.has("good  io_uring")) << said.text;
    EXPECT_TRUE(said.has("good  libev")) << said.text;
    EXPECT_TRUE(said.has("feature.defer_taskrun")) << said.text;
    EXPECT_TRUE(said.has("limit.descriptors")) << said.text;
    EXPECT_TRUE(said.has("exit 0")) << said.text;
}

TEST(Doctor, json_has_the_same) {
    const Said said = doctor({"--json"});
    EXPECT_EQ(said.text.rfind("{\n  \"status\": ", 0), 0u) << said.text;
    EXPECT_TRUE(said.has("\"subject\": \"libev\", \"level\": \"good\"")) << said.text;
}

TEST(Doctor, seccomp_is_named) {
    const Said said = doctor({}, [] { return refuse_calls({SYS_io_uring_setup}, EPERM); });
    EXPECT_TRUE(said.has("poor  io_uring")) << said.text;
    EXPECT_TRUE(said.has("seccomp")) << said.text;
    EXPECT_TRUE(said.has("exit 1")) << said.text;
}

TEST(Doctor, an_old_kernel_is_told_from_seccomp) {
    const Said said = doctor({}, [] { return refuse_calls({SYS_io_uring_setup}, ENOSYS); });
    EXPECT_TRUE(said.has("a kernel before 5.11")) << said.text;
    EXPECT_TRUE(said.has("exit 1")) << said.text;
}

// The sysctl itself is the whole machine's: its file is replaced in a mount namespace of the process.
TEST(Doctor, the_sysctl_is_told_from_seccomp) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root for a mount of its own";
    char name[] = "/tmp/whorl-sysctl-XXXXXX";
    const int fd = ::mkstemp(name);
    ASSERT_EQ(::write(fd, "2\n", 2), 2);
    ::close(fd);
    const Said said = doctor({}, [&] {
        return ::unshare(CLONE_NEWNS) == 0 &&
               ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
               ::mount(name, "/proc/sys/kernel/io_uring_disabled", nullptr, MS_BIND, nullptr) ==
                   0 &&
               refuse_calls({SYS_io_uring_setup}, EPERM);
    });
    ::unlink(name);
    if (said.text == "exit 99") GTEST_SKIP() << "mounts are refused here";
    EXPECT_TRUE(said.has("kernel.io_uring_disabled forbids it")) << said.text;
    EXPECT_TRUE(said.has("exit 1")) << said.text;
}

TEST(Doctor, few_descriptors) {
    const Said said = doctor({}, [] {
        const rlimit few{64, 64};
        return ::setrlimit(RLIMIT_NOFILE, &few) == 0;
    });
    EXPECT_TRUE(said.has("poor  limit.descriptors")) << said.text;
    EXPECT_TRUE(said.has("raise the hard limit")) << said.text;
}

TEST(Doctor, features_that_were_switched_off) {
    if (!has_io_uring()) GTEST_SKIP() << "this machine refuses io_uring";
    const Said said = doctor({}, [] { return ::setenv("WHORL_DISABLE", "buffer_ring", 1) == 0; });
    EXPECT_TRUE(said.has("note  feature.buffer_ring")) << said.text;
    EXPECT_TRUE(said.has("WHORL_DISABLE names it")) << said.text;
}

TEST(Doctor, no_backend_at_all) {
    const Said said = doctor({}, [] {
        return refuse_calls({SYS_io_uring_setup, SYS_epoll_create1, SYS_epoll_create}, EPERM);
    });
    EXPECT_TRUE(said.has("bad   automatic")) << said.text;
    EXPECT_TRUE(said.has("exit 2")) << said.text;
}

TEST(Doctor, wrong_usage_and_a_full_disk) {
    EXPECT_TRUE(doctor({"--nothing"}).has("exit 3"));
    const Said said = doctor({}, [] {
        const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
        return full >= 0 && ::dup2(full, STDOUT_FILENO) >= 0;
    });
    EXPECT_TRUE(said.has("No space left")) << said.text;
    EXPECT_TRUE(said.has("exit 3")) << said.text;
}

}  // namespace
}  // namespace whorl::conformance
