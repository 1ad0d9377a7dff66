// SPDX-License-Identifier: MIT
// Goal: the end of a connection, from both sides: shutdown loses nothing that was sent before it, a
// half-closed connection goes on, resets are told and never kill the process.
// Method: peers that end, reset or stall at each point; the disposition of SIGPIPE is the default one.
#include "conformance/tcp_tools.hpp"

#include <csignal>

namespace whorl::conformance {
namespace {

class TcpShutdown : public TcpTools {
  protected:
    void SetUp() override {
        TcpTools::SetUp();
        struct sigaction action {};
        sigaction(SIGPIPE, nullptr, &action);
        ASSERT_EQ(action.sa_handler, SIG_DFL) << "a SIGPIPE must end this test";
    }
    static bool gone(Error error) { return error.value() == ECONNRESET || error.value() == EPIPE; }
};
WHORL_CONFORMANCE(TcpShutdown);

TEST_P(TcpShutdown, after_queued_sends_loses_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_narrow_pair(loop);
    std::string order, expected;
    std::vector<End> ends(11);
    for (std::size_t index = 0; index < 10; ++index) {
        ends[index].order = &order;
        ends[index].name = 's';
        ASSERT_TRUE(
            loop.submit(SendAll{pair.socket, filled(20'000, expected.size())}, into(ends[index])));
        expected += pattern(20'000, expected.size());
    }
    ends[10].order = &order;
    ends[10].name = 'F';
    ASSERT_TRUE(loop.submit(Shutdown{pair.socket}, into(ends[10])));
    turns(loop, 3);
    EXPECT_EQ(ends[10].finals, 0) << "waits behind the sends";
    std::string got;
    os::Thread reader([&] { got = pair.peer.receive(blocked_size); });
    run_until(loop, [&] { return ends[10].finals == 1; });
    reader.join();
    EXPECT_EQ(order, "ssssssssssF");
    EXPECT_FALSE(ends[10].error);
    EXPECT_TRUE(got == expected);
    End late;
    ASSERT_TRUE(loop.submit(SendAll{pair.socket, filled(10)}, into(late)));
    run_until(loop, [&] { return late.finals == 1; });
    EXPECT_EQ(late.error.value(), EPIPE);
    EXPECT_EQ(late.bytes, 0u);
    EXPECT_EQ(late.buffer.size(), 10u);
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(TcpShutdown, half_closed_by_us_still_receives) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    End shut, stream;
    ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, into(stream)));
    ASSERT_TRUE(loop.submit(Shutdown{pair.socket}, into(shut)));
    run_until(loop, [&] { return shut.finals == 1; });
    EXPECT_EQ(pair.peer.receive(1), "");
    const std::string text = pattern(300'000);
    os::Thread writer([&] {
        pair.peer.send(text);
        pair.peer.finish_sending();
    });
    run_until(loop, [&] { return stream.finals == 1; });
    writer.join();
    EXPECT_FALSE(stream.error);
    EXPECT_TRUE(stream.text == text);
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(TcpShutdown, half_closed_by_the_peer_still_sends) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    pair.peer.send("last");
    pair.peer.finish_sending();
    std::vector<End> ends(3);
    for (End& end : ends) {  // bytes, then the end, and the end again
        ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(100)}, into(end)));
    }
    run_until(loop, [&] { return ends[2].finals == 1; });
    EXPECT_EQ(ends[0].text, "last");
    for (std::size_t index = 1; index < 3; ++index) {
        EXPECT_FALSE(ends[index].error);
        EXPECT_TRUE(ends[index].buffer) << "comes home, empty";
        EXPECT_TRUE(ends[index].buffer.empty());
    }
    End sent;
    ASSERT_TRUE(loop.submit(SendAll{pair.socket, filled(200'000)}, into(sent)));
    std::string got;
    os::Thread reader([&] { got = pair.peer.receive(200'000); });
    run_until(loop, [&] { return sent.finals == 1; });
    reader.join();
    EXPECT_TRUE(got == pattern(200'000));
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(TcpShutdown, of_receiving_ends_a_pending_receive) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (int kind = 0; kind < 2; ++kind) {
        Pair pair = make_pair(loop);
        End receive, shut;
        if (kind == 0) {
            ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(100)}, into(receive)));
        } else {
            ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, into(receive)));
        }
        turns(loop, 2);
        ASSERT_TRUE(loop.submit(Shutdown{pair.socket, ShutdownSide::receive}, into(shut)));
        run_until(loop, [&] { return receive.finals == 1; });
        EXPECT_FALSE(receive.error);
        EXPECT_TRUE(receive.buffer.empty());
        EXPECT_FALSE(shut.error);
        End sent;
        ASSERT_TRUE(loop.submit(SendAll{pair.socket, filled(5)}, into(sent)));
        run_until(loop, [&] { return sent.finals == 1; });
        EXPECT_EQ(pair.peer.receive(5).size(), 5u);
        close_and_wait(loop, pair.socket);
    }
    expect_clean(loop);
}

TEST_P(TcpShutdown, of_both_sides_and_of_a_dead_connection) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    End shut;
    ASSERT_TRUE(loop.submit(Shutdown{pair.socket, ShutdownSide::both}, into(shut)));
    run_until(loop, [&] { return shut.finals == 1; });
    EXPECT_FALSE(shut.error);
    EXPECT_EQ(pair.peer.receive(1), "");
    pair.peer.reset();
    Error error;
    for (const Instant end = os::now() + 10s; !error && os::now() < end;) {
        End again;  // the reset may take a moment to arrive
        ASSERT_TRUE(loop.submit(Shutdown{pair.socket, ShutdownSide::both}, into(again)));
        run_until(loop, [&] { return again.finals == 1; });
        error = again.error;
    }
    EXPECT_EQ(error.value(), ENOTCONN);
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(TcpShutdown, peer_resets_during_receives) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (int count : {0, 2}) {
        for (bool stream : {false, true}) {
            Pair pair = make_pair(loop);
            End end, next;
            if (stream) {
                ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, into(end)));
            } else {
                ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(100)}, into(end)));
            }
            ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(100)}, into(next)));
            turns(loop, count);
            pair.peer.reset();
            run_until(loop, [&] { return next.finals == 1; });
            EXPECT_EQ(end.error.value(), ECONNRESET);
            EXPECT_EQ(end.finals, 1);
            EXPECT_FALSE(next.error) << "the kernel tells a reset once; then it is the end";
            EXPECT_TRUE(next.buffer);
            close_and_wait(loop, pair.socket);
        }
    }
    expect_clean(loop);
}

