// SPDX-License-Identifier: MIT
// Goal: what a client sends is what it was told to, to nobody else and not twice; what servers send that is
// no answer, or too much, is told apart; what cannot begin says so at once. Method: simulated worlds, with
// servers written by hand, and loops without room.
#include "http/asking.hpp"

#include <functional>
#include <utility>
#include <vector>

namespace {

using namespace client_tests;
using whorl::LoopOptions;
using whorl::Nanoseconds;
using whorl::Result;
using whorl::Timer;

const std::string ok = "HTTP/1.1 200 OK\r\n";
bool has_head(const Peer& peer) { return peer.received().find("\r\n\r\n") != std::string::npos; }

Buffer copied(std::string_view text) { return Buffer::copy_of(Bytes(text)); }

// What a server hears.
std::string heard(Asking& asking, Ask ask) {
    Peer server = asking.world.accept(81);
    Got got;
    EXPECT_FALSE(asking.client->fetch(std::move(ask), got.handler()));
    EXPECT_TRUE(asking.world.run_until([&] { return has_head(server); }));
    asking.world.advance(10ms);
    server.send(ok + "Content-Length: 0\r\nConnection: close\r\n\r\n");
    EXPECT_TRUE(asking.world.run_until([&] { return got.calls != 0; }));
    EXPECT_EQ(got.status, 200) << got.error.name();
    return server.received();
}

TEST(HttpClientRules, says_what_it_was_told_to) {
    World world;
    Asking asking(world);
    const std::string host = " HTTP/1.1\r\nHost: 127.0.0.1:81\r\n";
    EXPECT_EQ(heard(asking, Ask{"http://127.0.0.1:81"}), "GET /" + host + "\r\n");
    EXPECT_EQ(heard(asking, Ask{"http://127.0.0.1:81?q#f"}), "GET /?q" + host + "\r\n");
    EXPECT_EQ(heard(asking, Ask{"http://127.0.0.1:81/a", Method::head}), "HEAD /a" + host + "\r\n");
    EXPECT_EQ(heard(asking, Ask{"http://127.0.0.1:81/a", Method::remove}),
              "DELETE /a" + host + "Content-Length: 0\r\n\r\n");
    const Field fields[] = {{"X-One", "1"}, {"X-Two", ""}};
    Ask post{"http://127.0.0.1:81/a", Method::post, "text/plain", fields, 2, copied("abc")};
    EXPECT_EQ(
        heard(asking, std::move(post)),
        "POST /a" + host +
            "X-One: 1\r\nX-Two: \r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc");
    Ask get{"http://127.0.0.1:81/a", Method::get, {}, fields, 1, copied("abc")};
    EXPECT_EQ(heard(asking, std::move(get)),
              "GET /a" + host + "X-One: 1\r\nContent-Length: 3\r\n\r\nabc");
    for (const Field& bad : {Field{"", "x"}, Field{"a b", "x"}, Field{"X", "a\nb"}}) {
        EXPECT_EQ(asking.fetch(Ask{"http://127.0.0.1/", Method::get, {}, &bad, 1}).error,
                  Error::invalid_argument);
    }
    EXPECT_EQ(asking.fetch(Ask{"http://127.0.0.1/", Method::post, "text\r\nX: y"}).error,
              Error::invalid_argument);
    EXPECT_EQ(asking.fetch(Ask{"http://127.0.0.1/", Method::connect}).error,
              Error::invalid_argument);
    EXPECT_EQ(asking.fetch(Ask{"http://127.0.0.1/", Method::other}).error, Error::invalid_argument);
    EXPECT_EQ(asking.get("http://127.0.0.1:/").error, Error::from_errno(ECONNREFUSED))
        << "an empty port is the scheme's own";
}

struct Followed {
    Got got;
    std::string here, there;  // what either server heard after the answer
};
// A server answers with `status` and `where`; then it, or another one, with 200.
Followed followed(Ask ask, int status, const std::string& where) {
    World world;
    Asking asking(world);
    Peer first = world.accept(81), second = world.accept(82);
    Followed seen;
    EXPECT_FALSE(asking.client->fetch(std::move(ask), seen.got.handler()));
    EXPECT_TRUE(world.run_until([&] { return has_head(first); }));
    world.advance(10ms);
    first.take();
    const std::string location = where.empty() ? "" : "Location: " + where + "\r\n";
    first.send("HTTP/1.1 " + std::to_string(status) + " See\r\nContent-Length: 0\r\n" + location +
               "\r\n");
    const auto done = [&] { return seen.got.calls != 0 || has_head(first) || has_head(second); };
    EXPECT_TRUE(world.run_until(done));
    seen.here = first.received();
    seen.there = second.received();
    first.send(ok + "Content-Length: 0\r\n\r\n");
    if (second.connected()) second.send(ok + "Content-Length: 0\r\n\r\n");
    EXPECT_TRUE(world.run_until([&] { return seen.got.calls != 0; }));
    first.close();
    second.close();
    world.advance(20s);
    EXPECT_EQ(seen.got.calls, 1);
    return seen;
}

TEST(HttpClientRules, which_answers_are_followed_and_what_is_said_there) {
    const char* const url = "http://127.0.0.1:81/from";
    for (const int status : {301, 302, 303, 307, 308}) {
        const Followed seen = followed(Ask{url}, status, "/");
        EXPECT_EQ(seen.got.status, 200) << status;
        EXPECT_EQ(seen.got.redirects, 1u);
        EXPECT_EQ(seen.here, "GET / HTTP/1.1\r\nHost: 127.0.0.1:81\r\n\r\n");
    }
    EXPECT_EQ(followed(Ask{url, Method::head}, 302, "/to").here,
              "HEAD /to HTTP/1.1\r\nHost: 127.0.0.1:81\r\n\r\n");
    for (const int status : {300, 305, 306, 404}) {
        EXPECT_EQ(followed(Ask{url}, status, "/to").got.status, status);
    }
    for (const char* where : {"", "to", "?to", "//127.0.0.1:82/", "ftp://127.0.0.1:82/"}) {
        EXPECT_EQ(followed(Ask{url}, 302, where).got.status, 302) << where;
    }
    // What changes something is not asked for twice, nor what has a body.
    EXPECT_EQ(followed(Ask{url, Method::post}, 302, "/to").got.status, 302);
    EXPECT_EQ(followed(Ask{url, Method::get, {}, nullptr, 0, copied("abc")}, 302, "/to").got.status,
              302);
    // What was meant for one host is not told another.
    const Field secret{"Authorization", "Basic secret"};
    const Ask with{url, Method::get, {}, &secret, 1};
    const auto again = [&] { return Ask{with.url, with.method, {}, with.fields, 1}; };
    EXPECT_EQ(followed(again(), 302, "/to").here,
              "GET /to HTTP/1.1\r\nHost: 127.0.0.1:81\r\nAuthorization: Basic secret\r\n\r\n");
    const Followed other = followed(again(), 302, "http://127.0.0.1:82/to");
    EXPECT_EQ(other.there, "GET /to HTTP/1.1\r\nHost: 127.0.0.1:82\r\n\r\n");
    EXPECT_EQ(other.got.status, 200);
}

TEST(HttpClientRules, an_answer_that_nobody_asked_for_is_not_the_next) {
    World world;
    Asking asking(world);
    Peer first = world.accept(81);
    Got got;
    ASSERT_FALSE(asking.client->get("http://127.0.0.1:81/", got.handler()));
    ASSERT_TRUE(world.run_until([&] { return has_head(first); }));
    first.send(ok + "Content-Length: 1\r\n\r\n1");
    ASSERT_TRUE(world.run_until([&] { return got.calls == 1; }));
    EXPECT_EQ(asking.client->idle(), 1u);
    first.send(ok + "Content-Length: 5\r\n\r\nfalse");
    EXPECT_TRUE(world.run_until([&] { return first.was_reset(); }));
    EXPECT_EQ(asking.client->idle(), 0u);
    EXPECT_EQ(asking.answered(ok + "Content-Length: 4\r\n\r\ntrue").body, "true");
}

TEST(HttpClientRules, what_is_too_much_and_what_changes_the_protocol) {
    World world;
    Asking asking(world);
    const std::string much(40'000, 'x');
    EXPECT_EQ(asking.answered(ok + "X: " + much + "\r\n\r\n").error, Error::frame_too_large);
    EXPECT_EQ(asking.answered("HTTP/1.1 200 " + much + "\r\n\r\n").error, Error::frame_too_large);
    std::string many;
    for (int count = 0; count < 300; ++count) many += "X: y\r\n";
    EXPECT_EQ(asking.answered(ok + many + "\r\n").error, Error::frame_too_large);
    EXPECT_EQ(asking.answered("HTTP/1.1 20x OK\r\n\r\n").error, Error::frame_malformed);
    const Got switched = asking.answered(
        "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nraw", false);
    EXPECT_EQ(switched.status, 101);
    EXPECT_EQ(switched.body, "");
    EXPECT_EQ(asking.client->idle(), 0u);
}

// A connection that is kept, and what becomes of a second question on it.
Got second_on_a_kept(Method method, const std::string& answer) {
    World world;
    Asking asking(world);
    Peer server = world.accept(81);
    Got first, second;
    world.check(!asking.client->get("http://127.0.0.1:81/", first.handler()), "asks");
    world.run_until([&] { return has_head(server); });
    server.take();
    server.send(ok + "Content-Length: 0\r\n\r\n");
    world.run_until([&] { return first.calls != 0; });
    EXPECT_EQ(asking.client->idle(), 1u);
    Peer other = world.accept(81);
    world.check(!asking.client->fetch(Ask{"http://127.0.0.1:81/", method}, second.handler()),
                "asks again");
    world.run_until([&] { return has_head(server); });
    if (!answer.empty()) server.send(answer);
    world.advance(10ms);
    server.reset();
    world.advance(10ms);
    if (other.connected()) other.send(ok + "Content-Length: 0\r\n\r\n");
    world.check(world.run_until([&] { return second.calls != 0; }), "nobody answers");
    other.close();
    world.advance(20s);
    EXPECT_EQ(second.calls, 1);
    return second;
}

TEST(HttpClientRules, only_what_may_be_asked_twice_is) {
    EXPECT_EQ(second_on_a_kept(Method::get, "").status, 200);
    EXPECT_EQ(second_on_a_kept(Method::head, "").status, 200);
    const Error reset = Error::from_errno(ECONNRESET);
    EXPECT_EQ(second_on_a_kept(Method::post, "").error, reset);
    EXPECT_EQ(second_on_a_kept(Method::put, "").error, reset);
    EXPECT_EQ(second_on_a_kept(Method::get, "HTTP/1.1 2").error, reset) << "an answer has begun";
}

TEST(HttpClientRules, for_ever_is_for_ever) {
    World world;
    ClientOptions options;
    options.total = Nanoseconds::zero();
    Asking asking(world, options);
    Peer server = world.accept(81);
    Got got;
    ASSERT_FALSE(asking.client->get("http://127.0.0.1:81/", got.handler()));
    world.advance(24h);
    EXPECT_EQ(got.calls, 0);
    server.send(ok + "Content-Length: 2\r\n\r\nab");
    EXPECT_TRUE(world.run_until([&] { return got.calls == 1; }));
    EXPECT_EQ(got.body, "ab");
}

TEST(HttpClientRules, a_question_is_timed_out_while_it_connects) {
    World world;
    Asking asking(world);
    world.partition();
    Got got;
    ASSERT_FALSE(asking.client->get("http://127.0.0.1:81/", got.handler()));
    world.advance(31s);
    EXPECT_EQ(got.calls, 1);
    EXPECT_EQ(got.error, Error::timed_out);
    EXPECT_EQ(asking.loop.statistics().operations, 0u);
    EXPECT_EQ(world.descriptors(), 0u);
}

TEST(HttpClientRules, more_connections_than_are_kept_are_closed) {
    World world;
    ClientOptions options;
    options.idle_max = 2;
    Asking asking(world, options);
    asking.serve();
    Got got[5];
    for (Got& each : got) {
        ASSERT_FALSE(asking.client->get("http://127.0.0.1/later?1", each.handler()));
    }
    world.advance(5s);
    for (const Got& each : got) EXPECT_EQ(each.body, "late: 1");
    EXPECT_EQ(asking.connections, 5);
    EXPECT_EQ(asking.client->idle(), 2u);
}

// A loop that has room for so many more operations: a question says at once that there is none, or has its
// one outcome.
TEST(HttpClientRules, a_loop_without_room_says_so) {
    int refused = 0, answered = 0;
    for (std::uint32_t spare = 0; spare < 12; ++spare) {
        World world;
        Peer server = world.accept(81);
        LoopOptions options;
        options.ops_max = 64;
        Loop& loop = world.add_loop(options);
        Result<Client> client = Client::create(loop);
        ASSERT_TRUE(client);
        std::vector<Timer> timers;
        for (;;) {
            const Result<Timer> timer = loop.after(1h, [](Loop&, whorl::Expired) {});
            if (!timer) break;
            timers.push_back(*timer);
        }
        ASSERT_GT(timers.size(), 12u);
        for (std::uint32_t count = 0; count < spare; ++count) {
            ASSERT_TRUE(loop.cancel(timers.back()));
            timers.pop_back();
        }
        Got got;
        Ask ask{"http://127.0.0.1:81/", Method::post};
        ask.body = copied("abc");
        const Error error = client->fetch(std::move(ask), got.handler());
        if (error) {
            EXPECT_EQ(error, Error::slots_exhausted) << error.name();
            ++refused;
        } else {
            world.advance(1s);
            if (server.connected()) server.send(ok + "Content-Length: 0\r\n\r\n");
            world.advance(40s);
            if (!got.error) ++answered;
        }
        EXPECT_EQ(got.calls, error ? 0 : 1) << spare;
        world.advance(1min);
        for (const Timer timer : timers) EXPECT_TRUE(loop.cancel(timer));
        EXPECT_EQ(whorl::stream_statistics(loop).streams, client->idle());
    }
    EXPECT_GE(refused, 2) << "without room for the timer, and for the connection";
    EXPECT_GT(answered, 0);
}

TEST(HttpClientRules, a_loop_that_drains_asks_nothing_more) {
    World world;
    Result<Loop> loop = world.make_loop();
    ASSERT_TRUE(loop);
    Result<Client> client = Client::create(*loop);
    ASSERT_TRUE(client);
    Peer silent = world.accept(81);
    Error first, second;
    int calls = 0;
    ASSERT_FALSE(client->get("http://127.0.0.1:81/", [&](Loop&, Fetched& fetched) {
        ++calls;
        first = fetched.error;
        second = client->get("http://127.0.0.1:81/", [&](Loop&, Fetched&) { ++calls; });
    }));
    ASSERT_FALSE(loop->drain(1s));
    EXPECT_EQ(first, Error::loop_closed) << first.name();
    EXPECT_EQ(second, Error::loop_closed) << second.name();
    EXPECT_EQ(calls, 1);
}

}  // namespace
