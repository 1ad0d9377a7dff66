// SPDX-License-Identifier: MIT
// A server to be tested: each path is one way to answer.
#pragma once

#include <whorl/http_server.hpp>
#include <whorl/whorl.hpp>

#include <chrono>
#include <string>
#include <utility>

namespace http_tests {

using whorl::Buffer;
using whorl::Bytes;
using whorl::Loop;
using whorl::http::Answer;
using whorl::http::Exchange;
using whorl::http::Field;
using whorl::http::Later;
using whorl::http::Method;

// What has happened on the site, of all connections.
struct Record {
    int requests = 0;
    int complete = 0;
    int gone = 0;
    int handlers = 0;  // alive
    int late = 0;      // answers that came when nobody was there
    std::string bodies;
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

struct Site {
    explicit Site(Record& given) : record(&given), count(given) {}

    Record* record;
    Count count;
    std::string body_so_far = {};
    std::size_t pieces = 0;

    static constexpr std::size_t big_pieces = 100;
    static constexpr std::size_t big_piece = 4'000;

    void request(Exchange& exchange) {
        ++record->requests;
        body_so_far.clear();
        const std::string_view path = exchange.request().path;
        if (path == "/hello") exchange.respond({200, "text/plain"}, "hello\n");
        if (path == "/nothing") exchange.respond({204});
        if (path == "/old") exchange.respond({304}, "not sent");
        if (path == "/last") exchange.respond({200, {}, nullptr, 0, true}, "bye");
        if (path == "/split") {
            const Field field{"X", "a\r\nSet-Cookie: b"};
            exchange.respond({200, {}, &field, 1}, "x");
        }
        if (path == "/query") exchange.respond({}, exchange.request().query);
        if (path == "/echo") exchange.begin({200});
        if (path == "/counted") {
            exchange.begin({200}, 10);
            exchange.write("0123456789 and more");
            exchange.end();
        }
        if (path == "/short") {
            exchange.begin({200}, 10);
            exchange.write("01234");
            exchange.end();
        }
        if (path == "/later") answer_later(exchange);
        if (path == "/big") {
            pieces = 0;
            exchange.begin({200});
            writable(exchange);
        }
        if (path == "/pause") {
            exchange.pause();
            Loop& loop = exchange.loop();
            auto later = exchange.later();
            (void)loop.after(std::chrono::seconds(100), [later = std::move(later)](Loop&, auto) {
                if (later) later->resume();
            });
        }
    }
    void body(Exchange& exchange, Bytes piece) {
        body_so_far += piece.text();
        if (exchange.request().path == "/echo") exchange.write(piece.text());
    }
    void complete(Exchange& exchange) {
        ++record->complete;
        const std::string_view path = exchange.request().path;
        record->bodies += body_so_far + ';';
        if (path == "/echo") exchange.end();
        if (path == "/store" || path == "/pause") exchange.respond({201}, body_so_far);
        if (path == "/large") exchange.respond({200}, whorl::adopt(std::string(100'000, 'x')));
    }
    void writable(Exchange& exchange) {
        while (pieces < big_pieces) {
            ++pieces;
            if (!exchange.write(std::string(big_piece, 'x'))) return;
        }
        exchange.end();
    }
    void gone(Exchange&) { ++record->gone; }

    void answer_later(Exchange& exchange) {
        Loop& loop = exchange.loop();
        (void)loop.after(std::chrono::milliseconds(500), [later = exchange.later(), to = record](
                                                             Loop&, whorl::Expired) {
            if (!later) ++to->late;
            else later->respond({200}, "late: " + std::string(later->request().query));
        });
    }
};

}  // namespace http_tests
