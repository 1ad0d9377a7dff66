// SPDX-License-Identifier: MIT
// What the tests of the HTTP client share: a client in a world, our own server, and answers written by hand.
#pragma once

#include "http/site.hpp"
#include "world/names.hpp"

#include <whorl/http_client.hpp>

#include <optional>
#include <string>

namespace client_tests {

using namespace world_names;
using namespace http_tests;
using whorl::http::Ask;
using whorl::http::Client;
using whorl::http::ClientOptions;
using whorl::http::Fetched;

struct Got {
    int calls = 0;
    Error error;
    int status = 0;
    std::string body;
    std::uint32_t redirects = 0;

    auto handler() {
        return [this](Loop&, Fetched& fetched) {
            ++calls;
            error = fetched.error;
            status = fetched.message != nullptr ? fetched.message->status : 0;
            body = fetched.body.text();
            redirects = fetched.redirects;
        };
    }
};

struct Asking {
    explicit Asking(World& given, const ClientOptions& options = {})
        : world(given), loop(given.add_loop()), client(std::move(*Client::create(loop, options))) {}
    ~Asking() {
        client.reset();
        world.remove_loop(loop);  // whose handlers count in the record
    }
    Asking(const Asking&) = delete;
    Asking& operator=(const Asking&) = delete;

    void serve() {
        const auto make = [this](const whorl::Accepted&) {
            ++connections;
            return Site(record);
        };
        world.check(whorl::http::serve(loop, Address::loopback_v4(80), make).has_value(), "opens");
    }
    Got get(const std::string& url) { return fetch(Ask{url}); }
    Got fetch(Ask ask) {
        Got got;
        got.error = client->fetch(std::move(ask), got.handler());
        if (got.error) return got;
        world.check(world.run_until([&] { return got.calls != 0; }), "nobody answers");
        return got;
    }
    // What becomes of an answer that a server writes by hand, and ends.
    Got answered(const std::string& text, bool ends = true) {
        Peer server = world.accept(81);
        Got got;
        world.check(!client->get("http://127.0.0.1:81/x", got.handler()), "asks");
        world.run_until([&] { return server.received().find("\r\n\r\n") != std::string::npos; });
        server.send(text);
        if (ends) server.finish_sending();
        world.check(world.run_until([&] { return got.calls != 0; }), "nobody answers");
        server.close();
        world.advance(10s);
        world.check(got.calls == 1, "two answers");
        return got;
    }

    World& world;
    Record record;
    int connections = 0;
    Loop& loop;
    std::optional<Client> client;
};

}  // namespace client_tests
