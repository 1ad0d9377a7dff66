// SPDX-License-Identifier: MIT
// What the servers with a loop for each core share: their arguments, and the signals that end them.
#pragma once

#include <whorl/core_set.hpp>
#include <whorl/whorl.hpp>

#include <signal.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

struct CoreArguments {
    std::uint16_t port = 7007;
    whorl::CoreSetOptions options;
};

// With `spread`: further words that the program takes after --spread.
inline bool core_parse(int count, char** words, CoreArguments& arguments,
                       std::string* spread = nullptr) {
    for (int index = 1; index + 1 < count; index += 2) {
        const std::string name = words[index], value = words[index + 1];
        if (name == "--port") arguments.port = static_cast<std::uint16_t>(std::atoi(value.c_str()));
        else if (name == "--loops")
            arguments.options.loops = static_cast<std::uint32_t>(std::atoi(value.c_str()));
        else if (name == "--backend" && value == "io_uring")
            arguments.options.loop.backend = whorl::Backend::io_uring;
        else if (name == "--backend" && value == "libev")
            arguments.options.loop.backend = whorl::Backend::libev;
        else if (name == "--spread" && spread != nullptr) *spread = value;
        else if (name != "--backend" || value != "automatic") return false;
    }
    return count % 2 == 1;
}

inline int core_failed(const char* what, const char* why) {
    std::fprintf(stderr, "%s: %s\n", what, why);
    return 1;
}

// SIGINT and SIGTERM, blocked: before there are threads, so that all of them inherit that and one waits.
inline sigset_t core_signals() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    return signals;
}
