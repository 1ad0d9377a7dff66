// SPDX-License-Identifier: MIT
// Peers written by hand, fault scripts, invariants: each does what its header says to loops of the world.
#include "names.hpp"

#include "core/world_state.hpp"

namespace {

using namespace world_names;
using whorl::Connect;
using whorl::RecvStream;
using whorl::SendAll;
using whorl::Socket;

// A client of the test's: connects, and keeps what comes.
struct Client {
    Socket socket;
    Error error;
    std::string received;
    bool connected = false;
    bool ended = false;

    void connect(Loop& loop, const Address& address) {
        ASSERT_TRUE(loop.submit(Connect{address}, this));
    }
    void operator()(Loop& loop, Connect::Done done) {
        error = done.error;
        if (error) return;
        connected = true;
        socket = done.socket;
        ASSERT_TRUE(loop.submit(RecvStream{socket}, this));
    }
    void operator()(Loop&, RecvStream::Done done) {
        received += done.buffer.text();
        if (done.more) return;
        error = done.error;
        ended = true;
    }
    void send(Loop& loop, std::string text) const {
        ASSERT_TRUE(loop.submit(SendAll{socket, whorl::adopt(std::move(text))},
                                [](Loop&, SendAll::Done) {}));
    }
};

// A world with a loop, a client of the test's on it, and the peer that it is connected to.
struct Connected {
    World world;
    Loop& loop = world.add_loop();
    Peer peer = world.accept();
    Client client;

