// SPDX-License-Identifier: MIT
// Goal: LoopOptions::ring_limit is in force wherever the loop's ring is made, and a loop that cannot
// have it does not run without. Method: a ring that is made anew for another thread or for a host is
// found among the process's descriptors and asked for what it must refuse; a child refuses itself the
// call that sets the limit. The configurations io_uring_level_* run all other tests under a limit.
#include "conformance/backend_child.hpp"
#include "conformance/fixture.hpp"

#include <sys/syscall.h>

#include <cstring>
#include <thread>

namespace whorl::conformance {
namespace {

class RingLimits : public LoopTest {
  protected:
    // What the loop's ring answers to a registration that no limit allows: an errno value.
    static int answer_of_ring() {
        for (const int fd : os::open_descriptors()) {
            char target[64] = {};
            const std::string path = "/proc/self/fd/" + std::to_string(fd);
            if (::readlink(path.c_str(), target, sizeof target - 1) <= 0) continue;
            if (std::string_view(target) != "anon_inode:[io_uring]") continue;
            constexpr long register_personality = 9;
            return ::syscall(SYS_io_uring_register, fd, register_personality, nullptr, 0) < 0
                       ? errno
                       : 0;
        }
        return ENOENT;
    }
    static void expect_limited() {
        const int answer = answer_of_ring();
        if (GetParam().options.backend == Backend::libev) EXPECT_EQ(answer, ENOENT);
        else if (GetParam().options.ring_limit == RingLimit::none) EXPECT_EQ(answer, 0);
        else EXPECT_EQ(answer, EACCES);
    }
};

TEST_P(RingLimits, hold_from_the_beginning) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    expect_limited();
    ASSERT_FALSE(loop.poll());
    expect_limited();
}

TEST_P(RingLimits, hold_for_a_loop_that_runs_on_another_thread) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    os::Thread([moved = std::move(loop)]() mutable {
        bool done = false;
        ASSERT_TRUE(moved.submit(Nop{}, [&](Loop&, Nop::Done end) { done = !end.error; }));
        run_until(moved, [&] { return done; });
        expect_limited();
        Loop ends_here = std::move(moved);
    }).join();
}

TEST_P(RingLimits, hold_for_a_guest) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Result<int> fd = loop.notify_fd();
    ASSERT_TRUE(fd);
    expect_limited();
    bool done = false;
    ASSERT_FALSE(loop.post([&](Loop&) { done = true; }));
    ASSERT_FALSE(loop.process());
    EXPECT_TRUE(done);
}

WHORL_CONFORMANCE_REAL(RingLimits);

TEST(RingLimitRefused, is_a_refusal_of_io_uring) {
    const auto child = [](Backend backend) {
        return in_child([backend] {
            if (!refuse_calls({SYS_io_uring_register}, EPERM)) return std::string("no filter");
            LoopOptions options;
            options.backend = backend;
            options.ring_limit = RingLimit::used;
            BackendReport report;
            const Result<Loop> loop = Loop::create(options, report);
            return std::string(loop ? loop->backend_name() : loop.error().name()) + " " +
                   report.failed_step + " " + (report.fell_back ? "fell back" : "");
        });
    };
    if (!Loop::create(options_for(Backend::io_uring)) ||
        !Loop::create(options_for(Backend::libev))) {
        GTEST_SKIP() << "this machine refuses one of them";
    }
    EXPECT_EQ(child(Backend::automatic), "libev io_uring_register fell back");
    EXPECT_EQ(child(Backend::io_uring), "backend_unavailable io_uring_register ");
}

TEST(RingLimitRefused, an_unknown_level_is_an_error) {
    LoopOptions options;
    options.ring_limit = static_cast<RingLimit>(200);
    const Result<Loop> loop = Loop::create(options);
    ASSERT_FALSE(loop);
    EXPECT_EQ(loop.error(), Error::invalid_argument);
}

}  // namespace
}  // namespace whorl::conformance
