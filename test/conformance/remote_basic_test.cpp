// SPDX-License-Identifier: MIT
// Goal: a Remote reaches its loop from any thread, or says that it is gone. Method: one poster at a
// time, so that every outcome is known; remote_stress_test.cpp has the crowds.
#include "conformance/support.hpp"
#include "conformance/tcp_pair.hpp"

#include <array>
#include <atomic>

namespace whorl::conformance {
namespace {

class RemoteBasic : public TcpTest {};
WHORL_CONFORMANCE(RemoteBasic);

TEST_P(RemoteBasic, wakes_a_sleeping_loop_and_runs_on_its_thread) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Result<Remote> remote = loop.remote();
    ASSERT_TRUE(remote);
    EXPECT_TRUE(remote->alive());
    const std::thread::id here = std::this_thread::get_id();
    int calls = 0;
    os::Thread poster([to = *remote, here, &calls] {
        EXPECT_TRUE(to.post([here, &calls](Loop& inner) {
            ++calls;
            EXPECT_EQ(std::this_thread::get_id(), here);
            inner.stop();
        }));
    });
    EXPECT_FALSE(loop.run(RunUntil::stopped));
    poster.join();
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(loop.statistics().remote_posts_run, 1u);
    EXPECT_LE(loop.statistics().remote_wakes, 1u);
}

TEST_P(RemoteBasic, keeps_the_order_of_one_thread_and_runs_a_share_a_turn) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.posts_per_turn = 10; });
    Result<Remote> remote = loop.remote();
    ASSERT_TRUE(remote);
    std::vector<int> order;
    for (int index = 0; index < 95; ++index) {
        ASSERT_TRUE(remote->post([&order, index](Loop&) { order.push_back(index); }));
    }
    EXPECT_FALSE(loop.poll());
    EXPECT_EQ(order.size(), 10u);
    for (int index = 95; index < 100; ++index) {
        ASSERT_TRUE(remote->post([&order, index](Loop&) { order.push_back(index); }));
    }
    EXPECT_FALSE(loop.run());  // what is posted keeps run() going
    ASSERT_EQ(order.size(), 100u);
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST_P(RemoteBasic, asks_for_no_wake_up_while_the_loop_is_awake) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Result<Remote> remote = loop.remote();
    ASSERT_TRUE(remote);
    struct Again {
        Remote remote;
        int left;
        void operator()(Loop&) {
            if (--left > 0) {
                EXPECT_TRUE(remote.post(this));
            }
        }
    };
    Again chain{*remote, 1000};
    ASSERT_TRUE(remote->post(&chain));  // before the loop has ever slept
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(chain.left, 0);
    EXPECT_EQ(loop.statistics().remote_wakes, 0u) << "an awake loop was woken";
}

TEST_P(RemoteBasic, many_posts_in_one_sleep_wake_once) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Result<Remote> remote = loop.remote();
    ASSERT_TRUE(remote);
    std::atomic<bool> posted{false};
    int calls = 0;
    os::Thread poster([&] {
        for (int index = 0; index < 1000; ++index)
            EXPECT_TRUE(remote->post([&](Loop&) { ++calls; }));
        posted = true;
    });
    // The loop is awake while its handler waits: at most the posts before that woke it.
    ASSERT_FALSE(loop.post([&](Loop&) { os::await([&] { return posted.load(); }); }));
    EXPECT_FALSE(loop.run());
    poster.join();
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 1000);
    EXPECT_LE(loop.statistics().remote_wakes, 1u);
}

TEST_P(RemoteBasic, stop_ends_a_sleeping_run_a_busy_run_and_the_next_run) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Result<Remote> remote = loop.remote();
    ASSERT_TRUE(remote);
    os::Thread stopper([to = *remote] { EXPECT_TRUE(to.stop()); });
    EXPECT_FALSE(loop.run(RunUntil::stopped));
    stopper.join();
    EXPECT_TRUE(remote->stop());
    EXPECT_FALSE(loop.run(RunUntil::stopped));
    Result<Timer> busy = loop.every(1us, [](Loop&, Expired) {});
    ASSERT_TRUE(busy);
    stopper = os::Thread([to = *remote] { EXPECT_TRUE(to.stop()); });
    EXPECT_FALSE(loop.run());
    stopper.join();
    EXPECT_TRUE(remote->stop());
    EXPECT_FALSE(loop.run_for(1h));
    EXPECT_TRUE(loop.cancel(*busy));
    EXPECT_FALSE(loop.run());
}

