// SPDX-License-Identifier: MIT
// Goal: memory that is refused is an error to whoever asked and nothing more: each question has its one
// answer or error, an answer that says it is whole is right, each WebSocket ends once, nothing is left, and
// what comes afterwards is served as before. So it is with a pool that is empty.
// Method: hooks refuse each allocation in turn, alone and with all that follow it, in simulated worlds, whose
// own memory is not the library's; handlers that take all of the pool before they answer.
#include "conformance/host_memory.hpp"
#include "http/site.hpp"
#include "http/web_socket_tools.hpp"

#include <whorl/http_client.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace {

using namespace world_names;
using http_tests::Site;
using whorl::Buffer;
using whorl::Bytes;
using whorl::Result;
using whorl::http::Ask;
using whorl::http::Client;
using whorl::http::Exchange;
using whorl::http::Fetched;
using whorl::http::Field;
using whorl::http::Method;
using whorl::web_socket::Connection;
using whorl::web_socket::Ended;
using whorl::web_socket::Kind;

const Error no_memory = Error::from_errno(ENOMEM);

// A site with one page that points to another, and a place to talk.
struct Place : Site {
    Place(http_tests::Record& site, web_tests::Record& talk) : Site(site), talks(&talk) {}
    web_tests::Record* talks;
    void request(Exchange& exchange) {
        const Field where{"Location", "/hello"};
        if (exchange.request().path == "/to") exchange.respond({302, {}, &where, 1}, "there");
        else if (exchange.request().path == "/chat") accept(exchange);
        else Site::request(exchange);
    }
    void complete(Exchange& exchange) {
        if (exchange.request().path != "/large") return Site::complete(exchange);
        Buffer large = whorl::adopt(std::string(100'000, 'x'));
        if (large) exchange.respond({200}, std::move(large));
        else exchange.respond({503});
    }
    void accept(Exchange& exchange) const {
        whorl::web_socket::AcceptOptions options;
        options.protocols = "chat";
        if (!whorl::web_socket::accept(exchange, web_tests::Echo(*talks), options)) {
            ++talks->accepted;
        }
    }
};

// The first round is without a refusal, so that what is asked for is known; in the others it is refused.
using Round = std::function<void(World&, Loop&, http_tests::Record&, web_tests::Record&)>;
void each_refused_in_turn(const Round& round) {
    ASSERT_FALSE(hooked);
    for (const bool on : {false, true}) {
        bool refused = true;
        std::uint64_t number = 0;
        for (; refused; ++number) {
            SCOPED_TRACE((on ? "from allocation " : "allocation ") + std::to_string(number));
            ASSERT_LT(number, 5000u) << "it comes to an end";
            http_tests::Record site;
            web_tests::Record talk;
            {
                World world;
                Loop& loop = world.add_loop();
                const auto make = [&](const whorl::Accepted&) { return Place(site, talk); };
                ASSERT_TRUE(whorl::http::serve(loop, Address::loopback_v4(80), make));
                Host::refuse(number, on);
                const std::uint64_t last = Host::refuse_at;
                round(world, loop, site, talk);
                refused = Host::asked > last;
                Host::refuse_none();
                Peer after = world.connect(80);
                after.send("GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
                EXPECT_TRUE(world.run_until([&] { return after.ended() || after.was_reset(); }));
                EXPECT_NE(after.received().find("\r\n\r\nhello\n"), std::string::npos);
                after.close();
                world.advance(5min);
                EXPECT_EQ(whorl::stream_statistics(loop).streams, 0u);
                EXPECT_EQ(site.handlers + talk.handlers, 0);
                EXPECT_EQ(talk.closed, talk.accepted);
                EXPECT_EQ(world.descriptors(), 1u) << "the listener";
                world.remove_loop(loop);
            }
            ASSERT_EQ(Host::bytes, 0);
            if (testing::Test::HasFailure()) return;
        }
        EXPECT_GT(number, 5u);
        EXPECT_FALSE(Host::mistaken);
    }
}

struct Got {
    int calls = 0;
    Error error;
    int status = 0;
    std::string body;
};

struct Question {
    const char* url;
    Method method;
    std::string sent;
    std::string answer;
};
const std::vector<Question>& questions() {
    static const std::vector<Question> all = {
        {"http://127.0.0.1/hello", Method::get, "", "hello\n"},
        {"http://127.0.0.1/to", Method::get, "", "hello\n"},
        {"http://127.0.0.1/store", Method::post, "abc", "abc"},
        {"http://127.0.0.1/echo", Method::put, std::string(30'000, 'y'), std::string(30'000, 'y')},
        {"http://127.0.0.1/large", Method::get, "", std::string(100'000, 'x')},
        {"http://127.0.0.1/last", Method::get, "", "bye"},
        {"http://127.0.0.1/later?1", Method::get, "", "late: 1"},
    };
    return all;
}

void ask(World& world, Client& client, const Question& question) {
    Ask made{question.url, question.method, "text/plain"};
    const Field field{"X-Who", "a test"};
    made.fields = &field;
    made.fields_count = 1;
    if (!question.sent.empty()) made.body = Buffer::copy_of(Bytes(question.sent));
    const bool body = question.sent.empty() || made.body;
    Got got;
    const Error error = client.fetch(std::move(made), [&got](Loop&, Fetched& fetched) {
        ++got.calls;
        got.error = fetched.error;
        got.status = fetched.message != nullptr ? fetched.message->status : 0;
        got.body = fetched.body.text();
        EXPECT_EQ(fetched.message == nullptr, bool(fetched.error));
    });
    if (error) {
        EXPECT_EQ(error, no_memory) << error.name();
        world.advance(40s);
        EXPECT_EQ(got.calls, 0) << "it was said at once";
        return;
    }
    EXPECT_TRUE(world.run_until([&] { return got.calls != 0; })) << question.url;
    world.advance(1s);
    EXPECT_EQ(got.calls, 1) << question.url;
    if (got.error) {
        EXPECT_EQ(got.body, "");
        EXPECT_NE(got.error, Error::frame_malformed) << "it is not the server's fault";
    } else if (got.status == 200 || got.status == 201) {
        EXPECT_TRUE(got.body == (body ? question.answer : "")) << question.url;
    } else {
        EXPECT_GE(got.status, 500) << question.url;
    }
}

TEST(HttpMemory, each_allocation_of_a_clients_question_may_be_refused) {
    each_refused_in_turn([](World& world, Loop& loop, auto&, auto&) {
        Result<Client> client = Client::create(loop);
        if (!client) {
            EXPECT_EQ(client.error(), no_memory);
            return;
        }
        for (const Question& question : questions()) ask(world, *client, question);
        Host::refuse_at = UINT64_MAX;
        ask(world, *client, questions()[0]);
    });
}

// Answers whose heads come in pieces have to be put together: without memory that is said, and the server is
// not blamed.
template <class Ask>
Error of_an_answer_in_pieces(World& world, const char* answer, const Ask& ask) {
    Peer server = world.accept(81);
    Error error;
    bool ended = false;
    if (!ask(error, ended)) return no_memory;
    for (const char* sign = answer; *sign != 0; ++sign) {
        world.advance(1ms);
        if (server.connected()) server.send({sign, 1});
    }
    EXPECT_TRUE(world.run_until([&] { return ended; }));
    server.close();
    world.advance(20s);
    return error;
}

TEST(HttpMemory, each_allocation_of_an_answer_in_pieces_may_be_refused) {
    int right = 0, without = 0;
    each_refused_in_turn([&](World& world, Loop& loop, auto&, auto&) {
        Result<Client> client = Client::create(loop);
        if (!client) return;
        const auto ask = [&](Error& error, bool& ended) {
            return !client->get("http://127.0.0.1:81/", [&](Loop&, Fetched& fetched) {
                ended = true;
                error = fetched.error;
                EXPECT_TRUE(error || fetched.body.text() == "ab");
            });
        };
        const char* const answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab";
        const Error error = of_an_answer_in_pieces(world, answer, ask);
        EXPECT_TRUE(!error || error == no_memory) << error.name();
        ++(error ? without : right);
    });
    EXPECT_GT(right, 0);
    EXPECT_GT(without, 3);
}

TEST(HttpMemory, each_allocation_of_a_handshake_in_pieces_may_be_refused) {
    struct Ends {
        Error* error;
        bool* ended;
        void message(Connection&, Kind, Buffer) {}
        void closed(Connection&, const Ended& how) {
            *ended = true;
            *error = how.error;
        }
    };
    int right = 0, without = 0;
    each_refused_in_turn([&](World& world, Loop& loop, auto&, auto&) {
        const auto ask = [&](Error& error, bool& ended) {
            return whorl::web_socket::connect(loop, "ws://127.0.0.1:81/", Ends{&error, &ended})
                .has_value();
        };
        const char* const answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        const Error error = of_an_answer_in_pieces(world, answer, ask);
        const bool refused = error == Error::from_errno(ECONNREFUSED);
        EXPECT_TRUE(refused || error == no_memory) << error.name();
        ++(refused ? right : without);
    });
    EXPECT_GT(right, 0);
    EXPECT_GT(without, 3);
}

// What a server makes of bytes that come in pieces.
TEST(HttpMemory, each_allocation_of_a_server_may_be_refused) {
    const std::string long_field = "X-Long: " + std::string(3000, 'l') + "\r\n";
    const std::vector<std::string> pieces = {
        "GET /hello HTTP/1.1\r\nHo",
        "st: a\r\n" + long_field.substr(0, 1500),
        long_field.substr(1500) + "\r\nPOST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Enc",
        "oding: chunked\r\n\r\n3\r\nab",
        "c\r\n0\r\nA-Trailer: x\r\n\r",
        "\nGET /big HTTP/1.1\r\nHost: a\r\n\r\nGET /last HTTP/1.1\r\nHost: a\r\n\r\n",
    };
    each_refused_in_turn([&](World& world, Loop&, http_tests::Record& site, auto&) {
        Peer peer = world.connect(80);
        for (const std::string& piece : pieces) {
            peer.send(piece);
            world.advance(100ms);
        }
        EXPECT_TRUE(world.run_until([&] { return peer.ended() || peer.was_reset(); }));
        const bool all = peer.received().find("\r\n\r\nbye") != std::string::npos;
        EXPECT_TRUE(!all || (site.requests == 4 && site.gone == 0));
        EXPECT_LE(site.complete + site.gone, site.requests);
        peer.close();
    });
}

// Says what its options let it say, and counts its ends.
struct Talker {
    explicit Talker(web_tests::Record& given) : record(&given), count(given) {}
    web_tests::Record* record;
    web_tests::Count count;
    void opened(Connection& connection) {
        ++record->opened;
        connection.send_text("hello");
        connection.send(Kind::binary, Buffer::of_static(Bytes(std::string_view(large))));
    }
    void message(Connection& connection, Kind, Buffer message) {
        record->said += message.size() < 10 ? std::string(message.text()) : "large";
        if (message.size() < 10) return;
        EXPECT_EQ(message.text(), large);
        connection.close(1000, "done");
    }
    void closed(Connection&, const Ended& ended) {
        ++record->closed;
        record->said += web_tests::text_of(ended);
    }
    inline static const std::string large = std::string(100'000, 'x');
};

TEST(HttpMemory, each_allocation_of_a_web_socket_may_be_refused) {
    int clean = 0, opened = 0;
    each_refused_in_turn([&](World& world, Loop& loop, auto&, web_tests::Record& talk) {
        web_tests::Record record;
        whorl::web_socket::ConnectOptions options;
        options.seed = 1;
        options.protocols = "chat, more";
        const Field field{"X-Who", "a test"};
        options.fields = &field;
        options.fields_count = 1;
        const Result<Connection*> made =
            whorl::web_socket::connect(loop, "ws://127.0.0.1/chat", Talker(record), options);
        if (!made) {
            EXPECT_EQ(made.error(), no_memory);
            EXPECT_EQ(record.handlers, 0) << "always taken";
        }
        world.advance(5min);
        EXPECT_EQ(record.closed, made ? 1 : 0);
        EXPECT_EQ(record.handlers, 0);
        EXPECT_EQ(record.said.find(Error(Error::frame_malformed).text()), std::string::npos);
        opened += record.opened;
        if (record.said.find("clean") != std::string::npos) {
            EXPECT_EQ(record.said, "hellolargeclean 1000/1000");
            ++clean;
        }
        EXPECT_EQ(talk.closed, talk.accepted);
    });
    EXPECT_GT(clean, 0);
    EXPECT_GT(opened, clean);
}

// Frames of a peer's own hand, in pieces, so that messages are gathered.
TEST(HttpMemory, each_allocation_of_gathered_messages_may_be_refused) {
    using namespace web_tests;
    const std::string large(50'000, 'g');
    each_refused_in_turn([&](World& world, Loop&, auto&, web_tests::Record& talk) {
        Peer peer = world.connect(80);
        std::string head = upgrade();
        head.replace(head.find("Sec"), 0, "Sec-WebSocket-Protocol: chat\r\n");
        peer.send(head.substr(0, 40));
        world.advance(10ms);
        peer.send(head.substr(40));
        for (int part = 0; part < 3; ++part) {
            peer.send(frame(part == 0 ? binary : more, large, {part == 2}));
            world.advance(10ms);
        }
        peer.send(frame(ping, "?") + frame(text, "close") + close_frame(4000));
        world.advance(1min);
        EXPECT_TRUE(peer.ended() || peer.was_reset());
        EXPECT_EQ(talk.closed, talk.accepted);
        // Not a byte of a message that is not whole.
        const std::size_t echoed = peer.received().find(large);
        EXPECT_TRUE(echoed == std::string::npos || talk.opened == 1);
        peer.close();
    });
}

}  // namespace
