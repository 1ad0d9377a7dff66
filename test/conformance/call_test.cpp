// SPDX-License-Identifier: MIT
// Goal: a call runs once on the other loop and its answer comes once to this one, or an error says why not.
// Method: two loops in turns on one thread; two threads where a sleeper must be woken.
#include "conformance/support.hpp"
#include "conformance/tcp_pair.hpp"

#include <memory>

namespace whorl::conformance {
namespace {

class CallTest : public LoopTest {
  protected:
    static Remote remote_of(Loop& loop) {
        Result<Remote> remote = loop.remote();
        EXPECT_TRUE(remote);
        return std::move(remote).value();
    }
    static void turns(Loop& loop) {
        for (int turn = 0; turn < 4; ++turn) EXPECT_FALSE(loop.poll());
    }
    struct Log {
        int done = 0;
        Error error;
        std::optional<int> value;
        void operator()(Loop&, CallDone<int> given) {
            ++done;
            error = given.error;
            value = given.value;
        }
    };
};
WHORL_CONFORMANCE(CallTest);

TEST_P(CallTest, runs_there_and_answers_here) {
    WHORL_SKIP_IF_REFUSED();
    Loop here = make_loop();
    Loop there = make_loop();
    Log log;
    Loop* ran_on = nullptr;
    ASSERT_TRUE(here.submit(Call{remote_of(there),
                                 [&ran_on](Loop& loop) {
                                     ran_on = &loop;
                                     return 42;
                                 }},
                            &log));
    turns(here);
    EXPECT_EQ(log.done, 0);
    turns(there);
    EXPECT_EQ(ran_on, &there);
    EXPECT_EQ(log.done, 0) << "the answer comes in this loop's dispatch";
    EXPECT_FALSE(here.run()) << "the call keeps run() going";
    EXPECT_EQ(log.done, 1);
    EXPECT_FALSE(log.error);
    EXPECT_EQ(log.value, 42);
    expect_clean(here);
    expect_clean(there);
}

TEST_P(CallTest, nothing_is_an_answer_too_and_results_may_be_owned) {
    WHORL_SKIP_IF_REFUSED();
    Loop here = make_loop();
    Loop there = make_loop();
    int ran = 0;
    bool answered = false;
    std::unique_ptr<int> owned;
    ASSERT_TRUE(here.submit(Call{remote_of(there), [&ran](Loop&) { ++ran; }},
                            [&answered](Loop&, CallDone<NoResult> done) {
                                answered = done.value.has_value() && !done.error;
                            }));
    ASSERT_TRUE(here.submit(
        Call{remote_of(there), [](Loop&) { return std::make_unique<int>(7); }},
        [&owned](Loop&, CallDone<std::unique_ptr<int>> done) { owned = std::move(*done.value); }));
    turns(there);
    EXPECT_FALSE(here.run());
    EXPECT_EQ(ran, 1);
    EXPECT_TRUE(answered);
    ASSERT_NE(owned, nullptr);
    EXPECT_EQ(*owned, 7);
}

TEST_P(CallTest, a_callee_that_is_gone_or_goes_is_an_error) {
    WHORL_SKIP_IF_REFUSED();
    Loop here = make_loop();
    Log gone;
    Log goes;
    Log nobody;
    const auto counted = std::make_shared<int>(0);
    const auto call = [counted](Loop&) { return 1; };
    {
        Remote before;
        {
            Loop there = make_loop();
            before = remote_of(there);
            ASSERT_TRUE(here.submit(Call{remote_of(there), call}, &goes));
        }
        ASSERT_TRUE(here.submit(Call{before, call}, &gone));
        ASSERT_TRUE(here.submit(Call{Remote(), call}, &nobody));
    }
    EXPECT_EQ(goes.done + gone.done + nobody.done, 0) << "never inside submit";
    EXPECT_FALSE(here.run());
    for (const Log* log : {&gone, &goes, &nobody}) {
        EXPECT_EQ(log->done, 1);
        EXPECT_EQ(log->error, Error::loop_closed);
        EXPECT_FALSE(log->value);
    }
    EXPECT_EQ(counted.use_count(), 2) << "the callables are destroyed";
    expect_clean(here);
}

TEST_P(CallTest, cancelled_or_late_it_ends_at_once_and_the_answer_is_thrown_away) {
    WHORL_SKIP_IF_REFUSED();
    Loop here = make_loop();
    Loop there = make_loop();
    const auto counted = std::make_shared<int>(0);
    int ran = 0;
    const auto call = [counted, &ran](Loop&) { return ++ran; };
    Log cancelled;
    Log late;
    Log behind;
    Result<Operation> first = here.submit(Call{remote_of(there), call}, &cancelled);
    ASSERT_TRUE(first);
    ASSERT_TRUE(here.submit(Call{remote_of(there), call}, within(1ms), &late));
    EXPECT_EQ(here.cancel(*first), Cancelled::cancelling);
    EXPECT_FALSE(here.run());
    EXPECT_EQ(cancelled.error, Error::cancelled);
    EXPECT_EQ(late.error, Error::timed_out);
    turns(there);
    EXPECT_EQ(ran, 0) << "what has not begun does not run";
    // Cancelled when it has run already.
    Result<Operation> third = here.submit(Call{remote_of(there), call}, &behind);
    ASSERT_TRUE(third);
    turns(there);
    EXPECT_EQ(ran, 1);
    EXPECT_EQ(here.cancel(*third), Cancelled::cancelling);
    turns(here);
    EXPECT_EQ(behind.done, 1);
    EXPECT_EQ(behind.error, Error::cancelled);
    EXPECT_FALSE(behind.value);
    EXPECT_EQ(counted.use_count(), 2);
}

TEST_P(CallTest, the_caller_goes_before_the_answer) {
    WHORL_SKIP_IF_REFUSED();
    Loop there = make_loop();
    const auto counted = std::make_shared<int>(0);
    for (const bool answered : {false, true}) {
        Loop here = make_loop();
        Log log;
        ASSERT_TRUE(here.submit(Call{remote_of(there), [counted](Loop&) { return 1; }}, &log));
        if (answered) turns(there);
        EXPECT_EQ(log.done, 0);
    }
    turns(there);
    EXPECT_EQ(counted.use_count(), 1);
    expect_clean(there);
}

TEST_P(CallTest, many_at_once_between_two_threads) {
    WHORL_SKIP_IF_REFUSED();
    Loop here = make_loop();
    Loop there = make_loop();
    const Remote to = remote_of(there);
    os::Thread callee([&there] { EXPECT_FALSE(there.run(RunUntil::stopped)); });
    const int total = static_cast<int>(scaled(2'000));
    int next = 0;
    int answers = 0;
    struct Caller {
        Loop& here;
        const Remote& to;
        int& next;
        int& answers;
        int total;
        void call() {
            const int number = next++;
            ASSERT_TRUE(here.submit(Call{to, [number](Loop&) { return 2 * number; }},
                                    [this, number](Loop&, CallDone<int> done) {
                                        EXPECT_FALSE(done.error);
                                        EXPECT_EQ(done.value, 2 * number);
                                        ++answers;
                                        if (next < total) call();
                                    }));
        }
    } caller{here, to, next, answers, total};
    for (int start = 0; start < 16; ++start) caller.call();
    EXPECT_FALSE(here.run());
    EXPECT_TRUE(to.stop());
    callee.join();
    EXPECT_EQ(answers, next);
    EXPECT_GE(answers, total);
}

}  // namespace
}  // namespace whorl::conformance
