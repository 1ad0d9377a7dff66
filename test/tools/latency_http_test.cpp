// SPDX-License-Identifier: MIT
// Goal: as an HTTP/1.1 client whorl-latency asks what it was told to, counts each answer once with its
// status, keeps connections as long as the server does, and names what is not HTTP.
// Method: client and server in a simulated world; the server's answers are written out.
#include <algorithm>

#include "latency/report.hpp"
#include "latency_world.hpp"

namespace latency_test {
namespace {

struct Reply {
    std::string text;
    bool close = false;  // the server's end of the connection, after it
};

Reply ok() { return {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"}; }

// Answers each request after a delay, in order. A body must not be in the requests.
class WebServer {
  public:
    using Answering = std::function<Reply(int)>;  // by the number of the request
    WebServer(World& world, Answering answering, Nanoseconds delay = 1ms)
        : loop_(world.add_loop()), answering_(std::move(answering)), delay_(delay) {}

    whorl::Address listen() {
        const auto listener = whorl::listen(loop_, whorl::Address::loopback_v4(0));
        EXPECT_TRUE(listener);
        EXPECT_TRUE(loop_.submit(whorl::AcceptStream{*listener},
                                 [this](Loop&, whorl::AcceptStream::Done done) {
                                     if (!done.socket) return;
                                     ++accepted;
                                     receive(done.socket);
                                 }));
        return *whorl::local_address(loop_, *listener);
    }

    int accepted = 0;
    std::vector<std::string> requests;

  private:
    struct Connection {
        std::string text;
        bool closing = false;
    };
    void receive(whorl::Socket socket) {
        (void)loop_.submit(
            whorl::RecvStream{socket}, [this, socket, at = std::make_unique<Connection>()](
                                           Loop&, whorl::RecvStream::Done done) {
                at->text += done.buffer.text();
                for (std::size_t end = 0; (end = at->text.find("\r\n\r\n")) != std::string::npos;) {
                    requests.push_back(at->text.substr(0, end + 4));
                    at->text.erase(0, end + 4);
                    if (at->closing) continue;
                    const Reply reply = answering_(static_cast<int>(requests.size()));
                    at->closing = reply.close;
                    send(socket, reply);
                }
                if (!done.more) (void)loop_.close(socket);
            });
    }
    void send(whorl::Socket socket, const Reply& reply) {
        auto kept = std::make_unique<Reply>(reply);
        (void)loop_.after(delay_, [this, socket, kept = std::move(kept)](Loop&, const Expired&) {
            if (!kept->text.empty()) {
                whorl::SendAll all{socket, whorl::Buffer::copy_of(whorl::Bytes(kept->text))};
                (void)loop_.submit(std::move(all), [](Loop&, whorl::SendAll::Done) {});
            }
            if (kept->close) {
                (void)loop_.submit(whorl::Shutdown{socket}, [](Loop&, whorl::Shutdown::Done) {});
            }
        });
    }
    using Expired = whorl::Expired;

    Loop& loop_;
    Answering answering_;
    Nanoseconds delay_;
};

Plan make_http_plan(const whorl::Address& address) {
    Plan plan = make_plan(address, Kind::http);
    plan.target.path = "/path?query";
    plan.target.authority = "world";
    plan.rate = 100;
    plan.depth = 1;
    return plan;
}

// A run of a hundred requests against such a server.
Outcome run(const WebServer::Answering& answering, const std::function<void(Plan&)>& change = {}) {
    World world;
    WebServer server(world, answering);
    Plan plan = make_http_plan(server.listen());
    if (change) change(plan);
    Outcome outcome(plan);
    measure(world, outcome);
    return outcome;
}

TEST(LatencyHttp, a_fixed_delay_is_every_percentile) {
    const Outcome outcome = run([](int) { return ok(); });
    EXPECT_EQ(outcome.failure, "");
    EXPECT_EQ(outcome.answered, 100u);
    EXPECT_EQ(outcome.statuses.at(200), 100u);
    EXPECT_EQ(outcome.statuses.size(), 1u);
    EXPECT_EQ(outcome.reconnects, 0u);
    for (const double percent : {1.0, 50.0, 99.0, 100.0}) {
        EXPECT_GE(outcome.intended.percentile(percent), 1'000'000u);
        EXPECT_LE(outcome.intended.percentile(percent), 1'005'000u);
    }
}

TEST(LatencyHttp, asks_what_it_was_told_to) {
    World world;
    WebServer server(world, [](int) { return ok(); });
    Plan plan = make_http_plan(server.listen());
    plan.ask.fields = {"X-One: 1"};
    plan.duration = 10ms;  // one request
    Outcome outcome(plan);
    measure(world, outcome);
    ASSERT_EQ(server.requests.size(), 1u);
    EXPECT_EQ(server.requests[0], "GET /path?query HTTP/1.1\r\nX-One: 1\r\nHost: world\r\n\r\n");
}

TEST(LatencyHttp, a_host_of_ones_own_and_a_body) {
    World world;
    WebServer server(world, [](int) { return ok(); });
    Plan plan = make_http_plan(server.listen());
    plan.ask.method = "POST";
    plan.ask.fields = {"host: other"};
    plan.ask.body = "a\r\n\r\n";  // looks to this server like the end of a request
    plan.duration = 10ms;
    Outcome outcome(plan);
    measure(world, outcome);
    ASSERT_EQ(server.requests.size(), 2u);
    EXPECT_EQ(server.requests[0],
              "POST /path?query HTTP/1.1\r\nhost: other\r\nContent-Length: 5\r\n\r\n");
    EXPECT_EQ(server.requests[1], "a\r\n\r\n");
    // The second answer is to nothing.
    EXPECT_EQ(outcome.answered, 1u);
}

TEST(LatencyHttp, statuses_are_counted_and_refusals_are_no_stable_run) {
    const Outcome outcome = run([](int number) -> Reply {
        if (number % 10 == 0) return {"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"};
        if (number % 10 == 5) return {"HTTP/1.1 304 Not Modified\r\n\r\n"};
        return ok();
    });
    EXPECT_EQ(outcome.failure, "");
    EXPECT_EQ(outcome.statuses.at(200), 80u);
    EXPECT_EQ(outcome.statuses.at(304), 10u);
    EXPECT_EQ(outcome.statuses.at(503), 10u);
    EXPECT_EQ(outcome.refused(), 10u);
    EXPECT_EQ(outcome.answered, 100u);
    EXPECT_EQ(outcome.intended.count(), 90u);
    EXPECT_EQ(outcome.sent.count(), 90u);
    const latency::Judgement judgement = outcome.judge();
    EXPECT_EQ(judgement.verdict, latency::Verdict::unstable);
    EXPECT_EQ(judgement.reasons[0], "10 of 100 answers have a status of 400 or more.");
    const std::string text = latency::text_of(outcome);
    EXPECT_NE(text.find("statuses   200: 80, 304: 10, 503: 10\nrefused    10, "), std::string::npos)
        << text;
    const std::string json = latency::json_of(outcome);
    EXPECT_NE(json.find("\"statuses\": {\"200\": 80, \"304\": 10, \"503\": 10}"),
              std::string::npos);
}

TEST(LatencyHttp, chunks_and_interim_answers) {
    const Outcome outcome = run([](int) -> Reply {
        return {
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            "2\r\nok\r\n0\r\n\r\n"};
    });
    EXPECT_EQ(outcome.failure, "");
    EXPECT_EQ(outcome.answered, 100u);
    EXPECT_EQ(outcome.statuses.size(), 1u);
}

TEST(LatencyHttp, head_has_no_body) {
    const Outcome outcome =
        run([](int) -> Reply { return {"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"}; },
            [](Plan& plan) { plan.ask.method = "HEAD"; });
    EXPECT_EQ(outcome.failure, "");
    EXPECT_EQ(outcome.answered, 100u);
}

TEST(LatencyHttp, a_connection_that_the_server_ends_is_made_anew) {
    for (const char* head : {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
                             "HTTP/1.1 200 OK\r\n\r\nuntil the end", "HTTP/1.0 200 OK\r\n\r\n",
                             "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"}) {
        World world;
        WebServer server(world, [head](int) { return Reply{head, true}; });
        Outcome outcome(make_http_plan(server.listen()));
        measure(world, outcome);
        EXPECT_EQ(outcome.failure, "") << head;
        EXPECT_EQ(outcome.answered, 100u) << head;
        EXPECT_EQ(outcome.statuses.at(200), 100u) << head;
        EXPECT_EQ(outcome.reconnects, 99u) << head;
        EXPECT_EQ(server.accepted, 100) << head;
    }
}

// Four under way: what came behind the last answer of a connection is asked again, and counted once.
TEST(LatencyHttp, what_a_connection_did_not_answer_is_asked_again) {
    World world;
    WebServer server(world, [](int number) {
        Reply reply = ok();
        reply.close = number % 3 == 0;
        return reply;
    });
    Plan plan = make_http_plan(server.listen());
    plan.depth = 4;
    plan.rate = 2000;
    Outcome outcome(plan);
    measure(world, outcome);
    EXPECT_EQ(outcome.failure, "");
    EXPECT_EQ(outcome.answered, 2000u);
    EXPECT_EQ(outcome.unanswered, 0u);
    EXPECT_GT(outcome.reconnects, 100u);
    EXPECT_GT(server.requests.size(), 2000u);
}

TEST(LatencyHttp, a_closed_loop_asks_when_it_is_answered) {
    const Outcome outcome = run([](int) { return ok(); },
                                [](Plan& plan) {
                                    plan.closed = true;
                                    plan.connections = 3;
                                });
    EXPECT_EQ(outcome.failure, "");
    EXPECT_GE(outcome.answered, 2'900u);  // three, a millisecond each
    EXPECT_LE(outcome.answered, 3'000u);
}

TEST(LatencyHttp, what_is_no_answer_is_named) {
    const auto failure = [](const Reply& reply) { return run([&](int) { return reply; }).failure; };
    EXPECT_EQ(failure({"220 mail.example ESMTP\r\n\r\n"}).rfind("the answer is not HTTP/1.1: ", 0),
              0u);
    EXPECT_EQ(failure({ok().text + ok().text}), "the server sent an answer that was not asked for");
    EXPECT_EQ(failure({"", true}), "the server closed the connection without an answer");
    EXPECT_EQ(failure({"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", true}),
              "the server closed the connection without an answer");
    EXPECT_EQ(failure({"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
                       "Upgrade: h2c\r\n\r\n"}),
              "the server changes to another protocol");
}

TEST(LatencyHttp, targets_are_read) {
    latency::Target target;
    std::string why;
    ASSERT_TRUE(latency::parse_target("http://127.0.0.1:8080", target, why)) << why;
    EXPECT_EQ(target.path, "/");
    EXPECT_EQ(target.authority, "127.0.0.1:8080");
    EXPECT_EQ(target.address.print().view(), "127.0.0.1:8080");
    ASSERT_TRUE(latency::parse_target("http://[::1]?a=b", target, why)) << why;
    EXPECT_EQ(target.path, "/?a=b");
    EXPECT_EQ(target.address.print().view(), "[::1]:80");
    ASSERT_TRUE(latency::parse_target("http://name/x#part", target, why)) << why;
    EXPECT_EQ(target.path, "/x");
    EXPECT_EQ(target.host, "name");
    EXPECT_EQ(target.port, 80);
    ASSERT_TRUE(latency::parse_target("http://127.0.0.1:0", target, why)) << why;
    EXPECT_EQ(target.port, 0);
    for (const char* wrong : {"http://", "http:///x", "http://h:x", "http://u@h/", "http://h/a b",
                              "http://h:70000/", "https://h/"}) {
        why.clear();
        EXPECT_FALSE(latency::parse_target(wrong, target, why)) << wrong;
        EXPECT_NE(why, "") << wrong;
    }
}

TEST(LatencyHttp, what_would_be_another_request_is_refused) {
    Plan plan = make_http_plan(whorl::Address::loopback_v4(80));
    EXPECT_EQ(latency::plan_problem(plan), "");
    for (const char* field : {"X", "X y: z", ": z", "X: a\r\nY: b", "X: a\nb"}) {
        plan.ask.fields = {field};
        EXPECT_NE(latency::plan_problem(plan), "") << field;
    }
    plan.ask.fields = {"X: y"};
    EXPECT_EQ(latency::plan_problem(plan), "");
    for (const char* method : {"", "GET /", "CONNECT"}) {
        plan.ask.method = method;
        EXPECT_NE(latency::plan_problem(plan), "") << method;
    }
}

}  // namespace
}  // namespace latency_test
