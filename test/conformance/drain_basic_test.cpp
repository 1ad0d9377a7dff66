// SPDX-License-Identifier: MIT
// Goal: drain ends everything with its handlers called and leaves a loop that can be used again.
// Method: everything is in flight at once; each handler counts its one end.
#include "conformance/support.hpp"
#include "conformance/tcp_pair.hpp"

#include <cstring>

namespace whorl::conformance {
namespace {

class DrainBasic : public TcpTest {
  protected:
    // Fills the socket's way to a peer that does not read, so that a send stays in flight.
    static void submit_stuck_send(Loop& loop, Socket socket, int& ends) {
        Buffer buffer = Buffer::allocate(8 << 20);
        buffer.resize(buffer.capacity());
        std::memset(buffer.data(), 's', buffer.size());
        EXPECT_TRUE(
            loop.submit(SendAll{socket, std::move(buffer)}, [&ends](Loop&, SendAll::Done done) {
                EXPECT_EQ(done.error, Error::cancelled);
                EXPECT_GT(done.bytes, 0u) << "what had been sent is told";
                EXPECT_EQ(done.buffer.size(), std::size_t{8} << 20);
                ++ends;
            }));
    }
};
WHORL_CONFORMANCE(DrainBasic);

TEST_P(DrainBasic, of_an_idle_loop_is_done_at_once) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    EXPECT_FALSE(loop.drain(1s));
    EXPECT_FALSE(loop.drain(0ns));
    EXPECT_FALSE(loop.drain(-1s));
    EXPECT_FALSE(loop.run());
}

TEST_P(DrainBasic, ends_everything_once_with_its_handler_called) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Listener listener = listen_here(loop);
    const Listener other = listen_here(loop);
    Pair receiving = make_pair(loop);
    Pair streaming = make_pair(loop);
    Pair sending = make_pair(loop, {}, 4096);
    Ends ends = Ends::pipe();
    Witness silent;
    int ended = 0, posts = 0;
    const auto count = [&ended](Error error) {
        EXPECT_EQ(error, Error::cancelled) << error.name();
        ++ended;
    };
    ASSERT_TRUE(loop.submit(Accept{other}, [&](Loop&, Accept::Done done) { count(done.error); }));
    ASSERT_TRUE(loop.submit(AcceptStream{listener}, [&](Loop&, AcceptStream::Done done) {
        EXPECT_FALSE(done.more);
        count(done.error);
    }));
    for (int index = 0; index < 3; ++index) {  // one with the kernel, two behind it
        ASSERT_TRUE(
            loop.submit(Recv{receiving.socket, loop.buffer(100)}, [&](Loop&, Recv::Done done) {
                EXPECT_GE(done.buffer.capacity(), 100u);
                count(done.error);
            }));
    }
    ASSERT_TRUE(loop.submit(RecvStream{streaming.socket}, [&](Loop&, RecvStream::Done done) {
        EXPECT_FALSE(done.more);
        count(done.error);
    }));
    submit_stuck_send(loop, sending.socket, ended);
    ASSERT_TRUE(loop.after(1h, [t = silent.copy()](Loop&, Expired) { FAIL(); }));
    ASSERT_TRUE(loop.every(1h, [t = silent.copy()](Loop&, Expired) { FAIL(); }));
    ASSERT_TRUE(loop.watch(ends.in.get(), Interest::readable,
                           [t = silent.copy()](Loop&, Watched) { FAIL(); }));
    for (int turn = 0; turn < 10; ++turn) ASSERT_FALSE(loop.poll());
    ASSERT_FALSE(loop.post([&](Loop&) { ++posts; }));
    ASSERT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done done) { count(done.error); }));
    EXPECT_EQ(ended, 0);
    EXPECT_FALSE(loop.drain(10s));
    EXPECT_EQ(ended, 8);
    EXPECT_EQ(posts, 1);
    EXPECT_TRUE(silent.alone()) << "timers and watches end without a call";
    expect_clean(loop);
    EXPECT_EQ(receiving.peer.receive(1), "") << "a descriptor was left open";
    EXPECT_EQ(streaming.peer.receive(1), "");
}

TEST_P(DrainBasic, what_handlers_submit_meanwhile_is_refused) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    int ends = 0;
    ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(100)}, [&](Loop& inner, Recv::Done done) {
        ++ends;
        Recv again{pair.socket, std::move(done.buffer)};
        EXPECT_FALSE(inner.submit(std::move(again), [](Loop&, Recv::Done) { FAIL(); }));
        EXPECT_GE(again.buffer.capacity(), 100u) << "a refused submission was moved from";
        EXPECT_EQ(inner.submit(Nop{}, [](Loop&, Nop::Done) { FAIL(); }).error(),
                  Error::loop_closed);
        EXPECT_EQ(inner.after(0ns, [](Loop&, Expired) { FAIL(); }).error(), Error::loop_closed);
        EXPECT_EQ(inner.post([](Loop&) { FAIL(); }), Error::loop_closed);
        EXPECT_EQ(inner.watch(0, Interest::readable, [](Loop&, Watched) { FAIL(); }).error(),
                  Error::loop_closed);
        EXPECT_EQ(inner.hook(HookPoint::before_wait, [](Loop&) { FAIL(); }).error(),
                  Error::loop_closed);
        EXPECT_FALSE(listen(inner, Address::loopback_v4(0)));
    }));
    ASSERT_FALSE(loop.poll());
    EXPECT_FALSE(loop.drain(10s));
    EXPECT_EQ(ends, 1);
    expect_clean(loop);
}