    Connected() {
        client.connect(loop, peer.address());
        EXPECT_TRUE(world.run_until([this] { return client.connected && peer.connected(); }));
    }
    Connected(const Connected&) = delete;
    Connected& operator=(const Connected&) = delete;
};

TEST(WorldPeer, accepts_talks_and_ends) {
    World world;
    Loop& loop = world.add_loop();
    Peer peer = world.accept();
    Client client;
    client.connect(loop, peer.address());
    peer.send("hello").send(" world").finish_sending();
    EXPECT_TRUE(world.run_until([&] { return client.ended; }));
    EXPECT_EQ(client.received, "hello world");
    EXPECT_FALSE(client.error);
    client.send(loop, "good bye");
    EXPECT_TRUE(world.run_until([&] { return peer.received() == "good bye"; }));
    EXPECT_EQ(peer.take(), "good bye");
    EXPECT_EQ(peer.received(), "");
    EXPECT_FALSE(loop.close(client.socket));
    EXPECT_TRUE(world.run_until([&] { return peer.ended(); }));
    EXPECT_FALSE(peer.was_reset());
}

TEST(WorldPeer, connects_to_a_listener_or_is_refused) {
    World world;
    Loop& loop = world.add_loop();
    auto listener = whorl::listen(loop, Address::loopback_v4(7007));
    ASSERT_TRUE(listener);
    Socket accepted;
    ASSERT_TRUE(loop.submit(whorl::Accept{*listener},
                            [&](Loop&, whorl::Accept::Done done) { accepted = done.socket; }));
    Peer peer = world.connect(7007);
    Peer refused = world.connect(7008);
    EXPECT_TRUE(world.run_until([&] { return peer.connected() && accepted; }));
    EXPECT_TRUE(world.run_until([&] { return static_cast<bool>(refused.error()); }));
    EXPECT_EQ(refused.error(), Error::from_errno(ECONNREFUSED));
    EXPECT_FALSE(refused.connected());
}

TEST(WorldPeer, never_blocks_and_the_world_delivers_it_all) {
    SimulationOptions options = SimulationOptions::harsh(3);
    World world(options);
    Loop& loop = world.add_loop();
    Peer peer = world.accept();
    Client client;
    client.connect(loop, peer.address());
    std::string text;
    for (int index = 0; text.size() < 1'000'000; ++index) text += std::to_string(index) + ' ';
    peer.send(text).finish_sending();
    EXPECT_TRUE(world.run_until([&] { return client.ended; }));
    EXPECT_EQ(client.received, text);
    EXPECT_TRUE(peer.sent_all());
}

TEST(WorldPeer, that_stops_reading_stalls_the_sender_until_it_reads_on) {
    World world;
    Loop& loop = world.add_loop();
    Peer peer = world.accept();
    Client client;
    client.connect(loop, peer.address());
    ASSERT_TRUE(world.run_until([&] { return client.connected; }));
    peer.stop_reading();
    bool sent = false;
    ASSERT_TRUE(loop.submit(SendAll{client.socket, whorl::adopt(std::string(1'000'000, 'x'))},
                            [&](Loop&, SendAll::Done) { sent = true; }));
    EXPECT_FALSE(world.run_until([&] { return sent; }, 1h));
    peer.read_on();
    EXPECT_TRUE(world.run_until([&] { return sent; }));
    EXPECT_TRUE(world.run_until([&] { return peer.received().size() == 1'000'000; }));
}

TEST(WorldPeer, outlives_its_world) {
    Peer peer;
    {
        World world;
        peer = world.accept();
        Peer other = world.connect(peer.address());
        other.send("left");
        EXPECT_TRUE(world.run_idle());
    }
    EXPECT_EQ(peer.received(), "left");
    peer.send("nobody hears this");
    peer.close();
}

TEST(WorldPeer, that_has_closed_before_anybody_came_takes_no_connection) {
    World world;
    Peer gone[] = {world.accept(7007), world.accept(7007)};
    Peer next = world.accept(7007);
    gone[0].close();
    gone[1].reset();
    Peer other = world.connect(7007);
    other.send("for the next");
    EXPECT_TRUE(world.run_until([&] { return next.received() == "for the next"; }));
    EXPECT_FALSE(gone[0].connected());
    EXPECT_FALSE(gone[1].connected());
}

TEST(WorldPeer, sends_nothing_when_it_has_closed_or_was_refused) {
    World world;
    Peer peer = world.accept();
    Peer closed = world.connect(peer.address());
    Peer refused = world.connect(7008);
    closed.finish_sending();
    refused.finish_sending();
    closed.close();
    EXPECT_TRUE(world.run_idle());
    EXPECT_TRUE(refused.error());
    for (Peer* each : {&closed, &refused}) {
        each->send("nobody hears this").finish_sending();
        EXPECT_TRUE(each->sent_all());
        each->send("nor this");
    }
    EXPECT_TRUE(world.run_idle());
    EXPECT_EQ(peer.received(), "");
}

TEST(WorldPeerDeathTest, sends_nothing_after_its_end) {
    EXPECT_DEATH(
        {
            World world;
            Peer peer = world.accept();
            Peer other = world.connect(peer.address());
            other.send("all").finish_sending();
            (void)world.run_idle();
            other.send("more");
        },
        "Peer::send: after finish_sending");
    EXPECT_DEATH((void)Peer().received(), "a Peer that is none: it comes from World::connect");
}

TEST(WorldPeer, finds_no_port_when_all_are_taken) {
    World world;
    Loop& loop = world.add_loop();
    world.state().kernel.port_last = 32768 + 9;
    std::vector<Peer> peers;
    for (int count = 0; count < 10; ++count) peers.push_back(world.accept());
    Peer more = world.connect(7007);
    EXPECT_EQ(more.error(), Error::from_errno(EADDRNOTAVAIL));
    more.send("nobody hears this").finish_sending();
    EXPECT_EQ(whorl::listen(loop, Address::loopback_v4(0)).error(), Error::from_errno(EADDRINUSE));
    Client client;
    client.connect(loop, Address::loopback_v4(7007));
    EXPECT_TRUE(world.run_until([&] { return static_cast<bool>(client.error); }));
    EXPECT_EQ(client.error, Error::from_errno(EADDRNOTAVAIL));
    for (int count = 0; count < 10; ++count) {
        EXPECT_TRUE(whorl::open_udp(loop, Address::loopback_v4(0)));
    }
    EXPECT_EQ(whorl::open_udp(loop, Address::loopback_v4(0)).error(),
              Error::from_errno(EADDRINUSE));
}

TEST(WorldFault, reset_after_seventeen_bytes) {
    Connected all;
    all.world.reset_after(all.loop, all.client.socket, 17);
    all.client.send(all.loop, "0123456789");
    EXPECT_TRUE(all.world.run_idle());
    EXPECT_EQ(all.peer.received(), "0123456789");
    EXPECT_FALSE(all.peer.was_reset());
    all.client.send(all.loop, "abcdefghij");
    EXPECT_TRUE(all.world.run_until([&] { return all.client.ended; }));
    EXPECT_EQ(all.client.error, Error::from_errno(ECONNRESET));
    EXPECT_EQ(all.peer.received(), "0123456789abcdefg");
    EXPECT_TRUE(all.peer.was_reset());
}

TEST(WorldFault, reset_from_either_side_and_through_the_port) {
    for (int way = 0; way < 4; ++way) {
        SCOPED_TRACE(way);
        Connected all;
        if (way == 0) all.world.reset(all.loop, all.client.socket);
        if (way == 1) all.peer.reset();
        if (way == 2) {
            ASSERT_EQ(all.world.connections(all.peer.address().port()).size(), 2u);
            all.world.connections(all.peer.address().port())[0].reset();
        }
        if (way == 3) all.world.connection(all.loop, all.client.socket).reset_after(0);
        EXPECT_TRUE(all.world.run_until([&] { return all.client.ended; }));
        EXPECT_EQ(all.client.error, Error::from_errno(ECONNRESET));
        EXPECT_FALSE(all.world.connection(all.loop, all.client.socket).alive());
    }
}

TEST(WorldFault, partition_holds_everything_and_loses_nothing) {
    Connected all;
    all.world.partition();
    all.peer.send("late");
    EXPECT_FALSE(all.world.run_until([&] { return !all.client.received.empty(); }, 1h));
    Peer stranger = all.world.connect(all.peer.address());
    EXPECT_FALSE(all.world.run_until([&] { return stranger.connected(); }, 30s));
    all.world.heal();
    EXPECT_TRUE(all.world.run_until([&] { return all.client.received == "late"; }));
}

TEST(WorldFault, hold_stalls_one_direction) {
    Connected all;
    auto link = all.world.connection(all.loop, all.client.socket);
    EXPECT_TRUE(link.alive());
    EXPECT_EQ(link.peer(), all.peer.address());
    link.hold();
    all.client.send(all.loop, "stalled");
    all.peer.send("free");
    EXPECT_TRUE(all.world.run_until([&] { return all.client.received == "free"; }));
    EXPECT_EQ(all.peer.received(), "");
    EXPECT_EQ(link.bytes_sent(), 7u);
    link.release();
    EXPECT_TRUE(all.world.run_until([&] { return all.peer.received() == "stalled"; }));
}

TEST(WorldFault, limits_of_descriptors_at_their_ends) {
    World world;
    Loop& loop = world.add_loop();
    world.descriptors_spare(UINT32_MAX);
    EXPECT_TRUE(whorl::listen(loop, Address::loopback_v4(7007)));
    world.descriptors_spare(0);
    EXPECT_EQ(whorl::listen(loop, Address::loopback_v4(7008)).error(), Error::from_errno(EMFILE));
    world.descriptors_unlimited();
    world.options().descriptors_max = 4;
    EXPECT_EQ(whorl::listen(loop, Address::loopback_v4(7008)).error(), Error::from_errno(EMFILE));
    world.options().descriptors_max = 5;
    EXPECT_TRUE(whorl::listen(loop, Address::loopback_v4(7008)));
    world.descriptors_spare(1);
    EXPECT_EQ(whorl::listen(loop, Address::loopback_v4(7009)).error(), Error::from_errno(EMFILE));
}

TEST(WorldFault, reset_after_more_than_is_ever_sent) {
    Connected all;
    all.client.send(all.loop, "before");
    EXPECT_TRUE(all.world.run_idle());
    all.world.reset_after(all.loop, all.client.socket, UINT64_MAX);
    all.client.send(all.loop, " and after");
    EXPECT_TRUE(all.world.run_idle());
    EXPECT_EQ(all.peer.received(), "before and after");
    EXPECT_FALSE(all.peer.was_reset());
}

TEST(WorldFault, what_was_sent_before_the_reset_arrives_on_a_slow_link_too) {
    SimulationOptions options;
    options.bytes_per_second = 1000;
    World world(options);
    Peer peer = world.accept();
    Peer other = world.connect(peer.address());
    other.reset_after(5);
    other.send("abcdefg");
    EXPECT_TRUE(world.run_until([&] { return peer.was_reset() && other.was_reset(); }));
    EXPECT_EQ(peer.received(), "abcde");
}

TEST(WorldFault, a_partition_and_a_hold_end_each_for_itself) {
    Connected all;
    auto link = all.world.connection(all.loop, all.client.socket);
    link.hold();
    all.world.partition();
    all.client.send(all.loop, "held");
    all.world.heal();
    EXPECT_FALSE(all.world.run_until([&] { return !all.peer.received().empty(); }));
    all.world.partition();
    all.peer.send("cut off");
    link.release();
    all.world.connections(all.peer.address().port())[0].release();
    all.world.connections(all.peer.address().port())[1].release();
    EXPECT_FALSE(all.world.run_until([&] { return !all.peer.received().empty(); }));
    EXPECT_EQ(all.client.received, "");
    all.world.heal();
    EXPECT_TRUE(all.world.run_until([&] { return all.peer.received() == "held"; }));
    EXPECT_TRUE(all.world.run_until([&] { return all.client.received == "cut off"; }));
}

// By its reset(), by its end with bytes that it has not read, and as the answer to what it is sent then.
TEST(WorldFault, a_reset_does_not_pass_a_partition_or_a_hold) {
    for (int way = 0; way < 6; ++way) {
        SCOPED_TRACE(way);
        Connected all;
        if (way % 3 == 1) {
            all.peer.stop_reading();
            all.client.send(all.loop, "not read");
            EXPECT_TRUE(all.world.run_idle());
        }
        auto sides = all.world.connections(all.peer.address().port());
        ASSERT_EQ(sides.size(), 2u);
        if (way < 3) all.world.partition();
        else
            for (auto& side : sides) side.hold();
        if (way % 3 == 0) all.peer.reset();
        else all.peer.close();
        if (way % 3 == 2) all.client.send(all.loop, "to nobody");
        EXPECT_FALSE(all.world.run_until([&] { return all.client.ended; }));
        if (way < 3) all.world.heal();
        else
            for (auto& side : sides) side.release();
        EXPECT_TRUE(all.world.run_until([&] { return all.client.ended; }));
        const bool is_reset = all.client.error == Error::from_errno(ECONNRESET);
        EXPECT_TRUE(is_reset || way % 3 == 2);  // there the end is sent before the reset
    }
}

// The answer is on its way when the network is cut.
TEST(WorldFault, nobody_answers_a_connect_within_a_partition) {
    for (const bool heals : {true, false}) {
        for (const bool listens : {true, false}) {
            SimulationOptions options;
            options.latency_min = options.latency_max = 10ms;
            World world(options);
            Peer waiting = world.accept(7007);
            Peer peer = world.connect(listens ? 7007 : 7008);
            world.advance(15ms);
            world.partition();
            world.advance(1min);
            EXPECT_FALSE(peer.connected());
            EXPECT_FALSE(peer.error());
            if (heals) world.heal();
            const auto told = [&] { return peer.connected() || peer.error(); };
            EXPECT_TRUE(world.run_until(told));
            EXPECT_EQ(peer.connected(), heals && listens);
            const Error refused = listens ? Error() : Error::from_errno(ECONNREFUSED);
            EXPECT_EQ(peer.error(), heals ? refused : Error::from_errno(ETIMEDOUT));
        }
    }
}

TEST(WorldFaultDeathTest, power_is_lost_only_where_the_world_was_made_for_it) {
    EXPECT_DEATH(
        {
            World world;
            world.options().power_loss = true;
            world.lose_power();
        },
        "set SimulationOptions::power_loss when the world is made");
}

TEST(WorldFault, no_descriptor_is_left_for_an_accept) {
    World world;
    Loop& loop = world.add_loop();
    auto listener = whorl::listen(loop, Address::loopback_v4(7007));
    ASSERT_TRUE(listener);
    int accepted = 0;
    int told = 0;
    ASSERT_TRUE(
        loop.submit(whorl::AcceptStream{*listener}, [&](Loop&, whorl::AcceptStream::Done done) {
            if (done.socket) ++accepted;
            if (done.error == Error::from_errno(EMFILE)) ++told;
        }));
    world.descriptors_spare(2);
    Peer peers[4];
    for (Peer& peer : peers) peer = world.connect(7007);
    EXPECT_TRUE(world.run_until([&] { return told == 1; }));
    EXPECT_EQ(accepted, 2);
    world.advance(10s);
    EXPECT_EQ(accepted, 2);
    world.descriptors_unlimited();
    EXPECT_TRUE(world.run_until([&] { return accepted == 4; }, 1s));
}

TEST(WorldFault, chances_can_be_turned_on_and_off) {
    World world;
    Loop& loop = world.add_loop();
    Peer peer = world.accept();
    world.options().operation_error = 1;
    Client client;
    client.connect(loop, peer.address());
    EXPECT_TRUE(world.run_until([&] { return static_cast<bool>(client.error); }));
    EXPECT_FALSE(client.connected);
    EXPECT_GE(world.faults(), 1u);
    world.options().operation_error = 0;
    client.connect(loop, peer.address());
    EXPECT_TRUE(world.run_until([&] { return client.connected; }));
}

// Of one that is gone, or was never there, nothing is known, and nothing is done to it.
TEST(WorldFault, a_connection_that_is_gone) {
    whorl::testing::Connection connections[3];
    Connected all;
    connections[1] = all.world.connection(all.loop, Socket());
    connections[2] = all.world.connection(all.loop, all.client.socket);
    EXPECT_TRUE(connections[2].alive());
    EXPECT_EQ(connections[2].peer(), all.peer.address());
    EXPECT_NE(connections[2].local(), Address());
    all.client.send(all.loop, "17 bytes are sent");
    EXPECT_TRUE(all.world.run_until([&] { return !all.peer.received().empty(); }));
    EXPECT_EQ(connections[2].bytes_sent(), 17u);
    all.peer.reset();
    EXPECT_TRUE(all.world.run_until([&] { return all.client.ended; }));
    ASSERT_FALSE(all.loop.close(all.client.socket));
    EXPECT_TRUE(all.world.run_idle());
    for (whorl::testing::Connection& each : connections) {
        EXPECT_FALSE(each.alive());
        EXPECT_EQ(each.local(), Address());
        EXPECT_EQ(each.peer(), Address());
        EXPECT_EQ(each.bytes_sent(), 0u);
        each.hold();
        each.release();
        each.reset_after(1);
        each.reset();
    }
    EXPECT_TRUE(all.world.connections(all.peer.address().port()).empty());
    EXPECT_FALSE(all.world.failed());
}

TEST(WorldFault, each_step_is_counted_and_written_where_it_is_asked_for) {
    World world;
    Loop& loop = world.add_loop();
    std::FILE* const lines = std::tmpfile();
    ASSERT_NE(lines, nullptr);
    world.trace_to(lines);
    world.note("begins");
    const std::uint64_t before = world.steps();
    bool over = false;
    ASSERT_TRUE(loop.after(1ms, [&over](Loop&, whorl::Expired) { over = true; }));
    EXPECT_TRUE(world.run_until([&] { return over; }));
    EXPECT_GT(world.steps(), before);
    world.trace_to(nullptr);
    world.note("is not written");
    std::rewind(lines);
    std::string text(1000, '\0');
    text.resize(std::fread(&text[0], 1, text.size(), lines));
    std::fclose(lines);
    EXPECT_NE(text.find("begins"), std::string::npos);
    EXPECT_EQ(text.find("is not written"), std::string::npos);
}

TEST(WorldInvariant, stops_the_world_where_it_breaks) {
    World world;
    Loop& loop = world.add_loop();
    int ticks = 0;
    ASSERT_TRUE(loop.every(1ms, [&](Loop&, whorl::Expired) { ++ticks; }));
    world.invariant("few ticks", [&] { return ticks < 5; });
    EXPECT_FALSE(world.run_until([] { return false; }));
    EXPECT_EQ(ticks, 5);
    EXPECT_TRUE(world.failed());
    EXPECT_EQ(world.failure().what, "invariant: few ticks");
    EXPECT_EQ(world.failure().seed, 1u);
    EXPECT_EQ(world.failure().time, world.now());
    EXPECT_NE(world.failure().text().find("WHORL_SEED=1"), std::string::npos);
    EXPECT_FALSE(world.run_idle());  // it goes no further
    EXPECT_EQ(ticks, 5);
}

TEST(WorldInvariant, that_adds_others) {
    World world;
    ASSERT_TRUE(world.add_loop().after(1ms, [](Loop&, whorl::Expired) {}));
    int added = 0;
    // Longer than what a string has within itself: its memory must be there until the end.
    world.invariant(std::string(100, 'a'), [&] {
        for (; added < 100; ++added) world.invariant("added", [] { return true; });
        return false;
    });
    EXPECT_FALSE(world.run_idle());
    EXPECT_EQ(world.failure().what, "invariant: " + std::string(100, 'a'));
}

TEST(WorldLoops, two_loops_talk_and_one_goes) {
    World world(7);
    Loop& server = world.add_loop();
    Loop& client_loop = world.add_loop();
    auto listener = whorl::listen(server, Address::loopback_v4(7007));
    ASSERT_TRUE(listener);
    Socket accepted;
    ASSERT_TRUE(server.submit(whorl::Accept{*listener},
                              [&](Loop&, whorl::Accept::Done done) { accepted = done.socket; }));
    Client client;
    client.connect(client_loop, Address::loopback_v4(7007));
    ASSERT_TRUE(world.run_until([&] { return client.connected && accepted; }));
    EXPECT_EQ(world.descriptors(), 3u);
    world.remove_loop(server);
    EXPECT_TRUE(world.run_until([&] { return client.ended; }));
    EXPECT_EQ(world.descriptors(), 1u);
}

}  // namespace
