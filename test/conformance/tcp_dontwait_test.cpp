// SPDX-License-Identifier: MIT
// Goal: MSG_DONTWAIT, and whatever else makes the kernel say that it would block, changes nothing: the
// operation waits, moves all, is cancelled and times out as without it. Method: the flag on every
// transfer; cancellation after any number of turns around the moment at which the socket becomes ready.
#include "conformance/support.hpp"
#include "conformance/tcp_tools.hpp"

namespace whorl::conformance {
namespace {

class TcpDontWait : public TcpTools {};
WHORL_CONFORMANCE(TcpDontWait);

TEST_P(TcpDontWait, receives_wait_for_data) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    for (int round = 0; round < 3; ++round) {
        End end;
        ASSERT_TRUE(loop.submit(Recv{pair.socket, Buffer::allocate(100), MSG_DONTWAIT}, into(end)));
        turns(loop, 4);
        ASSERT_EQ(end.finals, 0);
        pair.peer.send("hello");
        run_until(loop, [&] { return end.finals == 1; });
        std::string text(end.buffer.text());
        while (!exact() && text.size() < 5) {  // in a harsh world it comes in parts
            End rest;
            ASSERT_TRUE(
                loop.submit(Recv{pair.socket, Buffer::allocate(100), MSG_DONTWAIT}, into(rest)));
            run_until(loop, [&] { return rest.finals == 1; });
            text += rest.buffer.text();
        }
        EXPECT_EQ(text, "hello");
    }
    close_and_wait(loop, pair.socket);
}

TEST_P(TcpDontWait, sends_wait_for_room) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_narrow_pair(loop);
    const std::size_t size = std::size_t{1} << 18;  // many times what the sockets hold
    End all;
    End chained;
    BufferChain chain;
    ASSERT_TRUE(chain.push_back(filled(size / 2, size)));
    ASSERT_TRUE(chain.push_back(filled(size / 2, size + size / 2)));
    ASSERT_TRUE(loop.submit(SendAll{pair.socket, filled(size), MSG_DONTWAIT}, into(all)));
    ASSERT_TRUE(loop.submit(SendChain{pair.socket, std::move(chain), MSG_DONTWAIT}, into(chained)));
    turns(loop, 4);
    std::string received;
    // In a world with latency each read may find nothing and wait; its time costs nothing.
    const Nanoseconds bound = GetParam().world ? Nanoseconds(1h) : Nanoseconds(10s);
    run_until(
        loop,
        [&] {
            received += receive_now(pair.peer, size);
            return all.finals + chained.finals == 2;
        },
        bound);
    // What the sockets still hold wakes no loop.
    received += pair.peer.receive(2 * size - received.size());
    EXPECT_TRUE(received == pattern(2 * size));
    EXPECT_EQ(all.bytes, size);
    EXPECT_EQ(chained.bytes, size);
    close_and_wait(loop, pair.socket);
}

TEST_P(TcpDontWait, cancelled_around_readiness_loses_no_byte) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    for (int moment = 0; moment < 12; ++moment) {
        End end;
        const Result<Operation> receive =
            loop.submit(Recv{pair.socket, Buffer::allocate(100), MSG_DONTWAIT}, into(end));
        ASSERT_TRUE(receive);
        turns(loop, moment % 2 == 0 ? 3 : 0);
        pair.peer.send("hello");
        turns(loop, moment / 2);
        static_cast<void>(loop.cancel(*receive));
        run_until(loop, [&] { return end.finals == 1; });
        EXPECT_EQ(end.error, end.buffer.empty() ? Error(Error::cancelled) : Error());
        std::string text(end.buffer.text());
        if (text.empty()) {  // then it is still there
            End rest;
            ASSERT_TRUE(loop.submit(Recv{pair.socket, Buffer::allocate(100)}, into(rest)));
            run_until(loop, [&] { return rest.finals == 1; });
            text = rest.buffer.text();
        }
        EXPECT_EQ(text, "hello") << "cancelled at " << moment;
    }
    close_and_wait(loop, pair.socket);
}

// The peer reads while the send is cancelled, so that the socket becomes writable at that moment.
TEST_P(TcpDontWait, a_send_cancelled_around_readiness_tells_what_the_peer_gets) {
    WHORL_SKIP_IF_REFUSED();
    for (int moment = 0; moment < 6; ++moment) {
        Loop loop = make_loop();
        Pair pair = make_narrow_pair(loop);
        End end;
        const Result<Operation> send =
            loop.submit(SendAll{pair.socket, filled(blocked_size), MSG_DONTWAIT}, into(end));
        ASSERT_TRUE(send);
        turns(loop, 3);
        std::string received = receive_now(pair.peer, blocked_size);
        turns(loop, moment);
        static_cast<void>(loop.cancel(*send));
        run_until(loop, [&] { return end.finals == 1; });
        EXPECT_EQ(end.error, Error::cancelled);
        close_and_wait(loop, pair.socket);
        received += pair.peer.receive(blocked_size);
        EXPECT_EQ(received.size(), end.bytes);
        EXPECT_TRUE(received == pattern(received.size()));
    }
}

TEST_P(TcpDontWait, deadlines_and_close_end_it) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    End late;
    ASSERT_TRUE(loop.submit(Recv{pair.socket, Buffer::allocate(100), MSG_DONTWAIT}, within(5ms),
                            into(late)));
    run_until(loop, [&] { return late.finals == 1; });
    EXPECT_EQ(late.error, Error::timed_out);
    End closed;
    ASSERT_TRUE(loop.submit(Recv{pair.socket, Buffer::allocate(100), MSG_DONTWAIT}, into(closed)));
    turns(loop, 3);
    close_and_wait(loop, pair.socket);
    EXPECT_EQ(closed.error, Error::cancelled);
    EXPECT_EQ(closed.buffer.capacity(), 100u);
}

}  // namespace
}  // namespace whorl::conformance
