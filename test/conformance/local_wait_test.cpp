// SPDX-License-Identifier: MIT
// Goal: what waits inside a loop ends once and in order: by the event, the permit, the cancel, the deadline,
// or the end of what it waits for; and a scope is closed when everything in it has ended. Method: by hand, on
// one loop.
#include "conformance/support.hpp"
#include "conformance/tcp_pair.hpp"

#include <whorl/event.hpp>
#include <whorl/scope.hpp>
#include <whorl/semaphore.hpp>

#include <optional>

namespace whorl::conformance {
namespace {

class LocalWait : public TcpTest {
  protected:
    // Writes down who ended how: "a" for no error, "A!" for cancelled, "A?" for timed out.
    struct Note {
        std::string* log;
        char name;
        template <class Done>
        void operator()(Loop&, Done done) const {
            *log += name;
            if (done.error == Error::cancelled) *log += '!';
            else if (done.error == Error::timed_out) *log += '?';
            else EXPECT_FALSE(done.error) << done.error.name();
        }
    };
};
WHORL_CONFORMANCE(LocalWait);

TEST_P(LocalWait, an_event_ends_all_who_wait_and_those_who_come_while_it_is_set) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Event event;
    std::string log;
    ASSERT_TRUE(loop.submit(AwaitEvent{event}, Note{&log, 'a'}));
    ASSERT_TRUE(loop.submit(AwaitEvent{event}, Note{&log, 'b'}));
    EXPECT_FALSE(loop.poll());
    EXPECT_EQ(log, "");
    event.set();
    EXPECT_EQ(log, "") << "never inside the call";
    event.reset();
    ASSERT_TRUE(loop.submit(AwaitEvent{event}, Note{&log, 'c'}));
    EXPECT_FALSE(loop.poll());
    EXPECT_EQ(log, "ab");
    event.set();
    ASSERT_TRUE(loop.submit(AwaitEvent{event}, Note{&log, 'd'}));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(log, "abcd");
    expect_clean(loop);
}

TEST_P(LocalWait, waiting_is_cancelled_times_out_and_ends_with_the_event) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    std::optional<Event> event(std::in_place);
    std::string log;
    Result<Operation> first = loop.submit(AwaitEvent{*event}, Note{&log, 'a'});
    ASSERT_TRUE(loop.submit(AwaitEvent{*event}, within(1ms), Note{&log, 'b'}));
    ASSERT_TRUE(loop.submit(AwaitEvent{*event}, Note{&log, 'c'}));
    EXPECT_EQ(loop.cancel(*first), Cancelled::cancelling);
    EXPECT_EQ(loop.cancel(*first), Cancelled::already_completing);
    run_until(loop, [&log] { return log == "a!b?"; });
    EXPECT_EQ(loop.cancel(*first), Cancelled::not_found);
    event.reset();
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(log, "a!b?c!");
    expect_clean(loop);
}

TEST_P(LocalWait, what_waits_in_the_program_follows_nothing_and_is_not_followed) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    Event event;
    std::string log;
    const Result<Operation> receiving =
        loop.submit(Recv{pair.socket, loop.buffer(16)}, [](Loop&, Recv::Done) {});
    ASSERT_TRUE(receiving);
    SubmitOptions options = following(*receiving);
    options.within = 1s;
    EXPECT_EQ(loop.submit(AwaitEvent{event}, options, Note{&log, 'a'}).error(),
              Error::invalid_argument);
    const Result<Operation> waiting = loop.submit(AwaitEvent{event}, Note{&log, 'b'});
    ASSERT_TRUE(waiting);
    EXPECT_EQ(loop.submit(Recv{pair.socket, loop.buffer(16)}, following(*waiting),
                          [](Loop&, Recv::Done) {})
                  .error(),
              Error::stale_handle);
    event.set();
    close_and_wait(loop, pair.socket);
    EXPECT_EQ(log, "b");
    EXPECT_FALSE(loop.run());
    expect_clean(loop);
}

TEST_P(LocalWait, drain_calls_who_waits_and_destruction_does_not) {
    WHORL_SKIP_IF_REFUSED();
    std::string log;
    Event event;
    Semaphore permits(0);
    {
        Loop loop = make_loop();
        ASSERT_TRUE(loop.submit(AwaitEvent{event}, Note{&log, 'a'}));
        ASSERT_TRUE(loop.submit(Acquire{permits}, Note{&log, 'b'}));
        EXPECT_FALSE(loop.drain(1s));
        EXPECT_EQ(log, "a!b!");
        ASSERT_TRUE(loop.submit(AwaitEvent{event}, Note{&log, 'c'}));
        ASSERT_TRUE(loop.submit(Acquire{permits}, Note{&log, 'd'}));
    }
    EXPECT_EQ(log, "a!b!");
    event.set();
    permits.release();
    EXPECT_EQ(permits.available(), 1u) << "nobody waits any more";
}

