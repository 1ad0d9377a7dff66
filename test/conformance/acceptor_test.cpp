// SPDX-License-Identifier: MIT
// Goal: an acceptor makes a stream of every connection, keeps its limits without losing anybody who
// waits, outlives a shortage of descriptors, and ends in order. Method: peers of the test that connect
// before, at and beyond the limits.
#include "conformance/stream_tools.hpp"

#include <whorl/acceptor.hpp>

#include <algorithm>
#include <stdexcept>

namespace whorl::conformance {
namespace {

struct Counts {
    int opened = 0;
    int closed = 0;
    std::string text;
    std::vector<Closed> reasons;
    std::vector<Address> peers;
};

struct Echo {
    Counts* counts;
    void opened(Stream&) { ++counts->opened; }
    void received(Stream& stream, Buffer buffer) {
        counts->text += buffer.text();
        stream.write(std::move(buffer));
    }
    void closed(Stream&, Closed reason) {
        ++counts->closed;
        counts->reasons.push_back(reason);
    }
};

class Accepting : public StreamTools {
  protected:
    static Acceptor& serve_here(Loop& loop, Counts& counts, const AcceptorOptions& options = {}) {
        const auto make = [&counts](const Accepted& accepted) {
            counts.peers.push_back(accepted.peer);
            return Echo{&counts};
        };
        const Result<Acceptor*> made = serve(loop, Address::loopback_v4(0), make, options);
        EXPECT_TRUE(made) << made.error().text();
        if (!made) std::abort();
        return **made;
    }
    static void expect_echo(Loop& loop, Peer& peer, const std::string& text) {
        peer.send(text);
        EXPECT_EQ(read_peer(loop, peer, text.size()), text);
    }
};
WHORL_CONFORMANCE(Accepting);

TEST_P(Accepting, every_connection_has_its_stream) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Counts counts;
    Acceptor& acceptor = serve_here(loop, counts);
    std::vector<Peer> peers;
    for (int count = 0; count < 20; ++count) {
        peers.push_back(Peer::connect_to(port_of(loop, acceptor.listener())));
    }
    for (Peer& peer : peers) expect_echo(loop, peer, "hello");
    EXPECT_EQ(counts.opened, 20);
    EXPECT_TRUE(counts.peers[0].is_loopback());
    EXPECT_EQ(acceptor.statistics().open, 20u);
    EXPECT_EQ(acceptor.statistics().accepted, 20u);
    acceptor.close();
    peers.resize(10);
    run_until(loop, [&] { return counts.closed == 10; });
    expect_echo(loop, peers[0], "its streams go on");
    peers.clear();
    run_until(loop, [&] { return counts.closed == 20; });
    run_until(loop, [&] { return loop.statistics().operations == 0; });
    expect_clean(loop);
}

TEST_P(Accepting, at_the_limit_others_wait) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Counts counts;
    AcceptorOptions options;
    options.connections_max = 3;
    Acceptor& acceptor = serve_here(loop, counts, options);
    std::vector<Peer> peers;
    for (int count = 0; count < 10; ++count) {
        peers.push_back(Peer::connect_to(port_of(loop, acceptor.listener())));
        peers.back().send("x");
    }
    run_until(loop, [&] { return counts.opened == 3; });
    turns(loop, 20);
    EXPECT_EQ(counts.opened, 3);
    for (std::size_t gone = 0; gone < 10; ++gone) {
        EXPECT_LE(acceptor.statistics().open, 3u);
        EXPECT_EQ(read_peer(loop, peers[gone], 1), "x") << gone;
        peers[gone].close();
    }
    run_until(loop, [&] { return counts.closed == 10; });
    EXPECT_EQ(acceptor.statistics().open_high, 3u);
    EXPECT_EQ(acceptor.statistics().refused, 0u);
    acceptor.close();
    run_until(loop, [&] { return loop.statistics().operations == 0; });
    expect_clean(loop);
}

