// SPDX-License-Identifier: MIT
// Goal: several operations end as one: when all have ended, or when the first has succeeded and the others have
// been cancelled and have ended; and the whole can be cancelled, be late, belong to a scope, and lose its loop,
// like any operation. Method: by hand, on one loop, with waits and sockets as parts.
#include "conformance/support.hpp"
#include "conformance/tcp_pair.hpp"

#include <whorl/all_of.hpp>
#include <whorl/event.hpp>
#include <whorl/local_channel.hpp>
#include <whorl/scope.hpp>
#include <whorl/semaphore.hpp>

#include <memory>
#include <optional>

namespace whorl::conformance {
namespace {

using Both = AllOf<AwaitEvent, AwaitEvent>;
using Either = AnyOf<AwaitEvent, AwaitEvent>;

class AllOfTest : public TcpTest {
  protected:
    // Keeps what the handler got.
    template <class Op>
    struct Log {
        int calls = 0;
        std::optional<typename Op::Done> done;
        void operator()(Loop&, typename Op::Done given) {
            ++calls;
            done.emplace(std::move(given));
        }
        template <std::size_t Part>
        Error error() {
            auto& result = std::get<Part>(done->results);
            return result ? result->error : result.error();
        }
    };
    static void turns(Loop& loop) {
        for (int turn = 0; turn < 4; ++turn) EXPECT_FALSE(loop.poll());
    }
};
WHORL_CONFORMANCE(AllOfTest);

TEST_P(AllOfTest, all_ends_when_the_last_has_ended) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    Event event;
    LocalChannel<std::unique_ptr<int>> channel;
    using Op = AllOf<Recv, AwaitEvent, ReceiveLocal<std::unique_ptr<int>>>;
    Log<Op> log;
    ASSERT_TRUE(loop.submit(
        all_of(Recv{pair.socket, loop.buffer(16)}, AwaitEvent{event}, ReceiveLocal{channel}),
        &log));
    event.set();
    turns(loop);
    EXPECT_FALSE(channel.send(std::make_unique<int>(7)));
    turns(loop);
    EXPECT_EQ(log.calls, 0);
    pair.peer.send("x");
    EXPECT_FALSE(loop.run()) << "it keeps run() going, and its end lets it return";
    ASSERT_EQ(log.calls, 1);
    EXPECT_FALSE(log.done->error);
    auto& [received, awaited, message] = log.done->results;
    ASSERT_TRUE(received && awaited && message);
    EXPECT_EQ(received->buffer.size(), 1u);
    EXPECT_FALSE(awaited->error);
    EXPECT_EQ(**message->message, 7);
    log.done.reset();
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(AllOfTest, all_ends_without_an_error_whatever_its_parts_meet) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Event event;
    LocalChannel<int> closed;
    closed.close();
    // One fails, and one is refused: its socket is none.
    using Op = AllOf<ReceiveLocal<int>, Recv, AwaitEvent>;
    Log<Op> log;
    ASSERT_TRUE(loop.submit(
        all_of(ReceiveLocal{closed}, Recv{Socket(), loop.buffer(16)}, AwaitEvent{event}), &log));
    turns(loop);
    EXPECT_EQ(log.calls, 0) << "one is left";
    event.set();
    turns(loop);
    ASSERT_EQ(log.calls, 1);
    EXPECT_FALSE(log.done->error);
    EXPECT_EQ(log.error<0>(), Error::channel_closed);
    EXPECT_FALSE(std::get<1>(log.done->results));
    EXPECT_EQ(log.error<1>(), Error::stale_handle);
    EXPECT_FALSE(log.error<2>());
    // All are refused: it ends, and not inside the call.
    Log<AllOf<Recv>> none;
    auto refused = all_of(Recv{Socket(), loop.buffer(16)});
    ASSERT_TRUE(loop.submit(std::move(refused), &none));
    EXPECT_EQ(none.calls, 0);
    EXPECT_GE(std::get<0>(refused.operations).buffer.capacity(), 16u) << "it was not taken";
    turns(loop);
    ASSERT_EQ(none.calls, 1);
    EXPECT_EQ(none.error<0>(), Error::stale_handle);
    expect_clean(loop);
}

TEST_P(AllOfTest, any_ends_with_the_first_that_succeeds_and_cancels_the_others) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    Event event;
    Semaphore permits(0);
    using Op = AnyOf<Recv, Acquire, AwaitEvent>;
    Log<Op> log;
    ASSERT_TRUE(loop.submit(
        any_of(Recv{pair.socket, loop.buffer(16)}, Acquire{permits}, AwaitEvent{event}), &log));
    turns(loop);
    EXPECT_EQ(log.calls, 0);
    permits.release();
    run_until(loop, [&log] { return log.calls == 1; });
    EXPECT_FALSE(log.done->error);
    EXPECT_EQ(log.done->winner, 1u);
    EXPECT_EQ(log.error<0>(), Error::cancelled);
    EXPECT_FALSE(log.error<1>());
    EXPECT_EQ(log.error<2>(), Error::cancelled);
    log.done.reset();
    close_and_wait(loop, pair.socket);
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(log.calls, 1);
    expect_clean(loop);
}

