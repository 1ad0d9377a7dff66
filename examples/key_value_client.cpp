// SPDX-License-Identifier: MIT
// Sends commands, one a line, to a Redis server or key_value, all of them without waiting for answers, and prints
// the answers in order, as redis-cli does into a file (key_value_client.hpp).
//
//   key_value_client [--host NAME] [--port N] [--backend automatic|io_uring|libev] < commands
#include "key_value_client.hpp"

#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

namespace {

struct Arguments {
    std::string host = "127.0.0.1";
    std::string port = "6379";
    whorl::LoopOptions options;
};

bool parse(int count, char** words, Arguments& arguments) {
    for (int index = 1; index + 1 < count; index += 2) {
        const std::string name = words[index], value = words[index + 1];
        if (name == "--host") arguments.host = value;
        else if (name == "--port") arguments.port = value;
        else if (name == "--backend" && value == "io_uring")
            arguments.options.backend = whorl::Backend::io_uring;
        else if (name == "--backend" && value == "libev")
            arguments.options.backend = whorl::Backend::libev;
        else if (name != "--backend" || value != "automatic") return false;
    }
    return count % 2 == 1;
}

int failed(const char* what, const char* why) {
    std::fprintf(stderr, "%s: %s\n", what, why);
    return 1;
}

}  // namespace

int main(int count, char** words) {
    Arguments arguments;
    if (!parse(count, words, arguments)) {
        return failed("usage", "[--host NAME] [--port N] [--backend automatic|io_uring|libev]");
    }
    const auto print = [](const std::string& answer) {
        std::fwrite(answer.data(), 1, answer.size(), stdout);
    };
    key_value_client::Session<decltype(print)> session{{}, print};
    std::string line;
    while (std::getline(std::cin, line)) {
        std::vector<std::string> command;
        if (!key_value_client::words_of(line, command)) return failed(line.c_str(), "a quote");
        if (!command.empty()) session.requests.push_back(key_value_client::request_of(command));
    }
    if (session.requests.empty()) return 0;

    whorl::BackendReport report;
    auto loop = whorl::Loop::create(arguments.options, report);
    if (!loop) return failed(loop.error().text(), report.text);
    const whorl::ResolveQuery server{arguments.host, arguments.port};
    if (whorl::Error error = key_value_client::start(*loop, server, session)) {
        return failed(arguments.host.c_str(), error.text());
    }
    if (whorl::Error error = loop->run()) return failed("run", error.text());
    std::fflush(stdout);
    if (session.error) return failed(arguments.host.c_str(), session.error.text());
    return 0;
}
