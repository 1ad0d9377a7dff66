// SPDX-License-Identifier: MIT
// Goal: every question gets exactly one answer or error, whatever the server says and wherever it is cut,
// and connections are kept and replaced. Method: simulated worlds, with our own server and with hand-written
// ones.
#include "http/asking.hpp"

#include <whorl/event.hpp>

#include <memory>

namespace {

using namespace client_tests;

TEST(HttpClient, asks_and_keeps_the_connection) {
    World world;
    Asking asking(world);
    asking.serve();
    Got got = asking.get("http://127.0.0.1/hello");
    EXPECT_FALSE(got.error) << got.error.name();
    EXPECT_EQ(got.status, 200);
    EXPECT_EQ(got.body, "hello\n");
    EXPECT_EQ(asking.client->idle(), 1u);
    EXPECT_EQ(asking.get("http://127.0.0.1/query?a=b").body, "a=b");
    EXPECT_EQ(asking.get("http://127.0.0.1/nothing").status, 204);
    EXPECT_EQ(asking.get("http://127.0.0.1/big").body.size(), Site::big_pieces * Site::big_piece);
    EXPECT_EQ(asking.get("http://127.0.0.1/later?1").body, "late: 1");
    EXPECT_EQ(asking.fetch(Ask{"http://127.0.0.1/hello", Method::head}).body, "");
    Ask store{"http://127.0.0.1/store", Method::post, "text/plain"};
    store.body = Buffer::copy_of(Bytes(std::string_view("abc")));
    EXPECT_EQ(asking.fetch(std::move(store)).body, "abc");
    Ask echo{"http://127.0.0.1/echo", Method::put};
    echo.body = Buffer::copy_of(Bytes(std::string(100'000, 'y')));
    EXPECT_EQ(asking.fetch(std::move(echo)).body, std::string(100'000, 'y'));
    EXPECT_EQ(asking.connections, 1);
    EXPECT_EQ(asking.get("http://127.0.0.1/last").body, "bye");
    EXPECT_EQ(asking.client->idle(), 0u);
    EXPECT_EQ(asking.get("http://127.0.0.1/hello").body, "hello\n");
    EXPECT_EQ(asking.connections, 2);
    world.advance(20s);
    EXPECT_EQ(asking.client->idle(), 0u) << "kept for too long";
    EXPECT_EQ(asking.record.handlers, 0);
}

TEST(HttpClient, what_cannot_be_asked) {
    World world;
    Asking asking(world);
    for (const char* url : {"", "ftp://a/", "https://a/", "http://", "http:///x", "http://u@a/",
                            "http://a b/", "http://a/\r\nX: y", "http://a:0/", "http://a:99999/",
                            "http://a:x/", "http://[::1", "http://[::1]x/", "http://::1]/"}) {
        EXPECT_EQ(asking.get(url).error, Error::invalid_argument) << url;
    }
    const whorl::http::Field split{"X", "a\r\nY: b"};
    EXPECT_EQ(asking.fetch(Ask{"http://a/", Method::get, {}, &split, 1}).error,
              Error::invalid_argument);
    EXPECT_EQ(asking.get("http://127.0.0.1:9/").error, Error::from_errno(ECONNREFUSED));
    EXPECT_EQ(asking.get("http://nobody.example/").error, Error::name_unknown);
    const auto url = whorl::http::parse_url("HTTP://[::1]:8080?q#f");
    ASSERT_TRUE(url);
    EXPECT_EQ(url->host, "::1");
    EXPECT_EQ(url->authority, "[::1]:8080");
    EXPECT_EQ(url->target, "?q");
    EXPECT_EQ(url->port, 8080);
}

TEST(HttpClient, what_servers_say) {
    World world;
    ClientOptions options;
    options.limits.body_max = 20;
    Asking asking(world, options);
    const std::string ok = "HTTP/1.1 200 OK\r\n";
    EXPECT_EQ(asking.answered(ok + "\r\nuntil the end").body, "until the end");
    EXPECT_EQ(
        asking.answered("HTTP/1.1 103 Hints\r\n\r\n" + ok + "Content-Length: 2\r\n\r\nab").body,
        "ab");
    EXPECT_EQ(asking.answered(ok + "Content-Length: 5\r\n\r\nab").error, Error::frame_truncated);
    EXPECT_EQ(asking.answered("").error, Error::frame_truncated);
    EXPECT_EQ(asking.answered("nonsense\r\n\r\n").error, Error::frame_malformed);
    EXPECT_EQ(asking.answered(ok + "Content-Length: 21\r\n\r\n").error, Error::frame_too_large);
    EXPECT_EQ(asking.answered(ok + "\r\n" + std::string(21, 'x')).error, Error::frame_too_large);
    EXPECT_EQ(asking.answered("", false).error, Error::timed_out);
    // More than was asked for: the connection is not kept.
    EXPECT_EQ(asking.answered(ok + "Content-Length: 2\r\n\r\nab" + ok, false).body, "ab");
    EXPECT_EQ(asking.client->idle(), 0u);
}

TEST(HttpClient, redirects) {
    World world;
    Asking asking(world);
    asking.serve();
    const auto points = [](const std::string& where) {
        return "HTTP/1.1 302 Found\r\nContent-Length: 1\r\nLocation: " + where + "\r\n\r\nx";
    };
    Got got = asking.answered(points("http://127.0.0.1/hello"));
    EXPECT_EQ(got.body, "hello\n");
    EXPECT_EQ(got.redirects, 1u);
    EXPECT_EQ(asking.answered(points("https://127.0.0.1/hello")).status, 302);
    EXPECT_EQ(asking.answered(points("//127.0.0.1/hello")).status, 302);
    // A circle, on one connection.
    Peer server = world.accept(82);
    Got circle;
    ASSERT_FALSE(asking.client->get("http://127.0.0.1:82/a", circle.handler()));
    for (std::string seen; circle.calls == 0; seen.clear()) {
        ASSERT_TRUE(world.run_until([&] {
            return circle.calls != 0 || server.received().find("\r\n\r\n") != std::string::npos;
        }));
        if (circle.calls == 0) server.take();
        server.send(points("/a"));
    }
    EXPECT_EQ(circle.status, 302);
    EXPECT_EQ(circle.redirects, 5u);
}

TEST(HttpClient, a_kept_connection_that_was_closed_is_replaced) {
    World world;
    Asking asking(world);
    Peer first = world.accept(83);
    Got got, again;
    ASSERT_FALSE(asking.client->get("http://127.0.0.1:83/", got.handler()));
    first.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1");
    ASSERT_TRUE(world.run_until([&] { return got.calls == 1; }));
    EXPECT_EQ(asking.client->idle(), 1u);
    Peer second = world.accept(83);
    ASSERT_FALSE(asking.client->get("http://127.0.0.1:83/", again.handler()));
    first.reset();  // the question is on its way
    second.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2");
    ASSERT_TRUE(world.run_until([&] { return again.calls == 1; }));
    EXPECT_EQ(again.body, "2");
}

TEST(HttpClient, the_same_for_every_cut_and_a_reset_at_every_byte) {
    const std::string text =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x\r\ndefg\r\n0\r\n\r\n";
    for (std::size_t cut = 0; cut <= text.size(); ++cut) {
        for (const bool breaks : {false, true}) {
            World world;
            Asking asking(world);
            Peer server = world.accept(81);
            Got got;
            ASSERT_FALSE(asking.client->get("http://127.0.0.1:81/", got.handler()));
            if (breaks) server.reset_after(cut);
            server.send(text.substr(0, cut));
            world.advance(1s);
            if (!breaks) server.send(text.substr(cut));
            world.advance(1s);
            ASSERT_EQ(got.calls, 1) << cut;
            // Half an answer is none.
            const bool whole = !breaks || (cut == text.size() && !got.error);
            ASSERT_EQ(bool(got.error), !whole) << cut;
            ASSERT_EQ(got.body, whole ? "abcdefg" : "") << cut;
            server.close();
            world.advance(30s);
            ASSERT_EQ(whorl::stream_statistics(asking.loop).streams, 0u);
            ASSERT_EQ(world.descriptors(), 0u);
        }
    }
}

// Knows one host.
class OneHost final : public whorl::HostResolver {
  public:
    whorl::Result<whorl::Operation> find(Loop& loop, const whorl::ResolveQuery& query,
                                         whorl::detail::ResolveListener* listener) override {
        std::unique_ptr<whorl::detail::ResolveListener> taken(listener);
        ++asked;
        auto answer = [port = query.port, known = query.host == "named.test",
                       taken = std::move(taken)](Loop& there, whorl::AwaitEvent::Done) {
            whorl::ResolveDone done;
            const Address found = Address::loopback_v4(port);
            if (known)
                done.addresses = whorl::AddressList(whorl::Buffer::copy_of({&found, sizeof found}));
            else done.error = Error::name_no_record;
            taken->ended(there, std::move(done));
        };
        return loop.submit(whorl::AwaitEvent{ready_}, std::move(answer));
    }
    OneHost() { ready_.set(); }
    int asked = 0;

  private:
    whorl::Event ready_;
};

TEST(HttpClient, asks_a_resolver_of_its_own) {
    World world;
    OneHost resolver;
    ClientOptions options;
    options.resolver = &resolver;
    Asking asking(world, options);
    asking.serve();
    EXPECT_EQ(asking.get("http://named.test/hello").status, 200);
    EXPECT_EQ(asking.get("http://named.test/hello").status, 200);
    EXPECT_EQ(resolver.asked, 1) << "the connection was kept";
    EXPECT_EQ(asking.get("http://other.test/hello").error, Error::name_no_record);
    EXPECT_EQ(asking.get("http://127.0.0.1/hello").status, 200);
    EXPECT_EQ(resolver.asked, 2);
}

TEST(HttpClient, its_end_cancels_what_is_under_way) {
    World world;
    Asking asking(world);
    Peer silent = world.accept(81);
    world.name("slow.example", {Address::loopback_v4(81)}, 5s);
    Got waiting, resolving;
    ASSERT_FALSE(asking.client->get("http://127.0.0.1:81/", waiting.handler()));
    ASSERT_FALSE(asking.client->get("http://slow.example/", resolving.handler()));
    EXPECT_TRUE(world.run_until([&] { return !silent.received().empty(); }));
    asking.client.reset();
    EXPECT_EQ(waiting.calls + resolving.calls, 0) << "handlers are called from dispatch";
    world.advance(10s);
    EXPECT_EQ(waiting.calls, 1);
    EXPECT_EQ(waiting.error, Error::cancelled);
    EXPECT_EQ(resolving.calls, 1);
    EXPECT_EQ(resolving.error, Error::cancelled);
}

TEST(HttpClient, a_handler_asks_again_and_ends_the_client) {
    World world;
    Asking asking(world);
    asking.serve();
    int calls = 0;
    std::string seen;
    ASSERT_FALSE(asking.client->get("http://127.0.0.1/hello", [&](Loop&, Fetched& first) {
        ++calls;
        ASSERT_FALSE(asking.client->get("http://127.0.0.1/hello", [&](Loop&, Fetched& second) {
            ++calls;
            ASSERT_FALSE(second.error);
            asking.client.reset();
            seen += second.message->find("content-type");
        }));
        seen += first.message->find("content-type");
    }));
    EXPECT_TRUE(world.run_until([&] { return calls == 2; }));
    EXPECT_EQ(seen, "text/plaintext/plain");
    EXPECT_EQ(asking.connections, 1);
    world.advance(10s);
    EXPECT_EQ(asking.record.handlers, 0);
}

void in_a_harsh_world(World& world) {
    Record record;
    int asked = 0, calls = 0;
    {
        Loop& loop = world.add_loop();
        world.check(whorl::http::serve(loop, Address::loopback_v4(80),
                                       [&](const whorl::Accepted&) { return Site(record); })
                        .has_value(),
                    "the site opens");
        auto client = Client::create(loop);
        for (int count = 0; count < 12; ++count) {
            static const char* const paths[] = {"hello", "later?1", "large",
                                                "short", "last",    "query?x"};
            const std::string url = std::string("http://127.0.0.1/") + paths[world.draw(6)];
            const Error error = client->get(url, [&](Loop&, Fetched&) { ++calls; });
            if (!error) ++asked;
            if (world.draw(2) == 0) world.advance(std::chrono::milliseconds(world.draw(800)));
            world.options().operation_error = world.draw(3) == 0 ? 0.02 : 0;
        }
        world.advance(std::chrono::seconds(world.draw(3)));
    }
    world.options().operation_error = 0;
    world.advance(5min);
    world.check(calls == asked, "a question without an answer, or with two");
    world.check(record.handlers == 0, "a connection is left");
    world.check(world.descriptors() == 1, "more than the listener is left");
}

TEST(HttpClient, in_thousand_harsh_worlds) {
    const Found found = explore(in_a_harsh_world);
    EXPECT_FALSE(found.failed) << found.text();
}

}  // namespace
