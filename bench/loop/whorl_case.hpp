// SPDX-License-Identifier: MIT
// What whorl's programs of one case share. The backend stands before the name of the case: io_uring:post.
#pragma once

#include <whorl/loop.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

namespace bench {

struct WhorlCase {
    whorl::Backend backend = whorl::Backend::automatic;
    std::string name;  // of the rival
};
inline WhorlCase whorl_case;

// Takes the backend out of the arguments; ends the program when there is none.
inline void take_backend(int argc, char** argv) {
    char* colon = argc > 2 ? std::strchr(argv[2], ':') : nullptr;
    const std::string chosen = colon != nullptr ? std::string(argv[2], colon) : "";
    if (chosen != "io_uring" && chosen != "libev") {
        std::fprintf(stderr, "%s --case io_uring:NAME or libev:NAME\n", argv[0]);
        std::exit(2);
    }
    whorl_case.backend = chosen == "libev" ? whorl::Backend::libev : whorl::Backend::io_uring;
    whorl_case.name = "whorl:" + chosen;
    argv[2] = colon + 1;
}

inline whorl::Loop make_whorl_loop() {
    whorl::LoopOptions options;
    options.backend = whorl_case.backend;
    whorl::BackendReport report;
    whorl::Result<whorl::Loop> made = whorl::Loop::create(options, report);
    if (made) return std::move(*made);
    std::fprintf(stderr, "%s\n", report.text);
    std::exit(77);
}

inline void check(whorl::Error error) {
    if (!error) return;
    std::fprintf(stderr, "%s\n", error.text());
    std::exit(1);
}

}  // namespace bench
