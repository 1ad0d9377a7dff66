// SPDX-License-Identifier: MIT
// An echo client: connects with a deadline, sends its words (or, without any, all of standard input),
// half-closes, prints what comes back, and compares it with what it sent.
//
//   echo_client [--host ADDRESS] [--port N] [--timeout MS]
//               [--backend automatic|io_uring|libev] [WORD...]
//
// Exit status: 0 when every byte came back, 1 when not.
#include "echo.hpp"

#include <whorl/whorl.hpp>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

struct Arguments {
    std::string host = "127.0.0.1", port = "7007", timeout = "2000", backend = "automatic", text;
};

bool parse(int count, char** words, Arguments& arguments) {
    int index = 1;
    for (; index + 1 < count && words[index][0] == '-'; index += 2) {
        const std::string name = words[index];
        if (name == "--host") arguments.host = words[index + 1];
        else if (name == "--port") arguments.port = words[index + 1];
        else if (name == "--timeout") arguments.timeout = words[index + 1];
        else if (name == "--backend") arguments.backend = words[index + 1];
        else return false;
    }
    if (index < count && words[index][0] == '-') return false;
    for (; index < count; ++index) arguments.text.append(words[index]).append(1, '\n');
    if (!arguments.text.empty()) return true;
    char part[4096];
    while (const std::size_t size = std::fread(part, 1, sizeof part, stdin)) {
        arguments.text.append(part, size);
    }
    return true;
}

int fail(const std::string& what, const char* why) {
    std::fprintf(stderr, "echo_client: %s: %s\n", what.c_str(), why);
    return 1;
}

}  // namespace

int main(int count, char** words) {
    Arguments arguments;
    if (!parse(count, words, arguments)) return fail("usage", "see the head of echo_client.cpp");
    const bool v6 = arguments.host.find(':') != std::string::npos;
    const std::string where =
        (v6 ? '[' + arguments.host + ']' : arguments.host) + ':' + arguments.port;
    const whorl::Result<whorl::Address> address = whorl::Address::parse(where);
    if (!address) return fail(where, address.error().text());

    whorl::LoopOptions options;
    if (arguments.backend == "io_uring") options.backend = whorl::Backend::io_uring;
    else if (arguments.backend == "libev") options.backend = whorl::Backend::libev;
    else if (arguments.backend != "automatic") return fail("no such backend", words[0]);
    whorl::BackendReport report;
    whorl::Result<whorl::Loop> loop = whorl::Loop::create(options, report);
    if (!loop) return fail(loop.error().text(), report.text);

    EchoClient client(std::move(arguments.text), stdout);
    const whorl::Result<whorl::Operation> connecting =
        loop->submit(whorl::Connect{*address},
                     whorl::within(std::chrono::milliseconds(std::atoi(arguments.timeout.c_str()))),
                     whorl::bind<&EchoClient::connected>(&client));
    if (!connecting) return fail(where, connecting.error().text());
    if (whorl::Error error = loop->run()) return fail("run", error.text());
    return client.complete() ? 0 : 1;
}
