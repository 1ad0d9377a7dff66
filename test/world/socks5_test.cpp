// SPDX-License-Identifier: MIT
// The SOCKS5 proxy in simulated worlds: what it says to whom, its bytes cut at every place, connections reset at
// every byte, and thousands of harsh schedules.
#include "socks5.hpp"
#include "names.hpp"

namespace {

using namespace world_names;

std::string bytes(std::initializer_list<int> values) {
    std::string text;
    for (const int value : values) text += static_cast<char>(value);
    return text;
}
const std::string anybody = bytes({5, 1, 0});
const std::string with_password = bytes({5, 2, 0, 2});
const std::string to_address = bytes({5, 1, 0, 1, 127, 0, 0, 1, 0, 80});
std::string to_name(const std::string& name, int port = 80) {
    return bytes({5, 1, 0, 3, static_cast<int>(name.size())}) + name + bytes({0, port});
}
std::string login(const std::string& user, const std::string& password) {
    return bytes({1, static_cast<int>(user.size())}) + user +
           bytes({static_cast<int>(password.size())}) + password;
}

struct Line {
    explicit Line(World& given, const Socks5Options& options = {})
        : world(given), loop(given.add_loop()), proxy(options) {
        world.check(!proxy.start(loop, Address::loopback_v4(7007)), "the proxy starts");
        client = world.connect(7007);
    }
    Line(const Line&) = delete;
    Line& operator=(const Line&) = delete;
    ~Line() { world.remove_loop(loop); }

    // What the client has got when it has ended.
    std::string refused() {
        world.check(world.run_until([&] { return client.ended() || client.was_reset(); }),
                    "the connection stays open");
        return client.received();
    }
    bool gets(const std::string& text) {
        return world.run_until([&] { return client.received() == text; });
    }

    World& world;
    Loop& loop;
    Socks5Proxy proxy;
    Peer client;
};

// The reply with an address that only the proxy knows.
std::size_t reply_size(const std::string& got, std::size_t from) {
    return got.size() > from + 3 && got[from + 3] == 4 ? 22 : 10;
}

TEST(Socks5, is_the_same_for_every_cut) {
    const std::string text = anybody + to_name("server.test") + "hello";
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
        World world;
        world.name("server.test", {Address::loopback_v4(0)});
        Line line(world);
        Peer server = world.accept(80);
        line.client.send(text.substr(0, cut));
        world.advance(1s);
        line.client.send(text.substr(cut));
        EXPECT_TRUE(world.run_until([&] { return server.received() == "hello"; })) << cut;
        server.send("welcome");
        EXPECT_TRUE(world.run_until([&] { return line.client.received().size() == 2 + 10 + 7; }));
        const std::string& got = line.client.received();
        EXPECT_EQ(got.substr(0, 10), bytes({5, 0, 5, 0, 0, 1, 127, 0, 0, 1}));
        EXPECT_EQ(got.substr(12), "welcome");
        EXPECT_EQ(line.proxy.open(), 1);
        line.client.finish_sending();
        server.finish_sending();
        EXPECT_TRUE(world.run_until([&] { return line.proxy.open() == 0; }));
    }
}

TEST(Socks5, survives_a_reset_at_every_byte) {
    const std::string text = anybody + to_address + "hello";
    for (std::uint64_t count = 1; count <= text.size(); ++count) {
        World world;
        Line line(world);
        Peer server = world.accept(80);
        line.client.reset_after(count);
        line.client.send(text);
        EXPECT_TRUE(world.run_until([&] { return line.client.was_reset(); }));
        world.advance(20s);
        EXPECT_EQ(line.proxy.open(), 0) << count;
        EXPECT_EQ(whorl::stream_statistics(line.loop).streams, 0u) << count;
        EXPECT_TRUE(std::string("hello").compare(0, server.received().size(), server.received()) ==
                    0);
    }
}

