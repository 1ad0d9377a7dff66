// SPDX-License-Identifier: MIT
// Goal: the server answers every request in its order and in the form that the request allows, refuses what
// is malformed, and holds its deadlines, however the bytes are cut and whenever the peer goes away.
// Method: conversations in simulated worlds, cut and reset at every byte, and in harsh ones.
#include "http/site.hpp"
#include "world/names.hpp"

#include <algorithm>
#include <vector>

namespace {

using namespace world_names;
using namespace http_tests;
using whorl::http::ServerOptions;

struct Stage {
    explicit Stage(World& given, const ServerOptions& options = {},
                   const whorl::LoopOptions& on = {})
        : world(given), loop(given.add_loop(on)) {
        const auto make = [this](const whorl::Accepted&) { return Site(record); };
        world.check(whorl::http::serve(loop, Address::loopback_v4(80), make, options).has_value(),
                    "the site opens");
    }
    ~Stage() { world.remove_loop(loop); }  // whose handlers count in the record
    Stage(const Stage&) = delete;
    Stage& operator=(const Stage&) = delete;
    // Everything that the server says to `text`, without the dates, until it is quiet or has ended.
    std::string answers(const std::string& text) {
        Peer peer = world.connect(80);
        peer.send(text);
        world.advance(3s);
        return dateless(peer.received());
    }
    static std::string dateless(std::string text) {
        for (std::size_t at; (at = text.find("Date: ")) != std::string::npos;) text.erase(at, 37);
        return text;
    }