TEST_P(LocalWait, permits_go_first_come_first_served) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Semaphore permits(3);
    std::string log;
    EXPECT_TRUE(permits.try_acquire(2));
    ASSERT_TRUE(loop.submit(Acquire{permits}, Note{&log, 'a'}));
    EXPECT_FALSE(permits.try_acquire());
    ASSERT_TRUE(loop.submit(Acquire{permits, 3}, Note{&log, 'b'}));
    ASSERT_TRUE(loop.submit(Acquire{permits}, Note{&log, 'c'}));
    EXPECT_FALSE(loop.poll());
    EXPECT_EQ(log, "a");
    permits.release(2);
    EXPECT_FALSE(permits.try_acquire()) << "who waits for more comes first";
    EXPECT_FALSE(loop.poll());
    EXPECT_EQ(log, "a");
    permits.release(1);
    EXPECT_FALSE(loop.poll());
    EXPECT_EQ(log, "ab");
    permits.release(3);
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(log, "abc");
    EXPECT_EQ(permits.available(), 2u);
}

TEST_P(LocalWait, one_who_gives_up_lets_those_behind_it_pass) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Semaphore permits(2);
    std::string log;
    Result<Operation> many = loop.submit(Acquire{permits, 5}, Note{&log, 'a'});
    ASSERT_TRUE(loop.submit(Acquire{permits, 2}, Note{&log, 'b'}));
    EXPECT_FALSE(loop.poll());
    EXPECT_EQ(log, "");
    EXPECT_EQ(loop.cancel(*many), Cancelled::cancelling);
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(log, "ba!");
    EXPECT_EQ(permits.available(), 0u);
}

TEST_P(LocalWait, permits_that_were_given_are_not_taken_back_by_a_cancel) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Semaphore permits(1);
    std::string log;
    Result<Operation> given = loop.submit(Acquire{permits}, Note{&log, 'a'});
    EXPECT_EQ(loop.cancel(*given), Cancelled::already_completing);
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(log, "a");
    EXPECT_EQ(permits.available(), 0u);
}

TEST_P(LocalWait, a_scope_closes_when_everything_in_it_has_ended) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    Event event;
    std::string log;
    {
        Scope scope(loop);
        Scope other(loop);
        for (int round = 0; round < 20; ++round) {
            ASSERT_TRUE(scope.submit(AwaitEvent{event}, Note{&log, 'e'}));
        }
        event.set();
        event.reset();
        EXPECT_FALSE(loop.poll());
        EXPECT_EQ(scope.size(), 0u);
        log.clear();
        ASSERT_TRUE(scope.submit(Recv{pair.socket, loop.buffer(16)}, Note{&log, 'r'}));
        ASSERT_TRUE(scope.submit(AwaitEvent{event}, Note{&log, 'e'}));
        ASSERT_TRUE(other.submit(AwaitEvent{event}, Note{&log, 'o'}));
        EXPECT_EQ(scope.size(), 2u);
        EXPECT_FALSE(loop.poll());
        ASSERT_TRUE(loop.submit(CloseScope{scope}, Note{&log, 'x'}));
        EXPECT_TRUE(scope.closing());
        EXPECT_EQ(scope.submit(AwaitEvent{event}, Note{&log, 'z'}).error(), Error::loop_closed);
        run_until(loop, [&log] { return log.find('x') != std::string::npos; });
        EXPECT_EQ(log.back(), 'x') << "the last of all";
        EXPECT_NE(log.find("r!"), std::string::npos);
        EXPECT_NE(log.find("e!"), std::string::npos);
        EXPECT_EQ(scope.size(), 0u);
        EXPECT_EQ(other.size(), 1u) << "a sibling is untouched";
        other.cancel();
        EXPECT_FALSE(other.closing());
        run_until(loop, [&log] { return log.find("o!") != std::string::npos; });
        ASSERT_TRUE(loop.submit(CloseScope{other}, Note{&log, 'y'}));
        run_until(loop, [&log] { return log.back() == 'y'; });
    }
    EXPECT_FALSE(loop.close(pair.socket));
    EXPECT_FALSE(loop.run());
    expect_clean(loop);
}

TEST_P(LocalWait, a_scope_may_be_destroyed_when_it_has_closed_or_its_loop_is_gone) {
    WHORL_SKIP_IF_REFUSED();
    Event event;
    std::string log;
    {
        Loop loop = make_loop();
        auto* scope = new Scope(loop);
        ASSERT_TRUE(scope->submit(AwaitEvent{event}, Note{&log, 'e'}));
        ASSERT_TRUE(
            loop.submit(CloseScope{*scope}, [scope](Loop&, CloseScope::Done) { delete scope; }));
        EXPECT_FALSE(loop.run());
        EXPECT_EQ(log, "e!");
    }
    std::optional<Loop> loop(make_loop());
    Scope left(*loop);
    ASSERT_TRUE(left.submit(AwaitEvent{event}, Note{&log, 'f'}));
    loop.reset();
    EXPECT_EQ(left.size(), 0u);
    EXPECT_EQ(log, "e!");
}

}  // namespace
}  // namespace whorl::conformance
