// SPDX-License-Identifier: MIT
// Goal: whorl-doctor tells apart why io_uring is missing, and says the cure; its exit status is what the
// manual page says. Method: it is started in a process whose rights, limits and files were taken away.
#include "conformance/backend_child.hpp"

#include <sched.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include <cstdlib>
#include <fstream>
#include <functional>

#include "tools/tool.hpp"

namespace whorl::conformance {
namespace {

using tool_test::Said;

// What it prints, and then "exit N". `prepare` is called in its process first; false: it cannot be done.
Said doctor(
    std::vector<std::string> words, const std::function<bool()>& prepare = [] { return true; }) {
    const char* elsewhere = std::getenv("WHORL_TEST_PROGRAMS");
    words.insert(words.begin(),
                 elsewhere == nullptr ? WHORL_DOCTOR : elsewhere + std::string("/whorl-doctor"));
    Said said = tool_test::run(std::move(words), [&] {
        if (!prepare()) ::_exit(99);
    });
    said.text += "exit " + std::to_string(said.status);
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
    EXPECT_TRUE(said.has("io_uring.cause            seccomp")) << said.text;
    EXPECT_TRUE(said.has("seccomp-io_uring.json")) << said.text;
    EXPECT_TRUE(said.has("exit 1")) << said.text;
}

// Podman's profile answers as a kernel without io_uring does.
TEST(Doctor, a_seccomp_filter_that_plays_an_old_kernel_is_seen) {
    const Said said = doctor({}, [] { return refuse_calls({SYS_io_uring_setup}, ENOSYS); });
    EXPECT_TRUE(said.has("a kernel before 5.11")) << said.text;
    EXPECT_TRUE(said.has("io_uring.cause            seccomp")) << said.text;
    EXPECT_TRUE(said.has("exit 1")) << said.text;
}

// The kernel tells this process that it is a 2.6, whose rings count against the locked memory.
TEST(Doctor, an_old_kernel_is_told_from_seccomp) {
    const Said said = doctor({}, [] {
        const rlimit little{65536, 65536};
        return ::personality(PER_LINUX | UNAME26) >= 0 &&
               ::setrlimit(RLIMIT_MEMLOCK, &little) == 0 &&
               refuse_calls({SYS_io_uring_setup}, ENOSYS);
    });
    EXPECT_TRUE(said.has("kernel                    Linux 2.6.")) << said.text;
    EXPECT_TRUE(said.has("io_uring.cause            old kernel")) << said.text;
    EXPECT_TRUE(said.has("poor  limit.memlock             65536 bytes: ")) << said.text;
    EXPECT_TRUE(said.has("exit 1")) << said.text;
}

TEST(Doctor, other_refusals_are_named) {
    struct Refusal {
        int error;
        const char* cause;
        const char* exit;  // without descriptors the fallback would not work either
    };
    for (const Refusal& refusal :
         {Refusal{EACCES, "security module", "exit 1"}, Refusal{ENOMEM, "locked memory", "exit 1"},
          Refusal{EMFILE, "descriptors\n", "exit 2"},
          Refusal{ENFILE, "descriptors of the machine", "exit 2"},
          Refusal{EINVAL, "unknown", "exit 1"}}) {
        const int error = refusal.error;
        const Said said = doctor({}, [error] { return refuse_calls({SYS_io_uring_setup}, error); });
        EXPECT_TRUE(said.has(std::string("io_uring.cause            ") + refusal.cause))
            << said.text;
        EXPECT_TRUE(said.has(refusal.exit)) << said.text;
    }
}

// A file that is no library stands before libev in the loader's search.
class NoLibev {
  public:
    NoLibev() {
        EXPECT_NE(::mkdtemp(folder_), nullptr);
        std::ofstream(std::string(folder_) + "/libev.so.4") << "no library\n";
    }
    ~NoLibev() {
        (void)std::remove((std::string(folder_) + "/libev.so.4").c_str());
        (void)::rmdir(folder_);
    }
    bool hide() const { return ::setenv("LD_LIBRARY_PATH", folder_, 1) == 0; }