TEST_P(Accepting, paused_by_the_program_others_wait_and_streams_go_on) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Counts counts;
    Acceptor& acceptor = serve_here(loop, counts);
    const std::uint16_t port = port_of(loop, acceptor.listener());
    Peer before = Peer::connect_to(port);
    expect_echo(loop, before, "before");
    for (int round = 0; round < 3; ++round) {
        const int opened = counts.opened;
        acceptor.pause();
        acceptor.pause();
        Peer waits = Peer::connect_to(port), other = Peer::connect_to(port);
        waits.send("waits");
        turns(loop, 20);
        EXPECT_EQ(counts.opened, opened);
        expect_echo(loop, before, "its streams go on");
        EXPECT_EQ(counts.opened, opened);
        if (round == 1) {  // before it has stopped
            acceptor.resume();
            acceptor.pause();
            turns(loop, 20);
            EXPECT_EQ(counts.opened, opened);
        }
        acceptor.resume();
        acceptor.resume();
        EXPECT_EQ(read_peer(loop, waits, 5), "waits");
        run_until(loop, [&] { return counts.opened == opened + 2; });
        expect_echo(loop, other, "other");
    }
    acceptor.pause();
    turns(loop, 5);
    acceptor.close();  // who is paused closes, too
    before.close();
    run_until(loop, [&] { return counts.closed == counts.opened; });
    run_until(loop, [&] { return loop.statistics().operations == 0; });
    expect_clean(loop);
}

TEST_P(Accepting, what_cannot_serve_says_so) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.ops_max = 64; });
    Counts counts;
    const auto make = [&counts](const Accepted&) { return Echo{&counts}; };
    const Result<Listener> listener = listen(loop, Address::loopback_v4(0));
    ASSERT_TRUE(listener);
    {
        // Nobody has room for its operation. The listener stays the caller's.
        std::vector<Timer> timers;
        for (Result<Timer> made = loop.after(1h, [](Loop&, Expired) {}); made;
             made = loop.after(1h, [](Loop&, Expired) {})) {
            timers.push_back(*made);
            ASSERT_LT(timers.size(), 65u);
        }
        EXPECT_EQ(serve(loop, *listener, make).error(), Error::slots_exhausted);
        for (const Timer timer : timers) loop.cancel(timer);
    }
    const Result<Acceptor*> acceptor = serve(loop, *listener, make);
    ASSERT_TRUE(acceptor) << acceptor.error().name();
    Peer peer = Peer::connect_to(port_of(loop, *listener));
    expect_echo(loop, peer, "and now it does");
    (*acceptor)->close();
    peer.close();
    run_until(loop, [&] { return counts.closed == 1; });
    run_until(loop, [&] { return loop.statistics().operations == 0; });
    EXPECT_EQ(serve(loop, *listener, make).error(), Error::stale_handle);
    expect_clean(loop);
}

TEST_P(Accepting, one_address_cannot_have_everything) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Counts counts;
    AcceptorOptions options;
    options.per_peer_max = 40;
    Acceptor& acceptor = serve_here(loop, counts, options);
    std::vector<Peer> peers;
    for (int count = 0; count < 50; ++count) {
        peers.push_back(Peer::connect_to(port_of(loop, acceptor.listener())));
    }
    run_until(loop, [&] { return acceptor.statistics().refused_peer == 10; });
    EXPECT_EQ(acceptor.statistics().open, 40u);
    peers.clear();
    run_until(loop, [&] { return counts.closed == 40; });
    Peer again = Peer::connect_to(port_of(loop, acceptor.listener()));
    expect_echo(loop, again, "there is room again");
    acceptor.close();
    again.close();
    run_until(loop, [&] { return loop.statistics().operations == 0; });
    expect_clean(loop);
}

