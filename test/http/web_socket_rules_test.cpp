// SPDX-License-Identifier: MIT
// Goal: in each state of a WebSocket each call does what its header says, and nothing where that is what it
// says; reasons are cut between signs; slow peers are alive and silent ones are not; a message that is kept
// does not change with what arrives behind it. Method: simulated worlds, handlers with hooks for each moment.
#include "http/web_socket_tools.hpp"

#include <whorl/whorl.hpp>

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace {

using namespace web_tests;
using whorl::Nanoseconds;

// Does at each moment what the test wants.
struct Hooked {
    struct Hooks {
        std::function<void(Connection&)> opened, writable;
        std::function<void(Connection&, Kind, Buffer)> message;
        std::function<void(Connection&, const Ended&)> closed;
    };
    Hooks* hooks;
    Record* record;
    Count count;
    Hooked(Hooks& given, Record& to) : hooks(&given), record(&to), count(to) {}

    void opened(Connection& connection) {
        ++record->opened;
        record->last = &connection;
        if (hooks->opened) hooks->opened(connection);
    }
    void message(Connection& connection, Kind kind, Buffer message) {
        if (hooks->message) return hooks->message(connection, kind, std::move(message));
        record->said += quoted(kind == Kind::text ? "T" : "B", message.text());
    }
    void ping(Connection&, Bytes payload) { record->said += quoted("P", payload.text()); }
    void pong(Connection&, Bytes payload) { record->said += quoted("O", payload.text()); }
    void writable(Connection& connection) {
        record->said += 'W';
        if (hooks->writable) hooks->writable(connection);
    }
    void closed(Connection& connection, const Ended& ended) {
        ++record->closed;
        record->last = nullptr;
        record->said += '[' + text_of(ended) + ']';
        if (hooks->closed) hooks->closed(connection, ended);
    }
};

// A server of such handlers.
struct HookedServer {
    explicit HookedServer(World& given, const AcceptOptions& options = {})
        : world(given), loop(given.add_loop()) {
        const auto make = [this, options](const whorl::Accepted&) { return Door{this, options}; };
        world.check(whorl::http::serve(loop, Address::loopback_v4(80), make).has_value(), "opens");
    }
    ~HookedServer() { world.remove_loop(loop); }
    HookedServer(const HookedServer&) = delete;
    HookedServer& operator=(const HookedServer&) = delete;

    struct Door {
        HookedServer* server;
        AcceptOptions options;
        void request(Exchange& exchange) {
            if (server->before) server->before(exchange);
            server->error =
                whorl::web_socket::accept(exchange, Hooked(server->hooks, server->record), options);
        }
    };
    World& world;
    Hooked::Hooks hooks;
    std::function<void(Exchange&)> before;
    Record record;
    Error error;
    Loop& loop;
};

// The server's frames for one conversation.
std::string frames_of(HookedServer& server, const std::string& sent) {
    Peer peer = server.world.connect(80);
    peer.send(upgrade() + sent);
    server.world.advance(20s);
    EXPECT_EQ(peer.received().substr(0, accepted.size()), accepted);
    return peer.received().substr(std::min(accepted.size(), peer.received().size()));
}
std::string reason_sent(const std::string& reason) {
    World world;
    HookedServer server(world);
    server.hooks.opened = [&](Connection& connection) { connection.close(1000, reason); };
    const std::string sent = frames_of(server, close_frame(1000));
    EXPECT_EQ(server.record.said, "[clean 1000/1000]");
    EXPECT_EQ(sent.substr(2, 2), "\x03\xe8");
    return sent.substr(4);
}

TEST(WebSocketRules, a_reason_is_cut_between_signs) {
    EXPECT_EQ(reason_sent(""), "");
    EXPECT_EQ(reason_sent(std::string(123, 'x')), std::string(123, 'x'));
    EXPECT_EQ(reason_sent(std::string(124, 'x')), std::string(123, 'x'));
    std::string two, three;
    for (int count = 0; count < 100; ++count) {
        two += "\xc3\xa9";
        three += "\xe2\x82\xac";
    }
    EXPECT_EQ(reason_sent(two), two.substr(0, 122));
    EXPECT_EQ(reason_sent("x" + two), "x" + two.substr(0, 122));
    EXPECT_EQ(reason_sent(three), three.substr(0, 123));
    EXPECT_EQ(reason_sent("x" + three), "x" + three.substr(0, 120));
    EXPECT_EQ(reason_sent(std::string(200, '\x80')), "") << "nothing of what are no signs";
}

TEST(WebSocketRules, nothing_is_said_after_our_close) {
    const std::string ours = server_frame(closing, "\x0f\xa0");
    const std::string malformed = Error(Error::frame_malformed).text();
    const auto after_close = [&](const std::string& sent, const std::string& said) {
        World world;
        HookedServer server(world);
        server.hooks.opened = [](Connection& connection) {
            connection.close(4000);
            EXPECT_FALSE(connection.open());
            connection.close(4001);
            EXPECT_FALSE(connection.send_text("late"));
            EXPECT_FALSE(connection.send_binary(Bytes(std::string_view("late"))));
            EXPECT_FALSE(
                connection.send(Kind::text, Buffer::copy_of(Bytes(std::string_view("l")))));
            EXPECT_FALSE(connection.ping());
            connection.pause();
        };
        EXPECT_EQ(frames_of(server, sent), ours);
        EXPECT_EQ(server.record.said, said);
        EXPECT_EQ(server.record.handlers, 0);
    };
    const std::string bye = close_frame(4000, "bye");
    after_close(bye, "[clean 4000/4000 bye]");
    after_close(frame(text, "late") + frame(ping, "p") + frame(pong, "q") + bye,
                "[clean 4000/4000 bye]");
    after_close(frame(3, ""), "[broken 1006/4000 " + malformed + "]");
    after_close("", std::string("[broken 1006/4000 ") + Error(Error::timed_out).text() + "]");
}

TEST(WebSocketRules, calls_in_closed_do_nothing) {
    World world;
    HookedServer server(world);
    server.hooks.closed = [](Connection& connection, const Ended&) {
        EXPECT_FALSE(connection.open());
        EXPECT_FALSE(connection.send_text("late"));
        EXPECT_FALSE(connection.ping());
        connection.pause();
        connection.resume();
        connection.close();
        connection.abort();
        EXPECT_EQ(connection.queued() + connection.gathered(), 0u);
    };
    EXPECT_EQ(frames_of(server, close_frame(1000)), server_frame(closing, "\x03\xe8"));
    EXPECT_EQ(server.record.said, "[clean 1000/1000]");
    EXPECT_EQ(server.record.handlers, 0);
    EXPECT_EQ(whorl::stream_statistics(server.loop).streams, 0u);
}

TEST(WebSocketRules, a_client_that_only_connects_may_be_called) {
    const auto ended = [](const std::function<void(Connection&)>& end) {
        World world;
        Loop& loop = world.add_loop();
        world.partition();
        Hooked::Hooks hooks;
        Record record;
        const auto made =
            whorl::web_socket::connect(loop, "ws://127.0.0.1/", Hooked(hooks, record));
        EXPECT_TRUE(made);
        world.advance(1s);
        EXPECT_FALSE((*made)->open());
        EXPECT_FALSE((*made)->send_binary(Bytes(std::string_view("early"))));
        EXPECT_FALSE((*made)->ping());
        (*made)->pause();
        (*made)->resume();
        EXPECT_EQ((*made)->queued(), 0u);
        EXPECT_EQ((*made)->protocol(), "");
        end(**made);
        EXPECT_EQ(record.closed, 0) << "never inline";
        world.advance(1s);
        EXPECT_EQ(record.opened, 0);
        EXPECT_EQ(record.closed, 1);
        EXPECT_EQ(record.handlers, 0);
        EXPECT_EQ(world.descriptors(), 0u);
        EXPECT_EQ(loop.statistics().operations, 0u);
        return record.said;
    };
    const auto broken = [](Error error) {
        return std::string("[broken 1006/0 ") + error.text() + "]";
    };
    EXPECT_EQ(ended([](Connection& connection) { connection.close(); }), broken(Error::cancelled));
    EXPECT_EQ(ended([](Connection& connection) {
                  connection.abort(Error::from_errno(EPROTO));
                  connection.abort();
              }),
              broken(Error::from_errno(EPROTO)))
        << "the first reason counts";
}

TEST(WebSocketRules, a_client_closes_in_its_handshake) {
    World world;
    Loop& loop = world.add_loop();
    Peer silent = world.accept(81);
    Hooked::Hooks hooks;
    Record record;
    const auto made = whorl::web_socket::connect(loop, "ws://127.0.0.1:81", Hooked(hooks, record));
    ASSERT_TRUE(made);
    ASSERT_TRUE(world.run_until([&] { return !silent.received().empty(); }));
    (*made)->close(1000, "not any more");
    EXPECT_TRUE(world.run_until([&] { return silent.was_reset(); }));
    EXPECT_EQ(record.said, std::string("[broken 1006/0 ") + Error(Error::cancelled).text() + "]");
    EXPECT_EQ(record.handlers, 0);
}

// A peer that takes a little now and then is alive, however long; one that takes nothing is not.
TEST(WebSocketRules, a_slow_reader_is_alive) {
    World world;
    HookedServer server(world);
    Peer peer = world.connect(80);
    peer.send(upgrade());
    ASSERT_TRUE(world.run_until([&] { return server.record.opened == 1; }));
    peer.stop_reading();
    const std::string payload(200'000, 'x');
    for (int count = 0; count < 20; ++count) {
        server.record.last->send_binary(Bytes(std::string_view(payload)));
    }
    world.options().bytes_per_second = 20'000;
    for (int round = 0; round < 10; ++round) {
        peer.read_on();
        world.advance(2s);
        peer.stop_reading();
        world.advance(20s);
        ASSERT_EQ(server.record.closed, 0) << round;
    }
    world.advance(3min);
    EXPECT_EQ(server.record.said.substr(server.record.said.size() - 1), "]");
    EXPECT_NE(server.record.said.find(Error(Error::timed_out).text()), std::string::npos);
    EXPECT_EQ(server.record.handlers, 0);
}

TEST(WebSocketRules, times_of_zero) {
    World world;
    AcceptOptions options;
    options.ping_every = Nanoseconds::zero();
    options.close = Nanoseconds::zero();
    {
        HookedServer server(world, options);
        Peer peer = world.connect(80);
        peer.send(upgrade());
        world.advance(24h);
        EXPECT_EQ(peer.received(), accepted) << "no pings";
        ASSERT_EQ(server.record.opened, 1);
        server.record.last->close();
        world.advance(24h);
        EXPECT_EQ(server.record.closed, 0) << "waited for";
        peer.send(close_frame(1000));
        world.advance(20s);
        EXPECT_EQ(server.record.said, "[clean 1000/1000]");
    }
    options.ping_every = 10s;
    options.ping_timeout = Nanoseconds::zero();
    HookedServer server(world, options);
    Peer peer = world.connect(80);
    peer.send(upgrade());
    world.advance(19s);
    EXPECT_EQ(peer.received(), accepted + server_frame(ping, ""));
    EXPECT_EQ(server.record.closed, 0);
    world.advance(2s);
    EXPECT_TRUE(peer.was_reset()) << "as ping_every";
}

// A large message is a share of what was received. What follows in the same buffer is unmasked later, where
// it lies: not in bytes that somebody else holds.
TEST(WebSocketRules, a_message_that_is_kept_stays_as_it_is) {
    World world;
    HookedServer server(world);
    Buffer kept;
    const std::string large(6'000, 'k');
    server.hooks.message = [&](Connection& connection, Kind kind, Buffer message) {
        if (message.size() == large.size() && !kept) {
            kept = std::move(message);
            connection.pause();
            return;
        }
        server.record.said += quoted(kind == Kind::text ? "T" : "B", message.text());
    };
    Peer peer = world.connect(80);
    peer.send(upgrade());
    ASSERT_TRUE(world.run_until([&] { return server.record.opened == 1; }));
    peer.send(frame(text, large) + frame(text, "one") + frame(binary, "two") + frame(ping, "p"));
    world.advance(1s);
    ASSERT_TRUE(kept);
    EXPECT_EQ(server.record.said, "");
    Buffer other = kept.share();
    server.record.last->resume();
    world.advance(1s);
    EXPECT_EQ(server.record.said, "T(one)B(two)P(p)");
    EXPECT_TRUE(kept.text() == large);
    EXPECT_TRUE(other.text() == large);
    peer.send(close_frame(1000));
    world.advance(20s);
    EXPECT_EQ(server.record.said, "T(one)B(two)P(p)[clean 1000/1000]");
}

TEST(WebSocketRules, the_watermark_and_what_comes_after_it) {
    World world;
    HookedServer server(world);
    bool closes = false;
    server.hooks.message = [&](Connection& connection, Kind, const Buffer&) {
        const std::string piece(100'000, 'x');
        while (connection.send_binary(Bytes(std::string_view(piece)))) {
        }
        EXPECT_GT(connection.queued(), 0u);
        if (closes) connection.close();
    };
    const auto said = [&](bool close) {
        closes = close;
        server.record.said.clear();
        Peer peer = world.connect(80);
        peer.send(upgrade());
        world.advance(1s);
        peer.stop_reading();
        peer.send(frame(text, "go"));
        world.advance(2s);
        EXPECT_EQ(server.record.said, "") << "it waits";
        peer.read_on();
        world.advance(1s);
        peer.send(close_frame(1000));
        world.advance(20s);
        return server.record.said;
    };
    EXPECT_EQ(said(false), "W[clean 1000/1000]");
    EXPECT_EQ(said(true), "[clean 1000/1000]") << "closing, nothing may be sent";
}

TEST(WebSocketRules, accept_comes_before_an_answer) {
    World world;
    HookedServer server(world);
    server.before = [](Exchange& exchange) { exchange.respond({200}, "already"); };
    Peer peer = world.connect(80);
    peer.send(upgrade());
    world.advance(1s);
    EXPECT_EQ(server.error, Error::invalid_argument);
    EXPECT_EQ(server.record.handlers, 0);
    EXPECT_EQ(peer.received().substr(0, 12), "HTTP/1.1 200");
    EXPECT_EQ(peer.received().find("101"), std::string::npos);
    EXPECT_NE(peer.received().find("\r\n\r\nalready"), std::string::npos);
}

TEST(WebSocketRules, who_is_of_the_same_origin) {
    World world;
    HookedServer server(world);
    const auto status = [&](const std::string& host, const std::string& origin) {
        Peer peer = world.connect(80);
        peer.send("GET / HTTP/1.1\r\nHost: " + host +
                  "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                  "Sec-WebSocket-Version: 13\r\n" +
                  key + "Origin: " + origin + "\r\n\r\n");
        world.advance(1s);
        return peer.received().substr(9, 3);
    };
    EXPECT_EQ(status("a.test", "http://a.test"), "101");
    EXPECT_EQ(status("a.test:80", "http://a.test"), "101");
    EXPECT_EQ(status("a.test", "http://a.test:80"), "101");
    EXPECT_EQ(status("a.test:8080", "http://a.test:8080"), "101");
    EXPECT_EQ(status("a.test:443", "https://a.test"), "101");
    EXPECT_EQ(status("a.test:443", "http://a.test"), "403");
    EXPECT_EQ(status("a.test", "http://b.test"), "403");
    EXPECT_EQ(status("a.test", "http://:80"), "403");
    EXPECT_EQ(status("", "http://a.test"), "403") << "a request for no host";
    EXPECT_EQ(status("a.test", ""), "403");
}

}  // namespace
