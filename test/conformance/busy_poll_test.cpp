// SPDX-License-Identifier: MIT
// Goal: a loop that looks before it sleeps does everything that a sleeping one does: completions, timers,
// posts and stops of other threads end its looking, poll() and guests do not look at all, and when the time
// is over it sleeps. Method: loops that would look for ever, so that what does not end it hangs; whether a
// loop sleeps is told by whether others had to wake it.
#include "conformance/tcp_tools.hpp"

#include <atomic>
#include <chrono>

namespace whorl::conformance {
namespace {

class BusyPoll : public TcpTools {
  protected:
    Loop make_busy_loop(Nanoseconds time = Nanoseconds::max()) {
        return make_loop([&](LoopOptions& options) { options.busy_poll = time; });
    }
};

TEST_P(BusyPoll, completions_end_it) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_busy_loop();
    Pair pair = make_pair(loop);
    End receive, send;
    ASSERT_TRUE(loop.submit(Recv{pair.socket, Buffer::allocate(8)}, into(receive)));
    ASSERT_FALSE(loop.post([&](Loop&) { pair.peer.send("ping"); }));
    while (receive.finals == 0) ASSERT_FALSE(loop.run_once());
    EXPECT_EQ(receive.text, "ping");
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(BusyPoll, timers_end_it_and_are_not_early) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_busy_loop();
    Instant fired{};
    const Instant due = os::now() + 2ms;
    ASSERT_TRUE(loop.after(2ms, [&](Loop&, Expired) { fired = os::now(); }));
    ASSERT_FALSE(loop.run());
    EXPECT_GE(fired, due);
    ASSERT_FALSE(loop.run_for(1ms));
    ASSERT_FALSE(loop.poll());
    EXPECT_EQ(loop.run_once(), Error::nothing_to_wait_for);
}

TEST_P(BusyPoll, files_and_blocking_work_end_it) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_busy_loop();
    int done = 0;
    ASSERT_TRUE(loop.submit(Work{[] { return 7; }}, [&](Loop&, const auto& result) {
        EXPECT_FALSE(result.error);
        ++done;
    }));
    ASSERT_FALSE(loop.run());
    EXPECT_EQ(done, 1);
}

TEST_P(BusyPoll, a_guest_does_not_look) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_busy_loop();
    ASSERT_TRUE(loop.notify_fd());
    ASSERT_TRUE(loop.after(1h, [](Loop&, Expired) {}));
    ASSERT_FALSE(loop.process());  // comes back
}

WHORL_CONFORMANCE(BusyPoll);

class BusyPollReal : public BusyPoll {};

TEST_P(BusyPollReal, others_need_not_wake_who_looks) {
    WHORL_SKIP_IF_REFUSED();
    constexpr int posts = 20;
    Loop loop = make_busy_loop();
    const Result<Remote> remote = loop.remote();
    ASSERT_TRUE(remote);
    int ran = 0;
    std::thread other([&] {
        std::atomic<int> heard{0};
        for (int next = 1; next <= posts; ++next) {
            EXPECT_TRUE(remote->post([&, next](Loop&) {
                ++ran;
                heard.store(next);
            }));
            while (heard.load() != next) std::this_thread::yield();
        }
        EXPECT_TRUE(remote->stop());
    });
    ASSERT_FALSE(loop.run(RunUntil::stopped));
    other.join();
    EXPECT_EQ(ran, posts);
    EXPECT_EQ(loop.statistics().remote_wakes, 0u);
}

// Posts come further and further apart, until one has had to wake the loop.
TEST_P(BusyPollReal, sleeps_when_the_time_is_over) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_busy_loop(1ms);
    const Result<Remote> remote = loop.remote();
    ASSERT_TRUE(remote);
    std::thread other([&] {
        std::atomic<bool> woken{false};
        std::atomic<int> heard{0};
        const Instant end = clock_now() + 60s;
        for (int next = 1; !woken.load() && clock_now() < end; ++next) {
            const Instant pause = clock_now() + next * Nanoseconds(1ms);
            while (clock_now() < pause) std::this_thread::yield();
            EXPECT_TRUE(remote->post([&, next](Loop& here) {
                woken.store(here.statistics().remote_wakes != 0);
                heard.store(next);
            }));
            while (heard.load() != next) std::this_thread::yield();
        }
        EXPECT_TRUE(remote->stop());
    });
    ASSERT_FALSE(loop.run(RunUntil::stopped));
    other.join();
    EXPECT_GE(loop.statistics().remote_wakes, 1u);
}

WHORL_CONFORMANCE_REAL(BusyPollReal);

}  // namespace
}  // namespace whorl::conformance
