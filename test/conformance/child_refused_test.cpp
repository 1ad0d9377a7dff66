// SPDX-License-Identifier: MIT
// Goal: whatever system call a child is refused before it runs its program is told with its step and its
// errno and leaves neither a zombie nor a descriptor; without close_range(2) its descriptors are closed
// one by one. Method: a seccomp filter in a process of its own that refuses one call, by its arguments.
#include "conformance/child_tools.hpp"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <cstddef>

namespace whorl::conformance {
namespace {

// A system call with this value as its `argument`, counted from 0; -1: with any.
struct Refusal {
    long call;
    int argument;
    unsigned value;
    int error;
    SpawnStep step;
};

// From now on, for this process and its children.
bool refuse(const Refusal& refusal) {
    const auto argument = static_cast<unsigned>(
        offsetof(seccomp_data, args) + 8 * static_cast<unsigned>(std::max(refusal.argument, 0)));
    const unsigned answer = SECCOMP_RET_ERRNO | static_cast<unsigned>(refusal.error);
    const auto any = static_cast<unsigned char>(refusal.argument < 0 ? 1 : 0);
    sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(refusal.call), 0, 4),
        BPF_JUMP(BPF_JMP | BPF_JA, any != 0 ? 2u : 0u, 0, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, refusal.value, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, answer),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog program{static_cast<unsigned short>(std::size(filter)), filter};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

class ChildRefused : public ChildTools {
  protected:
    // Whether `body(loop)` answers true in a process that is refused this.
    template <class Body>
    static bool holds_where(const Refusal& refusal, Body body) {
        const pid_t child = ::fork();
        if (child == 0) {
            bool holds = refuse(refusal);
            {
                Loop loop = make_plain();
                holds = holds && body(loop);
            }
            ::_exit(holds && !HasFailure() ? 0 : 1);
        }
        int status = -1;
        EXPECT_EQ(::waitpid(child, &status, 0), child);
        return WIFEXITED(status) && WEXITSTATUS(status) == 0;
    }
    static Loop make_plain() {
        Result<Loop> made = Loop::create(options_here());
        if (!made) std::abort();
        return std::move(*made);
    }
};
WHORL_CONFORMANCE_REAL(ChildRefused);

TEST_P(ChildRefused, each_call_is_told_with_its_step) {
    WHORL_SKIP_IF_REFUSED();
    constexpr int as = 700;
    const Refusal refusals[] = {
        {SYS_mmap, 3, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, ENOMEM, SpawnStep::process},
        {SYS_setsid, -1, 0, EPERM, SpawnStep::session},
        {SYS_openat, 2, O_RDWR | O_CLOEXEC, ENODEV, SpawnStep::streams},
        {SYS_fcntl, 2, as + 1, EMFILE, SpawnStep::streams},
        {SYS_dup3, 1, as, EBUSY, SpawnStep::streams},
        {SYS_dup3, 1, 0, EBUSY, SpawnStep::streams},
        {SYS_chdir, -1, 0, EIO, SpawnStep::directory},
        {SYS_execve, -1, 0, ELIBBAD, SpawnStep::program},
    };
    for (const Refusal& refusal : refusals) {
        SCOPED_TRACE(std::string(name_of(refusal.step)) + " " + std::to_string(refusal.call));
        EXPECT_TRUE(holds_where(refusal, [&](Loop& loop) {
            const os::Program program({"true"});
            const ChildDescriptor further{1, as};
            SpawnOptions options = program.options();
            options.session = true;
            options.directory = "/";
            options.input = ChildStream::null();
            options.output = ChildStream::pipe();
            options.descriptors = &further;
            options.descriptor_count = 1;
            std::set<int> before;  // the first one starts the loop's worker
            for (const bool first : {true, false}) {
                const Spawn::Done done = spawn(loop, options);
                EXPECT_EQ(done.error, Error::from_errno(refusal.error));
                EXPECT_STREQ(name_of(done.step), name_of(refusal.step));
                EXPECT_FALSE(done.child);
                EXPECT_FALSE(os::has_children()) << "a zombie was left";
                expect_clean(loop);
                if (first) before = os::open_descriptors();
            }
            EXPECT_EQ(os::open_descriptors(), before);
            return true;
        }));
    }
}

TEST_P(ChildRefused, without_close_range_descriptors_are_closed_one_by_one) {
    WHORL_SKIP_IF_REFUSED();
    const Refusal refusal{SYS_close_range, -1, 0, ENOSYS, SpawnStep::none};
    EXPECT_TRUE(holds_where(refusal, [](Loop& loop) {
        const rlimit few{1024, 1024};
        if (::setrlimit(RLIMIT_NOFILE, &few) != 0) return false;
        // Such as another library may have open: without O_CLOEXEC.
        const Fd forgotten(::dup(0)), high(::fcntl(0, F_DUPFD, 300)),
            last(::fcntl(0, F_DUPFD, 1023));
        const os::Program program({"ls", "/proc/self/fd"});
        for (const bool more : {false, true}) {
            const ChildDescriptor further{0, 500};
            SpawnOptions options = program.options();
            options.descriptors = more ? &further : nullptr;
            options.descriptor_count = more ? 1 : 0;
            EXPECT_EQ(output_of(loop, options), more ? "0\n1\n2\n3\n500\n" : "0\n1\n2\n3\n");
        }
        return true;
    }));
}

}  // namespace
}  // namespace whorl::conformance