TEST_P(AllOfTest, any_goes_on_past_failures_and_tells_when_all_have_failed) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Event event;
    for (const bool succeeds : {true, false}) {
        LocalChannel<int> first;
        LocalChannel<int> second;
        Log<AnyOf<ReceiveLocal<int>, Recv, ReceiveLocal<int>>> log;
        ASSERT_TRUE(loop.submit(
            any_of(ReceiveLocal{first}, Recv{Socket(), loop.buffer(16)}, ReceiveLocal{second}),
            &log));
        first.close();
        turns(loop);
        EXPECT_EQ(log.calls, 0);
        if (succeeds) {
            EXPECT_FALSE(second.send(3));
        } else {
            second.close();
        }
        turns(loop);
        ASSERT_EQ(log.calls, 1);
        EXPECT_EQ(log.done->winner, succeeds ? 2u : 3u);
        EXPECT_EQ(log.done->error, succeeds ? Error() : Error(Error::channel_closed));
        EXPECT_EQ(log.error<0>(), Error::channel_closed);
        EXPECT_EQ(log.error<1>(), Error::stale_handle);
    }
    expect_clean(loop);
}

// Both have what they wait for before either is heard: the first is the winner, the other says what it has.
TEST_P(AllOfTest, any_may_have_a_second_that_succeeds) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Semaphore permits(2);
    Log<AnyOf<Acquire, Acquire>> log;
    ASSERT_TRUE(loop.submit(any_of(Acquire{permits}, Acquire{permits}), &log));
    turns(loop);
    ASSERT_EQ(log.calls, 1);
    EXPECT_EQ(log.done->winner, 0u);
    EXPECT_FALSE(log.error<0>());
    EXPECT_FALSE(log.error<1>());
    EXPECT_EQ(permits.available(), 0u);
}

