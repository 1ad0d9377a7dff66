// SPDX-License-Identifier: MIT
// Goal: a source ends what is attached to it, whatever that is, once, and nothing else; before it starts, after
// it has ended, twice, from a handler, and with several sources on one. Method: by hand, on one loop.
#include "conformance/support.hpp"
#include "conformance/tcp_pair.hpp"

#include <whorl/cancel_source.hpp>
#include <whorl/event.hpp>

#include <memory>
#include <optional>

namespace whorl::conformance {
namespace {

class CancelSourceTest : public TcpTest {
  protected:
    // Counts what ended, and how.
    struct Log {
        int cancelled = 0;
        int done = 0;
        template <class Done>
        void operator()(Loop&, Done given) {
            if (given.error == Error::cancelled) ++cancelled;
            else EXPECT_FALSE(given.error);
            ++done;
        }
    };
    static void turns(Loop& loop) {
        for (int turn = 0; turn < 3; ++turn) EXPECT_FALSE(loop.poll());
    }
};
WHORL_CONFORMANCE(CancelSourceTest);

TEST_P(CancelSourceTest, operations_timers_watches_and_waits_end) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    const Ends pipe = Ends::pipe();
    const Witness witness;
    Event event;
    CancelSource source(loop);
    Log log;
    Log other;
    EXPECT_FALSE(source.attach(loop.submit(Recv{pair.socket, loop.buffer(16)}, &log)));
    EXPECT_FALSE(source.attach(loop.submit(AwaitEvent{event}, &log)));
    ASSERT_TRUE(loop.submit(AwaitEvent{event}, &other));
    EXPECT_FALSE(
        source.attach(loop.after(1h, [held = witness.copy()](Loop&, Expired) { ADD_FAILURE(); })));
    EXPECT_FALSE(
        source.attach(loop.every(1h, [held = witness.copy()](Loop&, Expired) { ADD_FAILURE(); })));
    EXPECT_FALSE(
        source.attach(loop.watch(pipe.in.get(), Interest::readable,
                                 [held = witness.copy()](Loop&, Watched) { ADD_FAILURE(); })));
    EXPECT_FALSE(
        source.attach(loop.hook(HookPoint::before_wait, [held = witness.copy()](Loop&) {})));
    turns(loop);
    EXPECT_EQ(witness.others(), 4);
    EXPECT_FALSE(source.cancelled());
    source.cancel();
    source.cancel();
    EXPECT_TRUE(source.cancelled());
    EXPECT_EQ(log.done, 0) << "never inside the call";
    run_until(loop, [&log] { return log.done == 2; });
    EXPECT_EQ(log.cancelled, 2);
    EXPECT_TRUE(witness.alone());
    EXPECT_EQ(other.done, 0) << "what is not attached goes on";
    event.set();
    close_and_wait(loop, pair.socket);
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(other.cancelled, 0);
    expect_clean(loop);
}

TEST_P(CancelSourceTest, what_is_attached_afterwards_ends_as_well) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Witness witness;
    Event event;
    CancelSource source(loop);
    Log log;
    source.cancel();
    EXPECT_FALSE(source.attach(loop.submit(AwaitEvent{event}, &log)));
    EXPECT_FALSE(
        source.attach(loop.after(1h, [held = witness.copy()](Loop&, Expired) { ADD_FAILURE(); })));
    EXPECT_TRUE(witness.alone());
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(log.cancelled, 1);
    // What was not started is said to be so.
    EXPECT_EQ(source.attach(loop.submit(Recv{Socket(), loop.buffer(16)}, &log)),
              Error::stale_handle);
    expect_clean(loop);
}

TEST_P(CancelSourceTest, what_has_ended_is_left_alone_and_forgotten) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Event event;
    event.set();
    CancelSource source(loop);
    Log log;
    for (int round = 0; round < 1000; ++round) {
        EXPECT_FALSE(source.attach(loop.submit(AwaitEvent{event}, &log)));
        turns(loop);
    }
    event.reset();
    Log late;
    // These have the slots of those that have ended.
    for (int round = 0; round < 100; ++round) ASSERT_TRUE(loop.submit(AwaitEvent{event}, &late));
    source.cancel();
    turns(loop);
    EXPECT_EQ(log.done, 1000);
    EXPECT_EQ(log.cancelled, 0);
    EXPECT_EQ(late.done, 0) << "a handle never names another";
    event.set();
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(late.cancelled, 0);
    expect_clean(loop);
}

