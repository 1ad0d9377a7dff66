// SPDX-License-Identifier: MIT
// What the servers among the examples share: their arguments, and a loop that runs until a signal.
#pragma once

#include <whorl/whorl.hpp>

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>
#include <utility>

struct ServeArguments {
    std::string port = "7007";
    std::string bind = "127.0.0.1";
    std::string to;     // of a proxy
    std::string login;  // of a SOCKS5 proxy
    whorl::LoopOptions options;
};

inline bool serve_parse(int count, char** words, ServeArguments& arguments) {
    for (int index = 1; index + 1 < count; index += 2) {
        const std::string name = words[index], value = words[index + 1];
        if (name == "--port") arguments.port = value;
        else if (name == "--bind") arguments.bind = value;
        else if (name == "--to") arguments.to = value;
        else if (name == "--login") arguments.login = value;
        else if (name == "--backend" && value == "io_uring")
            arguments.options.backend = whorl::Backend::io_uring;
        else if (name == "--backend" && value == "libev")
            arguments.options.backend = whorl::Backend::libev;
        else if (name != "--backend" || value != "automatic") return false;
    }
    return count % 2 == 1;
}

inline int serve_failed(const char* what, const char* why) {
    std::fprintf(stderr, "%s: %s\n", what, why);
    return 1;
}

// Runs a server that has `Error start(Loop&, const Address&)` and `Listener listener()` until SIGINT or
// SIGTERM, and then drains the loop.
template <class Server>
int serve_until_signal(const ServeArguments& arguments, Server& server) {
    const auto address = whorl::Address::parse(arguments.bind + ":" + arguments.port);
    if (!address) return serve_failed(arguments.bind.c_str(), address.error().text());
    whorl::BackendReport report;
    whorl::Result<whorl::Loop> made = whorl::Loop::create(arguments.options, report);
    if (!made) return serve_failed(made.error().text(), report.text);
    whorl::Loop& loop = *made;
    if (whorl::Error error = server.start(loop, *address)) {
        return serve_failed("start", error.text());
    }
    const whorl::AddressText where = whorl::local_address(loop, server.listener())->print();
    std::printf("listening on %s\nbackend %s\n", where.data, loop.backend_report().text);
    std::fflush(stdout);

    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    const int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
    (void)loop.watch(signal_fd, whorl::Interest::readable,
                     [](whorl::Loop& stopped, whorl::Watched) { stopped.stop(); });
    if (whorl::Error error = loop.run()) return serve_failed("run", error.text());
    if (whorl::Error error = loop.drain(std::chrono::seconds(5))) {
        return serve_failed("drain", error.text());
    }
    ::close(signal_fd);
    std::puts("stopped");
    return 0;
}
