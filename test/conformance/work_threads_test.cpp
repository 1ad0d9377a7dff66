// SPDX-License-Identifier: MIT
// Goal: what the header says of work that a thread has begun: nothing stops it, its value comes, the
// loop's end waits for it; and of the threads: no more than allowed, none that outlives the loop.
// Method: a gate that holds the pool's threads. Real threads only: in a world a work is one moment.
#include "conformance/work_tools.hpp"

#include <whorl/work.hpp>

#include <memory>
#include <optional>

namespace whorl::conformance {
namespace {

class WorkThreads : public LoopTest {
  protected:
    Loop make_narrow(std::uint32_t threads) {
        return make_loop([&](LoopOptions& options) { options.work_threads = threads; });
    }
};
WHORL_CONFORMANCE_REAL(WorkThreads);

struct Seen {
    int finals = 0;
    Error error;
    int value = 0;
    void operator()(Loop&, WorkDone<int> done) {
        ++finals;
        error = done.error;
        value = done.value.value_or(0);
    }
};

TEST_P(WorkThreads, cancel_finds_one_queued_and_one_running) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_narrow(1);
    Gate gate;
    Seen running, queued, behind;
    bool ran = false;
    const auto first = loop.submit(Work{[&] { return gate.pass(), 1; }}, &running);
    const auto second = loop.submit(Work{[&] { return ran = true, 2; }}, &queued);
    ASSERT_TRUE(loop.submit(Work{[] { return 3; }}, &behind));
    ASSERT_TRUE(first && second);
    turns(loop, 1);
    gate.await_come(1);
    EXPECT_EQ(loop.cancel(*first), Cancelled::cancelling);
    EXPECT_EQ(loop.cancel(*first), Cancelled::cancelling);
    EXPECT_EQ(loop.cancel(*second), Cancelled::cancelling);
    run_until(loop, [&] { return queued.finals == 1; });
    EXPECT_EQ(queued.error, Error::cancelled);
    EXPECT_EQ(running.finals, 0);
    gate.open();
    run_until(loop, [&] { return running.finals == 1 && behind.finals == 1; });
    EXPECT_FALSE(running.error);
    EXPECT_EQ(running.value, 1);
    EXPECT_EQ(behind.value, 3);
    EXPECT_FALSE(ran);
    expect_clean(loop);
}

TEST_P(WorkThreads, cancel_when_complete_changes_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_narrow(1);
    Gate begin, gate;
    Seen second, third;
    Operation other;
    int firsts = 0;
    const auto first = [&begin] { return begin.pass(), 1; };
    ASSERT_TRUE(loop.submit(Work{first}, [&](Loop& here, WorkDone<int> done) {
        EXPECT_EQ(done.value.value_or(0), 1);
        EXPECT_EQ(here.cancel(other), Cancelled::already_completing);
        ++firsts;
    }));
    const auto made = loop.submit(Work{[] { return 2; }}, &second);
    ASSERT_TRUE(made);
    other = *made;
    ASSERT_TRUE(loop.submit(Work{[&] { return gate.pass(), 3; }}, &third));
    turns(loop, 1);
    begin.await_come(1);
    begin.open();
    gate.await_come(1);  // so the two before it have ended
    run_until(loop, [&] { return second.finals == 1; });
    EXPECT_EQ(firsts, 1);
    EXPECT_EQ(second.value, 2);
    gate.open();
    run_until(loop, [&] { return third.finals == 1; });
    expect_clean(loop);
}

TEST_P(WorkThreads, deadline_ends_what_is_queued_but_not_what_runs) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_narrow(1);
    Gate gate;
    Seen running, queued;
    // On a busy machine the time may pass before a thread has begun: then with more of it.
    Nanoseconds time = 1ms;
    for (;; time *= 2) {
        running = Seen{};
        ASSERT_TRUE(loop.submit(Work{[&] { return gate.pass(), 1; }}, within(time), &running));
        run_until(loop, [&] { return gate.come() == 1 || running.finals == 1; });
        if (gate.come() == 1) break;
        EXPECT_EQ(running.error, Error::timed_out);
    }
    bool passed = false;
    ASSERT_TRUE(loop.after(time, [&passed](Loop&, Expired) { passed = true; }));
    ASSERT_TRUE(loop.submit(Work{[] { return 2; }}, within(5ms), &queued));
    run_until(
        loop, [&] { return queued.finals == 1 && passed; }, 60s);
    EXPECT_EQ(queued.error, Error::timed_out);
    EXPECT_EQ(running.finals, 0);
    gate.open();
    run_until(loop, [&] { return running.finals == 1; });
    EXPECT_FALSE(running.error);
    EXPECT_EQ(running.value, 1);
    expect_clean(loop);
}

