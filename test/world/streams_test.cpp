// SPDX-License-Identifier: MIT
// The chat server and the TCP proxy, in simulated worlds: their bytes cut at every place, connections
// reset at every byte, and thousands of harsh schedules.
#include "chat.hpp"
#include "names.hpp"
#include "proxy.hpp"

namespace {

using namespace world_names;

struct Room {
    explicit Room(World& given) : world(given), loop(given.add_loop()) {
        world.check(!room.start(loop, Address::loopback_v4(7007)), "the room opens");
    }
    bool hears(Peer& peer, const std::string& text) {
        return world.run_until([&] { return peer.received().find(text) != std::string::npos; });
    }
    Peer joins(const std::string& name) {
        Peer peer = world.connect(7007);
        peer.send(name + "\n");
        const std::size_t before = room.members();
        world.check(world.run_until([&] { return room.members() == before + 1; }), "joins");
        return peer;
    }

    World& world;
    ChatRoom room;
    Loop& loop;
};

TEST(Streams, chat_is_the_same_for_every_cut) {
    const std::string text = "ann\nhello\r\n\nworld\n";
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
        World world;
        Room room(world);
        Peer listener = room.joins("bob");
        Peer speaker = world.connect(7007);
        speaker.send(text.substr(0, cut));
        world.advance(1s);
        speaker.send(text.substr(cut));
        EXPECT_TRUE(room.hears(listener, "world\n"));
        EXPECT_EQ(listener.received(), "name?\nann is here\nann: hello\nann: \nann: world\n");
    }
}

TEST(Streams, chat_survives_a_reset_at_every_byte) {
    const std::string text = "ann\nhello\nworld\n";
    for (std::uint64_t bytes = 1; bytes <= text.size(); ++bytes) {
        World world;
        Room room(world);
        Peer listener = room.joins("bob");
        Peer speaker = world.connect(7007);
        speaker.reset_after(bytes);
        speaker.send(text);
        EXPECT_TRUE(world.run_until([&] { return speaker.was_reset(); }));
        world.advance(1s);
        EXPECT_EQ(room.room.members(), 1u);
        // What was heard is the beginning of what was said, and who was here has left.
        const std::string all = "name?\nann is here\nann: hello\nann: world\n";
        std::string got = listener.received();
        const std::string left = "ann has left\n";
        if (got.size() > 6) {
            EXPECT_EQ(got.substr(got.size() - left.size()), left);
            got.resize(got.size() - left.size());
        }
        EXPECT_EQ(all.compare(0, got.size(), got), 0) << got;
    }
}

TEST(Streams, chat_drops_who_sends_too_much_or_does_not_read) {
    World world;
    Room room(world);
    Peer loud = world.connect(7007);
    loud.send(std::string(ChatRoom::line_max + 1, 'x') + "\n");
    EXPECT_TRUE(world.run_until([&] { return loud.ended(); }));
    Peer deaf = room.joins("deaf");
    Peer speaker = room.joins("ann");
    deaf.stop_reading();
    for (int count = 0; count < 20'000; ++count) speaker.send(std::string(400, 'y') + "\n");
    EXPECT_TRUE(world.run_until([&] { return room.room.members() == 1; }));
    EXPECT_LE(whorl::stream_statistics(room.loop).bytes_high, std::size_t{400} << 10);
    world.advance(11min);
    EXPECT_EQ(room.room.members(), 0u) << "nobody says anything";
}

void chat_in_a_harsh_world(World& world) {
    Room room(world);
    std::vector<Peer> peers(4);
    std::vector<std::string> said(4);
    for (std::size_t index = 0; index < 4; ++index) {
        peers[index] = world.connect(7007);
        peers[index].send("m" + std::to_string(index) + "\n");
        for (std::uint32_t count = world.draw(30); count > 0; --count) {
            said[index] += std::string(1 + world.draw(400), 'z') + "\n";
        }
        peers[index].send(said[index]);
        if (world.draw(3) == 0) peers[index].reset_after(world.draw(4000));
        if (world.draw(4) == 0) peers[index].stop_reading();
    }
    world.options().operation_error = world.draw(2) == 0 ? 0 : 0.02;
    world.advance(20s);
    world.options().operation_error = 0;
    for (Peer& peer : peers) {
        const std::string& got = peer.received();
        world.check(got.empty() ||
                        got.compare(0, 6, "name?\n", 0, std::min<std::size_t>(6, got.size())) == 0,
                    "another greeting");
        peer.reset();
    }
    world.advance(11min);
    world.check(room.room.members() == 0, "a member is left behind");
    world.check(whorl::stream_statistics(room.loop).streams == 0, "a stream is left behind");
    world.check(whorl::stream_statistics(room.loop).bytes == 0, "bytes are left behind");
    world.check(world.descriptors() == 1, "more than the listener is left");
}

TEST(Streams, chat_in_thousand_harsh_worlds) {
    const Found found = explore(chat_in_a_harsh_world);
    EXPECT_FALSE(found.failed) << found.text();
}

std::string text_of(std::size_t size) {
    std::string text;
    for (int count = 0; text.size() < size; ++count) text += std::to_string(count) + ',';
    return text.substr(0, size);
}

struct Line {
    explicit Line(World& given)
        : world(given), loop(given.add_loop()), proxy({Address::loopback_v4(80)}) {
        world.check(!proxy.start(loop, Address::loopback_v4(7007)), "the proxy starts");
        server = world.accept(80);
        client = world.connect(7007);
    }
    World& world;
    Loop& loop;
    Proxy proxy;
    Peer server, client;
};

TEST(Streams, proxy_passes_resets_on_at_every_byte) {
    const std::string text = text_of(60);
    for (const bool from_client : {true, false}) {
        for (std::uint64_t bytes = 1; bytes <= text.size(); bytes += 3) {
            World world;
            Line line(world);
            EXPECT_TRUE(world.run_until([&] { return line.server.connected(); }));
            Peer& sender = from_client ? line.client : line.server;
            Peer& other = from_client ? line.server : line.client;
            sender.reset_after(bytes);
            sender.send(text);
            EXPECT_TRUE(world.run_until([&] { return other.was_reset(); })) << bytes;
            world.advance(1s);
            const std::string& got = other.received();
            EXPECT_EQ(text.compare(0, got.size(), got), 0);
            EXPECT_EQ(line.proxy.open(), 0);
            EXPECT_EQ(world.descriptors(), 1u);
        }
    }
}

void proxy_in_a_harsh_world(World& world) {
    Line line(world);
    const std::string there = text_of(world.draw(60'000)), back = text_of(world.draw(60'000));
    line.client.send(there).finish_sending();
    line.server.send(back).finish_sending();
    world.check(world.run_until([&] { return line.server.ended() && line.client.ended(); }),
                "an end was not passed on");
    world.check(line.server.received() == there, "there");
    world.check(line.client.received() == back, "back");
    line.client.close();
    line.server.close();
    world.advance(10s);
    world.check(line.proxy.open() == 0, "a relay is left behind");
    world.check(world.descriptors() == 1, "more than the listener is left");
}

TEST(Streams, proxy_in_thousand_harsh_worlds) {
    const Found found = explore(proxy_in_a_harsh_world);
    EXPECT_FALSE(found.failed) << found.text();
}

}  // namespace
