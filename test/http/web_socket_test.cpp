// SPDX-License-Identifier: MIT
// Goal: WebSocket connections between our server, our client and peers of any kind: handshakes, messages,
// pings and ends, however the bytes are cut and whenever the peer goes away; `closed` exactly once.
// Method: conversations in simulated worlds, cut and reset at every byte, and in harsh ones.
#include "web_socket_echo.hpp"

#include "http/web_frames.hpp"
#include "world/names.hpp"

#include <whorl/web_socket.hpp>

#include <algorithm>
#include <string>
#include <utility>

namespace {

using namespace world_names;
using namespace web_tests;
using whorl::Buffer;
using whorl::http::Exchange;
using whorl::http::Field;
using whorl::web_socket::AcceptOptions;
using whorl::web_socket::Connection;
using whorl::web_socket::ConnectOptions;
using whorl::web_socket::Ended;
using whorl::web_socket::Kind;

// What has happened on one side, of all connections.
struct Record {
    std::string said;
    int accepted = 0;
    int opened = 0;
    int closed = 0;
    int handlers = 0;  // alive
    std::size_t gathered_high = 0;
    std::size_t queued_high = 0;
    Connection* last = nullptr;
};

struct Count {
    explicit Count(Record& record) : record_(&record) { ++record.handlers; }
    Count(Count&& other) noexcept : record_(std::exchange(other.record_, nullptr)) {}
    Count& operator=(Count&&) = delete;
    ~Count() {
        if (record_ != nullptr) --record_->handlers;
    }

  private:
    Record* record_;
};

std::string text_of(const Ended& ended) {
    std::string said = ended.clean ? "clean " : "broken ";
    said += std::to_string(ended.code) + '/' + std::to_string(ended.sent);
    if (!ended.reason.empty()) said += ' ' + std::string(ended.reason);
    if (ended.error) said += std::string(" ") + ended.error.text();
    if (ended.status != 0) said += " status " + std::to_string(ended.status);
    return said;
}

// Says back what it hears, and does what some texts say.
struct Echo {
    explicit Echo(Record& given) : record(&given), count(given) {}
    Record* record;
    Count count;

