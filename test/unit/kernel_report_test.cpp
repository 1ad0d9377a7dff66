// SPDX-License-Identifier: MIT
// Goal: what whorl finds on this kernel, for docs/kernels.md. Method: makes loops and rings and prints
// what they report, a line `said: …` each; the lines must not contradict each other.
#include "backend/kernel_quirks.hpp"
#include "backend/ring.hpp"

#include <gtest/gtest.h>
#include <whorl/whorl.hpp>

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>

namespace whorl::detail {
namespace {

class KernelReport : public testing::Test {
  protected:
    void SetUp() override {
        LoopOptions options;
        options.backend = Backend::io_uring;
        const Result<Loop> loop = Loop::create(options, report_);
        if (!loop) GTEST_SKIP() << report_.text;
    }
    bool open(Ring& ring, unsigned entries) {
        Ring::Setup setup{};
        setup.entries = entries;
        setup.completion_entries = entries * 4;
        setup.defer_taskrun = (report_.features & feature_bit(Feature::defer_taskrun)) != 0;
        Ring::Failure failure{"", 0};
        return !ring.open(setup, failure);
    }

    BackendReport report_;
};

TEST_F(KernelReport, names_its_features) {
    const KernelVersion kernel = kernel_version_running();
    std::printf("said: Linux %u.%u.%u%s, %s\n", kernel.major, kernel.minor, kernel.patch,
                kernel.patch_known ? "" : " or later", report_.text);
#define WHORL_FEATURE_SAY(name, text)                                                           \
    std::printf("said: %s %s\n",                                                                \
                (report_.features & feature_bit(Feature::name)) != 0              ? "has"       \
                : (report_.features_distrusted & feature_bit(Feature::name)) != 0 ? "distrusts" \
                                                                                  : "lacks",    \
                #name);
    WHORL_FEATURE_LIST(WHORL_FEATURE_SAY)
#undef WHORL_FEATURE_SAY
    EXPECT_EQ(report_.features & report_.features_distrusted, 0u);
    EXPECT_EQ(report_.features_distrusted & ~kernel_judge(kernel).features_off, 0u);
}

TEST_F(KernelReport, knows_the_newest_operation) {
    Ring ring(real_ring_calls());
    ASSERT_TRUE(open(ring, 8));
    unsigned newest = 0;
    for (unsigned opcode = 0; opcode < 256; ++opcode) {
        if (ring.opcode_supported(opcode)) newest = opcode;
    }
    std::printf("said: newest operation %u\n", newest);
    EXPECT_GE(newest, unsigned{IORING_OP_SENDMSG});
}

// Whether a ring's memory counts as locked: an unprivileged process with a limit of 64 KiB asks for a
// ring that is larger.
TEST_F(KernelReport, tells_whether_rings_count_as_locked_memory) {
    if (geteuid() != 0) GTEST_SKIP() << "needs root, to give it up";
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        const rlimit limit{65536, 65536};
        if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0 || setuid(65534) != 0) _exit(2);
        io_uring plain{};
        io_uring_params params{};
        const int done = io_uring_queue_init_params(4096, &plain, &params);
        _exit(done == 0 ? 0 : done == -ENOMEM ? 1 : 2);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_LE(WEXITSTATUS(status), 1);
    std::printf("said: a ring %s locked memory\n",
                WEXITSTATUS(status) == 0 ? "is not" : "counts as");
}

// Two receives at once on one socket, which whorl never has: which of them gets the first message.
TEST_F(KernelReport, tells_the_order_of_two_receives_on_one_socket) {
    Ring ring(real_ring_calls());
    ASSERT_TRUE(open(ring, 8));
    int reversed = 0;
    constexpr int rounds = 20;
    for (int round = 0; round < rounds; ++round) {
        int ends[2];
        ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        char text[2] = {};
        for (unsigned index = 0; index < 2; ++index) {
            io_uring_sqe* sqe = ring.entry();
            io_uring_prep_recv(sqe, ends[0], &text[index], 1, 0);
            sqe->user_data = index;
        }
        ASSERT_FALSE(ring.enter(0, Nanoseconds::zero()));
        ASSERT_EQ(::write(ends[1], "ab", 2), 2);
        for (int count = 0; count < 2; ++count) {
            ASSERT_FALSE(ring.enter(1, std::chrono::seconds(5)));
            ASSERT_NE(ring.completions(), 0u);
            EXPECT_EQ(ring.completion(0).res, 1);
            ring.pop(1);
        }
        if (text[0] == 'b') ++reversed;
        ::close(ends[0]);
        ::close(ends[1]);
    }
    std::printf("said: of two receives on a socket the second came first in %d of %d\n", reversed,
                rounds);
}

}  // namespace
}  // namespace whorl::detail