TEST_P(DrainBasic, descriptors_may_be_closed_by_the_handlers_that_end) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    int closed = 0;
    ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, [&](Loop& inner, RecvStream::Done) {
        Error error = inner.close(pair.socket, [&](Loop&) { ++closed; });
        EXPECT_FALSE(error) << error.name();
    }));
    ASSERT_FALSE(loop.poll());
    EXPECT_FALSE(loop.drain(10s));
    EXPECT_EQ(closed, 1);
    expect_clean(loop);
}

TEST_P(DrainBasic, the_loop_can_be_used_afterwards) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (int round = 0; round < 3; ++round) {
        Pair pair = make_pair(loop);
        std::string got;
        pair.peer.send("again");
        ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(100)},
                                [&](Loop&, Recv::Done done) { got = done.buffer.text(); }));
        run_until(loop, [&] { return !got.empty(); });
        EXPECT_EQ(got, "again");
        ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, [](Loop&, RecvStream::Done) {}));
        ASSERT_TRUE(loop.after(1h, [](Loop&, Expired) { FAIL(); }));
        EXPECT_FALSE(loop.drain(10s));
        expect_clean(loop);
        EXPECT_EQ(loop.close(pair.socket), Error::stale_handle);
    }
}

TEST_P(DrainBasic, a_handler_that_stops_the_loop_does_not_stop_the_drain) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int ends = 0;
    for (int index = 0; index < 20; ++index) {
        ASSERT_TRUE(loop.submit(Nop{}, [&](Loop& inner, Nop::Done) {
            ++ends;
            inner.stop();
        }));
        ASSERT_FALSE(loop.post([&](Loop& inner) {
            ++ends;
            inner.stop();
        }));
    }
    loop.stop();
    EXPECT_FALSE(loop.drain(5s));
    EXPECT_EQ(ends, 40);
    int calls = 0;
    ASSERT_FALSE(loop.post([&](Loop&) { ++calls; }));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 1);
    expect_clean(loop);
}

TEST_P(DrainBasic, a_bound_that_passes_is_told_and_nothing_is_lost) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int posts = 0, ends = 0;
    ASSERT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) { ++ends; }));
    ASSERT_FALSE(loop.post([&](Loop&) { ++posts; }));
    EXPECT_EQ(loop.drain(0ns), Error::drain_incomplete);
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(ends, 1);
    EXPECT_EQ(posts, 1);
    expect_clean(loop);
}

TEST_P(DrainBasic, hooks_stay) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int calls = 0;
    Result<Operation> hook = loop.hook(HookPoint::before_wait, [&](Loop&) { ++calls; });
    ASSERT_TRUE(hook);
    EXPECT_FALSE(loop.drain(1s));
    calls = 0;
    EXPECT_FALSE(loop.poll());
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(loop.cancel(*hook), Cancelled::cancelling);
}

TEST_P(DrainBasic, connections_that_arrive_meanwhile_are_closed) {
    WHORL_SKIP_IF_REFUSED();
    for (int round = 0; round < 5; ++round) {
        Loop loop = make_loop();
        const Listener listener = listen_here(loop);
        const std::uint16_t port = port_of(loop, listener);
        int finals = 0;
        ASSERT_TRUE(loop.submit(AcceptStream{listener}, [&](Loop&, AcceptStream::Done done) {
            if (!done.more) ++finals;
        }));
        for (int turn = 0; turn < round; ++turn) ASSERT_FALSE(loop.poll());
        std::vector<Peer> peers;
        for (int index = 0; index < 8; ++index) peers.push_back(Peer::connect_to(port));
        EXPECT_FALSE(loop.drain(10s));
        EXPECT_EQ(finals, 1);
        expect_clean(loop);
        for (Peer& peer : peers) EXPECT_EQ(peer.receive(1), "");
    }
}

#if defined(__cpp_exceptions)
TEST_P(DrainBasic, an_exception_leaves_it_and_a_second_drain_goes_on) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    int ends = 0, thrown = 0;
    for (int index = 0; index < 5; ++index) {
        ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(10)}, [&](Loop&, Recv::Done) {
            ++ends;
            throw 1;
        }));
    }
    ASSERT_FALSE(loop.poll());
    for (int round = 0; round < 20; ++round) {
        try {
            if (!loop.drain(10s)) break;
        } catch (int) {
            ++thrown;
            EXPECT_TRUE(loop.submit(Nop{}, [](Loop&, Nop::Done) {})) << "still closed";
        }
    }
    EXPECT_EQ(ends, 5);
    EXPECT_EQ(thrown, 5);
    expect_clean(loop);
}
#endif

}  // namespace
}  // namespace whorl::conformance
