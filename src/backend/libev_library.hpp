// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <whorl/result.hpp>

#include <ev.h>

// libev, loaded when it is needed instead of linked: libev.so.4 exports 23 event_* symbols without a
// version, and a program that also links libevent aborts when libev comes first. RTLD_LOCAL keeps its
// symbols to ourselves.

// What we call. The types come from <ev.h>, so a header that says otherwise does not compile.
#define WHORL_LIBEV_FUNCTIONS(X) \
    X(ev_version_major)          \
    X(ev_loop_new)               \
    X(ev_loop_destroy)           \
    X(ev_run)                    \
    X(ev_pending_count)          \
    X(ev_set_loop_release_cb)    \
    X(ev_io_start)               \
    X(ev_io_stop)                \
    X(ev_fork_start)             \
    X(ev_embed_start)            \
    X(ev_embed_stop)

namespace whorl::detail {

inline constexpr const char* libev_name = "libev.so.4";

// Lifetime: valid until close(). Thread: any.
struct LibevLibrary {
#define WHORL_LIBEV_POINTER(name) decltype(&::name) name = nullptr;
    WHORL_LIBEV_FUNCTIONS(WHORL_LIBEV_POINTER)
#undef WHORL_LIBEV_POINTER
    void* handle = nullptr;

    void close() noexcept;
};

// Loads the library of that name.
// Errors: libev_missing when there is none, when it lacks a function, or is of another major version;
// EMFILE, ENFILE when no descriptor is free to look for it.
Result<LibevLibrary> load_libev(const char* name) noexcept;

// ev_io_init() and its kin are macros that cast between watcher types, which C++ compilers warn of.
// All watchers begin with the same fields (ev.h: EV_WATCHER); these helpers write them one by one.
template <class Watcher, class Callback>
void libev_init(Watcher& watcher, Callback callback, void* data) noexcept {
    watcher.active = 0;
    watcher.pending = 0;
    watcher.priority = 0;
    watcher.data = data;
    watcher.cb = callback;
}

// Says what a stopped watcher is to watch. libev then tells the kernel even when it believes to know
// this descriptor: the number may name another file by now.
inline void libev_set(ev_io& io, int fd, int events) noexcept {
    io.fd = fd;
    io.events = events | EV__IOFDSET;
}

// Changes the events of a stopped watcher whose descriptor has stayed open. Stopping, changing back
// and starting before the next ev_run() then costs no system call.
inline void libev_modify(ev_io& io, int events) noexcept {
    io.events = (io.events & EV__IOFDSET) | events;
}

}  // namespace whorl::detail
