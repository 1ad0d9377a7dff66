// SPDX-License-Identifier: MIT
// Goal: wss:// is WebSocket over a TLS layer, on both sides. Method: simulated worlds, quiet and harsh.
#include "conformance/tls_tools.hpp"
#include "world/names.hpp"

#include <whorl/web_socket.hpp>

#include <string>
#include <utility>

namespace {

using namespace world_names;
using whorl::Buffer;
using whorl::Bytes;
using whorl::web_socket::Connection;
using whorl::web_socket::Ended;
using whorl::web_socket::Kind;

struct Seen {
    std::string text;
    int closed = 0;
    int clean = 0;
    Error error;
};

struct Echo {
    void message(Connection& connection, Kind kind, Buffer message) {
        connection.send(kind, std::move(message));
    }
};
struct Door {
    void request(whorl::http::Exchange& exchange) {
        (void)whorl::web_socket::accept(exchange, Echo{});
    }
};

struct Talker {
    Seen* seen;
    void opened(Connection& connection) {
        connection.send_text("hello");
        connection.send(Kind::binary, Buffer::copy_of(Bytes(std::string_view(large))));
    }
    void message(Connection& connection, Kind, Buffer message) {
        if (message.size() != large.size()) return void(seen->text += message.text());
        seen->text += message.text() == large ? " large" : " changed";
        connection.close();
    }
    void closed(Connection&, const Ended& ended) {
        ++seen->closed;
        if (ended.clean) ++seen->clean;
        seen->error = ended.error;
    }
    inline static const std::string large = std::string(200'000, 'x');
};

// A conversation with a server whose certificate is for `name`.
Seen converse(World& world, const char* name) {
    const whorl::conformance::Authority authority;
    const auto identity = authority.issue(std::string("DNS:") + name);
    const std::string trust = authority.pem();
    whorl::tls::ServerOptions serves;
    serves.certificates.bytes = Bytes(std::string_view(identity.certificate));
    serves.key.bytes = Bytes(std::string_view(identity.key));
    auto server = whorl::tls::Server::create(*whorl::tls::Context::server(serves));
    whorl::tls::ClientOptions trusts;
    trusts.trust.bytes = Bytes(std::string_view(trust));
    auto client =
        whorl::tls::Client::create(*whorl::tls::Context::client(trusts), "server.example");

    Loop& loop = world.add_loop();
    whorl::AcceptorOptions acceptor;
    acceptor.stream.layer = server->layer();
    const auto make = [](const whorl::Accepted&) { return Door{}; };
    world.check(whorl::http::serve(loop, Address::loopback_v4(443), make, {}, acceptor).has_value(),
                "the server opens");
    world.name("server.example", {Address::loopback_v4(443)});
    whorl::web_socket::ConnectOptions options;
    options.seed = 1;
    Seen seen;
    const auto refused =
        whorl::web_socket::connect(loop, "wss://server.example/", Talker{&seen}, options);
    EXPECT_EQ(refused.error(), Error::invalid_argument) << "no layer";
    options.stream.layer = client->layer();
    const auto plain =
        whorl::web_socket::connect(loop, "ws://server.example/", Talker{&seen}, options);
    EXPECT_EQ(plain.error(), Error::invalid_argument) << "a layer for ws://";
    EXPECT_TRUE(whorl::web_socket::connect(loop, "wss://server.example/", Talker{&seen}, options));
    world.advance(120s);
    EXPECT_EQ(seen.closed, 1);
    world.remove_loop(loop);
    return seen;
}

TEST(WebSocketTls, a_conversation) {
    World world;
    const Seen seen = converse(world, "server.example");
    EXPECT_EQ(seen.text, "hello large");
    EXPECT_EQ(seen.clean, 1) << seen.error.text();
}

TEST(WebSocketTls, a_server_of_another_name_is_refused) {
    World world;
    const Seen seen = converse(world, "other.example");
    EXPECT_EQ(seen.text, "");
    EXPECT_EQ(seen.error, Error::tls_wrong_name);
}

TEST(WebSocketTls, in_harsh_worlds) {
    int clean = 0;
    for (std::uint64_t seed = 1; seed <= 20; ++seed) {
        World world(seed);
        const Seen seen = converse(world, "server.example");
        clean += seen.clean;
        ASSERT_EQ(seen.text.find("changed"), std::string::npos) << seed;
    }
    EXPECT_GT(clean, 0);
}

}  // namespace
