// SPDX-License-Identifier: MIT
// Goal: what run, run_once, poll, run_for and stop promise. Method: handlers that count and stop, on
// every backend; nothing is timed but lower bounds.
#include "conformance/support.hpp"
#include "conformance/tcp_pair.hpp"

namespace whorl::conformance {
namespace {

class LoopRun : public TcpTest {
  protected:
    // Submits `count` no-ops that count into `calls`; the one that makes it `stop_at` stops the loop.
    static void submit_nops(Loop& loop, int count, int& calls, int stop_at = -1) {
        for (int index = 0; index < count; ++index) {
            ASSERT_TRUE(loop.submit(Nop{}, [&calls, stop_at](Loop& inner, Nop::Done done) {
                EXPECT_FALSE(done.error);
                if (++calls == stop_at) inner.stop();
            }));
        }
    }
};
WHORL_CONFORMANCE(LoopRun);

TEST_P(LoopRun, run_returns_when_nothing_is_left_to_wait_for) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    EXPECT_FALSE(loop.run());
    int calls = 0;
    ASSERT_TRUE(loop.after(1ms, [&](Loop& inner, Expired) {
        ++calls;
        EXPECT_TRUE(inner.submit(Nop{}, [&](Loop&, Nop::Done) { ++calls; }));
        EXPECT_FALSE(inner.post([&](Loop&) { ++calls; }));
    }));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 3);
    EXPECT_FALSE(loop.run());
    expect_clean(loop);
}

TEST_P(LoopRun, run_once_says_so_instead_of_waiting_for_ever) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    EXPECT_EQ(loop.run_once(), Error::nothing_to_wait_for);
    int calls = 0;
    ASSERT_TRUE(loop.after(1ms, [&](Loop&, Expired) { ++calls; }));
    while (calls == 0) ASSERT_FALSE(loop.run_once());
    EXPECT_EQ(loop.run_once(), Error::nothing_to_wait_for);
    EXPECT_EQ(calls, 1);
}

TEST_P(LoopRun, now_is_one_reading_in_a_turn_and_a_new_one_between_turns) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    ASSERT_FALSE(loop.poll());
    const Instant before = loop.now();
    os::stay_busy(5ms);
    EXPECT_GE(loop.now() - before, 5ms);
    ASSERT_FALSE(loop.post([](Loop& inner) {
        const Instant first = inner.now();
        os::stay_busy(5ms);
        EXPECT_EQ(inner.now(), first);
    }));
    ASSERT_FALSE(loop.run());
    EXPECT_GE(loop.now() - before, 10ms);
}

TEST_P(LoopRun, poll_does_what_is_due_and_does_not_wait) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int calls = 0, timers = 0;
    Result<Timer> far = loop.after(1h, [&](Loop&, Expired) { ++timers; });
    ASSERT_TRUE(far);
    submit_nops(loop, 1, calls);
    const Instant end = os::now() + 10s;
    while (calls == 0 && os::now() < end) ASSERT_FALSE(loop.poll());
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(timers, 0);
    EXPECT_FALSE(loop.poll());
    EXPECT_TRUE(loop.cancel(*far));
    EXPECT_FALSE(loop.poll());  // nothing at all to do is no error
}

TEST_P(LoopRun, polling_alone_makes_everything_progress) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    Ends ends = Ends::pipe();
    int received = 0, watched = 0, fired = 0;
    ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(100)}, [&](Loop&, Recv::Done done) {
        EXPECT_EQ(done.buffer.text(), "late");
        ++received;
    }));
    Result<Watch> watch =
        loop.watch(ends.in.get(), Interest::readable, [&](Loop& inner, Watched event) {
            ++watched;
            EXPECT_TRUE(inner.cancel(event.watch));
        });
    ASSERT_TRUE(watch);
    ASSERT_TRUE(loop.after(2ms, [&](Loop&, Expired) { ++fired; }));
    for (int turn = 0; turn < 100; ++turn) ASSERT_FALSE(loop.poll());
    EXPECT_EQ(received + watched, 0);
    pair.peer.send("late");
    ends.out.write("x");
    const Instant end = os::now() + 10s;
    while (received + watched + fired < 3 && os::now() < end) ASSERT_FALSE(loop.poll());
    EXPECT_EQ(received, 1);
    EXPECT_EQ(watched, 1);
    EXPECT_EQ(fired, 1);
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(LoopRun, run_for_takes_its_whole_time_even_when_nothing_is_pending) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Instant start = os::now();
    EXPECT_FALSE(loop.run_for(20ms));
    EXPECT_GE(os::now() - start, 20ms);
    int ticks = 0;
    Result<Timer> timer = loop.every(1ms, [&](Loop&, Expired) { ++ticks; });
    ASSERT_TRUE(timer);
    start = os::now();
    EXPECT_FALSE(loop.run_for(20ms));
    EXPECT_GE(os::now() - start, 20ms);
    EXPECT_GE(ticks, 1);
    EXPECT_TRUE(loop.cancel(*timer));
}

