// SPDX-License-Identifier: MIT
// Goal: a timer of the wall clock fires when that clock has come to its instant and not before, however
// the clock is set meanwhile.
// Method: on this machine's clock, which no test may set, instants that have passed or will soon; in a
// world the clock is set forwards and back.
#include "backend/sim_kernel.hpp"
#include "conformance/fixture.hpp"
#include "conformance/support.hpp"

#include <whorl/wall_clock.hpp>

#include <utility>
#include <vector>

namespace whorl::conformance {
namespace {

using Why = WallExpired::Why;

class WallClock : public LoopTest {
  protected:
    static void set_clock(WallInstant now) {
        os::world()->host_calls().set_wall_clock(now.time_since_epoch().count());
    }
    static auto into(std::vector<WallExpired>& calls) {
        return [&calls](Loop&, const WallExpired& expired) { calls.push_back(expired); };
    }
    static void expect_over(Loop& loop) {
        EXPECT_FALSE(loop.run());
        run_until(loop, [&] { return loop.statistics().operations == 0; });
        expect_clean(loop);
    }
};
WHORL_CONFORMANCE(WallClock);

TEST_P(WallClock, it_fires_at_its_instant) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (const Nanoseconds ahead : {Nanoseconds(-1h), Nanoseconds(0), Nanoseconds(20ms)}) {
        std::vector<WallExpired> calls;
        const WallInstant instant = wall_now(loop) + ahead;
        const Result<WallTimer> timer = at_wall_clock(loop, instant, {}, into(calls));
        ASSERT_TRUE(timer);
        EXPECT_TRUE(calls.empty()) << "called inline";
        run_until(loop, [&] { return !calls.empty(); });
        ASSERT_EQ(calls.size(), 1u);
        EXPECT_EQ(calls[0].why, Why::due);
        EXPECT_EQ(calls[0].instant, instant);
        EXPECT_GE(calls[0].now, instant);
        EXPECT_GE(wall_now(loop), instant);
        EXPECT_FALSE(timer->cancel(loop));
        EXPECT_EQ(timer->move(loop, instant), Error::stale_handle);
    }
    // Before 1970, and as far away as can be said.
    std::vector<WallExpired> calls, never;
    ASSERT_TRUE(at_wall_clock(loop, WallInstant::min(), {}, into(calls)));
    const Result<WallTimer> far = at_wall_clock(loop, WallInstant::max(), {}, into(never));
    ASSERT_TRUE(far);
    run_until(loop, [&] { return !calls.empty(); });
    EXPECT_TRUE(never.empty());
    EXPECT_TRUE(far->cancel(loop));
    expect_over(loop);
}

TEST_P(WallClock, moved_and_cancelled) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Witness witness;
    std::vector<WallExpired> calls;
    const WallInstant late = wall_now(loop) + Nanoseconds(24h);
    Result<WallTimer> timer = at_wall_clock(loop, late, {}, into(calls));
    ASSERT_TRUE(timer);
    EXPECT_FALSE(loop.poll());
    const WallInstant soon = wall_now(loop) + Nanoseconds(5ms);
    EXPECT_FALSE(timer->move(loop, soon));
    run_until(loop, [&] { return !calls.empty(); });
    EXPECT_EQ(calls[0].instant, soon);
    const auto never = [token = witness.copy()](Loop&, const WallExpired&) { ADD_FAILURE(); };
    for (const int turns : {0, 3}) {  // due already, and with the kernel
        timer = at_wall_clock(loop, turns == 0 ? soon : late, {}, never);
        ASSERT_TRUE(timer);
        for (int turn = 0; turn < turns; ++turn) EXPECT_FALSE(loop.poll());
        EXPECT_TRUE(timer->cancel(loop));
        EXPECT_FALSE(timer->cancel(loop));
        EXPECT_EQ(timer->move(loop, soon), Error::stale_handle);
    }
    expect_over(loop);
    EXPECT_EQ(witness.others(), 1);
    EXPECT_FALSE(WallTimer().cancel(loop));
}

TEST_P(WallClock, a_clock_that_is_set) {
    WHORL_SKIP_IF_REFUSED();
    if (os::world() == nullptr) return;
    Loop loop = make_loop();
    const WallInstant start = wall_now(loop);
    std::vector<WallExpired> quiet, told;
    WallOptions tells;
    tells.tell_jumps = true;
    const WallInstant instant = start + Nanoseconds(1h);
    ASSERT_TRUE(at_wall_clock(loop, instant, {}, into(quiet)));
    ASSERT_TRUE(at_wall_clock(loop, instant, tells, into(told)));
    EXPECT_FALSE(loop.run_for(1s));
    // Back by a day: an hour of the loop's clock is not enough any more.
    set_clock(start - Nanoseconds(24h));
    EXPECT_FALSE(loop.run_for(Nanoseconds(2h)));
    EXPECT_TRUE(quiet.empty());
    ASSERT_EQ(told.size(), 1u);
    EXPECT_EQ(told[0].why, Why::clock_set);
    EXPECT_LT(told[0].now, start);
    // Each setting is told of.
    set_clock(start - Nanoseconds(12h));
    EXPECT_FALSE(loop.run_for(1s));
    EXPECT_EQ(told.size(), 2u);
    // Beyond it: due at once.
    set_clock(start + Nanoseconds(48h));
    run_until(loop, [&] { return told.size() == 3 && quiet.size() == 1; });
    EXPECT_EQ(told[2].why, Why::due);
    EXPECT_EQ(quiet[0].why, Why::due);
    EXPECT_GE(quiet[0].now, instant);
    // Back to just before one: it comes that much later.
    std::vector<WallExpired> calls;
    const WallInstant next = wall_now(loop) + Nanoseconds(10s);
    ASSERT_TRUE(at_wall_clock(loop, next, {}, into(calls)));
    EXPECT_FALSE(loop.run_for(5s));
    const Instant before = os::now();
    set_clock(next - Nanoseconds(20s));
    run_until(
        loop, [&] { return calls.size() == 1; }, Nanoseconds(60s));
    EXPECT_GE((os::now() - before).count(), Nanoseconds(20s).count());
    expect_over(loop);
}

TEST_P(WallClock, a_loop_is_drained_and_destroyed_under_it) {
    WHORL_SKIP_IF_REFUSED();
    Witness witness;
    for (const bool drains : {true, false}) {
        Loop loop = make_loop();
        const auto never = [token = witness.copy()](Loop&, const WallExpired&) { ADD_FAILURE(); };
        ASSERT_TRUE(at_wall_clock(loop, wall_now(loop) + Nanoseconds(24h), {}, never));
        EXPECT_FALSE(loop.poll());
        const Result<WallTimer> timer = at_wall_clock(loop, wall_now(loop), {}, never);
        ASSERT_TRUE(timer);
        if (!drains) continue;
        EXPECT_FALSE(loop.drain(10s));
        EXPECT_FALSE(timer->cancel(loop));
        expect_clean(loop);
    }
    EXPECT_TRUE(witness.alone());
}

}  // namespace
}  // namespace whorl::conformance
