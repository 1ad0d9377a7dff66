// SPDX-License-Identifier: MIT
// Goal: a foreign project can use whorl::http. Method: as main.cpp; a request is read.
#include <whorl/http_parser.hpp>
#include <whorl/version.hpp>

#include <cstdio>
#include <string_view>

int main() {
    const std::string_view text = "GET /there HTTP/1.1\r\nHost: here\r\n\r\n";
    whorl::http::RequestParser parser;
    whorl::Bytes input{text.data(), text.size()};
    if (parser.next(input) != whorl::http::Step::head) return 1;
    if (parser.message().target != "/there") return 1;
    std::printf("whorl %d.%d.%d, with HTTP\n", WHORL_VERSION_MAJOR, WHORL_VERSION_MINOR,
                WHORL_VERSION_PATCH);
    return 0;
}
