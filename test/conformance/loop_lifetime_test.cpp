// SPDX-License-Identifier: MIT
// Goal: where and when loops may be made, moved, run and destroyed. Method: threads that make and end
// loops, tokens in handlers that tell when those are destroyed, and processes that exit with loops.
#include "conformance/support.hpp"
#include "conformance/tcp_pair.hpp"

#include <atomic>

namespace whorl::conformance {
namespace {

class LoopLifetime : public TcpTest {
  protected:
    // Everything that can be pending without the kernel: never run, so nothing has been submitted.
    static void arm_everything(Loop& loop, const Witness& witness, int fd) {
        const auto token = [&] { return witness.copy(); };
        const Listener listener = listen_here(loop);
        const Listener closing = listen_here(loop);
        EXPECT_TRUE(loop.submit(Nop{}, [t = token()](Loop&, Nop::Done) { FAIL(); }));
        EXPECT_TRUE(loop.submit(Nop{}, within(1h), [t = token()](Loop&, Nop::Done) { FAIL(); }));
        EXPECT_TRUE(loop.submit(Accept{listener}, [t = token()](Loop&, Accept::Done) { FAIL(); }));
        EXPECT_TRUE(loop.submit(AcceptStream{listener}, until(os::now() + 1h),
                                [t = token()](Loop&, AcceptStream::Done) { FAIL(); }));
        EXPECT_TRUE(loop.submit(Connect{Address::loopback_v4(port_of(loop, listener))},
                                [t = token()](Loop&, Connect::Done) { FAIL(); }));
        EXPECT_TRUE(loop.after(1s, [t = token()](Loop&, Expired) { FAIL(); }));
        EXPECT_TRUE(loop.at(os::now(), [t = token()](Loop&, Expired) { FAIL(); }));
        EXPECT_TRUE(loop.every(1ms, [t = token()](Loop&, Expired) { FAIL(); }));
        EXPECT_FALSE(loop.post([t = token()](Loop&) { FAIL(); }));
        EXPECT_TRUE(loop.watch(fd, Interest::readable, [t = token()](Loop&, Watched) { FAIL(); }));
        EXPECT_TRUE(loop.watch(fd, Interest::none, [t = token()](Loop&, Watched) { FAIL(); }));
        EXPECT_TRUE(loop.hook(HookPoint::before_wait, [t = token()](Loop&) { FAIL(); }));
        EXPECT_TRUE(loop.hook(HookPoint::after_wait, [t = token()](Loop&) { FAIL(); }));
        EXPECT_FALSE(loop.close(closing, [t = token()](Loop&) { FAIL(); }));
        Result<Operation> cancelled =
            loop.submit(Nop{}, [t = token()](Loop&, Nop::Done) { FAIL(); });
        EXPECT_EQ(loop.cancel(*cancelled), Cancelled::cancelling);
        Result<Remote> remote = loop.remote();
        EXPECT_TRUE(remote->post([t = token()](Loop&) { FAIL(); }));
        EXPECT_EQ(witness.others(), 16);
    }
};
WHORL_CONFORMANCE(LoopLifetime);

TEST_P(LoopLifetime, a_loop_that_never_ran_is_destroyed_with_everything_armed) {
    WHORL_SKIP_IF_REFUSED();
    Witness witness;
    Ends ends = Ends::pipe();
    {
        Loop loop = make_loop();
        arm_everything(loop, witness, ends.in.get());
    }
    EXPECT_TRUE(witness.alone()) << witness.others() << " handlers were not destroyed";
}

TEST_P(LoopLifetime, a_loop_that_ran_a_turn_is_destroyed_with_everything_armed) {
    WHORL_SKIP_IF_REFUSED();
    Witness witness;
    Ends ends = Ends::pipe();
    Ends quiet = Ends::pipe();
    {
        Loop loop = make_loop();
        Result<Watch> watch = loop.watch(quiet.in.get(), Interest::readable,
                                         [t = witness.copy()](Loop&, Watched) { FAIL(); });
        ASSERT_TRUE(watch);
        const Listener listener = listen_here(loop);
        ASSERT_TRUE(
            loop.submit(Accept{listener}, [t = witness.copy()](Loop&, Accept::Done) { FAIL(); }));
        ASSERT_FALSE(loop.poll());
        witness = Witness();
        arm_everything(loop, witness, ends.in.get());
    }
    EXPECT_TRUE(witness.alone()) << witness.others() << " handlers were not destroyed";
}

TEST_P(LoopLifetime, made_on_one_thread_and_run_on_another) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Listener listener = listen_here(loop);
    const std::uint16_t port = port_of(loop, listener);
    int nops = 0, timers = 0;
    Socket socket;
    std::string got;
    ASSERT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) { ++nops; }));
    ASSERT_TRUE(loop.after(1ms, [&](Loop&, Expired) { ++timers; }));
    ASSERT_TRUE(loop.submit(Accept{listener}, [&](Loop& inner, Accept::Done done) {
        EXPECT_FALSE(done.error);
        socket = done.socket;
        EXPECT_TRUE(inner.submit(RecvStream{socket}, [&](Loop& deeper, RecvStream::Done part) {
            got += part.buffer.text();
            if (!part.more) {
                EXPECT_FALSE(deeper.close(socket));
            }
        }));
    }));
    Peer peer = Peer::connect_to(port);
    peer.send("hello");
    peer.finish_sending();
    os::Thread runner([moved = std::move(loop), listener, &got]() mutable {
        run_until(moved, [&] { return !got.empty(); });
        EXPECT_FALSE(moved.close(listener));
        EXPECT_FALSE(moved.run());
        expect_clean(moved);
    });
    runner.join();
    EXPECT_EQ(nops, 1);
    EXPECT_EQ(timers, 1);
    EXPECT_EQ(got, "hello");
}

