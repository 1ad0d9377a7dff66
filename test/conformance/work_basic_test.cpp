// SPDX-License-Identifier: MIT
// Goal: a Work runs once on a thread of the pool, or never, and its result comes to the loop; what
// the header says of limits, cancelling and the loop's end before a thread has begun holds everywhere.
// Method: callables that count; on real threads and in worlds.
#include "conformance/work_tools.hpp"

#include <whorl/work.hpp>

#include <thread>

namespace whorl::conformance {
namespace {

class WorkBasic : public LoopTest {};
WHORL_CONFORMANCE(WorkBasic);

TEST_P(WorkBasic, result_comes_to_the_loop) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const std::thread::id here = std::this_thread::get_id();
    std::thread::id there;
    int finals = 0;
    ASSERT_TRUE(loop.submit(Work{[&] {
                                there = std::this_thread::get_id();
                                return std::string(300, 'x');
                            }},
                            [&](Loop&, WorkDone<std::string> done) {
                                EXPECT_FALSE(done.error);
                                ASSERT_TRUE(done.value);
                                EXPECT_EQ(*done.value, std::string(300, 'x'));
                                EXPECT_EQ(std::this_thread::get_id(), here);
                                ++finals;
                            }));
    run_until(loop, [&] { return finals == 1; });
    if (!GetParam().world) {
        EXPECT_NE(there, here);
    }
    expect_clean(loop);
    EXPECT_EQ(loop.statistics().buffers_out, 0u);
}

TEST_P(WorkBasic, nothing_and_what_only_moves_may_be_returned) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int ran = 0;
    int finals = 0;
    ASSERT_TRUE(loop.submit(Work{[&ran] { ++ran; }}, [&](Loop&, WorkDone<NoResult> done) {
        EXPECT_FALSE(done.error);
        EXPECT_TRUE(done.value);
        ++finals;
    }));
    auto token = std::make_unique<int>(7);
    ASSERT_TRUE(loop.submit(Work{[token = std::move(token)]() mutable { return std::move(token); }},
                            [&](Loop&, WorkDone<std::unique_ptr<int>> done) {
                                ASSERT_TRUE(done.value);
                                EXPECT_EQ(**done.value, 7);
                                ++finals;
                            }));
    run_until(loop, [&] { return finals == 2; });
    EXPECT_EQ(ran, 1);
    expect_clean(loop);
}

// A handler may submit the next one; run() goes on as long as one is alive, and no longer.
TEST_P(WorkBasic, run_goes_on_while_work_is_alive) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    struct Chain {
        int left = 50;
        int ran = 0;
        void next(Loop& loop) {
            ASSERT_TRUE(loop.submit(Work{[this] { return ++ran; }}, this));
        }
        void operator()(Loop& loop, WorkDone<int> done) {
            ASSERT_TRUE(done.value);
            EXPECT_EQ(*done.value, ran);
            if (--left > 0) next(loop);
        }
    } chain;
    chain.next(loop);
    ASSERT_FALSE(loop.run());
    EXPECT_EQ(chain.ran, 50);
    EXPECT_EQ(chain.left, 0);
    expect_clean(loop);
}

TEST_P(WorkBasic, each_of_many_ends_once) {
    WHORL_SKIP_IF_REFUSED();
    constexpr int count = 1000;
    Loop loop = make_loop([](LoopOptions& options) { options.work_max = count; });
    std::vector<int> finals(count, 0);
    int ended = 0;
    for (int index = 0; index < count; ++index) {
        ASSERT_TRUE(
            loop.submit(Work{[index] { return index * 2; }}, [&, index](Loop&, WorkDone<int> done) {
                ASSERT_TRUE(done.value);
                EXPECT_EQ(*done.value, index * 2);
                ++finals[static_cast<std::size_t>(index)];
                ++ended;
            }));
    }
    EXPECT_EQ(loop.statistics().works_high, static_cast<std::uint32_t>(count));
    run_until(loop, [&] { return ended == count; });
    EXPECT_EQ(std::count(finals.begin(), finals.end(), 1), count);
    expect_clean(loop);
}

TEST_P(WorkBasic, full_queue_refuses_and_takes_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.work_max = 3; });
    int finals = 0;
    const auto handler = [&finals](Loop&, const WorkDone<NoResult>&) { ++finals; };
    for (int index = 0; index < 3; ++index) {
        ASSERT_TRUE(loop.submit(Work{[] {}}, handler));
    }
    auto token = std::make_unique<int>(1);
    auto refused = Work{[token = std::move(token)] { EXPECT_TRUE(token); }};
    const Witness witness;
    const auto made = loop.submit(std::move(refused),
                                  [copy = witness.copy()](Loop&, const WorkDone<NoResult>&) {});
    EXPECT_EQ(made.error(), Error::queue_full);
    EXPECT_TRUE(witness.alone());
    run_until(loop, [&] { return finals == 3; });
    refused.callable();  // still whole
    ASSERT_TRUE(loop.submit(std::move(refused), handler));
    run_until(loop, [&] { return finals == 4; });
    expect_clean(loop);
}

