// SPDX-License-Identifier: MIT
// Goal: an exchange is answered once, in every order of calls that a handler may make, inside its callbacks and
// later; what does not belong into an answer is 500; with the loop's pool empty answers come as before.
// Method: a handler that does what the test says, and what a peer then reads.
#include "http/site.hpp"
#include "world/names.hpp"

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace {

using namespace world_names;
using namespace http_tests;
using whorl::LoopOptions;
using whorl::Nanoseconds;
using whorl::http::ServerOptions;

struct Acts {
    std::function<void(Exchange&)> request, complete;
    std::function<void(Exchange&, Bytes)> body;
    int gone = 0, completed = 0;
};
struct Actor {
    Acts* acts;
    void request(Exchange& exchange) { acts->request(exchange); }
    void body(Exchange& exchange, Bytes piece) {
        if (acts->body) acts->body(exchange, piece);
    }
    void complete(Exchange& exchange) {
        ++acts->completed;
        if (acts->complete) acts->complete(exchange);
    }
    void gone(Exchange&) { ++acts->gone; }
};

struct Stage {
    explicit Stage(const ServerOptions& options = {}, const LoopOptions& of_loop = {})
        : loop(world.add_loop(of_loop)) {
        const auto make = [this](const whorl::Accepted&) { return Actor{&acts}; };
        world.check(whorl::http::serve(loop, Address::loopback_v4(80), make, options).has_value(),
                    "opens");
    }
    // What comes back, without the line that names the date.
    std::string answer(const std::string& sent = "GET / HTTP/1.1\r\nHost: a\r\n\r\n") {
        Peer peer = world.connect(80);
        peer.send(sent);
        world.advance(5s);
        std::string got = peer.received();
        for (std::size_t at = 0; (at = got.find("Date: ", at)) != std::string::npos;) {
            got.erase(at, got.find("\r\n", at) + 2 - at);
        }
        peer.close();
        world.advance(10s);
        return got;
    }
    std::string answer_of(std::function<void(Exchange&)> request,
                          const std::string& sent = "GET / HTTP/1.1\r\nHost: a\r\n\r\n") {
        acts.request = std::move(request);
        return answer(sent);
    }
    World world;
    Acts acts;
    Loop& loop;
};

const std::string ok = "HTTP/1.1 200 OK\r\n";
const std::string head_of_500 =
    "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

TEST(HttpAnswer, one_and_no_more) {
    Stage stage;
    EXPECT_EQ(stage.answer_of([](Exchange& exchange) {
        EXPECT_FALSE(exchange.write("too early"));
        exchange.end();
        EXPECT_FALSE(exchange.begun());
        EXPECT_TRUE(exchange.respond({200}, "one"));
        EXPECT_TRUE(exchange.begun());
        EXPECT_FALSE(exchange.respond({201}, "two"));
        EXPECT_FALSE(exchange.respond({201}, whorl::adopt(std::string(20'000, 'x'))));
        EXPECT_FALSE(exchange.begin({202}));
        EXPECT_FALSE(exchange.begin({202}, 3));
        EXPECT_FALSE(exchange.write("three"));
        EXPECT_FALSE(exchange.write(whorl::adopt(std::string("four"))));
        exchange.end();
        EXPECT_FALSE(exchange.later());
        exchange.pause();
        exchange.resume();
    }),
              ok + "Content-Length: 3\r\n\r\none");
    EXPECT_EQ(stage.answer_of([](Exchange& exchange) {
        EXPECT_TRUE(exchange.begin({200}));
        EXPECT_FALSE(exchange.respond({201}, "two"));
        EXPECT_TRUE(exchange.write(""));
        EXPECT_TRUE(exchange.write(Buffer()));
        EXPECT_TRUE(exchange.write("ab"));
        EXPECT_TRUE(exchange.write(whorl::adopt(std::string(20, 'x'))));
        exchange.end();
        exchange.end();
        EXPECT_FALSE(exchange.write("late"));
    }),
              ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n14\r\n" + std::string(20, 'x') +
                  "\r\n0\r\n\r\n");
    EXPECT_EQ(stage.acts.gone, 0);
}

TEST(HttpAnswer, a_body_of_its_size) {
    Stage stage;
    const std::string large(20'000, 'x');
    EXPECT_EQ(stage.answer_of([&](Exchange& exchange) {
        EXPECT_TRUE(exchange.respond({200}, whorl::adopt(std::string(large))));
    }),
              ok + "Content-Length: 20000\r\n\r\n" + large);
    EXPECT_EQ(stage.answer_of([](Exchange& exchange) {
        EXPECT_TRUE(exchange.respond({200}, whorl::adopt(std::string("small"))));
    }),
              ok + "Content-Length: 5\r\n\r\nsmall");
    EXPECT_EQ(stage.answer_of([](Exchange& exchange) {
        EXPECT_TRUE(exchange.begin({200}, 4));
        EXPECT_TRUE(exchange.write(whorl::adopt(std::string("abcdef"))));
        exchange.end();
    }),
              ok + "Content-Length: 4\r\n\r\nabcd");
    // Without bodies: what is written is not sent, whatever was said of its size.
    const std::string head = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    EXPECT_EQ(stage.answer_of(
                  [&](Exchange& exchange) {
                      EXPECT_TRUE(exchange.respond({200}, whorl::adopt(std::string(large))));
                  },
                  head),
              ok + "Content-Length: 20000\r\n\r\n");
    EXPECT_EQ(stage.answer_of(
                  [](Exchange& exchange) {
                      EXPECT_TRUE(exchange.begin({200}));
                      EXPECT_TRUE(exchange.write("abc"));
                      EXPECT_TRUE(exchange.write(whorl::adopt(std::string("abc"))));
                      exchange.end();
                  },
                  head),
              ok + "Transfer-Encoding: chunked\r\n\r\n");
    // Who knows no chunks gets it until the end.
    EXPECT_EQ(stage.answer_of(
                  [](Exchange& exchange) {
                      EXPECT_TRUE(exchange.begin({200}));
                      EXPECT_TRUE(exchange.write("abc"));
                      EXPECT_TRUE(exchange.write(whorl::adopt(std::string("def"))));
                      exchange.end();
                  },
                  "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"),
              ok + "Connection: close\r\n\r\nabcdef");
    EXPECT_EQ(stage.answer_of([](Exchange& exchange) { EXPECT_TRUE(exchange.respond({200}, "a")); },
                              "GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"),
              ok + "Content-Length: 1\r\nConnection: keep-alive\r\n\r\na");
}

TEST(HttpAnswer, what_does_not_belong_into_one_is_500) {
    Stage stage;
    const auto answered = [&](const Answer& answer) {
        return stage.answer_of(
            [&](Exchange& exchange) { EXPECT_FALSE(exchange.respond(answer, "x")); });
    };
    for (const std::uint16_t status : {0, 100, 199, 600, 999}) {
        EXPECT_EQ(answered({status}), head_of_500) << status;
    }
    EXPECT_EQ(answered({200, "text/plain\r\nX: y"}), head_of_500);
    for (const Field& bad : {Field{"", "x"}, Field{"a b", "x"}, Field{"X", "a\r\nb"}}) {
        EXPECT_EQ(answered({200, {}, &bad, 1}), head_of_500);
    }
    const Field good{"X", "y"};
    EXPECT_EQ(stage
                  .answer_of([&](Exchange& exchange) {
                      EXPECT_TRUE(exchange.respond({599, "a/b", &good, 1}, "x"));
                  })
                  .substr(0, 12),
              "HTTP/1.1 599");
}

// The same outside of every callback.
TEST(HttpAnswer, later) {
    Stage stage;
    std::optional<whorl::http::Later> first, second;
    const auto later = [&](std::function<void(Exchange&)> answers) {
        return stage.answer_of([&, answers](Exchange& exchange) {
            first.emplace(exchange.later());
            EXPECT_TRUE(*first);
            second.emplace(exchange.later());
            EXPECT_FALSE(*first) << "there is one at a time";
            EXPECT_TRUE(*second);
            EXPECT_TRUE(exchange.loop().after(1s, [&, answers](Loop&, whorl::Expired) {
                answers(**second);
                EXPECT_FALSE(*second) << "the answer has ended";
            }));
        });
    };
    EXPECT_EQ(later([](Exchange& exchange) { EXPECT_TRUE(exchange.respond({200}, "a")); }),
              ok + "Content-Length: 1\r\n\r\na");
    EXPECT_EQ(later([](Exchange& exchange) {
                  EXPECT_TRUE(exchange.begin({200}, 2));
                  EXPECT_TRUE(exchange.write("ab"));
                  exchange.end();
              }),
              ok + "Content-Length: 2\r\n\r\nab");
    EXPECT_EQ(later([](Exchange& exchange) {
                  EXPECT_TRUE(exchange.begin({200}));
                  EXPECT_TRUE(exchange.write("ab"));
                  exchange.end();
              }),
              ok + "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n");
    EXPECT_EQ(later([](Exchange& exchange) {
                  EXPECT_TRUE(exchange.respond({200}, whorl::adopt(std::string(20'000, 'x'))));
              }),
              ok + "Content-Length: 20000\r\n\r\n" + std::string(20'000, 'x'));
    EXPECT_EQ(later([](Exchange& exchange) { EXPECT_FALSE(exchange.respond({99}, "a")); }),
              head_of_500);
    EXPECT_EQ(stage.acts.gone, 0);
}

TEST(HttpAnswer, nothing_after_an_abort) {
    Stage stage;
    EXPECT_EQ(stage.answer_of([](Exchange& exchange) {
        exchange.abort();
        EXPECT_FALSE(exchange.respond({200}, "a"));
        EXPECT_FALSE(exchange.begin({200}));
        EXPECT_FALSE(exchange.write("a"));
        exchange.end();
    }),
              "");
    EXPECT_EQ(stage.answer_of([](Exchange& exchange) {
        EXPECT_TRUE(exchange.begin({200}, 10));
        exchange.abort();
        EXPECT_FALSE(exchange.write("0123456789"));
        exchange.end();
        exchange.pause();
    }),
              "");
    EXPECT_EQ(stage.acts.gone, 2);
}

TEST(HttpAnswer, times_of_zero_are_for_ever) {
    ServerOptions options;
    options.idle = options.head = options.body = options.answer = Nanoseconds::zero();
    Stage stage(options);
    stage.acts.request = [](Exchange&) {};
    stage.acts.complete = [](Exchange& exchange) { exchange.respond({200}, "a"); };
    Peer peer = stage.world.connect(80);
    const std::string request = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    for (const char sign : request) {
        stage.world.advance(1h);
        peer.send({&sign, 1});
    }
    stage.world.advance(1h);
    EXPECT_NE(peer.received().find("\r\n\r\na"), std::string::npos);
    stage.world.advance(24h);
    EXPECT_FALSE(peer.ended() || peer.was_reset());
}

// The rest of a body whose answer has been given is awaited no longer than a body.
TEST(HttpAnswer, a_rest_that_does_not_come_is_not_waited_for) {
    Stage stage;
    stage.acts.request = [](Exchange& exchange) { exchange.respond({200}, "a"); };
    Peer peer = stage.world.connect(80);
    peer.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na");
    stage.world.advance(19s);
    EXPECT_NE(peer.received().find("\r\n\r\na"), std::string::npos);
    EXPECT_FALSE(peer.ended() || peer.was_reset());
    stage.world.advance(10s);
    EXPECT_TRUE(peer.ended() || peer.was_reset());
    EXPECT_EQ(stage.acts.gone, 0) << "it was answered";
}

// All of the loop's pool, for as long as it lives.
std::vector<Buffer> all_of_the_pool(Loop& loop) {
    std::vector<Buffer> all;
    for (std::size_t size = 65536; size >= 64; size /= 2) {
        while (Buffer buffer = loop.buffer(size)) all.push_back(std::move(buffer));
    }
    return all;
}

TEST(HttpAnswer, an_empty_pool_is_no_reason_not_to_answer) {
    LoopOptions small;
    small.buffer_bytes_max = 1 << 20;
    small.recv_buffer_size = 4096;
    small.recv_ring_depth = 8;
    Stage stage({}, small);
    const auto with_all = [](auto answers) {
        return [answers](Exchange& exchange) {
            const std::vector<Buffer> all = all_of_the_pool(exchange.loop());
            EXPECT_GT(all.size(), 10u);
            EXPECT_FALSE(exchange.loop().buffer(64));
            answers(exchange);
        };
    };
    EXPECT_EQ(stage.answer_of(with_all(
                  [](Exchange& exchange) { EXPECT_TRUE(exchange.respond({200}, "answer")); })),
              ok + "Content-Length: 6\r\n\r\nanswer");
    EXPECT_EQ(stage.answer_of(with_all([](Exchange& exchange) {
        EXPECT_TRUE(exchange.begin({200}, 6));
        EXPECT_TRUE(exchange.write("answer"));
        exchange.end();
    })),
              ok + "Content-Length: 6\r\n\r\nanswer");
    struct Plain {
        void received(whorl::Stream& stream, Buffer buffer) { stream.write(std::move(buffer)); }
    };
    EXPECT_EQ(stage.answer_of(with_all([](Exchange& exchange) {
                                  const Field plain{"Upgrade", "plain"};
                                  EXPECT_FALSE(exchange.upgrade(&plain, 1, Plain{}));
                              }),
                              "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: "
                              "plain\r\n\r\nbehind"),
              "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: plain\r\n\r\n"
              "behind");
}

TEST(HttpAnswer, a_loop_without_room_for_a_timer_ends_the_connection) {
    LoopOptions few;
    few.ops_max = 64;
    Stage stage({}, few);
    stage.acts.request = [](Exchange& exchange) { exchange.respond({200}, "a"); };
    for (std::size_t spare = 0; spare < 8; ++spare) {
        std::vector<whorl::Timer> timers;
        for (;;) {
            const auto timer = stage.loop.after(1h, [](Loop&, whorl::Expired) {});
            if (!timer) break;
            timers.push_back(*timer);
        }
        ASSERT_GT(timers.size(), 8u);
        for (std::size_t count = 0; count < spare; ++count) {
            ASSERT_TRUE(stage.loop.cancel(timers.back()));
            timers.pop_back();
        }
        const std::string got = stage.answer();
        EXPECT_TRUE(got.empty() || got == ok + "Content-Length: 1\r\n\r\na") << got;
        for (const whorl::Timer timer : timers) ASSERT_TRUE(stage.loop.cancel(timer));
        stage.world.advance(10s);
        EXPECT_EQ(stage.answer(), ok + "Content-Length: 1\r\n\r\na") << "and then all is well";
        EXPECT_EQ(whorl::stream_statistics(stage.loop).streams, 0u);
    }
}

}  // namespace
