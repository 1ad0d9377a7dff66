// SPDX-License-Identifier: MIT
// Goal: a WebSocket client connects, talks, refuses what is no answer, and ends exactly once.
// Method: our server, and answers written by hand, in simulated worlds, quiet and harsh.
#include "http/web_socket_tools.hpp"

#include <string>
#include <utility>
#include <vector>

namespace {

using namespace web_tests;

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

TEST(WebSocketClient, and_our_server) {
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

TEST(WebSocketClient, refuses_what_is_no_answer) {
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

// Asks once more when it is told of the end: the loop drains.
struct Again {
    Error* error;
    void message(Connection&, Kind, Buffer) {}
    void closed(Connection& connection, const Ended& ended) {
        EXPECT_EQ(ended.error, Error::loop_closed);
        *error =
            whorl::web_socket::connect(connection.loop(), "ws://127.0.0.1/", Again{error}).error();
    }
};

TEST(WebSocketClient, is_refused_at_once) {
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
    whorl::Result<Loop> drains = world.make_loop();
    Error error_of_drain;
    ASSERT_TRUE(whorl::web_socket::connect(*drains, "ws://127.0.0.1/", Again{&error_of_drain}));
    ASSERT_FALSE(drains->drain(1s));
    EXPECT_EQ(error_of_drain, Error::loop_closed);
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

TEST(WebSocketClient, breaks_off_at_any_time) {
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

TEST(WebSocketClient, in_harsh_worlds) {
    int clean = 0;
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
        if (record.said.find("[clean 1000/1000]") != std::string::npos) ++clean;
    }
    EXPECT_GT(clean, 30);
}

TEST(WebSocketClient, the_loop_may_be_destroyed_at_any_time) {
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

}  // namespace