  private:
    char folder_[32] = "/tmp/whorl-no-libev-XXXXXX";
};

TEST(Doctor, a_missing_libev) {
    const NoLibev missing;
    const Said without =
        doctor({}, [&] { return missing.hide() && refuse_calls({SYS_io_uring_setup}, EPERM); });
    EXPECT_TRUE(without.has("note  libev")) << without.text;
    EXPECT_TRUE(without.has("install the package libev4")) << without.text;
    EXPECT_TRUE(without.has("no loop can be made here")) << without.text;
    EXPECT_TRUE(without.has("exit 2")) << without.text;
    if (!has_io_uring()) return;
    const Said with = doctor({}, [&] { return missing.hide(); });
    EXPECT_TRUE(with.has("note  libev")) << with.text;
    EXPECT_TRUE(with.has("exit 0")) << with.text;
}

TEST(Doctor, bytes_that_do_not_come_through) {
    const Said said = doctor({}, [] { return refuse_calls({SYS_socketpair}, EPERM); });
    EXPECT_TRUE(said.has("bad   libev")) << said.text;
    EXPECT_TRUE(said.has("bytes do not come through")) << said.text;
    EXPECT_TRUE(said.has("exit 2")) << said.text;
}

TEST(Doctor, the_backend_that_was_asked_for) {
    const Said said = doctor({}, [] { return ::setenv("WHORL_BACKEND", "libev", 1) == 0; });
    EXPECT_TRUE(said.has("WHORL_BACKEND decides")) << said.text;
    EXPECT_TRUE(said.has("exit 1")) << said.text;
}

// What the kernel lacks is told by its version: on one before 6.15 an idle loop is shown as iowait.
TEST(Doctor, a_feature_that_the_kernel_lacks) {
    if (!has_io_uring()) GTEST_SKIP() << "this machine refuses io_uring";
    utsname system{};
    ASSERT_EQ(::uname(&system), 0);
    int major = 0, minor = 0;
    ASSERT_EQ(std::sscanf(system.release, "%d.%d", &major, &minor), 2);
    const bool has = major > 6 || (major == 6 && minor >= 15);
    const Said said = doctor({});
    if (has) EXPECT_TRUE(said.has("good  feature.no_iowait")) << said.text;
    else
        EXPECT_TRUE(
            said.has("note  feature.no_iowait         off: an idle loop is shown as waiting "
                     "for a disk (iowait)"))
            << said.text;
    EXPECT_TRUE(has || said.has("this kernel does not offer it")) << said.text;
}

// A machine made of files.
class Machine {
  public:
    Machine() { EXPECT_NE(::mkdtemp(folder_), nullptr); }
    ~Machine() {
        for (auto made = made_.rbegin(); made != made_.rend(); ++made) {
            (void)std::remove(made->c_str());
        }
        (void)::rmdir(folder_);
    }
    void file(const std::string& path, const std::string& text) {
        for (std::size_t at = 1; (at = path.find('/', at)) != std::string::npos; ++at) {
            const std::string folder = folder_ + path.substr(0, at);
            if (::mkdir(folder.c_str(), 0700) == 0) made_.push_back(folder);
        }
        std::ofstream(folder_ + path) << text << '\n';
        made_.push_back(folder_ + path);
    }
    Said examine() const { return doctor({"--root", folder_}); }