TEST_P(RemoteBasic, answers_false_and_destroys_the_handler_once_the_loop_is_gone) {
    WHORL_SKIP_IF_REFUSED();
    Remote copy;
    Witness witness;
    EXPECT_FALSE(copy.alive());
    EXPECT_FALSE(copy.post([](Loop&) { FAIL(); }));
    EXPECT_FALSE(copy.stop());
    {
        Loop loop = make_loop();
        Result<Remote> remote = loop.remote();
        ASSERT_TRUE(remote);
        copy = *remote;
        Remote moved = std::move(*remote);
        EXPECT_TRUE(moved.alive());
        for (int index = 0; index < 10; ++index) {
            EXPECT_TRUE(moved.post([t = witness.copy()](Loop&) { FAIL(); }));
        }
        EXPECT_EQ(witness.others(), 10);
    }
    EXPECT_TRUE(witness.alone()) << "posted and not run: destroyed with the loop";
    EXPECT_FALSE(copy.alive());
    EXPECT_FALSE(copy.post([t = witness.copy()](Loop&) { FAIL(); }));
    EXPECT_FALSE(copy.stop());
    EXPECT_TRUE(witness.alone());
    Remote another = copy;
    EXPECT_FALSE(another.post([](Loop&) { FAIL(); }));
}

TEST_P(RemoteBasic, what_one_turn_has_taken_and_not_run_goes_with_the_loop) {
    WHORL_SKIP_IF_REFUSED();
    Witness witness;
    {
        Loop loop = make_loop([](LoopOptions& options) { options.posts_per_turn = 3; });
        Result<Remote> remote = loop.remote();
        ASSERT_TRUE(remote);
        int calls = 0;
        for (int index = 0; index < 10; ++index) {
            EXPECT_TRUE(remote->post([&calls, t = witness.copy()](Loop&) { ++calls; }));
        }
        EXPECT_FALSE(loop.poll());
        EXPECT_EQ(calls, 3);
        EXPECT_EQ(witness.others(), 7);
    }
    EXPECT_TRUE(witness.alone());
}

TEST_P(RemoteBasic, a_handler_whose_destructor_posts_again_is_refused_while_the_loop_goes) {
    WHORL_SKIP_IF_REFUSED();
    struct Sticky {
        Remote remote;
        bool armed = true;
        explicit Sticky(Remote r) : remote(std::move(r)) {}
        Sticky(Sticky&& other) noexcept
            : remote(other.remote), armed(std::exchange(other.armed, false)) {}
        ~Sticky() {
            if (armed) {
                EXPECT_FALSE(remote.post([](Loop&) { FAIL(); }));
            }
        }
        void operator()(Loop&) { FAIL(); }
    };
    Loop loop = make_loop();
    Result<Remote> remote = loop.remote();
    ASSERT_TRUE(remote);
    EXPECT_TRUE(remote->post(Sticky(*remote)));
}

TEST_P(RemoteBasic, a_post_may_do_everything_a_handler_may) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    Result<Remote> remote = loop.remote();
    ASSERT_TRUE(remote);
    std::string got;
    os::Thread poster([&] {
        EXPECT_TRUE(remote->post([&](Loop& inner) {
            EXPECT_TRUE(inner.submit(Recv{pair.socket, inner.buffer(64)},
                                     [&](Loop& deeper, Recv::Done done) {
                                         got = done.buffer.text();
                                         deeper.stop();
                                     }));
            pair.peer.send("from the peer");
        }));
    });
    EXPECT_FALSE(loop.run(RunUntil::stopped));
    poster.join();
    EXPECT_EQ(got, "from the peer");
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(RemoteBasic, two_loops_play_ping_pong_asleep_in_between) {
    WHORL_SKIP_IF_REFUSED();
    struct Side {
        Remote other;
        Side* peer = nullptr;
        int left = 0;
        void operator()(Loop& loop) {
            if (--left <= 0) loop.stop();
            if (left >= 0) other.post(peer);
        }
    };
    const int rounds = static_cast<int>(scaled(5000));
    Side first, second;
    first.peer = &second;
    second.peer = &first;
    first.left = second.left = rounds;
    Loop here = make_loop();
    Result<Remote> to_here = here.remote();
    ASSERT_TRUE(to_here);
    second.other = *to_here;
    std::atomic<bool> ready{false};
    os::Thread thread([&] {
        Result<Loop> there = Loop::create(options_here());
        ASSERT_TRUE(there);
        first.other = *there->remote();
        ready = true;
        EXPECT_FALSE(there->run(RunUntil::stopped));
    });
    os::await([&] { return ready.load(); });
    ASSERT_FALSE(here.post(&first));
    EXPECT_FALSE(here.run(RunUntil::stopped));
    thread.join();
    EXPECT_LE(first.left, 0);
    EXPECT_LE(second.left, 0);
}

TEST_P(RemoteBasic, opening_and_closing_thousands_leaves_no_descriptor) {
    WHORL_SKIP_IF_REFUSED();
    const std::set<int> before = os::open_descriptors();
    for (std::uint64_t round = 0; round < scaled(300); ++round) {
        Loop loop = make_loop();
        std::array<Remote, 30> copies;
        for (Remote& copy : copies) copy = *loop.remote();
        EXPECT_TRUE(copies[round % 30].post([](Loop&) {}));
        if (round % 2 == 0) {
            EXPECT_FALSE(loop.run());
        }
    }
    EXPECT_EQ(os::open_descriptors(), before);
}

}  // namespace
}  // namespace whorl::conformance