TEST_P(CancelSourceTest, many_that_live_and_many_that_end_are_all_known) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Event set;
    set.set();
    Event event;
    CancelSource source(loop);
    Log ended;
    Log live;
    for (int round = 0; round < 300; ++round) {
        EXPECT_FALSE(source.attach(loop.submit(AwaitEvent{set}, &ended)));
        if (round % 3 == 0) {
            EXPECT_FALSE(source.attach(loop.submit(AwaitEvent{event}, &live)));
        }
        if (round % 7 == 0) turns(loop);
    }
    turns(loop);
    source.cancel();
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(ended.done, 300);
    EXPECT_EQ(ended.cancelled, 0);
    EXPECT_EQ(live.cancelled, 100);
    expect_clean(loop);
}

TEST_P(CancelSourceTest, several_sources_have_the_same) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Event event;
    CancelSource connection(loop);
    CancelSource server(loop);
    Log log;
    for (int round = 0; round < 2; ++round) {
        const Result<Operation> both = loop.submit(AwaitEvent{event}, &log);
        EXPECT_FALSE(connection.attach(both));
        EXPECT_FALSE(server.attach(both));
        EXPECT_FALSE(server.attach(both));
    }
    EXPECT_FALSE(server.attach(loop.submit(AwaitEvent{event}, &log)));
    connection.cancel();
    server.cancel();
    connection.cancel();
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(log.cancelled, 3);
    EXPECT_EQ(log.done, 3);
    expect_clean(loop);
}

TEST_P(CancelSourceTest, a_handler_may_cancel_also_itself) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Event event;
    Event other;
    CancelSource source(loop);
    Log log;
    int ticks = 0;
    EXPECT_FALSE(source.attach(loop.submit(AwaitEvent{event}, [&](Loop&, AwaitEvent::Done done) {
        EXPECT_FALSE(done.error);
        source.cancel();
    })));
    EXPECT_FALSE(source.attach(loop.submit(AwaitEvent{other}, &log)));
    event.set();
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(log.cancelled, 1);
    CancelSource second(loop);
    EXPECT_FALSE(second.attach(loop.every(1ms, [&](Loop&, Expired) {
        ++ticks;
        second.cancel();
    })));
    EXPECT_FALSE(loop.run()) << "the timer has cancelled itself";
    EXPECT_EQ(ticks, 1);
    expect_clean(loop);
}

// A timer's handler ends inside cancel(), and with it what it owns: the source itself.
TEST_P(CancelSourceTest, a_source_may_be_destroyed_by_what_it_cancels) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Event event;
    Log log;
    auto owned = std::make_unique<CancelSource>(loop);
    CancelSource& source = *owned;
    EXPECT_FALSE(source.attach(loop.submit(AwaitEvent{event}, &log)));
    const Result<Timer> timer =
        loop.after(1h, [held = std::move(owned)](Loop&, Expired) { ADD_FAILURE(); });
    EXPECT_FALSE(source.attach(timer));
    EXPECT_FALSE(source.attach(loop.submit(AwaitEvent{event}, &log)));
    source.cancel();
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(log.cancelled, 2);
    expect_clean(loop);
}

TEST_P(CancelSourceTest, its_end_ends_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Event event;
    Log log;
    auto source = std::make_unique<CancelSource>(loop);
    EXPECT_FALSE(source->attach(loop.submit(AwaitEvent{event}, &log)));
    source.reset();
    turns(loop);
    EXPECT_EQ(log.done, 0);
    event.set();
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(log.cancelled, 0);
    {
        std::optional<Loop> brief(make_loop());
        source = std::make_unique<CancelSource>(*brief);
        EXPECT_FALSE(source->attach(brief->submit(AwaitEvent{event}, &log)));
        brief.reset();
    }
    source.reset();
}

}  // namespace
}  // namespace whorl::conformance