TEST_P(TcpShutdown, peer_resets_during_sends) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (int kind = 0; kind < 3; ++kind) {
        Pair pair = make_narrow_pair(loop);
        std::vector<End> ends(3);
        for (End& end : ends) {
            if (kind == 0 || (kind == 1 && &end == &ends[0])) {
                ASSERT_TRUE(loop.submit(SendAll{pair.socket, filled(blocked_size)}, into(end)));
            } else if (kind == 1) {  // behind a blocked one: alone it would be done at once
                ASSERT_TRUE(loop.submit(Send{pair.socket, filled(blocked_size)}, into(end)));
            } else {
                SendChain chain{pair.socket, {}};
                ASSERT_TRUE(chain.chain.push_back(filled(blocked_size)));
                ASSERT_TRUE(loop.submit(std::move(chain), into(end)));
            }
        }
        turns(loop, 3);
        pair.peer.reset();
        run_until(loop, [&] { return ends[2].finals == 1; });
        EXPECT_TRUE(gone(ends[2].error)) << ends[2].error.text();
        for (End& end : ends) {
            EXPECT_EQ(end.finals, 1);
            EXPECT_LT(end.bytes, blocked_size);
            if (kind == 2) {
                EXPECT_EQ(end.chain.size(), blocked_size);
            } else {
                EXPECT_EQ(end.buffer.size(), blocked_size);
            }
        }
        close_and_wait(loop, pair.socket);
    }
    expect_clean(loop);
}

// Data and an error are pending at once, and both sides wait: each hears of it once, and nobody spins.
TEST_P(TcpShutdown, reset_with_both_sides_busy_is_told_to_both) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_narrow_pair(loop);
    End receive, send;
    ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, into(receive)));
    ASSERT_TRUE(loop.submit(SendAll{pair.socket, filled(blocked_size)}, into(send)));
    turns(loop, 3);
    pair.peer.send("and then");
    pair.peer.reset();
    run_until(loop, [&] { return receive.finals == 1 && send.finals == 1; });
    EXPECT_TRUE(gone(receive.error) || gone(send.error));
    expect_idle(loop, 20ms, "a loop with a dead socket must sleep");
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(TcpShutdown, stalled_peer_costs_nothing_and_others_go_on) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair stalled = make_narrow_pair(loop), lively = make_pair(loop);
    End blocked;
    ASSERT_TRUE(loop.submit(SendAll{stalled.socket, filled(blocked_size)}, into(blocked)));
    turns(loop, 5);
    for (int round = 0; round < 50; ++round) {
        End echo;
        lively.peer.send("ping");
        Recv four{lively.socket, Buffer::allocate(4), MSG_WAITALL};
        ASSERT_TRUE(loop.submit(std::move(four), into(echo)));
        run_until(loop, [&] { return echo.finals == 1; });
        EXPECT_EQ(echo.text, "ping");
    }
    EXPECT_EQ(blocked.finals, 0);
    expect_idle(loop, 20ms, "a stalled peer keeps the loop awake");
    std::string got;
    os::Thread reader([&] { got = stalled.peer.receive(blocked_size); });
    run_until(loop, [&] { return blocked.finals == 1; });
    reader.join();
    EXPECT_TRUE(got == pattern(blocked_size));
    close_all(loop, {stalled.socket, lively.socket});
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
