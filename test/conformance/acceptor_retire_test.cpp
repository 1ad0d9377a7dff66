// SPDX-License-Identifier: MIT
// Goal: an acceptor that retires leaves nobody without an answer: who was accepted is served to the end that
// the peer makes, who is in the backlog is left to whoever else has the listener, and only the bound ends a
// connection. Method: peers connect all around the moment of retire(), while the test keeps a duplicate of the
// listener, as a successor does, and serves from it afterwards.
#include "conformance/stream_tools.hpp"

#include <whorl/acceptor.hpp>
#include <whorl/socket.hpp>

namespace whorl::conformance {
namespace {

struct Echo {
    void received(Stream& stream, Buffer buffer) { stream.write(std::move(buffer)); }
};

class Retiring : public StreamTools {
  protected:
    static Acceptor& serve_on(Loop& loop, Listener listener, const AcceptorOptions& options = {}) {
        const Result<Acceptor*> made = serve(
            loop, listener, [](const Accepted&) { return Echo{}; }, options);
        EXPECT_TRUE(made) << made.error().text();
        if (!made) std::abort();
        return **made;
    }
};
WHORL_CONFORMANCE(Retiring);

TEST_P(Retiring, nobody_is_left_without_an_answer) {
    WHORL_SKIP_IF_REFUSED();
    for (const std::uint32_t most : {0u, 3u}) {  // with a limit some wait, accepted
        for (int before = 0; before < 6; ++before) {
            Loop loop = make_loop();
            AcceptorOptions options;
            options.connections_max = most;
            const Listener listener = *listen(loop, Address::loopback_v4(0));
            const int kept = os::dup(*native_handle(loop, listener));
            const std::uint16_t port = port_of(loop, listener);
            Acceptor& old = serve_on(loop, listener, options);
            std::vector<Peer> peers;
            for (int count = 0; count < 8; ++count) {
                peers.push_back(Peer::connect_to(port));
                peers.back().send("x");
            }
            turns(loop, before);
            int retired = 0;
            std::uint32_t ended = 99;
            ASSERT_FALSE(old.retire(1h, [&](Loop&, std::uint32_t aborted) {
                ++retired;
                ended = aborted;
            }));
            EXPECT_EQ(old.retire(1h, [](Loop&, std::uint32_t) {}), Error::invalid_argument);
            const Result<Listener> same = adopt_listener(loop, kept);
            ASSERT_TRUE(same);
            Acceptor& next = serve_on(loop, *same, options);
            for (int count = 0; count < 4; ++count) {
                peers.push_back(Peer::connect_to(port));
                peers.back().send("x");
            }
            for (Peer& peer : peers) {
                EXPECT_EQ(read_peer(loop, peer, 1), "x") << "after " << before << " turns";
                peer.close();
            }
            run_until(loop, [&] { return retired == 1; });
            EXPECT_EQ(ended, 0u);
            next.close();
            run_until(loop, [&] { return loop.statistics().operations == 0; });
            expect_clean(loop);
        }
    }
}

TEST_P(Retiring, its_streams_go_on_until_the_bound) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Acceptor& acceptor = serve_on(loop, *listen(loop, Address::loopback_v4(0)));
    const std::uint16_t port = port_of(loop, acceptor.listener());
    Peer first = Peer::connect_to(port), second = Peer::connect_to(port);
    for (Peer* peer : {&first, &second}) {
        peer->send("hello");
        EXPECT_EQ(read_peer(loop, *peer, 5), "hello");
    }
    std::uint32_t ended = 0;
    ASSERT_FALSE(acceptor.retire(50ms, [&](Loop&, std::uint32_t aborted) { ended = aborted; }));
    run_until(loop, [&] { return ended != 0; });
    EXPECT_EQ(ended, 2u);
    run_until(loop, [&] { return loop.statistics().operations == 0; });
    expect_clean(loop);
}

// At its limit one waits, accepted, when the bound passes: it counts as well.
TEST_P(Retiring, who_waits_at_the_bound_is_counted) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    AcceptorOptions options;
    options.connections_max = 1;
    Acceptor& acceptor = serve_on(loop, *listen(loop, Address::loopback_v4(0)), options);
    const std::uint16_t port = port_of(loop, acceptor.listener());
    std::vector<Peer> peers;
    for (int count = 0; count < 3; ++count) peers.push_back(Peer::connect_to(port));
    run_until(loop, [&] { return acceptor.statistics().accepted >= 1; });
    const auto accepted = [&] { return acceptor.statistics().accepted; };
    std::uint64_t before = 0, ended = 0;
    ASSERT_FALSE(acceptor.retire(50ms, [&](Loop&, std::uint32_t aborted) {
        before = accepted();
        ended = aborted;
    }));
    run_until(loop, [&] { return ended != 0; });
    EXPECT_EQ(ended, before);
    run_until(loop, [&] { return loop.statistics().operations == 0; });
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