TEST_P(Accepting, drains_in_order_and_within_its_bound) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Counts counts;
    AcceptorOptions options;
    options.stream.deadlines.close = 1h;
    Acceptor& acceptor = serve_here(loop, counts, options);
    Peer kind = Peer::connect_to(port_of(loop, acceptor.listener()));
    Peer stubborn = Peer::connect_to(port_of(loop, acceptor.listener()));
    expect_echo(loop, kind, "hello");
    expect_echo(loop, stubborn, "hello");
    bool drained = false;
    ASSERT_FALSE(acceptor.drain(50ms, [&](Loop&) {
        EXPECT_EQ(counts.closed, 2);
        drained = true;
    }));
    EXPECT_EQ(acceptor.drain(1s, [](Loop&) {}), Error::invalid_argument);
    turn_until(loop, [&] { return kind.readable_within(0ms); });
    EXPECT_EQ(kind.receive(1), "") << "the end";
    kind.close();
    run_until(loop, [&] { return drained; });
    ASSERT_EQ(counts.reasons.size(), 2u);
    EXPECT_FALSE(counts.reasons[0].error);
    EXPECT_EQ(counts.reasons[1].error, Error::timed_out);
    run_until(loop, [&] { return loop.statistics().operations == 0; });
    expect_clean(loop);
}

// Those whom the kernel has accepted while accepting is being cancelled, and those in the backlog.
TEST_P(Accepting, who_comes_while_it_stops_sees_an_end) {
    WHORL_SKIP_IF_REFUSED();
    for (const bool drains : {false, true}) {
        Counts counts;
        Loop loop = make_loop();
        Acceptor& acceptor = serve_here(loop, counts);
        const std::uint16_t port = port_of(loop, acceptor.listener());
        std::vector<Peer> peers;
        for (int count = 0; count < 3; ++count) peers.push_back(Peer::connect_to(port));
        EXPECT_FALSE(loop.poll());
        for (int count = 0; count < 3; ++count) peers.push_back(Peer::connect_to(port));
        bool drained = false;
        if (drains) {
            ASSERT_FALSE(acceptor.drain(10s, [&drained](Loop&) { drained = true; }));
        } else {
            acceptor.close();
        }
        const auto without = [&] {
            return std::count_if(peers.begin(), peers.end(),
                                 [](Peer& peer) { return peer.readable_within(0ms); });
        };
        const auto ended = [&] { return drains ? without() == 6 : without() + counts.opened == 6; };
        turn_until(loop, ended);
        EXPECT_TRUE(ended()) << without() << " see an end, and " << counts.opened << " had streams";
        for (Peer& peer : peers) peer.close();
        run_until(loop, [&] { return counts.closed == counts.opened; });
        run_until(loop, [&] { return loop.statistics().operations == 0; });
        EXPECT_EQ(drained, drains);
        expect_clean(loop);
    }
}

TEST_P(Accepting, the_loop_ends_with_streams_and_waiting_connections) {
    WHORL_SKIP_IF_REFUSED();
    for (const bool drained : {false, true}) {
        Counts counts;
        Loop loop = make_loop();
        AcceptorOptions options;
        options.connections_max = 2;
        options.per_peer_max = 5;
        Acceptor& acceptor = serve_here(loop, counts, options);
        std::vector<Peer> peers;
        for (int count = 0; count < 6; ++count) {
            peers.push_back(Peer::connect_to(port_of(loop, acceptor.listener())));
        }
        run_until(loop, [&] { return counts.opened == 2; });
        turns(loop, 5);
        if (drained) {
            ASSERT_FALSE(loop.drain(10s));
            EXPECT_EQ(counts.closed, counts.opened);
            expect_clean(loop);
        }
    }
}

TEST_P(Accepting, who_is_shed_hurts_nobody_else) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Counts counts;
    Acceptor& acceptor = serve_here(loop, counts);
    Peer first = Peer::connect_to(port_of(loop, acceptor.listener()));
    expect_echo(loop, first, "first");
    Peer peer = Peer::connect_to(port_of(loop, acceptor.listener()));
    expect_echo(loop, peer, "second");
    ASSERT_FALSE(set_stream_budget(loop, {1, 1}));
    peer.send("much");
    run_until(loop, [&] { return counts.closed >= 1; });
    ASSERT_FALSE(set_stream_budget(loop, StreamBudget()));
    Peer last = Peer::connect_to(port_of(loop, acceptor.listener()));
    expect_echo(loop, last, "last");
    acceptor.close();
    first.close();
    last.close();
    run_until(loop, [&] { return loop.statistics().operations == 0; });
    expect_clean(loop);
}