TEST(Socks5, asks_for_a_password_where_it_wants_one) {
    Socks5Options options;
    options.user = "ann";
    options.password = "secret";
    for (const bool right : {true, false}) {
        World world;
        Line line(world, options);
        Peer server = world.accept(80);
        line.client.send(with_password);
        EXPECT_TRUE(line.gets(bytes({5, 2})));
        line.client.send(login("ann", right ? "secret" : "secre") + to_address);
        if (right) {
            EXPECT_TRUE(world.run_until([&] { return server.connected(); }));
        } else {
            EXPECT_EQ(line.refused(), bytes({5, 2, 1, 1}));
            EXPECT_FALSE(server.connected());
        }
    }
    World world;
    Line line(world, options);
    line.client.send(anybody + to_address);
    EXPECT_EQ(line.refused(), bytes({5, 0xFF}));
}

TEST(Socks5, takes_the_longest_messages_at_once) {
    Socks5Options options;
    options.user = std::string(255, 'u');
    options.password = std::string(255, 'p');
    const std::string name(255, 'n');
    World world;
    world.name(name, {Address::loopback_v4(0)});
    Line line(world, options);
    Peer server = world.accept(80);
    line.client.send(bytes({5, 255}) + std::string(255, '\2') +
                     login(options.user, options.password) + to_name(name) + "hello");
    EXPECT_TRUE(world.run_until([&] { return server.received() == "hello"; }));
}

TEST(Socks5, tells_why_not) {
    const auto told = [](const std::string& sent, const Socks5Options& options = {}) {
        World world;
        world.name_fails("none.test", Error::name_unknown);
        Line line(world, options);
        line.client.send(sent);
        return line.refused();
    };
    const auto reply = [](int code) { return bytes({5, 0, 5, code, 0, 1, 0, 0, 0, 0, 0, 0}); };
    EXPECT_EQ(told(anybody + to_address), reply(5)) << "nobody listens";
    EXPECT_EQ(told(anybody + to_name("none.test")), reply(4));
    EXPECT_EQ(told(anybody + bytes({5, 2, 0, 1, 127, 0, 0, 1, 0, 80})), reply(7)) << "bind";
    EXPECT_EQ(told(anybody + bytes({5, 1, 0, 9, 127, 0, 0, 1, 0, 80})), reply(8));
    EXPECT_EQ(told(anybody + to_name("")), reply(8));
    EXPECT_EQ(told(anybody + to_name(std::string("a\0b", 3))), reply(1));
    EXPECT_EQ(told("GET / HTTP/1.1\r\n\r\n"), "");
    EXPECT_EQ(told(bytes({5, 1})), "") << "nothing more comes: the handshake has a bound";
    EXPECT_EQ(told(anybody + std::string(3, '\5') + std::string(600, 'x')).substr(0, 4),
              bytes({5, 0, 5, 7}));
}

TEST(Socks5, bounds_the_time_to_connect) {
    World world;
    Socks5Options options;
    options.connect = 3s;
    Line line(world, options);
    world.name("slow.test", {Address::loopback_v4(0)}, 5s);
    line.client.send(anybody + to_name("slow.test"));
    EXPECT_EQ(line.refused(), bytes({5, 0, 5, 4, 0, 1, 0, 0, 0, 0, 0, 0}));
}

void in_a_harsh_world(World& world) {
    world.name("server.test", {Address::loopback_v4(0)});
    Line line(world);
    Peer server = world.accept(80);
    const std::string there(world.draw(60'000), 't'), back(world.draw(60'000), 'b');
    line.client.send(anybody);
    line.client.send((world.draw(2) == 0 ? to_address : to_name("server.test")) + there);
    line.client.finish_sending();
    server.send(back).finish_sending();
    world.check(world.run_until([&] { return server.ended() && line.client.ended(); }),
                "an end was not passed on");
    world.check(server.received() == there, "there");
    const std::string& got = line.client.received();
    world.check(got.size() > 4 && got.substr(2 + reply_size(got, 2)) == back, "back");
    line.client.close();
    server.close();
    world.advance(10s);
    world.check(line.proxy.open() == 0, "a relay is left behind");
    world.check(world.descriptors() == 1, "more than the listener is left");
}

TEST(Socks5, in_thousand_harsh_worlds) {
    const Found found = explore(in_a_harsh_world);
    EXPECT_FALSE(found.failed) << found.text();
}

}  // namespace
