// SPDX-License-Identifier: MIT
// Goal: never more than the permits run, never more than so many wait, and every permit comes back: released,
// destroyed, or on its way to a handler that is not called any more. Method: by hand, on one loop; then a run
// in which a random mix of all of it must leave every permit in its place.
#include "conformance/support.hpp"

#include <whorl/limiter.hpp>
#include <whorl/scope.hpp>

#include <optional>
#include <vector>

namespace whorl::conformance {
namespace {

class LimiterTest : public LoopTest {
  protected:
    struct Log {
        int calls = 0;
        Error error;
        Permit permit;
        void operator()(Loop&, Enter::Done done) {
            ++calls;
            error = done.error;
            EXPECT_EQ(static_cast<bool>(done.permit), !done.error);
            permit = std::move(done.permit);
        }
    };
    static void turns(Loop& loop) {
        for (int turn = 0; turn < 3; ++turn) EXPECT_FALSE(loop.poll());
    }
};
WHORL_CONFORMANCE(LimiterTest);

TEST_P(LimiterTest, so_many_run_so_many_wait_and_the_rest_is_refused) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Limiter limiter(2, 3);
    Log logs[6];
    for (int index = 0; index < 5; ++index) ASSERT_TRUE(loop.submit(Enter{limiter}, &logs[index]));
    EXPECT_EQ(limiter.available(), 0u);
    EXPECT_EQ(limiter.waiting(), 3u);
    EXPECT_EQ(loop.submit(Enter{limiter}, &logs[5]).error(), Error::queue_full);
    EXPECT_FALSE(limiter.try_enter());
    EXPECT_EQ(logs[0].calls, 0) << "never inside the call";
    turns(loop);
    for (int index = 0; index < 5; ++index) EXPECT_EQ(logs[index].calls, index < 2 ? 1 : 0);
    // The one that has waited longest is the next.
    for (int index = 0; index < 3; ++index) {
        logs[index].permit.release();
        EXPECT_FALSE(logs[index].permit);
        logs[index].permit.release();
        EXPECT_EQ(logs[index + 2].calls, 0) << "never inside the call";
        EXPECT_FALSE(limiter.try_enter()) << "nobody comes in between";
        turns(loop);
        EXPECT_EQ(logs[index + 2].calls, 1);
        EXPECT_FALSE(logs[index + 2].error);
    }
    EXPECT_EQ(limiter.waiting(), 0u);
    logs[3].permit = Permit();
    EXPECT_EQ(limiter.available(), 1u) << "assigning gives back";
    {
        const Permit held = limiter.try_enter();
        EXPECT_TRUE(held);
        EXPECT_EQ(limiter.available(), 0u);
    }
    logs[4].permit.release();
    EXPECT_EQ(limiter.available(), 2u);
    EXPECT_EQ(logs[5].calls, 0);
    expect_clean(loop);
}

TEST_P(LimiterTest, who_gives_up_makes_room_for_others_to_wait) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Limiter limiter(1, 2);
    Permit held = limiter.try_enter();
    Log cancelled;
    Log late;
    Log last;
    const Result<Operation> first = loop.submit(Enter{limiter}, &cancelled);
    ASSERT_TRUE(first);
    ASSERT_TRUE(loop.submit(Enter{limiter}, within(1ms), &late));
    EXPECT_EQ(loop.cancel(*first), Cancelled::cancelling);
    EXPECT_EQ(limiter.waiting(), 1u);
    ASSERT_TRUE(loop.submit(Enter{limiter}, &last));
    run_until(loop, [&] { return late.calls == 1; });
    EXPECT_EQ(cancelled.error, Error::cancelled);
    EXPECT_EQ(late.error, Error::timed_out);
    EXPECT_EQ(limiter.waiting(), 1u);
    EXPECT_EQ(last.calls, 0);
    held.release();
    EXPECT_FALSE(loop.run());
    EXPECT_TRUE(last.permit);
    expect_clean(loop);
}

TEST_P(LimiterTest, a_permit_that_was_given_is_not_taken_back_by_a_cancel) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Limiter limiter(1, 0);
    Log log;
    const Result<Operation> given = loop.submit(Enter{limiter}, &log);
    EXPECT_EQ(loop.submit(Enter{limiter}, &log).error(), Error::queue_full) << "nobody waits";
    EXPECT_EQ(loop.cancel(*given), Cancelled::already_completing);
    turns(loop);
    EXPECT_FALSE(log.error);
    EXPECT_TRUE(log.permit);
}

TEST_P(LimiterTest, what_was_on_its_way_when_the_loop_goes_comes_back) {
    WHORL_SKIP_IF_REFUSED();
    Limiter limiter(2);
    {
        Loop loop = make_loop();
        for (int index = 0; index < 5; ++index) {
            ASSERT_TRUE(loop.submit(Enter{limiter}, [](Loop&, Enter::Done) { ADD_FAILURE(); }));
        }
        EXPECT_EQ(limiter.available(), 0u);
    }
    EXPECT_EQ(limiter.available(), 2u);
    EXPECT_EQ(limiter.waiting(), 0u);
    Loop loop = make_loop();
    Log log;
    ASSERT_TRUE(loop.submit(Enter{limiter}, &log)) << "another loop may have it now";
    EXPECT_FALSE(loop.drain(10s));
    EXPECT_EQ(log.calls, 1);
}

// Jobs that enter, hold their permit for some turns, give up, and are ended by their scope.
TEST_P(LimiterTest, no_permit_is_lost_or_doubled) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Limiter limiter(4, 8);
    Scope scope(loop);
    std::uint32_t state = 99;
    const auto draw = [&state](std::uint32_t below) {
        state = state * 1664525 + 1013904223;
        return (state >> 16) % below;
    };
    std::vector<Permit> held;
    std::vector<Operation> waiting;
    std::uint32_t started = 0;
    std::uint32_t ended = 0;
    std::uint32_t refused = 0;
    for (int step = 0; step < 3000; ++step) {
        switch (draw(5)) {
            case 0:
            case 1: {
                const Result<Operation> entering =
                    scope.submit(Enter{limiter}, [&](Loop&, Enter::Done done) {
                        ++ended;
                        if (!done.error) held.push_back(std::move(done.permit));
                    });
                if (entering) waiting.push_back(*entering);
                if (entering) ++started;
                else ++refused;
                break;
            }
            case 2:
                if (!held.empty())
                    held.erase(held.begin() + draw(static_cast<std::uint32_t>(held.size())));
                break;
            case 3:
                if (!waiting.empty() && draw(3) == 0) {
                    loop.cancel(waiting[draw(static_cast<std::uint32_t>(waiting.size()))]);
                }
                break;
            default:
                ASSERT_FALSE(loop.poll());
                break;
        }
        ASSERT_LE(held.size() + limiter.available(), 4u);
        ASSERT_LE(limiter.waiting(), 8u);
        ASSERT_TRUE(limiter.waiting() == 0 || limiter.available() == 0);
    }
    EXPECT_GT(refused, 0u);
    bool closed = false;
    ASSERT_TRUE(loop.submit(CloseScope{scope}, [&](Loop&, CloseScope::Done) { closed = true; }));
    EXPECT_FALSE(loop.run());
    EXPECT_TRUE(closed);
    EXPECT_EQ(ended, started);
    held.clear();
    EXPECT_EQ(limiter.available(), 4u);
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
