// SPDX-License-Identifier: MIT
#pragma once

#include <whorl/whorl.hpp>

#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>

// Goal: one program may use whorl and another event library. Method: each program has both kinds of loop
// at once, whorl's on either backend. Each fires a timer and sees a byte at a socket; in turns, so that
// one that took the other's functions would be found out. A program defines run_other(fd): true when the
// other library fired a timer of 1 ms and saw that `fd` is readable.

namespace together {

bool run_other(int fd);

struct Pair {
    int ends[2] = {-1, -1};
    Pair() {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) ends[0] = -1;
        else if (write(ends[1], "x", 1) != 1) std::perror("write");
    }
    Pair(const Pair&) = delete;
    Pair& operator=(const Pair&) = delete;
    ~Pair() {
        close(ends[0]);
        close(ends[1]);
    }
};

inline bool run_whorl(whorl::Loop& loop) {
    Pair pair;
    bool fired = false, seen = false;
    auto timer = loop.after(std::chrono::milliseconds(1),
                            [&](whorl::Loop&, whorl::Expired) { fired = true; });
    auto watch = loop.watch(pair.ends[0], whorl::Interest::readable,
                            [&](whorl::Loop& inner, whorl::Watched watched) {
                                seen = watched.readable;
                                inner.cancel(watched.watch);
                            });
    return timer && watch && !loop.run() && fired && seen;
}

inline int main() {
    whorl::LoopOptions libev;
    libev.backend = whorl::Backend::libev;
    whorl::Result<whorl::Loop> first = whorl::Loop::create(libev);
    whorl::Result<whorl::Loop> second = whorl::Loop::create();
    if (!first || !second) return 1;
    for (int round = 0; round < 3; ++round) {
        Pair pair;
        if (!run_whorl(*first)) return 2;
        if (!run_other(pair.ends[0])) return 3;
        if (!run_whorl(*second)) return 4;
    }
    std::printf("whorl %s, %s and %s\n", WHORL_VERSION_STRING, first->backend_name(),
                second->backend_name());
    return 0;
}

}  // namespace together

int main() { return together::main(); }
