// SPDX-License-Identifier: MIT
// Goal: one program may use whorl and libevent. libev exports event_add, event_del, event_loop and
// others, which in a program that links both libraries replace libevent's; whorl therefore loads libev
// at run time and out of everybody's sight.
// Method: linked in either order, with a static and with a shared whorl. Loops on both backends and an
// event base are alive at once, made in both orders, and each fires its timer and sees its socket.
#include <whorl/whorl.hpp>

#include <event2/event.h>

#include <dlfcn.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

namespace {

int failures = 0;

void expect(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "failed: %s\n", what);
    ++failures;
}

struct Seen {
    int timer = 0;
    int bytes = 0;
};

void on_timer(evutil_socket_t, short, void* seen) { ++static_cast<Seen*>(seen)->timer; }
void on_bytes(evutil_socket_t fd, short, void* seen) {
    char byte = 0;
    if (read(fd, &byte, 1) == 1) ++static_cast<Seen*>(seen)->bytes;
}

// A pair of sockets with one byte to be read at its first end.
struct Pair {
    int ends[2] = {-1, -1};
    Pair() {
        expect(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
        expect(write(ends[1], "x", 1) == 1, "write");
    }
    Pair(const Pair&) = delete;
    Pair& operator=(const Pair&) = delete;
    ~Pair() {
        close(ends[0]);
        close(ends[1]);
    }
};

void run_libevent(event_base* base) {
    Pair pair;
    Seen seen;
    event* timer = event_new(base, -1, 0, on_timer, &seen);
    event* bytes = event_new(base, pair.ends[0], EV_READ, on_bytes, &seen);
    const timeval soon{0, 2000};
    expect(event_add(timer, &soon) == 0 && event_add(bytes, nullptr) == 0, "event_add");
    expect(event_base_dispatch(base) == 1, "event_base_dispatch");
    expect(seen.timer == 1, "the timer of the event base fires once");
    expect(seen.bytes == 1, "the event base sees its socket");
    event_free(timer);
    event_free(bytes);
}

void run_whorl(whorl::Loop& loop) {
    Pair pair;
    Seen seen;
    auto timer = [&seen](whorl::Loop&, whorl::Expired) { ++seen.timer; };
    auto bytes = [&seen, &pair](whorl::Loop& now, whorl::Watched watched) {
        on_bytes(pair.ends[0], 0, &seen);
        now.cancel(watched.watch);
    };
    expect(bool(loop.after(std::chrono::milliseconds(2), timer)), "after");
    expect(bool(loop.watch(pair.ends[0], whorl::Interest::readable, bytes)), "watch");
    expect(!loop.run(), "run");
    expect(seen.timer == 1, "the timer of the loop fires once");
    expect(seen.bytes == 1, "the loop sees its socket");
}

// The library that a function's address lies in.
const char* library_of(void* function) {
    Dl_info info{};
    return dladdr(function, &info) != 0 ? info.dli_fname : "";
}

whorl::Result<whorl::Loop> make(whorl::Backend backend) {
    whorl::LoopOptions options;
    options.backend = backend;
    return whorl::Loop::create(options);
}

}  // namespace

int main() {
    whorl::Result<whorl::Loop> on_libev = make(whorl::Backend::libev);
    expect(bool(on_libev), "a loop on libev");
    if (!on_libev) return 1;
    event_base* base = event_base_new();
    expect(base != nullptr, "event_base_new");
    whorl::Result<whorl::Loop> on_default = make(whorl::Backend::automatic);
    expect(bool(on_default), "a loop on the default backend");
    if (base == nullptr || !on_default) return 1;
    for (int round = 0; round < 3; ++round) {
        run_whorl(*on_libev);
        run_libevent(base);
        run_whorl(*on_default);
    }
    event_base_free(base);

    base = event_base_new();
    whorl::Result<whorl::Loop> later = make(whorl::Backend::libev);
    expect(base != nullptr && bool(later), "the other way round");
    run_libevent(base);
    run_whorl(*later);
    event_base_free(base);

    for (const char* name : {"event_add", "event_del", "event_base_new", "event_base_loop"}) {
        void* function = dlsym(RTLD_DEFAULT, name);
        const char* library = function == nullptr ? "nowhere" : library_of(function);
        std::printf("%s: %s\n", name, library);
        expect(std::strstr(library, "libevent") != nullptr, name);
    }
    std::printf("libevent %s; whorl on %s and %s\n", event_get_version(), on_libev->backend_name(),
                on_default->backend_name());
    return failures == 0 ? 0 : 1;
}