    void opened(Connection& connection) {
        ++record->opened;
        record->last = &connection;
    }
    void message(Connection& connection, Kind kind, Buffer message) {
        if (message.size() < 200)
            record->said += quoted(kind == Kind::text ? "T" : "B", message.text());
        if (message.text() == "close") return connection.close(4000, "as asked");
        if (message.text() == "abort") return connection.abort();
        if (message.text() == "ping") return void(connection.ping(Bytes(std::string_view("you?"))));
        if (message.text() == "pause") connection.pause();
        connection.send(kind, std::move(message));
        record->queued_high = std::max(record->queued_high, connection.queued());
    }
    void ping(Connection& connection, Bytes payload) {
        record->said += quoted("P", payload.text());
        record->gathered_high = std::max(record->gathered_high, connection.gathered());
    }
    void pong(Connection&, Bytes payload) { record->said += quoted("O", payload.text()); }
    void closed(Connection& connection, const Ended& ended) {
        ++record->closed;
        record->said += '[' + text_of(ended) + ']';
        if (record->last == &connection) record->last = nullptr;
    }
};

struct Door {
    Record* record;
    AcceptOptions options;
    Error* error;
    bool late = false;
    void request(Exchange& exchange) {
        if (exchange.request().path == "/hello") return void(exchange.respond({200}, "hello"));
        if (!late) return accept(exchange);
        auto wait = [later = exchange.later(), this](Loop&, whorl::Expired) {
            if (later) accept(*later);
        };
        (void)exchange.loop().after(1s, std::move(wait));
    }
    void accept(Exchange& exchange) {
        Record& to = *record;  // this is gone with a late accept
        Error& result = *error;
        result = whorl::web_socket::accept(exchange, Echo(to), options);
        if (!result) ++to.accepted;
    }
};

struct Server {
    explicit Server(World& given, const AcceptOptions& options = {}, bool late = false,
                    const whorl::AcceptorOptions& acceptor = {})
        : world(given), loop(given.add_loop()) {
        const auto make = [this, options, late](const whorl::Accepted&) {
            return Door{&record, options, &error, late};
        };
        world.check(
            whorl::http::serve(loop, Address::loopback_v4(80), make, {}, acceptor).has_value(),
            "the server opens");
    }
    ~Server() { world.remove_loop(loop); }  // whose handlers count in the record
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    World& world;
    Record record;
    Error error;
    Loop& loop;
};

const std::string key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
std::string upgrade(const std::string& more = key + "Sec-WebSocket-Version: 13\r\n") {
    return "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n"
           "Connection: Upgrade\r\n" +
           more + "\r\n";
}
const std::string accepted =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

std::string server_frame(unsigned opcode, std::string_view payload) {
    return frame(opcode, payload, {true, 0, false});
}

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

// --- Our client, beside our server

struct Talker {
    explicit Talker(Record& given) : record(&given), count(given) {}
    Record* record;
    Count count;
    void opened(Connection& connection) {
        ++record->opened;
        record->last = &connection;
        record->said += '<' + std::string(connection.protocol()) + '>';
        connection.send_text("hello");
        connection.send(Kind::binary, Buffer::of_static(Bytes(std::string_view("static"))));
        connection.send(Kind::binary, Buffer::copy_of(Bytes(std::string_view(big))));
    }
    void message(Connection& connection, Kind kind, Buffer message) {
        if (message.size() == big.size()) {
            record->said += message.text() == big ? "B(big)" : "B(changed)";
            return connection.close();
        }
        record->said += quoted(kind == Kind::text ? "T" : "B", message.text());
    }
    void closed(Connection&, const Ended& ended) {
        ++record->closed;
        record->said += '[' + text_of(ended) + ']';
    }
    inline static const std::string big = std::string(70'000, 'x');
};

ConnectOptions seeded() {
    ConnectOptions options;
    options.seed = 1;
    return options;
}

TEST(WebSocket, our_client_and_our_server) {
    World world;
    AcceptOptions accept;
    accept.protocols = "b, a";
    Server server(world, accept);
    Loop& loop = world.add_loop();
    Record record;
    ConnectOptions options = seeded();
    options.protocols = "a, b";
    const Field field{"Origin", "http://127.0.0.1"};
    options.fields = &field;
    options.fields_count = 1;
    ASSERT_TRUE(whorl::web_socket::connect(loop, "ws://127.0.0.1/chat?x", Talker(record), options));
    EXPECT_TRUE(world.run_until([&] { return record.closed == 1 && server.record.closed == 1; }));
    EXPECT_EQ(record.said, "<b>T(hello)B(static)B(big)[clean 1000/1000]");
    EXPECT_EQ(server.record.said, "T(hello)B(static)[clean 1000/1000]");
    EXPECT_EQ(record.handlers + server.record.handlers, 0);
}

// A server that answers whatever it is asked with this text.
struct Parrot {
    std::string answer;
    std::string* request;
    void received(whorl::Stream& stream, Buffer buffer) {
        request->append(buffer.text());
        if (request->find("\r\n\r\n") != std::string::npos) stream.write(answer);
    }
};

// What our client makes of a server's answer.
std::string client_says(const std::string& text_of_answer, std::string request = {}) {
    World world;
    Loop& loop = world.add_loop();
    Record record;
    const auto make = [&](const whorl::Accepted&) { return Parrot{text_of_answer, &request}; };
    EXPECT_TRUE(whorl::serve(loop, Address::loopback_v4(81), make));
    ConnectOptions options = seeded();
    options.protocols = "a, b";
    EXPECT_TRUE(whorl::web_socket::connect(loop, "ws://127.0.0.1:81", Talker(record), options));
    world.advance(60s);
    EXPECT_EQ(record.closed, 1);
    EXPECT_EQ(record.handlers, 0);
    EXPECT_EQ(whorl::stream_statistics(loop).streams, 0u);
    return text_of_answer.empty() ? request : record.said;
}

TEST(WebSocket, our_client_refuses_what_is_no_answer) {
    const auto broken = [](Error error, const std::string& more = "") {
        return std::string("[broken 1006/0 ") + error.text() + more + "]";
    };
    EXPECT_EQ(client_says("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
              broken(Error::from_errno(ECONNREFUSED), " status 404"));
    EXPECT_EQ(client_says("nonsense\r\n\r\n"), broken(Error::frame_malformed));
    EXPECT_EQ(client_says(accepted), broken(Error::frame_malformed)) << "another key";
    // The answer to this client's key, as our server gives it, and then changed.
    const std::string request = client_says("");
    std::string right;
    {
        World world;
        Server server(world);
        Peer peer = world.connect(80);
        peer.send(request);
        world.advance(1s);
        right = peer.received();
    }
    const auto with = [&](const std::string& field) {
        return right.substr(0, right.size() - 2) + field + "\r\n";
    };
    const auto without = [&](const std::string& field) {
        std::string less = right;
        return less.erase(right.find(field), field.size());
    };
    const std::string bye = server_frame(closing, "\x03\xe8");
    EXPECT_EQ(client_says(right + bye), "<>[clean 1000/1000]");
    EXPECT_EQ(client_says("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + right + bye),
              "<>[clean 1000/1000]");
    EXPECT_EQ(client_says(with("Sec-WebSocket-Protocol: b\r\n") + bye), "<b>[clean 1000/1000]");
    EXPECT_EQ(client_says(with("Sec-WebSocket-Protocol: c\r\n")), broken(Error::frame_malformed));
    EXPECT_EQ(client_says(with("Sec-WebSocket-Extensions: permessage-deflate\r\n")),
              broken(Error::frame_malformed));
    EXPECT_EQ(client_says(without("Upgrade: websocket\r\n")), broken(Error::frame_malformed));
    EXPECT_EQ(client_says(without("Connection: Upgrade\r\n")), broken(Error::frame_malformed));
    EXPECT_EQ(client_says("HTTP/1.1 101"), broken(Error::timed_out)) << "and then nothing";
    EXPECT_EQ(client_says(right + frame(text, "masked")),
              std::string("<>[broken 1006/1002 ") + Error(Error::frame_malformed).text() + "]");
}

TEST(WebSocket, our_client_is_refused_at_once) {
    World world;
    Loop& loop = world.add_loop();
    Record record;
    const auto error = [&](const char* url, const ConnectOptions& options) {
        return whorl::web_socket::connect(loop, url, Talker(record), options).error();
    };
    EXPECT_EQ(error("http://127.0.0.1/", {}), Error::invalid_argument);
    EXPECT_EQ(error("wss://127.0.0.1/", {}), Error::invalid_argument) << "without a layer";
    EXPECT_EQ(error("ws://", {}), Error::invalid_argument);
    ConnectOptions options;
    options.protocols = "a{";
    EXPECT_EQ(error("ws://127.0.0.1/", options), Error::invalid_argument);
    const Field field{"X", "a\r\nb"};
    options = {};
    options.fields = &field;
    options.fields_count = 1;
    EXPECT_EQ(error("ws://127.0.0.1/", options), Error::invalid_argument);
    EXPECT_EQ(record.handlers, 0);
    EXPECT_EQ(record.closed, 0);
    // Nobody is there: `closed` says so.
    const auto made =
        whorl::web_socket::connect(loop, "ws://127.0.0.1:9/", Talker(record), seeded());
    ASSERT_TRUE(made);
    EXPECT_FALSE((*made)->send_text("too early"));
    EXPECT_TRUE(world.run_until([&] { return record.closed == 1; }));
    EXPECT_EQ(record.said,
              std::string("[broken 1006/0 ") + Error::from_errno(ECONNREFUSED).text() + "]");
    EXPECT_EQ(record.handlers, 0);
}

TEST(WebSocket, our_client_breaks_off_at_any_time) {
    for (int delay = 0; delay < 40; ++delay) {
        World world;
        Server server(world);
        Loop& loop = world.add_loop();
        Record record;
        const auto made =
            whorl::web_socket::connect(loop, "ws://127.0.0.1/", Talker(record), seeded());
        ASSERT_TRUE(made);
        world.advance(std::chrono::microseconds(delay * 20));
        if (record.closed == 0) {
            if (delay % 2 == 0) (*made)->close();
            else (*made)->abort();
        }
        world.advance(30s);
        EXPECT_EQ(record.closed, 1) << delay;
        EXPECT_EQ(record.handlers + server.record.handlers, 0) << delay;
        EXPECT_EQ(server.record.accepted, server.record.closed) << delay;
        EXPECT_EQ(whorl::stream_statistics(loop).streams, 0u);
    }
}

// The client's connection is reset, or nothing more comes, after every number of bytes.
TEST(WebSocket, our_client_for_every_cut_of_the_answer) {
    for (std::uint64_t seed = 1; seed <= 300; ++seed) {
        World world(seed);
        Server server(world);
        Loop& loop = world.add_loop();
        Record record;
        (void)whorl::web_socket::connect(loop, "ws://127.0.0.1/", Talker(record), seeded());
        world.advance(300s);
        ASSERT_LE(record.closed, 1);
        ASSERT_EQ(record.handlers + server.record.handlers, 0) << seed;
        ASSERT_EQ(server.record.accepted, server.record.closed) << seed;
        ASSERT_EQ(record.said.find("changed"), std::string::npos) << seed;
    }
}

TEST(WebSocket, the_loop_may_be_destroyed_at_any_time) {
    for (int delay = 0; delay < 40; ++delay) {
        World world;
        Record record;
        {
            Server server(world);
            Loop& loop = world.add_loop();
            ASSERT_TRUE(
                whorl::web_socket::connect(loop, "ws://127.0.0.1/", Talker(record), seeded()));
            world.advance(std::chrono::microseconds(delay * 20));
            world.remove_loop(loop);
            EXPECT_EQ(record.handlers, 0);
        }
    }
}

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
