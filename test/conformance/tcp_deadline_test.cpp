// SPDX-License-Identifier: MIT
// Goal: any operation may carry a deadline: never early, with what had been reached by then, without
// asking the kernel when it has passed already, and leaving nothing behind when it was not needed.
// Method: peers that do not answer, read or write; the clock is read before and in the handler.
#include "conformance/tcp_tools.hpp"

namespace whorl::conformance {
namespace {

class TcpDeadline : public TcpTools {
  protected:
    static constexpr Nanoseconds time = 20ms;

    // Submits with within() and with until(), and expects that it times out, not early.
    template <class Make>
    static void expect_timeout(Loop& loop, Make make, End& end) {
        for (bool relative : {true, false}) {
            end = End();
            const Instant start = os::now();
            const SubmitOptions options = relative ? within(time) : until(start + time);
            const Result<Operation> made = loop.submit(make(), options, into(end));
            ASSERT_TRUE(made);
            run_until(loop, [&] { return end.finals != 0; });
            EXPECT_GE((os::now() - start).count(), time.count());
            EXPECT_EQ(end.error, Error::timed_out);
            EXPECT_FALSE(loop.alive(*made));
            EXPECT_EQ(loop.next_deadline(), instant_never);
        }
    }
};
WHORL_CONFORMANCE(TcpDeadline);

TEST_P(TcpDeadline, connect_to_a_full_backlog) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Blackhole hole;
    const std::set<int> before = os::open_descriptors();
    End end;
    expect_timeout(
        loop, [&] { return Connect{hole.address()}; }, end);
    EXPECT_FALSE(end.socket);
    EXPECT_EQ(os::open_descriptors(), before);
    expect_clean(loop);
}

TEST_P(TcpDeadline, accept_and_accept_stream_without_a_client) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Listener listener = listen_here(loop);
    End end;
    expect_timeout(
        loop, [&] { return Accept{listener}; }, end);
    expect_timeout(
        loop, [&] { return AcceptStream{listener}; }, end);
    EXPECT_EQ(end.parts, 0);
    ASSERT_FALSE(loop.close(listener));
    expect_clean(loop);
}

TEST_P(TcpDeadline, receive_from_a_silent_peer) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    End end;
    Place place;
    const auto receive = [&] {
        Buffer buffer = loop.buffer(100);
        place = Place(buffer);
        return Recv{pair.socket, std::move(buffer)};
    };
    expect_timeout(loop, receive, end);
    EXPECT_TRUE(place.holds(end.buffer));
    EXPECT_TRUE(end.buffer.empty());
    expect_timeout(
        loop, [&] { return RecvStream{pair.socket}; }, end);
    EXPECT_EQ(end.parts, 0);
    // Nothing that comes afterwards is lost.
    pair.peer.send("late");
    End after;
    ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(100)}, into(after)));
    run_until(loop, [&] { return after.finals != 0; });
    EXPECT_EQ(after.text, "late");
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(TcpDeadline, of_a_stream_is_that_of_the_whole) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    pair.peer.send("one");
    End end;
    const Instant start = os::now();
    ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, within(time), into(end)));
    run_until(loop, [&] { return end.parts == 1; });
    pair.peer.send("two");
    run_until(loop, [&] { return end.finals == 1; });
    EXPECT_GE((os::now() - start).count(), time.count());
    EXPECT_EQ(end.error, Error::timed_out);
    // When this machine is so slow that the deadline was first, the second part waits in the socket.
    End rest;
    if (end.text == "one") {
        ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(100)}, into(rest)));
        run_until(loop, [&] { return rest.finals == 1; });
    }
    EXPECT_EQ(end.text + rest.text, "onetwo") << "data is never hidden by a reason";
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(TcpDeadline, blocked_send_tells_the_bytes_it_reached) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (bool chained : {false, true}) {
        Pair pair = make_narrow_pair(loop);
        std::uint64_t sent = 0;
        End end;
        const auto send = [&] { return SendAll{pair.socket, filled(blocked_size, sent)}; };
        const auto send_chain = [&] {
            SendChain chain{pair.socket, {}};
            EXPECT_TRUE(chain.chain.push_back(filled(blocked_size, sent)));
            return chain;
        };
        for (int round = 0; round < 2; ++round) {
            const Instant start = os::now();
            End once;
            if (chained) {
                ASSERT_TRUE(loop.submit(send_chain(), within(time), into(once)));
            } else {
                ASSERT_TRUE(loop.submit(send(), within(time), into(once)));
            }
            run_until(loop, [&] { return once.finals != 0; });
            EXPECT_GE((os::now() - start).count(), time.count());
            EXPECT_EQ(once.error, Error::timed_out);
            EXPECT_LT(once.bytes, blocked_size);
            sent += once.bytes;
        }
        EXPECT_GT(sent, 0u);
        close_and_wait(loop, pair.socket);
        const std::string got = pair.peer.receive(2 * blocked_size);
        EXPECT_EQ(got.size(), sent);
        EXPECT_TRUE(got == pattern(got.size()));
    }
    expect_clean(loop);
}

TEST_P(TcpDeadline, queued_operation_times_out_in_the_queue) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    End first, second, third;
    const auto three = [&] { return Recv{pair.socket, Buffer::allocate(3), MSG_WAITALL}; };
    ASSERT_TRUE(loop.submit(three(), into(first)));
    ASSERT_TRUE(loop.submit(three(), within(time), into(second)));
    ASSERT_TRUE(loop.submit(three(), into(third)));
    run_until(loop, [&] { return second.finals == 1; });
    EXPECT_EQ(second.error, Error::timed_out);
    EXPECT_EQ(second.buffer.capacity(), 3u);
    EXPECT_EQ(first.finals + third.finals, 0);
    pair.peer.send("onetwo");
    run_until(loop, [&] { return third.finals == 1; });
    EXPECT_EQ(first.text, "one");
    EXPECT_EQ(third.text, "two");
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