TEST_P(LoopRun, an_idle_run_for_does_not_spin) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    EXPECT_FALSE(loop.run_for(1ms));
    expect_idle(loop, 50ms, "the loop spins with nothing to do");
}

TEST_P(LoopRun, run_for_zero_looks_once_and_an_early_stop_ends_it) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    EXPECT_FALSE(loop.run_for(0ns));
    EXPECT_FALSE(loop.run_for(-1s));
    ASSERT_TRUE(loop.after(1ms, [](Loop& inner, Expired) { inner.stop(); }));
    const Instant start = os::now();
    EXPECT_FALSE(loop.run_for(1h));
    EXPECT_LT(os::now() - start, 10min);
}

TEST_P(LoopRun, stop_in_a_post_returns_after_it_and_loses_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int calls = 0;
    for (int index = 0; index < 10; ++index) {
        ASSERT_FALSE(loop.post([&](Loop& inner) {
            if (++calls == 4) inner.stop();
        }));
    }
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 4);
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 10);
}

TEST_P(LoopRun, stop_in_a_completion_returns_after_it_and_loses_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int calls = 0;
    submit_nops(loop, 40, calls, 7);
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 7);
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 40);
    expect_clean(loop);
}

TEST_P(LoopRun, stop_in_a_timer_returns_after_it_and_loses_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int calls = 0;
    const Instant deadline = os::now() + 2ms;
    for (int index = 0; index < 10; ++index) {
        ASSERT_TRUE(loop.at(deadline, [&](Loop& inner, Expired) {
            if (++calls == 3) inner.stop();
        }));
    }
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 3);
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 10);
    expect_clean(loop);
}

TEST_P(LoopRun, stop_in_what_ended_inside_the_loop_loses_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int calls = 0;
    for (int index = 0; index < 6; ++index) {
        Result<Operation> nop = loop.submit(Nop{}, [&](Loop& inner, Nop::Done done) {
            EXPECT_EQ(done.error, Error::cancelled);
            if (++calls == 2) inner.stop();
        });
        ASSERT_TRUE(nop);
        EXPECT_EQ(loop.cancel(*nop), Cancelled::cancelling);
        EXPECT_EQ(loop.cancel(*nop), Cancelled::already_completing);
    }
    EXPECT_EQ(calls, 0) << "cancel called a handler";
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 2);
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 6);
    expect_clean(loop);
}

TEST_P(LoopRun, stop_while_nothing_runs_ends_the_next_run_only) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int calls = 0;
    ASSERT_FALSE(loop.post([&](Loop&) { ++calls; }));
    loop.stop();
    loop.stop();
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 0);
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 1);
    loop.stop();
    EXPECT_FALSE(loop.run_for(1h));
}

TEST_P(LoopRun, a_stop_ends_the_call_it_was_made_in_and_not_the_next) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const auto stopper = [](Loop& inner) { inner.stop(); };
    int calls = 0;
    const auto counted = [&](Loop&) { ++calls; };
    ASSERT_FALSE(loop.post(stopper));
    EXPECT_FALSE(loop.run_once());
    ASSERT_FALSE(loop.post(counted));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 1) << "after run_once";
    ASSERT_FALSE(loop.post(stopper));
    EXPECT_FALSE(loop.poll());
    ASSERT_FALSE(loop.post(counted));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 2) << "after poll";
    ASSERT_FALSE(loop.post(stopper));
    EXPECT_FALSE(loop.run_for(0ns));
    ASSERT_FALSE(loop.post(counted));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 3) << "after run_for";
}

