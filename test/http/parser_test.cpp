// SPDX-License-Identifier: MIT
// Goal: the parser reads what RFC 9112 allows, refuses what can be read in two ways, keeps its limits, and
// does all of it in the same way however the bytes are cut. Method: a table of messages, each read whole,
// cut at every place, byte by byte, and at random places of damaged copies.
#include "http/reading.hpp"

#include "model/random.hpp"

#include <gtest/gtest.h>

namespace {

using namespace http_tests;

const std::string host = "Host: a\r\n";
const std::string get = "GET / HTTP/1.1\r\n";
const std::string post = "POST / HTTP/1.1\r\nHost: a\r\n";
const std::string chunks = post + "Transfer-Encoding: chunked\r\n\r\n";

Limits small_limits() {
    Limits limits;
    limits.line_max = 64;
    limits.head_max = 200;
    limits.fields_max = 6;
    limits.body_max = 40;
    limits.trailer_max = 32;
    return limits;
}

struct Case {
    std::string text;
    int status;  // 0: good
};

const std::vector<Case>& requests() {
    static const std::vector<Case> cases = {
        {get + host + "\r\n", 0},
        {"\r\n" + get + host + "\r\n", 0},
        {"\r\n\r\n" + get + host + "\r\n", 400},
        {get + host + "\r\n" + get + host + "X: y\r\n\r\n", 0},
        {get + "hOST:\t a:80 \t\r\n\r\n", 0},
        {get + "Host:\r\n\r\n", 0},
        {get + "Host: [::1]:80\r\n\r\n", 0},
        {"GET /a%20b?c=d&e HTTP/1.0\r\n\r\n", 0},
        {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 0},
        {get + host + "Connection: foo , Close\r\n\r\n", 0},
        {get + host + "Empty:\r\nX: \x80\xff\r\n\r\n", 0},
        {"GET http://A/b?c HTTP/1.1\r\nHost: a\r\n\r\n", 0},
        {"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", 0},
        {"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 0},
        {"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 0},
        {"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 0},
        {post + "Content-Length: 5\r\n\r\nhello" + get + host + "\r\n", 0},
        {post + "Content-Length: 0\r\nExpect: 100-Continue\r\n\r\n", 0},
        {chunks + "5\r\nhello\r\nA;x=y\r\n, world!!!\r\n0\r\n\r\n" + get + host + "\r\n", 0},
        {chunks + "0005\r\nhello\r\n00\r\nT: v\r\nU:\r\n\r\n", 0},
        // The request line.
        {"GET / HTTP/1.1\n" + host + "\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\n\n", 400},
        {"GET /\r/ HTTP/1.1\r\n" + host + "\r\n", 400},
        {"GET  / HTTP/1.1\r\n" + host + "\r\n", 400},
        {"GET / HTTP/1.1 \r\n" + host + "\r\n", 400},
        {" GET / HTTP/1.1\r\n" + host + "\r\n", 400},
        {"GET\t/ HTTP/1.1\r\n" + host + "\r\n", 400},
        {"GET /\r\n" + host + "\r\n", 400},
        {"G(T / HTTP/1.1\r\n" + host + "\r\n", 400},
        {"GET /\x7f HTTP/1.1\r\n" + host + "\r\n", 400},
        {"GET /\xc3\xa4 HTTP/1.1\r\n" + host + "\r\n", 400},
        {"GET /# HTTP/1.1\r\n" + host + "\r\n", 400},
        {"GET a HTTP/1.1\r\n" + host + "\r\n", 400},
        {"GET http HTTP/1.1\r\n" + host + "\r\n", 400},
        {"GET * HTTP/1.1\r\n" + host + "\r\n", 400},
        {"GET ftp://a/ HTTP/1.1\r\n" + host + "\r\n", 400},
        {"GET http:/// HTTP/1.1\r\n" + host + "\r\n", 400},
        {"GET http://u@a/ HTTP/1.1\r\n" + host + "\r\n", 400},
        {"GET http://b/ HTTP/1.1\r\n" + host + "\r\n", 400},
        {"CONNECT a HTTP/1.1\r\n" + host + "\r\n", 400},
        {"GET / http/1.1\r\n" + host + "\r\n", 400},
        {"GET / HTTP/1.10\r\n" + host + "\r\n", 400},
        {"GET / HTTP/1.2\r\n" + host + "\r\n", 505},
        {"GET / HTTP/2.0\r\n" + host + "\r\n", 505},
        // Fields.
        {get + "\r\n", 400},
        {get + host + host + "\r\n", 400},
        {"GET / HTTP/1.0\r\n" + host + host + "\r\n", 400},
        {get + "Host: a b\r\n\r\n", 400},
        {get + "Host: a/b\r\n\r\n", 400},
        {get + "Host: a:b\r\n\r\n", 400},
        {get + "Host: a@b\r\n\r\n", 400},
        {get + host + "X : y\r\n\r\n", 400},
        {get + host + "X\r\n\r\n", 400},
        {get + host + ": y\r\n\r\n", 400},
        {get + host + "X: y\r\n z\r\n\r\n", 400},
        {get + " X: y\r\n" + host + "\r\n", 400},
        {get + host + "X: y\rz\r\n\r\n", 400},
        {get + host + std::string("X: y\0z\r\n\r\n", 10), 400},
        {get + host + "X: y\x01\r\n\r\n", 400},
        {get + host + "Expect: tea\r\n\r\n", 417},
        // What ends the body.
        {post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
        {post + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400},
        {post + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400},
        {post + "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400},
        {post + "Content-Length: 5, 5\r\n\r\nhello", 400},
        {post + "Content-Length: +5\r\n\r\nhello", 400},
        {post + "Content-Length: -5\r\n\r\nhello", 400},
        {post + "Content-Length: 0x5\r\n\r\nhello", 400},
        {post + "Content-Length: 5 5\r\n\r\nhello", 400},
        {post + "Content-Length:\r\n\r\n", 400},
        {post + "Content-Length : 5\r\n\r\nhello", 400},
        {post + "Content-Length: 99999999999999999999999\r\n\r\n", 413},
        {post + "Content-Length: 41\r\n\r\n", 413},
        {post + "Content-Length: 5\r\n\r\nhell", 400},
        {post + "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
        {post + "Transfer-Encoding: chunked, chunked\r\n\r\n", 400},
        {post + "Transfer-Encoding: chunked, gzip\r\n\r\n", 400},
        {post + "Transfer-Encoding: gzip\r\n\r\n", 400},
        {post + "Transfer-Encoding: xchunked\r\n\r\n", 400},
        {post + "Transfer-Encoding: \"chunked\"\r\n\r\n", 400},
        {post + "Transfer-Encoding:\x0b"
                "chunked\r\n\r\n",
         400},
        {post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
        {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
        // Chunks.
        {chunks + "\r\n", 400},
        {chunks + "g\r\n", 400},
        {chunks + "-1\r\n", 400},
        {chunks + "0x1\r\n", 400},
        {chunks + " 1\r\n", 400},
        {chunks + "1 \r\n", 400},
        {chunks + "1\na\r\n", 400},
        {chunks + "1\r\nab", 400},
        {chunks + "1\r\na\n", 400},
        {chunks + "1;\n\r\n", 400},
        {chunks + "1;x\r\r\n", 400},
        {chunks + "ffffffffffffffff\r\n", 413},
        {chunks + "10000000000000000\r\n", 400},
        {chunks + "1;" + std::string(300, 'x') + "\r\na\r\n", 400},
        {chunks + std::string(300, '0') + "\r\n\r\n", 400},
        {chunks + "20\r\n" + std::string(32, 'x') + "\r\n9\r\n", 413},
        {chunks + "0\r\nT\r\n\r\n", 400},
        {chunks + "0\r\n T: v\r\n\r\n", 400},
        {chunks + "0\r\nT: v\n\r\n", 400},
        {chunks + "0\r\nT: " + std::string(40, 'v') + "\r\n\r\n", 431},
        {chunks + "0\r\n", 400},
        // Limits.
        {"CONNECT a: HTTP/1.1\r\n" + host + "\r\n", 400},
        {"CONNECT a\"b:1 HTTP/1.1\r\n" + host + "\r\n", 400},
        {"GET HTTPS://a/ HTTP/1.1\r\n" + host + "\r\n", 0},
        {"GET ftp://a/ HTTP/1.1\r\n" + host + "\r\n", 400},
        {"GET /" + std::string(60, 'x') + " HTTP/1.1\r\n" + host + "\r\n", 414},
        {std::string(65, 'x'), 414},
        {get + host + "X: " + std::string(200, 'x') + "\r\n\r\n", 431},
        {get + host + "X: " + std::string(168, 'x') + "\r\n\r\n", 0},  // 200 bytes
        {get + host + "X: " + std::string(169, 'x') + "\r\n\r\n", 431},
        {get + host + "X: " + std::string(170, 'x') + "\r\n\r\n", 431},
        {get + host + "a:\r\na:\r\na:\r\na:\r\na:\r\n\r\n", 0},
        {get + host + "a:\r\na:\r\na:\r\na:\r\na:\r\na:\r\n\r\n", 431},
        {std::string(40, 'X') + " / HTTP/1.1\r\n" + host + "\r\n", 501},
    };
    return cases;
}

TEST(HttpParser, verdicts) {
    for (const Case& each : requests()) {
        const Reading whole = read_whole<RequestParser>(each.text, small_limits());
        EXPECT_EQ(whole.status, each.status) << each.text << whole.why;
    }
}

TEST(HttpParser, the_same_for_every_cut) {
    for (const Case& each : requests()) {
        const Reading whole = read_whole<RequestParser>(each.text, small_limits());
        const std::string_view text = each.text;
        for (std::size_t cut = 0; cut <= text.size(); ++cut) {
            RequestParser parser(small_limits());
            const Reading parts = read(parser, {text.substr(0, cut), text.substr(cut)});
            ASSERT_EQ(parts.text, whole.text) << each.text << " cut at " << cut;
            ASSERT_EQ(parts.why, whole.why) << each.text << " cut at " << cut;
        }
        std::vector<std::string_view> single;
        for (std::size_t at = 0; at < text.size(); ++at) single.push_back(text.substr(at, 1));
        RequestParser parser(small_limits());
        const Reading bytes = read(parser, single);
        EXPECT_EQ(bytes.text, whole.text);
        EXPECT_EQ(bytes.why, whole.why);
    }
}

TEST(HttpParser, the_same_for_damaged_messages) {
    model::Random random(7);
    static const std::string signs("\r\n :;,0a\t\0\x80/", 13);
    for (int round = 0; round < 20'000; ++round) {
        const std::size_t which = random.below(requests().size());
        std::string text = requests()[which].text;
        for (std::uint64_t damage = random.below(4); damage > 0; --damage) {
            const std::size_t at = random.below(text.size());
            const char sign = signs[random.below(signs.size())];
            if (random.one_in(3)) text.erase(at, 1);
            else if (random.one_in(2)) text.insert(at, 1, sign);
            else text[at] = sign;
            if (text.empty()) text = "x";
        }
        const Reading whole = read_whole<RequestParser>(text, small_limits());
        std::vector<std::string_view> pieces;
        for (std::size_t at = 0; at < text.size(); at += pieces.back().size()) {
            pieces.push_back(std::string_view(text).substr(at, 1 + random.below(20)));
        }
        RequestParser parser(small_limits());
        const Reading parts = read(parser, pieces);
        ASSERT_EQ(parts.text, whole.text) << text;
        ASSERT_EQ(parts.why, whole.why) << text;
    }
}

// Limits beyond what there is room for: the room is the limit, to the byte and to the field.
TEST(HttpParser, limits_beyond_its_room_are_its_room) {
    Limits limits;
    limits.line_max = limits.head_max = UINT32_MAX;
    limits.fields_max = UINT16_MAX;
    const auto refused = [&limits](const std::string& text) {
        RequestParser parser(limits);
        return read(parser, {text}).why;
    };
    const auto of_size = [](std::size_t size) {
        const std::string begin = "GET / HTTP/1.1\r\nHost: h\r\nX: ", end = "\r\n\r\n";
        return begin + std::string(size - begin.size() - end.size(), 'x') + end;
    };
    EXPECT_EQ(refused(of_size(65535)), "");
    EXPECT_EQ(refused(of_size(65536)), "the head is too large");
    const auto of_line = [](std::size_t size) {
        const std::string end = " HTTP/1.1\r\n";
        return "GET /" + std::string(size - 5 - end.size(), 'x') + end + "Host: h\r\n\r\n";
    };
    EXPECT_EQ(refused(of_line(60000)), "");
    EXPECT_EQ(refused(of_line(65536)), "the first line is too long");
    const auto of_fields = [](std::size_t count) {
        std::string text = "GET / HTTP/1.1\r\nHost: h\r\n";
        for (std::size_t field = 1; field < count; ++field) text += "X: y\r\n";
        return text + "\r\n";
    };
    EXPECT_EQ(refused(of_fields(Message::fields_room)), "");
    EXPECT_EQ(refused(of_fields(Message::fields_room + 1u)), "too many fields");
}

TEST(HttpParser, what_a_request_says) {
    EXPECT_EQ(read_whole<RequestParser>("POST /a/b?c=d?e HTTP/1.1\r\nHost: h:1\r\nUpgrade: x\r\n"
                                        "Connection: upgrade\r\nExpect: 100-continue\r\n"
                                        "Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
                  .text,
              "POST /a/b?c=d?e 1.1 host=h:1 keep upgrade expect chunked [Host=h:1] [Upgrade=x] "
              "[Connection=upgrade] [Expect=100-continue] [Transfer-Encoding=Chunked] body=abc;\n");
    EXPECT_EQ(read_whole<RequestParser>("GET http://B:8?q HTTP/1.1\r\nHost:b:8\r\n\r\n").text,
              "GET /?q 1.1 host=B:8 keep [Host=b:8] body=;\n");
    RequestParser parser;
    const std::string text = get + "Host: a\r\nX-Y: 1\r\nx-y: 2\r\n\r\n";
    Bytes input(text.data(), text.size());
    ASSERT_EQ(parser.next(input), Step::head);
    EXPECT_EQ(parser.message().find("x-Y"), "1");
    EXPECT_EQ(parser.message().find("x"), "");
    EXPECT_EQ(parser.message().method, whorl::http::Method::get);
    EXPECT_FALSE(parser.joined());
    // It is a view of the bytes that were given.
    EXPECT_EQ(parser.message().find("X-Y").data(), text.data() + text.find('1', 20));
}

TEST(HttpParser, responses) {
    const std::string ok = "HTTP/1.1 200 OK\r\n";
    const auto text = [](const std::string& bytes) {
        return read_whole<ResponseParser>(bytes).text;
    };
    const auto status = [](const std::string& bytes) {
        return read_whole<ResponseParser>(bytes).status;
    };
    EXPECT_EQ(text(ok + "\r\nuntil the end"), "200 ? 1.1 host= keep body=until the end;\n");
    EXPECT_EQ(text("HTTP/1.1 204\r\n\r\nHTTP/1.0 304 \r\nContent-Length: 5\r\n\r\n"),
              "204 ? 1.1 host= keep body=;\n304 ? 1.0 host= length=5 [Content-Length=5] body=;\n");
    EXPECT_EQ(text("HTTP/1.1 100 Continue\r\n\r\n" + ok + "Content-Length: 2\r\n\r\nab"),
              "100 ? 1.1 host= keep body=;\n200 ? 1.1 host= keep length=2 [Content-Length=2] "
              "body=ab;\n");
    EXPECT_EQ(status(ok + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
    EXPECT_EQ(status(ok + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n"), 400);
    EXPECT_EQ(status(ok + "Content-Length: 2\r\n\r\na"), 400) << "it was cut short";
    EXPECT_EQ(status(ok + "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n"), 400);
    EXPECT_EQ(status("HTTP/1.1 20 OK\r\n\r\n"), 400);
    EXPECT_EQ(status("HTTP/1.1 2000 OK\r\n\r\n"), 400);
    EXPECT_EQ(status("HTTP/1.1  200 OK\r\n\r\n"), 400);
    EXPECT_EQ(status("\r\n" + ok + "\r\n"), 400);
    EXPECT_EQ(status(""), 0);
    EXPECT_EQ(status("H"), 400);

    for (const char* line : {"HTTP/1.1 600 X", "HTTP/1.1 099 X", "HTTP/1.1 2x0 X", "HTTP/1.1-200 X",
                             "HTTP/1.1 200-X", "HTTP/1.1 20", "HTTP/1.1 X\x01X",
                             "HTTP/1.1 200 X\x01", "HTTP/1.1 200 X\x7f", "HTTP/1.1 20:"}) {
        EXPECT_EQ(status(std::string(line) + "\r\n\r\n"), 400) << line;
    }
    EXPECT_EQ(status("HTTP/1.1 599 \x80\r\nExpect: 200-ok\r\n\r\n"), 0) << "it expects nothing";

    // A body that only the connection's end ends is not counted before it is there.
    const std::string line = ok + "\r\n";
    const std::string most(small_limits().body_max, 'x');
    EXPECT_EQ(read_whole<ResponseParser>(line + most, small_limits()).status, 0);
    EXPECT_EQ(read_whole<ResponseParser>(line + most + 'x', small_limits()).status, 413);
    ResponseParser cut(small_limits());
    EXPECT_EQ(read(cut, {line, most, "x"}).status, 413);

    ResponseParser to_head;
    to_head.expect_head(true);
    const std::string bodiless = ok + "Content-Length: 5000000\r\n\r\n";
    EXPECT_EQ(read(to_head, {bodiless}).text,
              "200 ? 1.1 host= keep length=5000000 [Content-Length=5000000] body=;\n");
}

TEST(HttpParser, who_has_failed_does_not_go_on) {
    RequestParser parser;
    const std::string bad = "GET / HTTP/1.1\r\n\r\n", good = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for (const std::string& text : {bad, good, good}) {
        Bytes input(text.data(), text.size());
        EXPECT_EQ(parser.next(input), Step::failed);
        EXPECT_EQ(parser.finish(), Step::failed);
        EXPECT_EQ(parser.fault().status, 400);
    }
}

TEST(HttpParser, what_is_not_there_is_empty) {
    RequestParser parser;
    const std::string text = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    Bytes input(text.data(), text.size());
    ASSERT_EQ(parser.next(input), Step::head);
    const auto& message = parser.message();
    EXPECT_EQ(message.field(0).name, "Host");
    EXPECT_EQ(message.field(1).name, "");
    EXPECT_EQ(message.field(1).value, "");
    EXPECT_EQ(message.field(UINT16_MAX).name, "");
    EXPECT_EQ(whorl::http::name_of(static_cast<whorl::http::Method>(200)), "?");
}

}  // namespace