TEST_P(AllOfTest, cancelling_the_whole_cancels_its_parts_and_waits_for_them) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    Event event;
    Log<AllOf<Recv, AwaitEvent>> all;
    Log<AnyOf<AwaitEvent, AwaitEvent>> any;
    const Result<Operation> first =
        loop.submit(all_of(Recv{pair.socket, loop.buffer(16)}, AwaitEvent{event}), &all);
    const Result<Operation> second =
        loop.submit(any_of(AwaitEvent{event}, AwaitEvent{event}), &any);
    ASSERT_TRUE(first && second);
    turns(loop);
    for (int again = 0; again < 2; ++again) {
        EXPECT_EQ(loop.cancel(*first), Cancelled::cancelling);
        EXPECT_EQ(loop.cancel(*second), Cancelled::cancelling);
    }
    EXPECT_EQ(all.calls + any.calls, 0) << "never inside the call";
    run_until(loop, [&] { return all.calls + any.calls == 2; });
    EXPECT_EQ(all.done->error, Error::cancelled);
    EXPECT_EQ(all.error<0>(), Error::cancelled);
    EXPECT_EQ(all.error<1>(), Error::cancelled);
    EXPECT_EQ(any.done->error, Error::cancelled);
    EXPECT_EQ(any.done->winner, 2u);
    EXPECT_EQ(loop.cancel(*first), Cancelled::not_found);
    all.done.reset();
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(AllOfTest, a_deadline_is_the_deadline_of_all_parts) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Event event;
    Event never;
    Log<Both> all;
    Log<Either> any;
    ASSERT_TRUE(loop.submit(all_of(AwaitEvent{event}, AwaitEvent{never}), within(1ms), &all));
    ASSERT_TRUE(loop.submit(any_of(AwaitEvent{never}, AwaitEvent{never}), within(1ms), &any));
    event.set();
    run_until(loop, [&] { return all.calls + any.calls == 2; });
    EXPECT_EQ(all.done->error, Error::timed_out);
    EXPECT_FALSE(all.error<0>());
    EXPECT_EQ(all.error<1>(), Error::cancelled);
    EXPECT_EQ(any.done->error, Error::timed_out);
    // One that is not reached leaves nothing behind.
    ASSERT_TRUE(loop.submit(any_of(AwaitEvent{never}, AwaitEvent{event}), within(1h), &any));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(any.calls, 2);
    EXPECT_FALSE(any.done->error);
    expect_clean(loop);
}

TEST_P(AllOfTest, one_goes_inside_the_other_and_both_into_a_scope) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Event one;
    Event two;
    Event three;
    Log<AllOf<Either, AwaitEvent>> log;
    Log<AllOf<Either, AwaitEvent>> scoped;
    const auto made = [&] {
        return all_of(any_of(AwaitEvent{one}, AwaitEvent{two}), AwaitEvent{three});
    };
    Scope scope(loop);
    ASSERT_TRUE(loop.submit(made(), &log));
    three.set();
    three.reset();
    turns(loop);
    ASSERT_TRUE(scope.submit(made(), &scoped));
    EXPECT_EQ(scope.size(), 1u);
    two.set();
    two.reset();
    turns(loop);
    ASSERT_EQ(log.calls, 1);
    EXPECT_EQ(std::get<0>(log.done->results)->winner, 1u);
    EXPECT_EQ(scoped.calls, 0);
    bool closed = false;
    ASSERT_TRUE(loop.submit(CloseScope{scope}, [&](Loop&, CloseScope::Done) {
        EXPECT_EQ(scoped.calls, 1) << "the scope closes when the whole has ended";
        closed = true;
    }));
    EXPECT_FALSE(loop.run());
    EXPECT_TRUE(closed);
    EXPECT_EQ(scoped.done->error, Error::cancelled);
    EXPECT_EQ(std::get<0>(scoped.done->results)->winner, 1u) << "this had ended before";
    EXPECT_EQ(scoped.error<1>(), Error::cancelled);
    expect_clean(loop);
}

TEST_P(AllOfTest, a_handler_may_begin_the_next) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Event event;
    event.set();
    struct Again {
        Event* event;
        int left;
        void operator()(Loop& inner, Both::Done done) {
            EXPECT_FALSE(done.error);
            if (--left > 0) {
                ASSERT_TRUE(inner.submit(all_of(AwaitEvent{*event}, AwaitEvent{*event}), this));
            }
        }
    } again{&event, 100};
    ASSERT_TRUE(loop.submit(all_of(AwaitEvent{event}, AwaitEvent{event}), &again));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(again.left, 0);
    expect_clean(loop);
}

