// SPDX-License-Identifier: MIT
// What a parser made of bytes, as text that can be compared: one line for each message.
#pragma once

#include <whorl/http_parser.hpp>

#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace http_tests {

using whorl::Bytes;
using whorl::http::Limits;
using whorl::http::Message;
using whorl::http::Parser;
using whorl::http::RequestParser;
using whorl::http::ResponseParser;
using whorl::http::Step;

inline std::string text_of(const Message& message) {
    std::string text = message.status != 0 ? std::to_string(message.status) + ' '
                                           : std::string(message.method_text) + ' ';
    text += std::string(message.path) + '?' + std::string(message.query) + " 1." +
            std::to_string(message.minor) + " host=" + std::string(message.host);
    if (message.keep_alive) text += " keep";
    if (message.upgrade) text += " upgrade";
    if (message.expect_continue) text += " expect";
    if (message.chunked) text += " chunked";
    if (message.has_length) text += " length=" + std::to_string(message.length);
    for (std::uint16_t index = 0; index < message.fields; ++index) {
        const auto [name, value] = message.field(index);
        text += " [" + std::string(name) + '=' + std::string(value) + ']';
    }
    return text;
}

struct Reading {
    std::string text;
    int status = 0;  // of the fault
    std::string why;
};

// Reads pieces, each in memory of its own of exactly its size, so that a sanitizer sees every byte too many.
inline Reading read(Parser& parser, const std::vector<std::string_view>& pieces, bool ends = true) {
    Reading reading;
    std::vector<std::unique_ptr<char[]>>
        memory;  // heads may be views of it until they are restarted
    Step step = Step::more;
    for (const std::string_view piece : pieces) {
        if (step == Step::failed) break;
        memory.emplace_back(new char[piece.size()]);
        std::memcpy(memory.back().get(), piece.data(), piece.size());
        Bytes input(memory.back().get(), piece.size());
        do {
            step = parser.next(input);
            if (step == Step::head) reading.text += text_of(parser.message()) + " body=";
            if (step == Step::body) reading.text += parser.piece().text();
            if (step == Step::end) {
                reading.text += ";\n";
                parser.restart();
            }
        } while (step != Step::more && step != Step::failed);
    }
    if (ends && step != Step::failed) {
        step = parser.finish();
        if (step == Step::end) reading.text += ";\n";
    }
    reading.status = parser.fault().status;
    reading.why = parser.fault().why;
    return reading;
}

template <class P>
Reading read_whole(std::string_view text, const Limits& limits = {}) {
    P parser(limits);
    return read(parser, {text});
}

}  // namespace http_tests