    World& world;
    Record record;
    Loop& loop;
};

std::string get(const std::string& path, const std::string& more = "") {
    return "GET " + path + " HTTP/1.1\r\nHost: a\r\n" + more + "\r\n";
}
std::string post(const std::string& path, const std::string& body, const std::string& more = "") {
    return "POST " + path +
           " HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
           more + "\r\n" + body;
}
std::string ok(const std::string& body, const std::string& more = "") {
    return "HTTP/1.1 200 OK\r\n" + more + "Content-Length: " + std::to_string(body.size()) +
           "\r\n\r\n" + body;
}
const std::string plain = "Content-Type: text/plain\r\n";
const std::string closes = "Connection: close\r\n\r\n";

TEST(HttpServer, answers) {
    World world;
    Stage stage(world);
    const auto says = [&](const std::string& text) { return stage.answers(text); };
    EXPECT_EQ(says(get("/hello")), ok("hello\n", plain));
    EXPECT_EQ(says("HEAD /hello HTTP/1.1\r\nHost: a\r\n\r\n"),
              "HTTP/1.1 200 OK\r\n" + plain + "Content-Length: 6\r\n\r\n");
    EXPECT_EQ(says(get("/nothing")), "HTTP/1.1 204 No Content\r\n\r\n");
    EXPECT_EQ(says(get("/old")), "HTTP/1.1 304 Not Modified\r\n\r\n");
    EXPECT_EQ(says(get("/query?a=b")), ok("a=b"));
    EXPECT_EQ(says(get("/later?q")), ok("late: q"));
    EXPECT_EQ(says(get("/counted")), ok("0123456789"));
    EXPECT_EQ(says(get("/last") + get("/hello")),
              "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n" + closes + "bye");
    EXPECT_EQ(says(get("/hello", "Connection: close\r\n") + get("/hello")),
              "HTTP/1.1 200 OK\r\n" + plain + "Content-Length: 6\r\n" + closes + "hello\n");
    EXPECT_EQ(says(get("/split")),
              "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n" + closes);
    EXPECT_EQ(says(post("/store", "abc")), "HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nabc");
    EXPECT_EQ(says(get("/large")), ok(std::string(100'000, 'x')));
    EXPECT_EQ(stage.record.gone, 0);
}

TEST(HttpServer, chunks_both_ways) {
    World world;
    Stage stage(world);
    const std::string head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    const std::string up = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    EXPECT_EQ(stage.answers(up + "3\r\nabc\r\n0\r\nT: v\r\n\r\n" + get("/hello")),
              head + "3\r\nabc\r\n0\r\n\r\n" + ok("hello\n", plain));
    EXPECT_EQ(stage.answers("HEAD /echo HTTP/1.1\r\nHost: a\r\n\r\n" + get("/hello")),
              head + ok("hello\n", plain));
    // HTTP/1.0 knows no chunks: the end of the connection is the end of the body.
    EXPECT_EQ(stage.answers("POST /echo HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: "
                            "3\r\n\r\nabc"),
              "HTTP/1.1 200 OK\r\n" + closes + "abc");
    EXPECT_EQ(stage.answers("GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
              "HTTP/1.1 200 OK\r\n" + plain +
                  "Content-Length: 6\r\nConnection: keep-alive\r\n\r\nhello\n");
}

TEST(HttpServer, expectations) {
    World world;
    Stage stage(world);
    const std::string expect = "Expect: 100-continue\r\n";
    const std::string go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    Peer peer = world.connect(80);
    const std::string request = post("/store", "abc", expect);
    peer.send(request.substr(0, request.size() - 3));
    EXPECT_TRUE(world.run_until([&] { return peer.received() == go_on; }));
    peer.send("abc");
    world.advance(1s);
    EXPECT_EQ(Stage::dateless(peer.received()),
              go_on + "HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nabc");
    // The answer instead of it: whether the body follows, nobody knows.
    EXPECT_EQ(stage.answers(post("/hello", "abc", expect)),
              "HTTP/1.1 200 OK\r\n" + plain + "Content-Length: 6\r\n" + closes + "hello\n");
    EXPECT_EQ(stage.answers(post("/store", "", expect)),
              "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
    // A handler that waits keeps the peer waiting.
    Peer waits = world.connect(80);
    waits.send(post("/pause", "abc", expect));
    world.advance(99s);
    EXPECT_EQ(waits.received(), "");
    world.advance(2s);
    EXPECT_EQ(Stage::dateless(waits.received()),
              go_on + "HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nabc");
}

std::string refusal(const std::string& status, const std::string& more = "") {
    return "HTTP/1.1 " + status + "\r\nContent-Length: 0\r\nConnection: close\r\n" + more + "\r\n";
}

TEST(HttpServer, refusals) {
    World world;
    ServerOptions options;
    options.limits.body_max = 10;
    options.limits.head_max = 2000;
    options.limits.line_max = 1000;
    options.length_required = true;
    options.methods = whorl::http::bit_of(Method::get) | whorl::http::bit_of(Method::post);
    Stage stage(world, options);
    const std::string fine = get("/hello");
    const auto says = [&](const std::string& text) {
        const std::string all = stage.answers(fine + text);
        const std::string first = ok("hello\n", plain);
        return all.compare(0, first.size(), first) == 0 ? all.substr(first.size()) : "not in order";
    };
    EXPECT_EQ(says("GET / HTTP/1.1\r\n\r\n"), refusal("400 Bad Request"));
    EXPECT_EQ(says("PUT / HTTP/1.1\r\nHost: a\r\n\r\n"),
              refusal("405 Method Not Allowed", "Allow: GET,POST\r\n"));
    EXPECT_EQ(says("BREW / HTTP/1.1\r\nHost: a\r\n\r\n"), refusal("501 Not Implemented"));
    EXPECT_EQ(says("POST / HTTP/1.1\r\nHost: a\r\n\r\n"), refusal("411 Length Required"));
    EXPECT_EQ(says(post("/", "0123456789a")), refusal("413 Content Too Large"));
    EXPECT_EQ(says(get("/" + std::string(1000, 'x'))), refusal("414 URI Too Long"));
    EXPECT_EQ(says(get("/", "X: " + std::string(2000, 'x') + "\r\n")),
              refusal("431 Request Header Fields Too Large"));
    EXPECT_EQ(says(get("/", "Expect: tea\r\n")), refusal("417 Expectation Failed"));
    EXPECT_EQ(says("GET / HTTP/3.0\r\nHost: a\r\n\r\n"), refusal("505 HTTP Version Not Supported"));
    EXPECT_EQ(stage.record.gone, 0);
    // In the middle of a request that the handler knows of.
    const std::string chunked =
        "POST /store HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    EXPECT_EQ(says(chunked + "x\r\n"), refusal("400 Bad Request"));
    EXPECT_EQ(says(chunked + "b\r\n0123456789a\r\n"), refusal("413 Content Too Large"));
    world.advance(10s);
    EXPECT_EQ(stage.record.gone, 2);
    // An answer that was given before its request turned out to be bad is not lost with it.
    EXPECT_EQ(says("POST /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"),
              ok("hello\n", plain));
    EXPECT_EQ(stage.record.gone, 2);
}

TEST(HttpServer, pipelined_requests_are_answered_in_order_for_every_cut) {
    const std::string text = get("/later?1") + post("/store", "abc") + get("/hello") +
                             "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                             "5\r\nhello\r\n0\r\n\r\n" +
                             get("/later?2");
    std::string first;
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
        World world;
        Stage stage(world);
        Peer peer = world.connect(80);
        peer.send(text.substr(0, cut));
        world.advance(700ms);
        peer.send(text.substr(cut));
        world.advance(5s);
        std::string got = Stage::dateless(peer.received());
        // Chunks may be cut where the bytes were.
        if (cut == 0) first = got;
        if (got.find("5\r\nhello\r\n") == std::string::npos) {
            got.erase(got.find("chunked\r\n\r\n") + 11, 16 - 1);
            EXPECT_NE(got.find("0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 7"), std::string::npos);
        } else {
            ASSERT_EQ(got, first) << cut;
        }
        ASSERT_EQ(stage.record.requests, 5) << cut;
        ASSERT_EQ(stage.record.bodies, ";abc;hello;;") << cut;
    }
    EXPECT_EQ(first, ok("late: 1") + "HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nabc" +
                         ok("hello\n", plain) +
                         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
                         "0\r\n\r\n" +
                         ok("late: 2"));
}

TEST(HttpServer, a_reset_at_every_byte_leaves_nothing_behind) {
    const std::string text = get("/hello") + post("/store", "abc") + get("/later?1") + get("/big");
    for (std::uint64_t bytes = 1; bytes <= text.size(); ++bytes) {
        World world;
        Stage stage(world);
        Peer peer = world.connect(80);
        peer.reset_after(bytes);
        peer.send(text);
        EXPECT_TRUE(world.run_until([&] { return peer.was_reset(); }));
        world.advance(3s);
        EXPECT_EQ(stage.record.handlers, 0) << bytes;
        EXPECT_EQ(whorl::stream_statistics(stage.loop).streams, 0u);
        EXPECT_EQ(whorl::stream_statistics(stage.loop).bytes, 0u);
        EXPECT_EQ(world.descriptors(), 1u);
        EXPECT_LE(stage.record.late, stage.record.gone);
    }
}

TEST(HttpServer, a_peer_that_goes_away_is_told) {
    World world;
    Stage stage(world);
    Peer peer = world.connect(80);
    peer.send(get("/later?1") + get("/hello"));
    EXPECT_TRUE(world.run_until([&] { return stage.record.requests == 1; }));
    peer.reset();
    EXPECT_TRUE(world.run_until([&] { return stage.record.gone == 1; }));
    EXPECT_EQ(stage.record.late, 0);
    world.advance(1s);
    EXPECT_EQ(stage.record.late, 1);
    EXPECT_EQ(stage.record.requests, 1);
    // One that only ends its side gets its answer.
    Peer half = world.connect(80);
    half.send(get("/later?2")).finish_sending();
    EXPECT_TRUE(world.run_until([&] { return half.ended(); }));
    EXPECT_NE(half.received().find("late: 2"), std::string::npos);
    EXPECT_EQ(stage.record.gone, 1);
    Peer cut = world.connect(80);
    cut.send("POST /store HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc").finish_sending();
    EXPECT_TRUE(world.run_until([&] { return stage.record.gone == 2; }));
    // An answer that is shorter than it said must not look whole.
    Peer short_one = world.connect(80);
    short_one.send(get("/short"));
    EXPECT_TRUE(world.run_until([&] { return short_one.was_reset(); }));
}

TEST(HttpServer, deadlines) {
    World world;
    Stage stage(world);
    Peer quiet = world.connect(80);
    Peer slow_head = world.connect(80);
    Peer slow_body = world.connect(80);
    Peer slow_second = world.connect(80);
    Peer unanswered = world.connect(80);
    unanswered.send(get("/never"));
    slow_body.send("POST /store HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n");
    slow_second.send(get("/hello"));
    slow_head.send("G");
    world.advance(1s);
    // A byte a second holds nobody open.
    for (int count = 0; count < 30; ++count) {
        slow_head.send("E");
        slow_body.send("x");
        if (count > 5) slow_second.send("G");
        world.advance(1s);
        EXPECT_EQ(slow_head.received().empty(), count < 8 || slow_head.received().empty());
    }
    const auto says = [](const Peer& peer, const char* what) {
        return peer.received().find(what) != std::string::npos && peer.ended();
    };
    EXPECT_TRUE(says(slow_head, "HTTP/1.1 408 "));
    EXPECT_TRUE(says(slow_body, "HTTP/1.1 408 "));
    EXPECT_TRUE(says(slow_second, "hello\nHTTP/1.1 408 "));
    EXPECT_FALSE(quiet.ended());
    world.advance(40s);
    EXPECT_TRUE(quiet.ended());
    EXPECT_EQ(quiet.received(), "");
    EXPECT_TRUE(says(unanswered, "HTTP/1.1 503 "));
    world.advance(6s);
    EXPECT_EQ(stage.record.handlers, 0);
    EXPECT_EQ(stage.record.gone, 2);
    // A body that comes at a fair rate may take as long as it likes.
    Peer steady = world.connect(80);
    steady.send("POST /store HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n");
    for (int count = 0; count < 100; ++count) {
        steady.send(std::string(2000, 'x'));
        world.advance(1s);
    }
    EXPECT_NE(steady.received().find("201 Created"), std::string::npos);
}

TEST(HttpServer, a_peer_that_does_not_read_holds_little_memory) {
    World world;
    Stage stage(world);
    Peer peer = world.connect(80);
    peer.stop_reading();
    for (int count = 0; count < 10; ++count) peer.send(get("/big"));
    world.advance(20s);
    EXPECT_LE(whorl::stream_statistics(stage.loop).bytes_high, std::size_t{300} << 10);
    EXPECT_EQ(stage.record.requests, 1);
    peer.read_on();
    world.advance(20s);
    EXPECT_EQ(stage.record.requests, 10);
    EXPECT_GE(peer.received().size(), 10 * Site::big_pieces * Site::big_piece);
    EXPECT_EQ(peer.received().substr(peer.received().size() - 7), "\r\n0\r\n\r\n");
    // One that never reads on is ended.
    Peer deaf = world.connect(80);
    deaf.stop_reading();
    deaf.send(get("/big"));
    world.advance(100s);
    EXPECT_EQ(stage.record.gone, 1);
}

TEST(HttpServer, what_nobody_wants_is_read_for_a_while) {
    World world;
    Stage stage(world);
    EXPECT_EQ(stage.answers(post("/hello", std::string(1000, 'x')) + get("/query?z")),
              ok("hello\n", plain) + ok("z"));
    EXPECT_EQ(stage.answers(post("/hello", std::string(100'000, 'x')) + get("/query?z")),
              ok("hello\n", plain));
    const std::string chunked =
        "POST /hello HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    EXPECT_EQ(stage.answers(chunked + "20000\r\n" + std::string(0x20000, 'x') + "\r\n0\r\n\r\n" +
                            get("/query?z")),
              ok("hello\n", plain));
    EXPECT_EQ(stage.record.gone, 0);
}

void in_a_harsh_world(World& world) {
    whorl::LoopOptions options;
    if (world.draw(2) != 0)
        options.backend = whorl::Backend::io_uring;  // its driver, on a simulated ring
    Stage stage(world, {}, options);
    const std::uint32_t before = world.descriptors();
    std::vector<Peer> peers;
    std::vector<std::string> sent;
    for (int index = 0; index < 4; ++index) {
        std::string text;
        for (std::uint32_t count = world.draw(8); count > 0; --count) {
            switch (world.draw(6)) {
                case 0:
                    text += get("/hello");
                    break;
                case 1:
                    text += post("/store", std::string(world.draw(3000), 'x'));
                    break;
                case 2:
                    text += get("/later?1");
                    break;
                case 3:
                    text += post("/pause", "abc");
                    break;
                case 4:
                    text += get("/big");
                    break;
                default:
                    text += get("/nothing");
                    break;
            }
        }
        if (world.draw(4) == 0) text += "broken\r\n\r\n";
        Peer peer = world.connect(80);
        if (world.draw(3) == 0) peer.reset_after(world.draw(5000));
        if (world.draw(4) == 0) peer.stop_reading();
        peer.send(text);
        if (world.draw(2) == 0) peer.finish_sending();
        peers.push_back(peer);
        sent.push_back(text);
    }
    world.options().operation_error = world.draw(2) == 0 ? 0 : 0.02;
    world.advance(10s);
    world.options().operation_error = 0;
    world.advance(15min);
    for (Peer& peer : peers) peer.close();
    world.advance(10s);
    const Record& record = stage.record;
    world.check(record.handlers == 0, "a handler is left behind");
    world.check(whorl::stream_statistics(stage.loop).streams == 0, "a stream is left behind");
    world.check(whorl::stream_statistics(stage.loop).bytes == 0, "bytes are left behind");
    world.check(world.descriptors() == before, "more than the listener is left");
    world.check(record.gone <= record.requests, "gone without having been there");
}

TEST(HttpServer, in_thousand_harsh_worlds) {
    const Found found = explore(in_a_harsh_world);
    EXPECT_FALSE(found.failed) << found.text();
}

TEST(HttpServer, the_loop_may_be_destroyed_at_any_time) {
    for (int steps = 0; steps < 40; ++steps) {
        World world;
        Record record;
        Loop& loop = world.add_loop();
        ASSERT_TRUE(whorl::http::serve(loop, Address::loopback_v4(80),
                                       [&](const whorl::Accepted&) { return Site(record); }));
        Peer peer = world.connect(80);
        peer.send(get("/hello") + get("/later?1") + get("/big"));
        world.advance(std::chrono::milliseconds(steps * 20));
        world.remove_loop(loop);
        EXPECT_EQ(record.handlers, 0);
    }
}

}  // namespace
