// SPDX-License-Identifier: MIT
// What the tests of WebSocket share: a server in a world that says back what it hears, and a record of it.
#pragma once

#include "http/web_frames.hpp"
#include "world/names.hpp"

#include <whorl/web_socket.hpp>

#include <algorithm>
#include <string>
#include <utility>

namespace web_tests {

using namespace world_names;
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

inline std::string text_of(const Ended& ended) {
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
#if defined(__cpp_exceptions)
        if (message.text() == "throw") throw 1;
#endif
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

inline const std::string key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
inline std::string upgrade(const std::string& more = key + "Sec-WebSocket-Version: 13\r\n") {
    return "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n"
           "Connection: Upgrade\r\n" +
           more + "\r\n";
}
inline const std::string accepted =
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

inline std::string server_frame(unsigned opcode, std::string_view payload) {
    return frame(opcode, payload, {true, 0, false});
}

}  // namespace web_tests
