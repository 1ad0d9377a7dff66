// SPDX-License-Identifier: MIT
// Goal: however the bytes of HTTP messages are cut, the parser says the same; it stays within its limits;
// and what it has accepted, written again from what it said, is accepted again and says the same.
// Method: the first bytes choose the kind, the limits and the cuts. With WHORL_FUZZ_CANARY a cut loses a
// byte now and then, which the target must find.
#include "fuzz/fuzz.hpp"
#include "http/reading.hpp"

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace fuzz {

namespace {

using namespace http_tests;

constexpr std::size_t head = 4;  // bytes that choose

Reading read_as(bool response, const Limits& limits, const std::vector<std::string_view>& pieces) {
    if (response) {
        ResponseParser parser(limits);
        return read(parser, pieces);
    }
    RequestParser parser(limits);
    return read(parser, pieces);
}

// The first message, written again with its body in one piece. Empty: there is none.
std::string again(std::string_view text, const Limits& limits, std::string& said) {
    RequestParser parser(limits);
    Bytes input(text.data(), text.size());
    if (parser.next(input) != Step::head) return {};
    const Message& message = parser.message();
    std::string body;
    Step step;
    while ((step = parser.next(input)) == Step::body) body += parser.piece().text();
    if (step != Step::end) return {};
    said = text_of(message) + " body=" + body + ";\n";
    std::string written = std::string(message.method_text) + ' ' + std::string(message.target) +
                          " HTTP/1." + std::to_string(message.minor) + "\r\n";
    for (std::uint16_t index = 0; index < message.fields; ++index) {
        const auto [name, value] = message.field(index);
        written += std::string(name) + ':' + std::string(value) + "\r\n";
    }
    written += "\r\n";
    if (!message.chunked) return written + body;
    char size[20];
    std::snprintf(size, sizeof(size), "%zx\r\n", body.size());
    if (!body.empty()) written += size + body + "\r\n";
    return written + "0\r\n\r\n";
}

constexpr std::string_view words[] = {"GET ",
                                      "POST ",
                                      "/ ",
                                      "/a?b ",
                                      "HTTP/1.1\r\n",
                                      "HTTP/1.0\r\n",
                                      "HTTP/1.1 200 OK\r\n",
                                      "\r\n",
                                      "Host: a\r\n",
                                      "Content-Length: 5\r\n",
                                      "Transfer-Encoding: chunked\r\n",
                                      "\r\n\r\n",
                                      "hello",
                                      "5\r\nhello\r\n",
                                      "0\r\n\r\n",
                                      "a;x=y\r\n",
                                      "Connection: close\r\n",
                                      "X: y\r\n",
                                      " ",
                                      "\n",
                                      "\r",
                                      ":",
                                      "http://a/ ",
                                      "* ",
                                      "0",
                                      "f"};

}  // namespace

const char* const target_name = "fuzz_http";

std::size_t draw(model::Random& random, std::uint8_t* data, std::size_t size_max) {
    std::string text;
    while (text.size() < head) text += static_cast<char>(random.next());
    for (std::uint64_t count = 1 + random.below(3); count > 0; --count) {
        text += "POST / HTTP/1.1\r\nHost: a\r\n";
        if (random.one_in(2)) text += "Content-Length: 5\r\n\r\nhello";
        else text += "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    }
    if (random.one_in(4)) text.resize(head);
    for (std::uint64_t count = random.below(8); count > 0; --count) {
        const std::size_t at = head + random.below(text.size() - head + 1);
        if (random.one_in(4) && at < text.size()) text.erase(at, 1 + random.below(4));
        else if (random.one_in(3)) text.insert(at, 1, static_cast<char>(random.next()));
        else text.insert(at, words[random.below(std::size(words))]);
    }
    if (text.size() > size_max) text.resize(size_max);
    text.copy(reinterpret_cast<char*>(data), text.size());
    return text.size();
}

int target(const std::uint8_t* data, std::size_t size) {
    if (size < head) return 0;
    const model::Run run(target_name);
    const std::string_view text(reinterpret_cast<const char*>(data) + head, size - head);
    const bool response = (data[0] & 3) == 0;
    Limits limits;
    limits.line_max = 20 + data[1];
    limits.head_max = 60 + 2u * data[1];
    limits.fields_max = static_cast<std::uint16_t>(1 + data[1] % 16);
    limits.body_max = data[2];
    limits.trailer_max = data[2];

    const Reading whole = read_as(response, limits, {text});
    model::Random cuts(std::uint64_t{data[3]} << 8 | data[0]);
    std::vector<std::string_view> pieces;
    for (std::size_t at = 0; at < text.size(); at += pieces.back().size()) {
        pieces.push_back(text.substr(at, 1 + cuts.below(1 + data[3] % 32)));
    }
#ifdef WHORL_FUZZ_CANARY
    for (std::string_view& piece : pieces) {
        if (piece.size() > 1 && cuts.one_in(4)) piece.remove_suffix(1);
    }
#endif
    const Reading parts = read_as(response, limits, pieces);
    run.expect(parts.text == whole.text, "another reading");
    run.expect(parts.why == whole.why, "another fault");
    run.expect((whole.status == 0) == whole.why.empty(), "a fault without a reason");
    if (response) return 0;

    std::string said;
    const std::string written = again(text, limits, said);
    if (written.empty()) return 0;
    Limits wide;
    wide.body_max = limits.body_max;
    const Reading second = read_as(false, wide, {written});
    run.expect(second.status == 0, "what was accepted is refused");
    run.expect(second.text == said, "what was accepted says something else");
    return 0;
}

}  // namespace fuzz
