// SPDX-License-Identifier: MIT
// Goal: hooks run once in every turn, in order, and may change the set of hooks. Method: hooks that
// write their names down.
#include "conformance/support.hpp"

namespace whorl::conformance {
namespace {

class LoopHook : public LoopTest {
  protected:
    // A hook that writes its name down.
    static Operation log_hook(Loop& loop, HookPoint point, std::string& log, char name) {
        Result<Operation> hook = loop.hook(point, [&log, name](Loop&) { log += name; });
        EXPECT_TRUE(hook);
        return *hook;
    }
};
WHORL_CONFORMANCE(LoopHook);

TEST_P(LoopHook, runs_in_every_turn_around_the_wait_and_before_handlers) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    std::string log;
    const Operation hooks[] = {log_hook(loop, HookPoint::after_wait, log, 'c'),
                               log_hook(loop, HookPoint::before_wait, log, 'a'),
                               log_hook(loop, HookPoint::before_wait, log, 'b')};
    ASSERT_FALSE(loop.post([&](Loop&) { log += 'P'; }));
    EXPECT_FALSE(loop.poll());
    EXPECT_EQ(log, "abcP");
    EXPECT_FALSE(loop.poll());
    EXPECT_EQ(log, "abcPabc");
    for (const Operation hook : hooks) {
        EXPECT_EQ(loop.cancel(hook), Cancelled::cancelling);
        EXPECT_EQ(loop.cancel(hook), Cancelled::not_found);
    }
    EXPECT_FALSE(loop.poll());
    EXPECT_EQ(log, "abcPabc");
    expect_clean(loop);
}

TEST_P(LoopHook, does_not_keep_run_going) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    std::string log;
    log_hook(loop, HookPoint::before_wait, log, 'a');
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(loop.run_once(), Error::nothing_to_wait_for);
    EXPECT_EQ(log, "");
}

TEST_P(LoopHook, what_a_hook_submits_is_served) {
    WHORL_SKIP_IF_REFUSED();
    for (const HookPoint point : {HookPoint::before_wait, HookPoint::after_wait}) {
        Loop loop = make_loop();
        int nops = 0, timers = 0, posts = 0;
        bool armed = false;
        ASSERT_TRUE(loop.hook(point, [&](Loop& inner) {
            if (std::exchange(armed, true)) return;
            EXPECT_TRUE(inner.submit(Nop{}, [&](Loop&, Nop::Done) { ++nops; }));
            EXPECT_TRUE(inner.after(0ns, [&](Loop&, Expired) { ++timers; }));
            EXPECT_FALSE(inner.post([&](Loop&) { ++posts; }));
        }));
        ASSERT_FALSE(loop.post([](Loop&) {}));
        run_until(loop, [&] { return nops + timers + posts == 3; });
        EXPECT_EQ(nops, 1);
        EXPECT_EQ(timers, 1);
        EXPECT_EQ(posts, 1);
    }
}

TEST_P(LoopHook, may_cancel_itself) {
    WHORL_SKIP_IF_REFUSED();
    for (const HookPoint point : {HookPoint::before_wait, HookPoint::after_wait}) {
        Loop loop = make_loop();
        Witness witness;
        std::string log;
        Operation self;
        log_hook(loop, point, log, 'a');
        Result<Operation> hook = loop.hook(point, [&, token = witness.copy()](Loop& inner) {
            log += 'x';
            EXPECT_EQ(inner.cancel(self), Cancelled::cancelling);
            EXPECT_EQ(inner.cancel(self), Cancelled::not_found);
            EXPECT_FALSE(witness.alone()) << "destroyed while it runs";
        });
        self = *hook;
        log_hook(loop, point, log, 'b');
        for (int turn = 0; turn < 3; ++turn) EXPECT_FALSE(loop.poll());
        EXPECT_EQ(log, "axbabab");
        EXPECT_TRUE(witness.alone());
    }
}

TEST_P(LoopHook, may_cancel_others_before_and_behind_it_and_none_runs_twice) {
    WHORL_SKIP_IF_REFUSED();
    for (const HookPoint point : {HookPoint::before_wait, HookPoint::after_wait}) {
        Loop loop = make_loop();
        std::string log;
        Operation first, last;
        first = log_hook(loop, point, log, 'a');
        log_hook(loop, point, log, 'b');
        ASSERT_TRUE(loop.hook(point, [&](Loop& inner) {
            log += 'x';
            inner.cancel(first);
            inner.cancel(last);
        }));
        log_hook(loop, point, log, 'c');
        last = log_hook(loop, point, log, 'd');
        log_hook(loop, point, log, 'e');
        EXPECT_FALSE(loop.poll());
        EXPECT_EQ(log, "abxce");
        log.clear();
        EXPECT_FALSE(loop.poll());
        EXPECT_EQ(log, "bxce");
    }
}

TEST_P(LoopHook, a_hook_made_by_a_hook_runs_from_the_next_turn_on_and_order_is_kept) {
    WHORL_SKIP_IF_REFUSED();
    for (const HookPoint point : {HookPoint::before_wait, HookPoint::after_wait}) {
        Loop loop = make_loop();
        std::string log;
        bool made = false;
        ASSERT_TRUE(loop.hook(point, [&](Loop& inner) {
            log += 'a';
            if (!std::exchange(made, true)) log_hook(inner, point, log, 'n');
        }));
        log_hook(loop, point, log, 'b');
        log_hook(loop, point, log, 'c');
        EXPECT_FALSE(loop.poll());
        EXPECT_EQ(log, "abc");
        log.clear();
        EXPECT_FALSE(loop.poll());
        EXPECT_FALSE(loop.poll());
        EXPECT_EQ(log, "abcnabcn");
    }
}

TEST_P(LoopHook, at_most_sixty_four) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int calls = 0;
    std::vector<Operation> hooks;
    for (int index = 0; index < 64; ++index) {
        const HookPoint point = index % 2 == 0 ? HookPoint::before_wait : HookPoint::after_wait;
        Result<Operation> hook = loop.hook(point, [&](Loop&) { ++calls; });
        ASSERT_TRUE(hook) << index;
        hooks.push_back(*hook);
    }
    EXPECT_EQ(loop.hook(HookPoint::before_wait, [](Loop&) {}).error(), Error::slots_exhausted);
    EXPECT_EQ(loop.hook(HookPoint::after_wait, [](Loop&) {}).error(), Error::slots_exhausted);
    EXPECT_FALSE(loop.poll());
    EXPECT_EQ(calls, 64);
    loop.cancel(hooks.back());
    EXPECT_TRUE(loop.hook(HookPoint::after_wait, [](Loop&) {}));
}

TEST_P(LoopHook, may_stop_the_loop) {
    WHORL_SKIP_IF_REFUSED();
    for (const HookPoint point : {HookPoint::before_wait, HookPoint::after_wait}) {
        Loop loop = make_loop();
        int calls = 0;
        Result<Operation> hook = loop.hook(point, [](Loop& inner) { inner.stop(); });
        ASSERT_TRUE(hook);
        ASSERT_TRUE(loop.after(1h, [](Loop&, Expired) {}));
        ASSERT_FALSE(loop.post([&](Loop&) { ++calls; }));
        EXPECT_FALSE(loop.run());
        EXPECT_EQ(calls, 0);
        loop.cancel(*hook);
        EXPECT_FALSE(loop.poll());
        EXPECT_EQ(calls, 1);
    }
}

}  // namespace
}  // namespace whorl::conformance