TEST_P(Accepting, a_shortage_passes) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.handles_max = 4; });
    Counts counts;
    Acceptor& acceptor = serve_here(loop, counts);
    std::vector<Peer> peers;
    for (int count = 0; count < 5; ++count) {
        peers.push_back(Peer::connect_to(port_of(loop, acceptor.listener())));
    }
    run_until(loop, [&] { return acceptor.statistics().shortages != 0; });
    EXPECT_EQ(acceptor.statistics().last_error, Error::slots_exhausted);
    for (std::size_t index = 0; index < 3; ++index) expect_echo(loop, peers[index], "served");
    peers.clear();
    run_until(loop, [&] { return acceptor.statistics().open == 0; });
    Peer late = Peer::connect_to(port_of(loop, acceptor.listener()));
    expect_echo(loop, late, "accepting goes on by itself");
    acceptor.close();
    late.close();
    run_until(loop, [&] { return loop.statistics().operations == 0; });
    expect_clean(loop);
}

TEST_P(Accepting, a_proxy_says_who_connected) {
    WHORL_SKIP_IF_REFUSED();
    const std::string header = "PROXY TCP4 192.0.2.7 198.51.100.2 4711 80\r\n";
    const std::string text = header + "hello";
    for (std::size_t cut = 1; cut < text.size(); cut += 3) {
        SCOPED_TRACE(cut);
        Loop loop = make_loop();
        Counts counts;
        AcceptorOptions options;
        options.proxy_header = true;
        Acceptor& acceptor = serve_here(loop, counts, options);
        Peer peer = Peer::connect_to(port_of(loop, acceptor.listener()));
        peer.send(text.substr(0, cut));
        turns(loop, 3);
        peer.send(text.substr(cut));
        EXPECT_EQ(read_peer(loop, peer, 5), "hello");
        EXPECT_EQ(counts.text, "hello");
        ASSERT_EQ(counts.peers.size(), 1u);
        EXPECT_EQ(counts.peers[0].print().view(), "192.0.2.7:4711");
        Peer wrong = Peer::connect_to(port_of(loop, acceptor.listener()));
        wrong.send("GET / HTTP/1.1\r\n");
        run_until(loop, [&] { return acceptor.statistics().refused == 1; });
        acceptor.close();
        peer.close();
        run_until(loop, [&] { return loop.statistics().operations == 0; });
        EXPECT_EQ(counts.opened, 1);
        expect_clean(loop);
    }
}

// A proxy's own connection (a health check) has no other source; a header may come with much behind it, or not
// at all.
TEST_P(Accepting, a_proxy_says_nothing_or_much) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Counts counts;
    AcceptorOptions options;
    options.proxy_header = true;
    Acceptor& acceptor = serve_here(loop, counts, options);
    const std::uint16_t port = port_of(loop, acceptor.listener());
    Peer own = Peer::connect_to(port);
    own.send("PROXY UNKNOWN\r\nhello");
    EXPECT_EQ(read_peer(loop, own, 5), "hello");
    ASSERT_EQ(counts.peers.size(), 1u);
    EXPECT_EQ(counts.peers[0].print().view().substr(0, 10), "127.0.0.1:");

    Peer other = Peer::connect_to(port);
    const std::string header = "PROXY TCP4 192.0.2.7 198.51.100.2 4711 80\r\n";
    const std::string much = pattern(10'000);
    other.send(header.substr(0, 20));
    turns(loop, 3);
    other.send(header.substr(20) + much);
    EXPECT_TRUE(read_peer(loop, other, much.size()) == much);
    EXPECT_EQ(counts.peers.size(), 2u);

    Peer silent = Peer::connect_to(port);
    silent.send(header.substr(0, 20));
    turns(loop, 3);
    silent.finish_sending();
    run_until(loop, [&] { return acceptor.statistics().refused == 1; });
    acceptor.close();
    for (Peer* peer : {&own, &other, &silent}) peer->close();
    run_until(loop, [&] { return loop.statistics().operations == 0; });
    EXPECT_EQ(counts.opened, 2);
    EXPECT_EQ(counts.closed, 2);
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
