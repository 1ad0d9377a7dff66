// SPDX-License-Identifier: MIT
// Goal: the plain life of a connection on every backend. Method: the loop on one side, a blocking
// socket of the test on the other.
#include "conformance/tcp_tools.hpp"

namespace whorl::conformance {
namespace {

class TcpBasic : public TcpTest {};
WHORL_CONFORMANCE(TcpBasic);

TEST_P(TcpBasic, accept_receive_send_close) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    std::string got;
    bool sent = false;
    pair.peer.send("ping");
    ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(100)}, [&](Loop&, Recv::Done done) {
        EXPECT_FALSE(done.error);
        got = done.buffer.text();
        EXPECT_TRUE(loop.submit(SendAll{pair.socket, std::move(done.buffer)},
                                [&](Loop&, SendAll::Done answer) {
                                    EXPECT_FALSE(answer.error);
                                    EXPECT_EQ(answer.bytes, 4u);
                                    EXPECT_EQ(answer.buffer.text(), "ping");
                                    sent = true;
                                }));
    }));
    run_until(loop, [&] { return sent; });
    EXPECT_EQ(got, "ping");
    EXPECT_EQ(pair.peer.receive(4), "ping");
    close_and_wait(loop, pair.socket);
    EXPECT_EQ(pair.peer.receive(1), "");
    expect_clean(loop);
}

TEST_P(TcpBasic, received_stream_delivers_all_and_ends_once) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    const std::string text = pattern(3'000'000);
    os::Thread writer([&] {
        pair.peer.send(text);
        pair.peer.finish_sending();
    });
    std::string got;
    int finals = 0;
    ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, [&](Loop&, RecvStream::Done done) {
        EXPECT_FALSE(done.error) << done.error.text();
        if (!done.more) {
            EXPECT_TRUE(done.buffer.empty());
            ++finals;
        }
        got += done.buffer.text();
    }));
    run_until(loop, [&] { return finals != 0; });
    writer.join();
    EXPECT_EQ(finals, 1);
    EXPECT_TRUE(got == text);
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(TcpBasic, connect_to_own_listener) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Listener listener = listen_here(loop);
    Socket server, client;
    ASSERT_TRUE(loop.submit(Accept{listener}, [&](Loop&, Accept::Done done) {
        EXPECT_FALSE(done.error);
        server = done.socket;
    }));
    ASSERT_TRUE(loop.submit(Connect{Address::loopback_v4(port_of(loop, listener))},
                            [&](Loop&, Connect::Done done) {
                                EXPECT_FALSE(done.error);
                                client = done.socket;
                            }));
    run_until(loop, [&] { return server && client; });
    EXPECT_EQ(peer_address(loop, client)->port(), port_of(loop, listener));
    EXPECT_EQ(local_address(loop, client)->port(), peer_address(loop, server)->port());
    ASSERT_FALSE(loop.close(listener));
    close_and_wait(loop, server);
    close_and_wait(loop, client);
    expect_clean(loop);
}

TEST_P(TcpBasic, connect_refused_tells_so_and_leaves_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const HeldPort nobody;
    Error error;
    int calls = 0;
    ASSERT_TRUE(loop.submit(Connect{nobody.address()}, [&](Loop&, Connect::Done done) {
        error = done.error;
        EXPECT_FALSE(done.socket);
        ++calls;
    }));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(error.value(), ECONNREFUSED);
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
