// SPDX-License-Identifier: MIT
// Goal: a connector takes the first address that answers, gives each its head start, tries again after a
// growing wait, keeps its deadline, and leaves no attempt and no socket behind.
// Method: listeners, refused ports and one that never answers; bounds of time from below.
#include "conformance/stream_tools.hpp"

#include <whorl/connector.hpp>

namespace whorl::conformance {
namespace {

struct Answer {
    int calls = 0;
    Connected connected;
    auto handler() {
        return [this](Loop&, const Connected& result) {
            ++calls;
            connected = result;
        };
    }
};

class Connecting : public StreamTools {
  protected:
    static void close_listener(Loop& loop, Listener listener) {
        bool closed = false;
        EXPECT_FALSE(loop.close(listener, [&](Loop&) { closed = true; }));
        run_until(loop, [&] { return closed; });
    }
    static void run_answer(Loop& loop, Answer& answer) {
        run_until(loop, [&] { return answer.calls == 1; });
        run_until(loop, [&] { return loop.statistics().operations == 0; });
    }
};
WHORL_CONFORMANCE(Connecting);

TEST_P(Connecting, the_first_that_answers_wins) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const HeldPort nobody;
    const Address dead = nobody.address();
    const Listener listener = listen_here(loop);
    const Address alive = *local_address(loop, listener);
    ConnectorOptions options;
    options.stagger = 1h;  // who fails is followed at once
    const Address addresses[] = {dead, dead, alive};
    Answer answer;
    ASSERT_TRUE(connect_any(loop, addresses, 3, options, answer.handler()));
    EXPECT_EQ(answer.calls, 0) << "never inline";
    run_answer(loop, answer);
    ASSERT_FALSE(answer.connected.error) << answer.connected.error.text();
    EXPECT_EQ(answer.connected.address, alive);
    EXPECT_EQ(answer.connected.attempts, 3u);
    close_and_wait(loop, answer.connected.socket);
    close_listener(loop, listener);
    expect_clean(loop);
}

TEST_P(Connecting, one_that_does_not_answer_is_passed_after_its_head_start) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Blackhole hole;
    os::let_arrive();  // those that fill its backlog
    const Listener listener = listen_here(loop);
    const Address addresses[] = {hole.address(), *local_address(loop, listener)};
    ConnectorOptions options;
    options.stagger = 20ms;
    Answer answer;
    const Instant begun = os::now();
    ASSERT_TRUE(connect_any(loop, addresses, 2, options, answer.handler()));
    run_answer(loop, answer);
    ASSERT_FALSE(answer.connected.error);
    EXPECT_EQ(answer.connected.address, addresses[1]);
    EXPECT_GE(os::now() - begun, 20ms);
    EXPECT_EQ(loop.statistics().handles, 2u) << "the loser's socket is gone";
    close_and_wait(loop, answer.connected.socket);
    close_listener(loop, listener);
    expect_clean(loop);
}

TEST_P(Connecting, rounds_wait_longer_each_time) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const HeldPort nobody;
    const Address addresses[] = {nobody.address()};
    ConnectorOptions options;
    options.rounds = 4;
    options.backoff = 8ms;
    options.backoff_max = 16ms;
    Answer answer;
    const Instant begun = os::now();
    ASSERT_TRUE(connect_any(loop, addresses, 1, options, answer.handler()));
    run_answer(loop, answer);
    EXPECT_EQ(answer.connected.error, Error::from_errno(ECONNREFUSED));
    EXPECT_EQ(answer.connected.attempts, 4u);
    EXPECT_GE(os::now() - begun, 4ms + 8ms + 8ms) << "half of 8, 16 and 16 ms";
    expect_clean(loop);
}

TEST_P(Connecting, is_bounded_and_can_be_cancelled) {
    WHORL_SKIP_IF_REFUSED();
    for (const bool cancelled : {false, true}) {
        Loop loop = make_loop();
        const Blackhole hole;
        os::let_arrive();  // those that fill its backlog
        const Address addresses[] = {hole.address(), hole.address(), hole.address()};
        ConnectorOptions options;
        options.stagger = 1ms;
        options.total = cancelled ? Nanoseconds(1h) : Nanoseconds(20ms);
        Answer answer;
        const auto made = connect_any(loop, addresses, 3, options, answer.handler());
        ASSERT_TRUE(made);
        if (cancelled) {
            turns(loop, 3);
            (*made)->cancel();
            EXPECT_EQ(answer.calls, 0) << "never inline";
        }
        run_answer(loop, answer);
        EXPECT_EQ(answer.connected.error, cancelled ? Error::cancelled : Error::timed_out);
        EXPECT_FALSE(answer.connected.socket);
        expect_clean(loop);
    }
}

