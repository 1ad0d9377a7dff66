// SPDX-License-Identifier: MIT
// A WebSocket echo server (web_socket_echo.hpp), and a client that sends its words as messages and prints the
// answers, one a line.
//
//   web_socket_echo [--port N] [--bind ADDRESS] [--backend automatic|io_uring|libev]
//   web_socket_echo [--backend NAME] --to ws://127.0.0.1:7007/ WORD...
//
// Exit status of the client: 0, when each word has come back and the connection was closed in order.
#include "web_socket_echo.hpp"
#include "serve.hpp"

#include <cstdio>

namespace {

struct Asker {
    char** words;
    int left;
    bool* clean;

    void opened(whorl::web_socket::Connection& connection) { next(connection); }
    void message(whorl::web_socket::Connection& connection, whorl::web_socket::Kind,
                 whorl::Buffer message) {
        std::fwrite(message.data(), 1, message.size(), stdout);
        std::putchar('\n');
        next(connection);
    }
    void next(whorl::web_socket::Connection& connection) {
        if (left-- == 0) connection.close();
        else connection.send_text(*words++);
    }
    void closed(whorl::web_socket::Connection& connection,
                const whorl::web_socket::Ended& ended) const {
        *clean = ended.clean && left < 0;
        if (!*clean) std::fprintf(stderr, "closed: %u %s\n", ended.code, ended.error.text());
        connection.loop().stop();
    }
};

int ask(const ServeArguments& arguments, char** words, int count) {
    whorl::BackendReport report;
    whorl::Result<whorl::Loop> made = whorl::Loop::create(arguments.options, report);
    if (!made) return serve_failed(made.error().text(), report.text);
    bool clean = false;
    const auto connection =
        whorl::web_socket::connect(*made, arguments.to, Asker{words, count, &clean});
    if (!connection) return serve_failed(arguments.to.c_str(), connection.error().text());
    if (whorl::Error error = made->run()) return serve_failed("run", error.text());
    return clean ? 0 : 1;
}

}  // namespace

int main(int count, char** words) {
    ServeArguments arguments;
    int first = 1;
    while (first + 1 < count && words[first][0] == '-') first += 2;
    if (!serve_parse(first, words, arguments) || (first < count && arguments.to.empty())) {
        return serve_failed("usage",
                            "[--port N] [--bind ADDRESS] [--backend NAME] [--to URL WORD...]");
    }
    if (!arguments.to.empty()) return ask(arguments, words + first, count - first);
    WebEchoServer server;
    return serve_until_signal(arguments, server);
}
