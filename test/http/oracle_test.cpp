// SPDX-License-Identifier: MIT
// Goal: what our parser accepts, another reader takes for the same messages with the same bodies: nothing is
// smuggled past it. Method: http-parser, which Node.js used for years, reads damaged requests that ours has
// accepted. It is the laxer one, so what it accepts may well be refused here.
#include "http/reading.hpp"

#include "model/random.hpp"

#include <gtest/gtest.h>

#include <http_parser.h>

namespace {

using namespace http_tests;

// One line a message: its method, target and body.
struct Other {
    std::string text;
    std::string target;
    std::string body;
    bool accepts = true;
};

Other read_other(std::string_view text) {
    Other other;
    http_parser_settings settings;
    http_parser_settings_init(&settings);
    const auto of = [](http_parser* parser) -> Other& {
        return *static_cast<Other*>(parser->data);
    };
    static const auto self = of;
    settings.on_url = [](http_parser* parser, const char* at, std::size_t size) {
        self(parser).target.append(at, size);
        return 0;
    };
    settings.on_body = [](http_parser* parser, const char* at, std::size_t size) {
        self(parser).body.append(at, size);
        return 0;
    };
    settings.on_message_complete = [](http_parser* parser) {
        Other& to = self(parser);
        to.text += http_method_str(static_cast<http_method>(parser->method));
        to.text += ' ' + to.target + ' ' + to.body + '\n';
        to.target.clear();
        to.body.clear();
        return 0;
    };
    http_parser parser;
    http_parser_init(&parser, HTTP_REQUEST);
    parser.data = &other;
    const std::size_t used = http_parser_execute(&parser, &settings, text.data(), text.size());
    other.accepts = used == text.size() && HTTP_PARSER_ERRNO(&parser) == HPE_OK;
    return other;
}

// The same of ours. False: it refuses.
bool read_ours(std::string_view text, std::string& said, bool& keeps) {
    RequestParser parser;
    Bytes input(text.data(), text.size());
    std::string body;
    for (;;) {
        switch (parser.next(input)) {
            case Step::more:
                return parser.finish() != Step::failed;
            case Step::head:
                body.clear();
                keeps = keeps && parser.message().keep_alive && !parser.message().upgrade &&
                        parser.message().method != whorl::http::Method::connect &&
                        parser.message().method != whorl::http::Method::other;
                break;
            case Step::body:
                body += parser.piece().text();
                break;
            case Step::end:
                said += std::string(parser.message().method_text) + ' ' +
                        std::string(parser.message().target) + ' ' + body + '\n';
                parser.restart();
                break;
            default:
                return false;
        }
    }
}

constexpr std::string_view seeds[] = {
    "GET /a?b HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: "
    "v\r\n\r\n",
    "PUT http://a/b HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
    "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"};
constexpr std::string_view words[] = {"\r\n",
                                      "\n",
                                      "\r",
                                      " ",
                                      "\t",
                                      ":",
                                      ";",
                                      ",",
                                      "0",
                                      "5",
                                      "a",
                                      "\x7f",
                                      "\x80",
                                      "Content-Length: 5\r\n",
                                      "Content-Length: 0\r\n",
                                      "Transfer-Encoding: chunked\r\n",
                                      "Transfer-Encoding: gzip\r\n",
                                      "chunked",
                                      "Host: b\r\n",
                                      "hello",
                                      "5\r\nhello\r\n",
                                      "0\r\n\r\n",
                                      " folded\r\n",
                                      "+",
                                      "-",
                                      "0x"};

TEST(HttpOracle, what_is_accepted_is_read_alike_elsewhere) {
    model::Random random(3);
    int accepted = 0, compared = 0, refused = 0;
    for (int round = 0; round < 200'000; ++round) {
        std::string text;
        for (std::uint64_t count = 1 + random.below(3); count > 0; --count) {
            text += seeds[random.below(std::size(seeds))];
        }
        for (std::uint64_t damage = random.below(4); damage > 0; --damage) {
            const std::size_t at = random.below(text.size());
            if (random.one_in(3)) text.erase(at, 1 + random.below(3));
            else text.insert(at, words[random.below(std::size(words))]);
            if (text.empty()) text = "x";
        }
        std::string ours;
        bool keeps = true;
        if (!read_ours(text, ours, keeps)) continue;
        ++accepted;
        // Beyond an upgrade or the last message it stops; methods it does not know it refuses.
        if (!keeps) continue;
        ++compared;
        const Other other = read_other(text);
        if (!other.accepts) {  // a tab behind a length, for example
            ++refused;
            continue;
        }
        ASSERT_EQ(other.text, ours) << text;
    }
    EXPECT_GT(accepted, 20'000);
    EXPECT_GT(compared, accepted / 2);
    EXPECT_LT(refused, compared / 50);
}

}  // namespace