TEST_P(LoopRun, handlers_run_at_depth_one_only) {
    WHORL_SKIP_IF_REFUSED();
    struct Chain {
        int depth = 0;
        int calls = 0;
        const int goal = static_cast<int>(scaled(50'000));
        void operator()(Loop& loop, Nop::Done) { next(loop); }
        void operator()(Loop& loop) { next(loop); }
        void operator()(Loop& loop, Expired) { next(loop); }
        void next(Loop& loop) {
            EXPECT_EQ(depth, 0) << "a handler ran inside another";
            ++depth;
            if (++calls < goal) {
                if (calls % 16 == 0) {
                    EXPECT_TRUE(loop.after(0ns, this));
                } else if (calls % 2 == 0) {
                    EXPECT_TRUE(loop.submit(Nop{}, this));
                } else {
                    EXPECT_FALSE(loop.post(this));
                }
            }
            --depth;
        }
    };
    Loop loop = make_loop();
    Chain chain;
    ASSERT_TRUE(loop.submit(Nop{}, &chain));
    ++chain.depth;  // were a handler called inside these calls, it would notice
    ASSERT_FALSE(loop.post([&](Loop&) { EXPECT_EQ(chain.depth, 0); }));
    Result<Operation> nop =
        loop.submit(Nop{}, [&](Loop&, Nop::Done) { EXPECT_EQ(chain.depth, 0); });
    loop.cancel(*nop);
    --chain.depth;
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(chain.calls, chain.goal);
    expect_clean(loop);
}

TEST_P(LoopRun, more_operations_than_the_queues_hold_all_complete) {
    WHORL_SKIP_IF_REFUSED();
    for (const std::uint32_t depth : {1u, 2u, 4u}) {
        Loop loop = make_loop([depth](LoopOptions& options) {
            options.submission_queue_depth = depth;
            options.completion_queue_depth = 4;
        });
        int calls = 0;
        submit_nops(loop, 40, calls);
        EXPECT_FALSE(loop.run());
        EXPECT_EQ(calls, 40);
        submit_nops(loop, 3000, calls);
        EXPECT_FALSE(loop.run());
        EXPECT_EQ(calls, 3040);
        expect_clean(loop);
    }
}

TEST_P(LoopRun, completions_beyond_the_queue_are_not_lost_while_the_loop_is_busy) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) {
        options.submission_queue_depth = 2;
        options.completion_queue_depth = 4;
    });
    std::vector<Ends> pipes;
    int calls = 0;
    for (int index = 0; index < 40; ++index) {
        pipes.push_back(Ends::pipe());
        ASSERT_TRUE(
            loop.watch(pipes.back().in.get(), Interest::readable, [&](Loop& inner, Watched event) {
                ++calls;
                EXPECT_TRUE(inner.cancel(event.watch));
            }));
    }
    for (int turn = 0; turn < 50; ++turn) ASSERT_FALSE(loop.poll());
    for (const Ends& ends : pipes) ends.out.write("x");  // forty completions at once
    run_until(loop, [&] { return calls == 40; });
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 40);
    expect_clean(loop);
}

TEST_P(LoopRun, two_loops_in_one_thread_run_by_turns) {
    WHORL_SKIP_IF_REFUSED();
    Loop first = make_loop();
    Loop second = make_loop();
    Ends ends = Ends::sockets();
    int first_calls = 0, second_calls = 0;
    const auto echo = [](int fd, int& calls) {
        char byte = 0;
        EXPECT_EQ(os::read(fd, &byte, 1), 1);
        if (++calls < 100) {
            EXPECT_EQ(os::write(fd, &byte, 1), 1);
        }
    };
    const int in = ends.in.get(), out = ends.out.get();
    Result<Watch> a =
        first.watch(in, Interest::readable, [&](Loop&, Watched) { echo(in, first_calls); });
    Result<Watch> b =
        second.watch(out, Interest::readable, [&](Loop&, Watched) { echo(out, second_calls); });
    ASSERT_TRUE(a && b);
    ends.out.write("x");
    for (int turn = 0; turn < 100'000 && first_calls + second_calls < 199; ++turn) {
        ASSERT_FALSE(first.poll());
        ASSERT_FALSE(second.poll());
    }
    EXPECT_EQ(first_calls, 100);
    EXPECT_EQ(second_calls, 99);
    EXPECT_TRUE(first.cancel(*a));
    EXPECT_TRUE(second.cancel(*b));
    EXPECT_FALSE(first.run());
    EXPECT_FALSE(second.run());
}

TEST_P(LoopRun, a_loop_runs_inside_a_handler_of_another_loop) {
    WHORL_SKIP_IF_REFUSED();
    Loop outer = make_loop();
    Loop inner = make_loop();
    int calls = 0;
    submit_nops(inner, 3, calls);
    ASSERT_FALSE(outer.post([&](Loop&) { EXPECT_FALSE(inner.run()); }));
    EXPECT_FALSE(outer.run());
    EXPECT_EQ(calls, 3);
}

TEST_P(LoopRun, stale_and_null_handles_are_told) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Result<Operation> nop = loop.submit(Nop{}, [](Loop&, Nop::Done) {});
    ASSERT_TRUE(nop);
    EXPECT_TRUE(loop.alive(*nop));
    EXPECT_FALSE(loop.run());
    EXPECT_FALSE(loop.alive(*nop));
    EXPECT_EQ(loop.cancel(*nop), Cancelled::not_found);
    EXPECT_EQ(loop.cancel(Operation()), Cancelled::not_found);
    EXPECT_FALSE(loop.cancel(Timer()));
    EXPECT_FALSE(loop.cancel(Watch()));
    EXPECT_EQ(loop.modify(Watch(), Interest::readable), Error::stale_handle);
    EXPECT_EQ(loop.move(Timer(), 1s), Error::stale_handle);
    EXPECT_EQ(loop.close(Socket()), Error::stale_handle);
    // A handle of another kind, forged from the same value, reaches nothing either.
    Result<Timer> timer = loop.after(1h, [](Loop&, Expired) {});
    ASSERT_TRUE(timer);
    EXPECT_FALSE(loop.cancel(Watch::from_value(timer->value())));
    EXPECT_EQ(loop.cancel(Operation::from_value(timer->value())), Cancelled::not_found);
    EXPECT_TRUE(loop.cancel(*timer));
}

}  // namespace
}  // namespace whorl::conformance
