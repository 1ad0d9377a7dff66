// SPDX-License-Identifier: MIT
// Goal: a WebSocket server's handshakes, messages, pings and ends, however the bytes are cut and whenever the
// peer goes away; `closed` exactly once.
// Method: conversations in simulated worlds, cut and reset at every byte.
#include "web_socket_echo.hpp"

#include "http/web_socket_tools.hpp"

#include <string>
#include <utility>
#include <vector>

namespace {

using namespace web_tests;

// --- The handshake

std::string status_of(World& world, const std::string& request) {
    Peer peer = world.connect(80);
    peer.send(request);
    world.advance(1s);
    return peer.received().substr(9, 3);
}

TEST(WebSocket, the_handshake_of_the_rfc) {
    World world;
    Server server(world);
    Peer peer = world.connect(80);
    peer.send(upgrade());
    EXPECT_TRUE(world.run_until([&] { return peer.received() == accepted; }));
    EXPECT_EQ(server.record.opened, 1);
    EXPECT_EQ(server.record.last->protocol(), "");
    EXPECT_EQ(status_of(world, "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n" + upgrade()), "200");
    EXPECT_TRUE(world.run_until([&] { return server.record.opened == 2; }));
}

TEST(WebSocket, what_is_no_handshake_is_refused) {
    World world;
    Server server(world);
    const std::string version = "Sec-WebSocket-Version: 13\r\n";
    const auto get = [](const std::string& head) {
        return "GET / HTTP/1.1\r\nHost: a\r\n" + head + "\r\n";
    };
    const std::string up = "Upgrade: websocket\r\n", by = "Connection: Upgrade\r\n";
    EXPECT_EQ(status_of(world, get("")), "426");
    EXPECT_EQ(status_of(world, get(by + key + version)), "426");
    EXPECT_EQ(status_of(world, get(up + key + version)), "426");
    EXPECT_EQ(status_of(world, get("Upgrade: h2c\r\n" + by + key + version)), "426");
    EXPECT_EQ(status_of(world, get(up + by + version)), "400");
    EXPECT_EQ(status_of(world, get(up + by + key + key + version)), "400");
    EXPECT_EQ(status_of(world, get(up + by + "Sec-WebSocket-Key: short\r\n" + version)), "400");
    EXPECT_EQ(status_of(world, "POST / HTTP/1.1\r\nHost: a\r\n" + up + by + key + version + "\r\n"),
              "400");
    EXPECT_EQ(status_of(world, get(up + by + key + version + "Content-Length: 2\r\n") + "ab"),
              "400");
    EXPECT_EQ(status_of(world, "GET / HTTP/1.0\r\nHost: a\r\n" + up + by + key + version + "\r\n"),
              "400");
    EXPECT_EQ(server.error, Error::invalid_argument);
    Peer old = world.connect(80);
    old.send(get(up + by + key + "Sec-WebSocket-Version: 8\r\n") + upgrade());
    const auto again = [&] { return old.received().find(" 101 ") != std::string::npos; };
    EXPECT_TRUE(world.run_until(again)) << "it may ask again";
    EXPECT_EQ(old.received().substr(0, 12), "HTTP/1.1 426");
    EXPECT_NE(old.received().find("\r\nSec-WebSocket-Version: 13\r\n"), std::string::npos);
    EXPECT_EQ(server.record.handlers, 1);
}

TEST(WebSocket, subprotocols_and_origins) {
    World world;
    AcceptOptions options;
    options.protocols = "chat.v2, chat.v1";
    Server server(world, options);
    const auto with = [](const std::string& more) {
        return upgrade(key + "Sec-WebSocket-Version: 13\r\n" + more);
    };
    const auto chosen = [&](const std::string& offered) {
        Peer peer = world.connect(80);
        peer.send(with(offered));
        world.advance(1s);
        const std::string field = "Sec-WebSocket-Protocol: ";
        const std::size_t at = peer.received().find(field);
        if (at == std::string::npos) return std::string(server.record.last->protocol());
        const std::string name = peer.received().substr(at + field.size(), 7);
        EXPECT_EQ(name, server.record.last->protocol());
        return name;
    };
    EXPECT_EQ(chosen("Sec-WebSocket-Protocol: chat.v1, chat.v2\r\n"), "chat.v2");
    EXPECT_EQ(chosen("Sec-WebSocket-Protocol: x,chat.v1\r\n"), "chat.v1");
    EXPECT_EQ(chosen("Sec-WebSocket-Protocol: x\r\nSec-WebSocket-Protocol: chat.v1\r\n"),
              "chat.v1");
    EXPECT_EQ(chosen("Sec-WebSocket-Protocol: CHAT.V1, x\r\n"), "");
    EXPECT_EQ(chosen("Sec-WebSocket-Extensions: permessage-deflate\r\n"), "");
    EXPECT_EQ(status_of(world, with("Origin: http://server.example.com\r\n")), "101");
    EXPECT_EQ(status_of(world, with("Origin: https://SERVER.example.com:443\r\n")), "101");
    EXPECT_EQ(status_of(world, with("Origin: http://evil.example.com\r\n")), "403");
    EXPECT_EQ(status_of(world, with("Origin: http://server.example.com:8080\r\n")), "403");
    EXPECT_EQ(status_of(world, with("Origin: null\r\n")), "403");
    EXPECT_EQ(
        status_of(world, with("Origin: http://server.example.com\r\nOrigin: http://evil\r\n")),
        "403");
}

// Another protocol, and a handler that asks for it in every wrong way before the right one.
struct Plain {
    void received(whorl::Stream& stream, Buffer buffer) { stream.write(std::move(buffer)); }
};
struct Misuse {
    std::vector<Error>* errors;
    void request(Exchange& exchange) {
        const std::string_view path = exchange.request().path;
        const Field good{"Upgrade", "plain"}, bad{"Upgrade", "a\r\nb"};
        const auto upgrade_with = [&](const Field& field) {
            errors->push_back(exchange.upgrade(&field, 1, Plain{}));
        };
        if (path == "/answered") exchange.respond({200});
        if (path == "/malformed") upgrade_with(bad);
        if (path == "/aborted") {
            exchange.abort();
            errors->push_back(whorl::web_socket::accept(exchange, Echo(none)));
        }
        upgrade_with(good);
        if (!errors->back()) upgrade_with(good);
    }
    inline static Record none;
};

TEST(WebSocket, an_upgrade_is_refused_with_its_reason) {
    World world;
    Loop& loop = world.add_loop();
    std::vector<Error> errors;
    const auto make = [&](const whorl::Accepted&) { return Misuse{&errors}; };
    ASSERT_TRUE(whorl::http::serve(loop, Address::loopback_v4(80), make));
    const auto ask = [&](const std::string& path, const std::string& more = "",
                         const std::string& version = "1.1") {
        errors.clear();
        Peer peer = world.connect(80);
        peer.send("GET " + path + " HTTP/" + version + "\r\nHost: a\r\nConnection: upgrade\r\n" +
                  key + "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" + more +
                  "\r\nbehind");
        world.advance(1s);
        return peer.received();
    };
    const std::string switched =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: plain\r\n\r\n";
    EXPECT_EQ(ask("/"), switched + "behind");
    EXPECT_EQ(errors, (std::vector<Error>{Error(), Error::stale_handle})) << "it has gone";
    EXPECT_EQ(ask("/malformed"), switched + "behind");
    EXPECT_EQ(errors[0], Error::invalid_argument);
    ask("/answered");
    EXPECT_EQ(errors, std::vector<Error>{Error::invalid_argument});
    ask("/", "Content-Length: 6\r\n");
    EXPECT_EQ(errors, std::vector<Error>{Error::invalid_argument});
    ask("/", "", "1.0");
    EXPECT_EQ(errors, std::vector<Error>{Error::invalid_argument});
    EXPECT_EQ(ask("/aborted"), "");
    EXPECT_EQ(errors, (std::vector<Error>{Error::stale_handle, Error::stale_handle}));
    EXPECT_EQ(Misuse::none.handlers + Misuse::none.closed, 0);
}

// --- Conversations

const std::string talk = frame(text, "one") + part(binary, "tw") + frame(ping, "p") +
                         frame(more, "o") + frame(pong, "q") + frame(text, "") +
                         frame(text, "ping") + close_frame(1000, "bye");
const std::string answer = server_frame(text, "one") + server_frame(pong, "p") +
                           server_frame(binary, "two") + server_frame(text, "") +
                           server_frame(ping, "you?") + server_frame(closing, "\x03\xe8");
const std::string heard = "T(one)P(p)B(two)O(q)T()T(ping)[clean 1000/1000 bye]";

TEST(WebSocket, a_conversation_for_every_cut) {
    const std::string all = upgrade() + talk;
    for (const bool late : {false, true}) {
        for (std::size_t cut = 0; cut <= all.size(); ++cut) {
            World world;
            Server server(world, {}, late);
            Peer peer = world.connect(80);
            peer.send(all.substr(0, cut));
            world.advance(700ms);
            peer.send(all.substr(cut));
            ASSERT_TRUE(world.run_until([&] { return peer.ended(); })) << cut;
            ASSERT_EQ(peer.received(), accepted + answer) << cut;
            peer.close();
            ASSERT_TRUE(world.run_until([&] { return server.record.closed == 1; })) << cut;
            ASSERT_EQ(server.record.said, heard) << cut;
            ASSERT_EQ(server.record.handlers, 0);
        }
    }
}

TEST(WebSocket, a_reset_at_every_byte_leaves_nothing_behind) {
    const std::string all = upgrade() + talk;
    for (std::uint64_t bytes = 1; bytes <= all.size(); ++bytes) {
        World world;
        Server server(world);
        Peer peer = world.connect(80);
        peer.reset_after(bytes);
        peer.send(all);
        EXPECT_TRUE(world.run_until([&] { return peer.was_reset(); }));
        world.advance(10s);
        EXPECT_EQ(server.record.handlers, 0) << bytes;
        EXPECT_EQ(server.record.closed, server.record.accepted) << bytes;
        EXPECT_EQ(whorl::stream_statistics(server.loop).streams, 0u);
        EXPECT_EQ(whorl::stream_statistics(server.loop).bytes, 0u);
        EXPECT_EQ(world.descriptors(), 1u);
    }
}

struct Outcome {
    std::string sent, said;
};
// What the server sends after its handshake, and what its handler has heard.
Outcome outcome(const std::string& frames, const AcceptOptions& options = {}, bool finish = false) {
    World world;
    Server server(world, options);
    Peer peer = world.connect(80);
    peer.send(upgrade() + frames);
    if (finish) peer.finish_sending();
    world.advance(20s);
    EXPECT_EQ(server.record.closed, server.record.accepted);
    return {peer.received().substr(std::min(accepted.size(), peer.received().size())),
            server.record.said};
}
std::string ends(unsigned code) { return std::string{char(code >> 8), char(code & 0xFF)}; }

TEST(WebSocket, ends_and_their_codes) {
    const auto sent_code = [](const Outcome& got) {
        const auto at = got.sent.size() < 4 ? std::string::npos : got.sent.find('\x88');
        return at == std::string::npos ? std::string() : got.sent.substr(at + 2, 2);
    };
    const std::string malformed = Error(Error::frame_malformed).text();
    Outcome got = outcome(frame(text, "\xff"));
    EXPECT_EQ(sent_code(got), ends(1007));
    EXPECT_EQ(got.said, "[broken 1006/1007 " + malformed + "]");
    got = outcome(frame(3, ""));
    EXPECT_EQ(sent_code(got), ends(1002));
    got = outcome(frame(text, "x", {true, 0, false}));
    EXPECT_EQ(sent_code(got), ends(1002));
    AcceptOptions small;
    small.limits.message_max = 10;
    got = outcome(frame(text, "01234567890"), small);
    EXPECT_EQ(sent_code(got), ends(1009));
    EXPECT_EQ(got.said,
              std::string("[broken 1006/1009 ") + Error(Error::frame_too_large).text() + "]");
    got = outcome(frame(closing, ""));
    EXPECT_EQ(got.sent, server_frame(closing, ""));
    EXPECT_EQ(got.said, "[clean 1005/1005]");
    got = outcome(frame(closing, "x"));
    EXPECT_EQ(sent_code(got), ends(1002));
    const std::string truncated = Error(Error::frame_truncated).text();
    EXPECT_EQ(outcome(frame(text, "a"), {}, true).said, "T(a)[broken 1006/0 " + truncated + "]");
    EXPECT_EQ(outcome(part(text, "a"), {}, true).said, "[broken 1006/0 " + truncated + "]");
    EXPECT_EQ(outcome(frame(text, "abort")).said,
              std::string("T(abort)[broken 1006/0 ") + Error(Error::cancelled).text() + "]");
}

TEST(WebSocket, our_close_waits_for_the_peers_and_not_for_ever) {
    const std::string ours = server_frame(closing, ends(4000) + "as asked");
    Outcome got = outcome(frame(text, "close") + frame(text, "late") + close_frame(4000));
    EXPECT_EQ(got.sent, ours);
    EXPECT_EQ(got.said, "T(close)[clean 4000/4000]");
    got = outcome(frame(text, "close"));
    EXPECT_EQ(got.sent, ours);
    EXPECT_EQ(got.said,
              std::string("T(close)[broken 1006/4000 ") + Error(Error::timed_out).text() + "]");
}

TEST(WebSocket, a_peer_that_is_gone_is_found_and_one_that_answers_is_kept) {
    World world;
    Server server(world);
    Peer dead = world.connect(80), alive = world.connect(80);
    dead.send(upgrade());
    alive.send(upgrade());
    world.advance(31s);
    EXPECT_EQ(dead.received(), accepted + server_frame(ping, ""));
    alive.send(frame(pong, ""));
    world.advance(31s);
    EXPECT_TRUE(dead.was_reset());
    EXPECT_FALSE(alive.was_reset());
    EXPECT_EQ(server.record.said,
              std::string("O()[broken 1006/0 ") + Error(Error::timed_out).text() + "]");
    // What is paused is not asked.
    alive.send(frame(text, "pause"));
    world.advance(300s);
    EXPECT_FALSE(alive.was_reset());
    server.record.last->resume();
    world.advance(100s);
    EXPECT_TRUE(alive.was_reset());
    EXPECT_EQ(server.record.closed, 2);
}

TEST(WebSocket, pausing_holds_back_what_was_received_already) {
    World world;
    Server server(world);
    Peer peer = world.connect(80);
    peer.send(upgrade() + frame(text, "a") + frame(text, "pause") + frame(text, "b") +
              close_frame(1000));
    world.advance(5s);
    EXPECT_EQ(server.record.said, "T(a)T(pause)");
    server.record.last->resume();
    world.advance(10s);
    EXPECT_EQ(server.record.said, "T(a)T(pause)T(b)[clean 1000/1000]");
}

TEST(WebSocket, large_messages_and_the_watermark) {
    World world;
    Server server(world);
    Peer peer = world.connect(80);
    std::string large(3'000'000, ' ');
    for (std::size_t at = 0; at < large.size(); ++at) large[at] = static_cast<char>('a' + at % 23);
    peer.send(upgrade() + frame(binary, large));
    std::string fragments;
    for (std::size_t at = 0; at < large.size(); at += 50'000) {
        fragments += frame(at == 0 ? text : more, std::string_view(large).substr(at, 50'000),
                           {at + 50'000 == large.size()});
    }
    peer.send(fragments);
    EXPECT_TRUE(
        world.run_until([&] { return peer.received().size() >= accepted.size() + 2 * 3'000'010; }));
    EXPECT_TRUE(peer.received() ==
                accepted + server_frame(binary, large) + server_frame(text, large));
    // One that sends and does not read: the queue stays at what one received buffer more makes of it.
    peer.stop_reading();
    server.record.queued_high = 0;
    const std::string piece = frame(binary, std::string(10'000, 'x'));
    for (int count = 0; count < 500; ++count) peer.send(piece);
    world.advance(5s);
    EXPECT_LT(server.record.queued_high, (256u << 10) + (64u << 10) + 10'010u);
    EXPECT_FALSE(peer.sent_all());
    const std::size_t before = peer.received().size();
    peer.read_on();
    EXPECT_TRUE(world.run_until([&] { return peer.received().size() == before + 500u * 10'004u; }));
}

#if defined(__cpp_exceptions)
TEST(WebSocket, a_handler_may_throw) {
    World world;
    Server server(world);
    Peer peer = world.connect(80);
    peer.send(upgrade() + frame(text, "throw") + frame(text, "late"));
    EXPECT_THROW(world.advance(10s), int);
    world.advance(10s);
    EXPECT_TRUE(peer.was_reset());
    EXPECT_EQ(server.record.said,
              std::string("T(throw)[broken 1006/0 ") + Error(Error::handler_threw).text() + "]");
    EXPECT_EQ(server.record.handlers, 0);
}
#endif

// --- The example

TEST(WebSocketExample, echoes_for_every_cut_and_survives_every_reset) {
    const std::string all =
        upgrade() + frame(text, "one") + part(binary, "tw") + frame(more, "o") + close_frame(1000);
    const std::string said = accepted + server_frame(text, "one") + server_frame(binary, "two") +
                             server_frame(closing, "\x03\xe8");
    World world;
    Loop& loop = world.add_loop();
    WebEchoServer server;
    ASSERT_FALSE(server.start(loop, Address::loopback_v4(80)));
    for (std::size_t cut = 1; cut <= all.size(); ++cut) {
        Peer reset = world.connect(80);
        reset.reset_after(cut);
        reset.send(all);
        Peer peer = world.connect(80);
        peer.send(all.substr(0, cut));
        world.advance(100ms);
        peer.send(all.substr(cut));
        ASSERT_TRUE(world.run_until([&] { return peer.ended(); }));
        ASSERT_EQ(peer.received(), said) << cut;
    }
    Peer page = world.connect(80);
    page.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    world.advance(10s);
    EXPECT_NE(page.received().find("Speak WebSocket"), std::string::npos);
    EXPECT_EQ(whorl::stream_statistics(loop).streams, 1u);
}

// Large messages to a peer that reads late: it is paused, and goes on.
TEST(WebSocketExample, waits_for_a_peer_that_reads_late) {
    World world;
    Loop& loop = world.add_loop();
    WebEchoServer server;
    ASSERT_FALSE(server.start(loop, Address::loopback_v4(80)));
    Peer peer = world.connect(80);
    peer.send(upgrade());
    world.advance(1s);
    peer.stop_reading();
    const std::string payload(100'000, 'x');
    for (int count = 0; count < 30; ++count) peer.send(frame(text, payload));
    world.advance(5s);
    EXPECT_FALSE(peer.sent_all());
    EXPECT_LT(whorl::stream_statistics(loop).bytes_high, 1u << 20);
    peer.read_on();
    const std::size_t all = accepted.size() + 30 * server_frame(text, payload).size();
    EXPECT_TRUE(world.run_until([&] { return peer.received().size() == all; }));
}

}  // namespace