// The kernel is not asked: no byte moves although it could, no connection is made.
TEST_P(TcpDeadline, that_has_passed_ends_without_asking_the_kernel) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    const Listener listener = listen_here(loop);
    const Address address = *local_address(loop, listener);
    pair.peer.send("text");
    const SubmitOptions passed[] = {within(0ns), within(-5s), until(os::now() - 1s),
                                    until(Instant()), until(os::now())};
    for (const SubmitOptions& options : passed) {
        const std::uint64_t submissions = loop.statistics().submissions;
        std::vector<End> ends(7);
        bool inside = true;
        for (End& end : ends) end.inside = &inside;
        ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(9)}, options, into(ends[0])));
        ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, options, into(ends[1])));
        ASSERT_TRUE(loop.submit(SendAll{pair.socket, filled(9)}, options, into(ends[2])));
        ASSERT_TRUE(loop.submit(Connect{address}, options, into(ends[3])));
        ASSERT_TRUE(loop.submit(Accept{listener}, options, into(ends[4])));
        ASSERT_TRUE(loop.submit(Nop{}, options, into(ends[5])));
        ASSERT_TRUE(loop.submit(Shutdown{pair.socket}, options, into(ends[6])));
        inside = false;
        EXPECT_FALSE(loop.run());
        for (std::size_t index = 0; index < ends.size(); ++index) {
            EXPECT_EQ(ends[index].finals, 1) << index;
            EXPECT_EQ(ends[index].error, Error::timed_out) << index;
            EXPECT_EQ(ends[index].parts, 0) << index;
        }
        EXPECT_EQ(loop.statistics().submissions, submissions);
        EXPECT_TRUE(ends[0].buffer);
        EXPECT_EQ(ends[2].buffer.size(), 9u);
        EXPECT_EQ(ends[2].bytes, 0u);
    }
    End rest;
    ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(9)}, into(rest)));
    run_until(loop, [&] { return rest.finals == 1; });
    EXPECT_EQ(rest.text, "text");
    close_and_wait(loop, pair.socket);
    EXPECT_EQ(pair.peer.receive(1), "");
    ASSERT_FALSE(loop.close(listener));
    expect_clean(loop);
}

TEST_P(TcpDeadline, that_was_not_needed_leaves_no_timer) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    const Listener listener = listen_here(loop);
    const Address address = *local_address(loop, listener);
    pair.peer.send("text");
    std::vector<End> ends(6);
    const SubmitOptions relative = within(1h), absolute = until(os::now() + 1h);
    ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(9)}, relative, into(ends[0])));
    ASSERT_TRUE(loop.submit(SendAll{pair.socket, filled(9)}, absolute, into(ends[1])));
    ASSERT_TRUE(loop.submit(Connect{address}, relative, into(ends[2])));
    ASSERT_TRUE(loop.submit(Accept{listener}, absolute, into(ends[3])));
    ASSERT_TRUE(loop.submit(Nop{}, relative, into(ends[4])));
    Result<Operation> silent = loop.submit(RecvStream{pair.socket}, absolute, into(ends[5]));
    ASSERT_TRUE(silent);
    run_until(loop, [&] {
        int finals = 0;
        for (End& end : ends) finals += end.finals;
        return finals == 5;
    });
    EXPECT_EQ(loop.cancel(*silent), Cancelled::cancelling);
    EXPECT_FALSE(loop.run());  // would wait for an hour
    for (std::size_t index = 0; index < 5; ++index) EXPECT_FALSE(ends[index].error) << index;
    EXPECT_EQ(ends[5].error, Error::cancelled);
    EXPECT_EQ(loop.statistics().operations, 0u);
    EXPECT_EQ(loop.next_deadline(), instant_never);
    ASSERT_FALSE(loop.close(listener));
    close_all(loop, {pair.socket, ends[2].socket, ends[3].socket});
    expect_clean(loop);
}

// The relative deadline counts from the call, not from a clock that a slow handler has made stale.
TEST_P(TcpDeadline, given_after_a_slow_handler_is_not_early) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    End end;
    Instant start;
    ASSERT_TRUE(loop.submit(Nop{}, [&](Loop& in, Nop::Done) {
        const Instant slow = os::now() + 30ms;
        while (os::now() < slow) {
        }
        start = os::now();
        ASSERT_TRUE(in.submit(Recv{pair.socket, in.buffer(9)}, within(time), into(end)));
    }));
    run_until(loop, [&] { return end.finals == 1; });
    EXPECT_GE((os::now() - start).count(), time.count());
    EXPECT_EQ(end.error, Error::timed_out);
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(TcpDeadline, thousands_at_once_all_end) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    constexpr int count = 3'000;
    int ended = 0;
    const Instant deadline = os::now() + time;
    for (int index = 0; index < count; ++index) {
        ASSERT_TRUE(loop.submit(Recv{pair.socket, Buffer::allocate(1)}, until(deadline),
                                [&](Loop&, Recv::Done done) {
                                    EXPECT_EQ(done.error, Error::timed_out);
                                    EXPECT_EQ(done.buffer.capacity(), 1u);
                                    EXPECT_GE(os::now().time_since_epoch().count(),
                                              deadline.time_since_epoch().count());
                                    ++ended;
                                }));
    }
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(ended, count);
    EXPECT_EQ(loop.statistics().operations, 0u);
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