TEST_P(WorkBasic, no_memory_refuses) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.buffer_bytes_max = 0; });
    const auto made = loop.submit(Work{[] {}}, [](Loop&, const WorkDone<NoResult>&) {});
    EXPECT_EQ(made.error(), Error::from_errno(ENOMEM));
    expect_clean(loop);
}

TEST_P(WorkBasic, cancelled_before_the_turn_never_runs) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Witness witness;
    bool ran = false;
    int finals = 0;
    const auto made = loop.submit(Work{[&ran, copy = witness.copy()] { ran = true; }},
                                  [&](Loop&, WorkDone<NoResult> done) {
                                      EXPECT_EQ(done.error, Error::cancelled);
                                      EXPECT_FALSE(done.value);
                                      ++finals;
                                  });
    ASSERT_TRUE(made);
    EXPECT_EQ(loop.cancel(*made), Cancelled::cancelling);
    EXPECT_EQ(loop.cancel(*made), Cancelled::already_completing);
    run_until(loop, [&] { return finals == 1; });
    EXPECT_EQ(loop.cancel(*made), Cancelled::not_found);
    EXPECT_FALSE(ran);
    EXPECT_TRUE(witness.alone());
    expect_clean(loop);
}

// Wherever a cancel finds it: either it has run and tells its value, or it has not and says so.
TEST_P(WorkBasic, cancelled_at_any_time_it_has_run_or_not) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (int round = 0; round < 200; ++round) {
        const Witness witness;
        int ran = 0;
        int finals = 0;
        const auto made = loop.submit(Work{[&ran, copy = witness.copy()] { return ++ran; }},
                                      [&](Loop&, WorkDone<int> done) {
                                          EXPECT_EQ(done.value.has_value(), !done.error);
                                          EXPECT_EQ(done.value.has_value(), ran == 1);
                                          if (done.error) {
                                              EXPECT_EQ(done.error, Error::cancelled);
                                          }
                                          ++finals;
                                      });
        ASSERT_TRUE(made);
        turns(loop, round % 4);
        if (finals == 0) {
            EXPECT_NE(loop.cancel(*made), Cancelled::not_found);
        }
        run_until(loop, [&] { return finals == 1; });
        EXPECT_TRUE(witness.alone());
    }
    expect_clean(loop);
}

TEST_P(WorkBasic, deadline_that_has_passed_never_runs_it) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    bool ran = false;
    int finals = 0;
    ASSERT_TRUE(
        loop.submit(Work{[&ran] { ran = true; }}, within(0ns), [&](Loop&, WorkDone<NoResult> done) {
            EXPECT_EQ(done.error, Error::timed_out);
            EXPECT_FALSE(done.value);
            ++finals;
        }));
    run_until(loop, [&] { return finals == 1; });
    EXPECT_FALSE(ran);
    expect_clean(loop);
}

TEST_P(WorkBasic, drain_ends_all) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int ended = 0;
    int ran = 0;
    for (int index = 0; index < 20; ++index) {
        ASSERT_TRUE(loop.submit(Work{[] { return 1; }}, [&](Loop&, WorkDone<int> done) {
            EXPECT_EQ(done.value.has_value(), !done.error);
            ran += done.value.value_or(0);
            ++ended;
        }));
    }
    turns(loop, 1);
    ASSERT_FALSE(loop.drain(10s));
    EXPECT_EQ(ended, 20);
    EXPECT_LE(ran, 20);
    expect_clean(loop);
    int after = 0;
    ASSERT_TRUE(loop.submit(Work{[] { return 5; }},
                            [&](Loop&, WorkDone<int> done) { after = done.value.value_or(0); }));
    run_until(loop, [&] { return after == 5; });
}

TEST_P(WorkBasic, destroyed_with_the_loop_at_any_time) {
    WHORL_SKIP_IF_REFUSED();
    for (int round = 0; round < 6; ++round) {
        const Witness callables;
        const Witness handlers;
        {
            Loop loop = make_loop();
            for (int index = 0; index < 20; ++index) {
                ASSERT_TRUE(loop.submit(
                    Work{[copy = callables.copy()] { return std::string(100, 'y'); }},
                    [copy = handlers.copy(), round](Loop&, const WorkDone<std::string>&) {
                        EXPECT_GT(round, 0) << "no turn has been run";
                    }));
            }
            turns(loop, round);
        }
        EXPECT_TRUE(callables.alone());
        EXPECT_TRUE(handlers.alone());
    }
}

TEST_P(WorkBasic, wakes_a_guests_host) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Result<int> notify = loop.notify_fd();
    ASSERT_TRUE(notify);
    int ended = 0;
    for (int round = 1; round <= 20; ++round) {
        ASSERT_TRUE(loop.submit(Work{[] {}}, [&](Loop&, const WorkDone<NoResult>&) { ++ended; }));
        ASSERT_FALSE(loop.process());
        while (ended < round) {
            pollfd wait{*notify, POLLIN, 0};
            ASSERT_EQ(os::poll(&wait, 1, 10'000), 1) << "round " << round;
            ASSERT_FALSE(loop.process());
        }
    }
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