TEST_P(AllOfTest, in_the_background_it_does_not_keep_the_loop_going) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Event event;
    SubmitOptions options;
    options.background = true;
    Log<Both> log;
    ASSERT_TRUE(loop.submit(all_of(AwaitEvent{event}, AwaitEvent{event}), options, &log));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(log.calls, 0);
    event.set();
    turns(loop);
    EXPECT_EQ(log.calls, 1);
    expect_clean(loop);
}

TEST_P(AllOfTest, too_few_slots_refuse_the_whole_or_a_part) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.ops_max = 2; });
    Event event;
    Log<Both> log;
    ASSERT_TRUE(loop.submit(all_of(AwaitEvent{event}, AwaitEvent{event}), &log));
    Log<Both> none;
    EXPECT_EQ(loop.submit(all_of(AwaitEvent{event}, AwaitEvent{event}), &none).error(),
              Error::slots_exhausted);
    event.set();
    turns(loop);
    ASSERT_EQ(log.calls, 1);
    EXPECT_FALSE(log.done->error);
    EXPECT_FALSE(log.error<0>());
    EXPECT_EQ(log.error<1>(), Error::slots_exhausted);
    EXPECT_EQ(none.calls, 0);
    expect_clean(loop);
}

TEST_P(AllOfTest, drain_calls_it_and_the_loops_end_does_not) {
    WHORL_SKIP_IF_REFUSED();
    const Witness witness;
    Event event;
    int calls = 0;
    const auto handler = [&] {
        return [&calls, held = witness.copy()](Loop&, Both::Done done) {
            EXPECT_EQ(done.error, Error::cancelled);
            ++calls;
        };
    };
    {
        Loop loop = make_loop();
        Pair pair = make_pair(loop);
        ASSERT_TRUE(loop.submit(all_of(AwaitEvent{event}, AwaitEvent{event}), handler()));
        EXPECT_FALSE(loop.drain(10s));
        EXPECT_EQ(calls, 1);
        EXPECT_TRUE(witness.alone());
    }
    for (const bool ended : {false, true}) {
        Loop loop = make_loop();
        Pair pair = make_pair(loop);
        ASSERT_TRUE(loop.submit(all_of(AwaitEvent{event}, AwaitEvent{event}), handler()));
        ASSERT_TRUE(loop.submit(any_of(Recv{pair.socket, loop.buffer(16)},
                                       all_of(AwaitEvent{event}, AwaitEvent{event})),
                                [held = witness.copy()](Loop&, auto) { ADD_FAILURE(); }));
        turns(loop);
        if (ended) event.set();  // and nobody has been told
    }
    EXPECT_EQ(calls, 1);
    EXPECT_TRUE(witness.alone());
}

// Whatever is drawn: the whole ends once, after its parts, and nothing is left.
TEST_P(AllOfTest, random_orders_end_once) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    std::uint32_t state = 12345;
    const auto draw = [&state](std::uint32_t below) {
        state = state * 1664525 + 1013904223;
        return (state >> 16) % below;
    };
    for (int round = 0; round < 200; ++round) {
        Event events[3];
        Log<AllOf<AwaitEvent, AnyOf<AwaitEvent, AwaitEvent>>> log;
        const Result<Operation> whole = loop.submit(
            all_of(AwaitEvent{events[0]}, any_of(AwaitEvent{events[1]}, AwaitEvent{events[2]})),
            &log);
        ASSERT_TRUE(whole);
        for (int step = 0; log.calls == 0; ++step) {
            const std::uint32_t drawn = step > 30 ? 3 : draw(8);
            if (drawn < 3) events[drawn].set();
            if (drawn == 3) loop.cancel(*whole);
            if (drawn > 3 || step > 30) {
                ASSERT_FALSE(loop.poll());
            }
            ASSERT_LT(step, 100);
        }
        turns(loop);
        EXPECT_EQ(log.calls, 1);
        EXPECT_EQ(loop.statistics().operations, 0u);
    }
}

}  // namespace
}  // namespace whorl::conformance