  private:
    char folder_[32] = "/tmp/whorl-machine-XXXXXX";
    std::vector<std::string> made_;
};

TEST(Doctor, a_machine_that_answers_late) {
    Machine machine;
    machine.file("/proc/sys/net/core/somaxconn", "128");
    machine.file("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet");
    machine.file("/sys/fs/cgroup/cpu.max", "50000 100000");
    machine.file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance");
    machine.file("/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave");
    machine.file("/sys/devices/system/cpu/isolated", "2-3");
    const Said said = machine.examine();
    EXPECT_TRUE(said.has("poor  limit.backlog             128 connections")) << said.text;
    EXPECT_TRUE(said.has("raise net.core.somaxconn")) << said.text;
    EXPECT_TRUE(said.has("poor  clock                     hpet: every reading")) << said.text;
    EXPECT_TRUE(said.has("poor  cpu.quota                 cpu.max is \"50000 100000\""))
        << said.text;
    EXPECT_TRUE(said.has("note  cpu.governor              powersave")) << said.text;
    EXPECT_TRUE(said.has("`performance` for steady latencies")) << said.text;
    EXPECT_TRUE(said.has("cpu.isolated              2-3: ")) << said.text;
}

TEST(Doctor, a_machine_as_it_should_be) {
    Machine machine;
    machine.file("/proc/sys/net/core/somaxconn", "4096");
    machine.file("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc");
    machine.file("/sys/fs/cgroup/cpu.max", "max 100000");
    machine.file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance");
    machine.file("/sys/devices/system/cpu/isolated", "");
    const Said said = machine.examine();
    EXPECT_TRUE(said.has("good  limit.backlog")) << said.text;
    EXPECT_TRUE(said.has("good  clock                     tsc\n")) << said.text;
    EXPECT_FALSE(said.has("cpu.quota")) << said.text;
    EXPECT_TRUE(said.has("good  cpu.governor              performance\n")) << said.text;
    EXPECT_TRUE(said.has("cpu.isolated              none")) << said.text;
    EXPECT_TRUE(doctor({"--root", "/nowhere/at/all"}).has("exit 3"));
}

constexpr char sysctl_file[] = "/proc/sys/kernel/io_uring_disabled";

// Where the kernel is the test's own (tools/old_kernels/run), the sysctl itself, if that kernel has it.
void expect_the_sysctl() {
    if (::access(sysctl_file, W_OK) != 0) return;
    std::ofstream(sysctl_file) << "2\n";
    const Said said = doctor({});
    std::ofstream(sysctl_file) << "0\n";
    EXPECT_TRUE(said.has("io_uring.cause            sysctl")) << said.text;
    EXPECT_TRUE(said.has("exit 1")) << said.text;
    EXPECT_TRUE(doctor({}).has("exit 0"));
}

// The sysctl is the whole machine's: its file is replaced in a mount namespace of the process.
TEST(Doctor, the_sysctl_is_told_from_seccomp) {
    if (std::getenv("WHORL_TEST_OWN_KERNEL") != nullptr) return expect_the_sysctl();
    if (::geteuid() != 0) GTEST_SKIP() << "needs root for a mount of its own";
    char name[] = "/tmp/whorl-sysctl-XXXXXX";
    const int fd = ::mkstemp(name);
    ASSERT_EQ(::write(fd, "2\n", 2), 2);
    ::close(fd);
    const Said said = doctor({}, [&] {
        return ::unshare(CLONE_NEWNS) == 0 &&
               ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
               ::mount(name, sysctl_file, nullptr, MS_BIND, nullptr) == 0 &&
               refuse_calls({SYS_io_uring_setup}, EPERM);
    });
    ::unlink(name);
    if (said.text == "exit 99") GTEST_SKIP() << "mounts are refused here";
    EXPECT_TRUE(said.has("kernel.io_uring_disabled forbids it")) << said.text;
    EXPECT_TRUE(said.has("io_uring.cause            sysctl")) << said.text;
    EXPECT_TRUE(said.has("kernel.io_uring_disabled is 2")) << said.text;
    EXPECT_TRUE(said.has("exit 1")) << said.text;
}

TEST(Doctor, few_descriptors) {
    const Said said = doctor({}, [] {
        const rlimit few{64, 64};
        return ::setrlimit(RLIMIT_NOFILE, &few) == 0;
    });
    EXPECT_TRUE(said.has("poor  limit.descriptors")) << said.text;
    EXPECT_TRUE(said.has("raise the hard limit")) << said.text;
    const Said soft = doctor({}, [] {
        rlimit limit{};
        if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return false;
        limit.rlim_cur = 64;
        return ::setrlimit(RLIMIT_NOFILE, &limit) == 0;
    });
    EXPECT_TRUE(soft.has("raise the soft limit")) << soft.text;
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

TEST(Doctor, nobody_reads_what_it_prints) {
    const Said closed = doctor({}, [] { return ::close(STDOUT_FILENO) == 0; });
    EXPECT_TRUE(closed.has("standard output")) << closed.text;
    EXPECT_TRUE(closed.has("exit 3")) << closed.text;
    const Said unread = doctor({"--json"}, [] {
        int ends[2];
        const bool made = ::pipe(ends) == 0 && ::dup2(ends[1], STDOUT_FILENO) >= 0;
        return made && ::close(ends[0]) == 0 && ::close(ends[1]) == 0;
    });
    EXPECT_TRUE(unread.has("Broken pipe")) << unread.text;
    EXPECT_TRUE(unread.has("exit 3")) << unread.text;
}

}  // namespace
}  // namespace whorl::conformance