TEST_P(Connecting, the_loop_ends_under_it) {
    WHORL_SKIP_IF_REFUSED();
    for (const bool drained : {false, true}) {
        Answer answer;
        const Blackhole hole;
        os::let_arrive();  // those that fill its backlog
        {
            Loop loop = make_loop();
            const Address addresses[] = {hole.address(), hole.address()};
            ASSERT_TRUE(connect_any(loop, addresses, 2, {}, answer.handler()));
            turns(loop, 3);
            if (drained) {
                ASSERT_FALSE(loop.drain(10s));
                EXPECT_EQ(answer.connected.error, Error::loop_closed);
            }
        }
        EXPECT_EQ(answer.calls, drained ? 1 : 0);
    }
}

TEST_P(Connecting, a_host_is_found_and_then_reached) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Listener listener = listen_here(loop);
    const Address alive = *local_address(loop, listener);
    ResolveQuery query{"localhost", {}, alive.port()};
    query.family = AF_INET;
    Answer answer;
    ASSERT_TRUE(connect_host(loop, query, {}, answer.handler()));
    EXPECT_EQ(answer.calls, 0) << "never inline";
    run_answer(loop, answer);
    ASSERT_FALSE(answer.connected.error) << answer.connected.error.text();
    EXPECT_EQ(answer.connected.address, alive);
    EXPECT_EQ(answer.connected.attempts, 1u);
    close_and_wait(loop, answer.connected.socket);
    close_listener(loop, listener);
    expect_clean(loop);
}

TEST_P(Connecting, a_host_that_is_not_found_is_not_tried) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    ResolveQuery query{"127.0.0.1", "no service has this name"};
    query.family = AF_INET;
    ConnectorOptions options;
    options.rounds = 3;
    Answer answer;
    ASSERT_TRUE(connect_host(loop, query, options, answer.handler()));
    run_answer(loop, answer);
    EXPECT_EQ(answer.connected.error, Error::service_unknown) << answer.connected.error.text();
    EXPECT_EQ(answer.connected.attempts, 0u);
    EXPECT_FALSE(answer.connected.socket);
    expect_clean(loop);
}

TEST_P(Connecting, cancelled_while_its_host_is_looked_for) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (const char* host : {"127.0.0.1", "localhost"}) {
        Answer answer;
        const auto made = connect_host(loop, {host, {}, 1}, {}, answer.handler());
        ASSERT_TRUE(made);
        (*made)->cancel();
        EXPECT_EQ(answer.calls, 0) << "never inline";
        run_answer(loop, answer);
        EXPECT_EQ(answer.connected.error, Error::cancelled);
        EXPECT_EQ(answer.connected.attempts, 0u);
    }
    expect_clean(loop);
}

TEST_P(Connecting, the_loop_ends_while_a_host_is_looked_for) {
    WHORL_SKIP_IF_REFUSED();
    for (const bool drained : {false, true}) {
        Answer answer;
        {
            Loop loop = make_loop();
            ASSERT_TRUE(connect_host(loop, {"localhost", {}, 1}, {}, answer.handler()));
            ASSERT_TRUE(
                connect_host(loop, {"127.0.0.1", {}, 1}, {}, [](Loop&, const Connected&) {}));
            if (drained) {
                ASSERT_FALSE(loop.drain(10s));
                EXPECT_EQ(answer.connected.error, Error::loop_closed);
            }
        }
        EXPECT_EQ(answer.calls, drained ? 1 : 0);
    }
}

TEST_P(Connecting, is_refused_with_its_reason) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Address addresses[] = {Address::loopback_v4(1), Address()};
    const auto nothing = [](Loop&, const Connected&) {};
    EXPECT_EQ(connect_any(loop, addresses, 0, {}, nothing).error(), Error::invalid_argument);
    EXPECT_EQ(connect_any(loop, addresses, 2, {}, nothing).error(), Error::invalid_argument);
    ConnectorOptions options;
    options.rounds = 0;
    EXPECT_EQ(connect_any(loop, addresses, 1, options, nothing).error(), Error::invalid_argument);
    EXPECT_EQ(connect_host(loop, {"host", {}, 1}, options, nothing).error(),
              Error::invalid_argument);
    EXPECT_EQ(connect_host(loop, {}, {}, nothing).error(), Error::invalid_argument);
    turns(loop, 5);  // nothing that was begun for it is left
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