TEST_P(LoopLifetime, made_on_one_thread_and_destroyed_on_another_unrun) {
    WHORL_SKIP_IF_REFUSED();
    Witness witness;
    Ends ends = Ends::pipe();
    Loop loop = make_loop();
    arm_everything(loop, witness, ends.in.get());
    os::Thread([moved = std::move(loop)] {}).join();
    EXPECT_TRUE(witness.alone());
}

TEST_P(LoopLifetime, destroyed_on_another_thread_after_its_own_has_ended) {
    WHORL_SKIP_IF_REFUSED();
    Witness witness;
    Ends ends = Ends::pipe();
    {
        Loop loop = make_loop();
        os::Thread([&] {
            EXPECT_TRUE(loop.after(1h, [t = witness.copy()](Loop&, Expired) { FAIL(); }));
            EXPECT_FALSE(loop.post([t = witness.copy()](Loop&) {}));
            EXPECT_FALSE(loop.poll());
            EXPECT_FALSE(loop.post([t = witness.copy()](Loop&) { FAIL(); }));
        }).join();
        EXPECT_EQ(witness.others(), 2);
    }
    EXPECT_TRUE(witness.alone());
}

TEST_P(LoopLifetime, destroyed_on_another_thread_with_watch_and_accept_still_armed) {
    WHORL_SKIP_IF_REFUSED();
    Witness witness;
    Ends ends = Ends::pipe();
    {
        Loop loop = make_loop();
        os::Thread([&] {
            EXPECT_TRUE(loop.watch(ends.in.get(), Interest::readable,
                                   [t = witness.copy()](Loop&, Watched) { FAIL(); }));
            const Listener listener = listen_here(loop);
            EXPECT_TRUE(loop.submit(AcceptStream{listener}, within(1h),
                                    [t = witness.copy()](Loop&, AcceptStream::Done) { FAIL(); }));
            EXPECT_TRUE(loop.submit(Accept{listener},
                                    [t = witness.copy()](Loop&, Accept::Done) { FAIL(); }));
            for (int turn = 0; turn < 3; ++turn) EXPECT_FALSE(loop.poll());
        }).join();
        EXPECT_EQ(witness.others(), 3);
    }
    EXPECT_TRUE(witness.alone());
}

TEST_P(LoopLifetime, moving_keeps_handles_and_what_is_pending) {
    WHORL_SKIP_IF_REFUSED();
    Loop first = make_loop();
    int calls = 0;
    Loop* seen = nullptr;
    Result<Operation> nop = first.submit(Nop{}, [&](Loop& inner, Nop::Done) {
        ++calls;
        seen = &inner;
    });
    Result<Timer> timer = first.after(1h, [&](Loop&, Expired) { ++calls; });
    ASSERT_TRUE(nop && timer);
    Loop second = std::move(first);
    EXPECT_TRUE(second.alive(*nop));
    EXPECT_TRUE(second.cancel(*timer));
    EXPECT_FALSE(second.run());
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(seen, &second);
    Witness witness;
    Loop third = make_loop();
    ASSERT_TRUE(third.after(1h, [t = witness.copy()](Loop&, Expired) { FAIL(); }));
    third = std::move(second);  // what it was is destroyed
    EXPECT_TRUE(witness.alone());
    EXPECT_TRUE(third.after(1ms, [&](Loop& inner, Expired) { seen = &inner; }));
    EXPECT_FALSE(third.run());
    EXPECT_EQ(seen, &third);
}