TEST_P(WorkThreads, no_more_threads_than_allowed_and_none_afterwards) {
    WHORL_SKIP_IF_REFUSED();
    EXPECT_EQ(pool_threads(), 0);
    {
        Loop loop = make_narrow(3);
        EXPECT_EQ(pool_threads(), 0) << "made before they are needed";
        Gate gate;
        int ended = 0;
        for (int index = 0; index < 20; ++index) {
            ASSERT_TRUE(loop.submit(Work{[&] { gate.pass(); }},
                                    [&](Loop&, const WorkDone<NoResult>&) { ++ended; }));
        }
        while (gate.come() < 3) turns(loop, 1);
        turns(loop, 3);
        EXPECT_EQ(gate.come(), 3);
        EXPECT_EQ(pool_threads(), 3);
        gate.open();
        run_until(loop, [&] { return ended == 20; });
        EXPECT_EQ(pool_threads(), 3);
        expect_clean(loop);
    }
    EXPECT_EQ(pool_threads(), 0);
}

TEST_P(WorkThreads, drain_waits_for_what_runs) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_narrow(1);
    Gate gate;
    Seen running, queued;
    ASSERT_TRUE(loop.submit(Work{[&] { return gate.pass(), 1; }}, &running));
    ASSERT_TRUE(loop.submit(Work{[&] { return gate.pass(), 2; }}, &queued));
    turns(loop, 1);
    gate.await_come(1);
    EXPECT_EQ(loop.drain(20ms), Error::drain_incomplete);
    EXPECT_EQ(queued.error, Error::cancelled);
    EXPECT_EQ(running.finals, 0);
    gate.open();
    EXPECT_FALSE(loop.drain(60s));
    EXPECT_EQ(running.value, 1);
    expect_clean(loop);
}

// What is queued is destroyed unrun before what runs is waited for: that opens the gate here.
TEST_P(WorkThreads, destruction_waits_for_what_runs) {
    WHORL_SKIP_IF_REFUSED();
    Gate gate;
    const Witness callables, handlers;
    int ran = 0;
    {
        Loop loop = make_narrow(1);
        const auto handler = [copy = handlers.copy()](Loop&, const WorkDone<int>&) {
            ADD_FAILURE() << "called by the destruction";
        };
        const auto work = [&gate, &ran](std::shared_ptr<void> held) {
            return Work{[&gate, &ran, held = std::move(held)] {
                gate.pass();
                return ++ran;
            }};
        };
        ASSERT_TRUE(loop.submit(work(callables.copy()), handler));
        ASSERT_TRUE(loop.submit(work(callables.copy()), handler));
        const auto open = [&gate](void*) { gate.open(); };
        ASSERT_TRUE(loop.submit(work({nullptr, open}), handler));
        turns(loop, 1);
        gate.await_come(1);
    }
    EXPECT_EQ(ran, 1);
    EXPECT_TRUE(callables.alone());
    EXPECT_TRUE(handlers.alone());
}

// Exits with 0 when the loop's end left alone what still runs.
void destroy_without_time(LoopOptions options) {
    options.shutdown_bound = 0ns;
    Result<Loop> made = Loop::create(options);
    if (!made) _exit(2);
    std::optional<Loop> loop(std::move(*made));
    Gate gate, after;
    const auto body = [&gate, &after, text = std::string(1000, 'z')] {
        gate.pass();
        after.pass();
        return text;
    };
    if (!loop->submit(Work{body}, [](Loop&, const WorkDone<std::string>&) {})) _exit(3);
    if (loop->poll()) _exit(4);
    gate.await_come(1);
    loop.reset();
    gate.open();
    after.await_come(1);
    after.open();
    std::fprintf(stderr, "it goes on\n");
    _exit(0);
}

class WorkThreadsDeathTest : public WorkThreads {};
WHORL_CONFORMANCE_REAL(WorkThreadsDeathTest);

TEST_P(WorkThreadsDeathTest, what_runs_beyond_the_bound_is_leaked_and_reported) {
    WHORL_SKIP_IF_REFUSED();
    EXPECT_EXIT(destroy_without_time(options_here()), ::testing::ExitedWithCode(0),
                "still held 1 operations after 0 ms.*leaked, not freed(.|\n)*it goes on");
}

// Several loops, each on a thread of its own, share nothing.
TEST_P(WorkThreads, loops_on_many_threads) {
    WHORL_SKIP_IF_REFUSED();
    // Keeps libev loaded: ThreadSanitizer does not know the locks of the dynamic loader.
    const Loop anchor = make_narrow(1);
    std::vector<os::Thread> threads;
    for (int thread = 0; thread < 3; ++thread) {
        threads.emplace_back([this] {
            Loop loop = make_narrow(2);
            std::uint64_t sum = 0;
            int ended = 0;
            for (int index = 0; index < 300; ++index) {
                ASSERT_TRUE(loop.submit(Work{[index] { return std::vector<int>(10, index); }},
                                        [&](Loop&, WorkDone<std::vector<int>> done) {
                                            for (int value : *done.value) {
                                                sum += static_cast<std::uint64_t>(value);
                                            }
                                            ++ended;
                                        }));
            }
            run_until(loop, [&] { return ended == 300; });
            EXPECT_EQ(sum, 10u * 299 * 300 / 2);
        });
    }
    for (os::Thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace whorl::conformance
