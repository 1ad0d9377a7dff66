// SPDX-License-Identifier: MIT
// Goal: loops and remotes are values: empty ones may be moved, copied, assigned and destroyed, and a call
// that finds the loop told to stop does nothing. Method: every combination of full and empty.
#include "conformance/support.hpp"

#include <whorl/remote.hpp>

#include <optional>

namespace whorl::conformance {
namespace {

class LoopValue : public LoopTest {};
WHORL_CONFORMANCE(LoopValue);

TEST_P(LoopValue, moved_from_loops_may_be_moved_assigned_and_destroyed) {
    WHORL_SKIP_IF_REFUSED();
    Loop full = make_loop();
    Loop first(std::move(full));
    Loop second(std::move(full));  // empty
    second = std::move(first);     // full over empty
    int ran = 0;
    ASSERT_FALSE(second.post([&](Loop& loop) {
        EXPECT_EQ(&loop, &second);
        ++ran;
    }));
    ASSERT_FALSE(second.run());
    Loop third = make_loop();
    const Witness witness;
    ASSERT_TRUE(third.after(1h, [copy = witness.copy()](Loop&, Expired) {}));
    third = std::move(second);  // full over full: what it had ends
    EXPECT_TRUE(witness.alone());
    ASSERT_FALSE(third.post([&](Loop& loop) {
        EXPECT_EQ(&loop, &third);
        ++ran;
    }));
    ASSERT_FALSE(third.run());
    third = std::move(first);  // empty over full
    EXPECT_EQ(ran, 2);
}

TEST_P(LoopValue, empty_remotes_answer_false) {
    WHORL_SKIP_IF_REFUSED();
    Remote none;
    const Remote copy(none);
    EXPECT_FALSE(copy.alive());
    EXPECT_FALSE(copy.stop());
    EXPECT_FALSE(copy.post([](Loop&) { ADD_FAILURE() << "called"; }));
    std::optional<Loop> loop(make_loop());
    const Result<Remote> remote = loop->remote();
    ASSERT_TRUE(remote);
    none = *remote;
    EXPECT_TRUE(none.alive());
    loop.reset();
    EXPECT_FALSE(none.alive());
    const Witness witness;
    EXPECT_FALSE(none.post([kept = witness.copy()](Loop&) { ADD_FAILURE() << "called"; }));
    EXPECT_TRUE(witness.alone()) << "what was refused is destroyed";
}

TEST_P(LoopValue, told_to_stop_beforehand_it_does_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int ran = 0;
    ASSERT_FALSE(loop.post([&](Loop&) { ++ran; }));
    loop.stop();
    ASSERT_FALSE(loop.run_once());
    EXPECT_EQ(ran, 0);
    loop.stop();
    ASSERT_FALSE(loop.run_for(1h));
    EXPECT_EQ(ran, 0);
    ASSERT_FALSE(loop.run_once());
    EXPECT_EQ(ran, 1);
    EXPECT_EQ(loop.run_once(), Error::nothing_to_wait_for);
    const Result<Remote> remote = loop.remote();
    ASSERT_TRUE(remote);
    ASSERT_TRUE(remote->post([&](Loop&) { ++ran; }));
    ASSERT_FALSE(loop.run_once());  // others may still have something for it
    EXPECT_EQ(ran, 2);
}

TEST_P(LoopValue, a_timer_s_handle_is_no_handle_of_anything_else) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Result<Timer> timer = loop.after(1h, [](Loop&, Expired) {});
    const Result<Operation> hook = loop.hook(HookPoint::before_wait, [](Loop&) {});
    ASSERT_TRUE(timer);
    ASSERT_TRUE(hook);
    EXPECT_FALSE(loop.cancel(Timer::from_value(hook->value())));
    EXPECT_FALSE(loop.cancel(Watch::from_value(timer->value())));
    EXPECT_EQ(loop.cancel(Operation::from_value(timer->value())), Cancelled::not_found);
    EXPECT_EQ(loop.move(Timer::from_value(hook->value()), 1s), Error::stale_handle);
    EXPECT_TRUE(loop.cancel(*timer));
    EXPECT_EQ(loop.cancel(*hook), Cancelled::cancelling);
}

TEST_P(LoopValue, a_timer_at_the_end_of_the_clock_is_no_deadline) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Result<Timer> timer =
        loop.at(instant_never, [](Loop&, Expired) { ADD_FAILURE() << "so late?"; });
    ASSERT_TRUE(timer);
    ASSERT_FALSE(loop.poll());
    EXPECT_EQ(loop.next_deadline(), instant_never);
    ASSERT_FALSE(loop.run_for(1ms));
    EXPECT_TRUE(loop.cancel(*timer));
}

TEST_P(LoopValue, a_watch_modified_again_before_the_backend_knows_wants_the_last) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Ends ends = Ends::sockets();
    int readable = 0;
    const Result<Watch> watch =
        loop.watch(ends.in.get(), Interest::priority, [&](Loop& inner, Watched seen) {
            EXPECT_FALSE(seen.writable);
            if (!seen.readable) return;
            ++readable;
            EXPECT_FALSE(inner.modify(seen.watch, Interest::none));
        });
    ASSERT_TRUE(watch);
    ASSERT_FALSE(loop.poll());
    ASSERT_FALSE(loop.modify(*watch, Interest::priority));  // as it is
    ASSERT_FALSE(loop.modify(*watch, Interest::writable));
    ASSERT_FALSE(loop.modify(*watch, Interest::none));
    ASSERT_FALSE(loop.modify(*watch, Interest::readable));
    ASSERT_FALSE(loop.poll());
    EXPECT_EQ(readable, 0);
    ends.out.write("x");
    run_until(loop, [&] { return readable == 1; });
    ASSERT_FALSE(loop.modify(*watch, Interest::none));  // paused as it is
    ASSERT_FALSE(loop.run_for(1ms));
    EXPECT_EQ(readable, 1);
    EXPECT_TRUE(loop.cancel(*watch));
}

}  // namespace
}  // namespace whorl::conformance