TEST_P(LoopLifetime, loops_in_a_growing_vector_keep_running) {
    WHORL_SKIP_IF_REFUSED();
    std::vector<Loop> loops;
    int calls = 0;
    for (int index = 0; index < 9; ++index) {
        loops.push_back(make_loop());
        ASSERT_TRUE(loops.back().submit(Nop{}, [&](Loop&, Nop::Done) { ++calls; }));
        ASSERT_FALSE(loops.front().poll());
    }
    for (Loop& loop : loops) EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 9);
}

TEST_P(LoopLifetime, handlers_that_use_the_loop_while_they_are_destroyed_with_it) {
    WHORL_SKIP_IF_REFUSED();
    // A guard that ends its timer and its watch when its handler goes, as RAII code does.
    struct Guard {
        Loop* loop;
        Timer timer;
        Watch watch;
        Guard(Loop* l, Timer t, Watch w) : loop(l), timer(t), watch(w) {}
        Guard(Guard&& other) noexcept
            : loop(std::exchange(other.loop, nullptr)), timer(other.timer), watch(other.watch) {}
        ~Guard() {
            if (loop == nullptr) return;
            loop->cancel(timer);
            loop->cancel(watch);
            EXPECT_EQ(loop->post([](Loop&) { FAIL(); }), Error::loop_closed);
            EXPECT_EQ(loop->after(1s, [](Loop&, Expired) {}).error(), Error::loop_closed);
        }
    };
    Witness witness;
    Ends ends = Ends::pipe();
    {
        Loop loop = make_loop();
        for (int round = 0; round < 4; ++round) {
            Result<Timer> timer = loop.after(1h, [t = witness.copy()](Loop&, Expired) { FAIL(); });
            Result<Watch> watch = loop.watch(ends.in.get(), Interest::readable,
                                             [t = witness.copy()](Loop&, Watched) { FAIL(); });
            ASSERT_TRUE(timer && watch);
            Guard guard(&loop, *timer, *watch);
            if (round == 0) {
                ASSERT_FALSE(loop.post([g = std::move(guard)](Loop&) {}));
            } else if (round == 1) {
                ASSERT_TRUE(loop.after(1h, [g = std::move(guard)](Loop&, Expired) {}));
            } else if (round == 2) {
                ASSERT_TRUE(loop.submit(Nop{}, [g = std::move(guard)](Loop&, Nop::Done) {}));
            } else
                ASSERT_TRUE(loop.watch(ends.in.get(), Interest::readable,
                                       [g = std::move(guard)](Loop&, Watched) {}));
            if (round == 1) {
                ASSERT_FALSE(loop.post([](Loop& inner) { inner.stop(); }));
            }
        }
    }
    EXPECT_TRUE(witness.alone());
}

TEST_P(LoopLifetime, three_hundred_loops_leave_no_descriptor_behind) {
    WHORL_SKIP_IF_REFUSED();
    const std::set<int> before = os::open_descriptors();
    for (std::uint64_t round = 0; round < scaled(300); ++round) {
        Loop loop = make_loop();
        int calls = 0;
        ASSERT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) { ++calls; }));
        if (round % 3 == 0) {
            ASSERT_TRUE(loop.remote());
        }
        if (round % 5 == 0) {
            ASSERT_TRUE(loop.notify_fd());
        }
        if (round % 2 == 0) {
            ASSERT_FALSE(loop.run());
        }
        EXPECT_EQ(calls, round % 2 == 0 ? 1 : 0);
    }
    EXPECT_EQ(os::open_descriptors(), before);
}

TEST_P(LoopLifetime, many_threads_make_run_and_destroy_loops) {
    WHORL_SKIP_IF_REFUSED();
    std::atomic<int> calls{0};
    std::vector<os::Thread> threads;
    constexpr int rounds = 10;
    for (int index = 0; index < 4; ++index) {
        threads.emplace_back([&] {
            for (int round = 0; round < rounds; ++round) {
                Result<Loop> loop = Loop::create(options_here());
                ASSERT_TRUE(loop);
                EXPECT_TRUE(loop->submit(Nop{}, [&](Loop&, Nop::Done) { ++calls; }));
                EXPECT_TRUE(loop->after(0ns, [&](Loop&, Expired) { ++calls; }));
                EXPECT_FALSE(loop->run());
            }
        });
    }
    for (os::Thread& thread : threads) thread.join();
    EXPECT_EQ(calls, 4 * rounds * 2);
}

}  // namespace
}  // namespace whorl::conformance
