// SPDX-License-Identifier: MIT
#include "fault/world.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <new>

namespace fault {

using namespace std::chrono_literals;
using whorl::Error;

const char* kind_name(Kind kind) noexcept {
    switch (kind) {
        case Kind::io_uring:
            return "io_uring";
        case Kind::io_uring_plain:
            return "io_uring_plain";
        case Kind::libev:
            return "libev";
        default:
            return "automatic";
    }
}

// Small, so that a run is short; the limits themselves are other tests' matter.
whorl::LoopOptions options_of(Kind kind) noexcept {
    whorl::LoopOptions options;
    switch (kind) {
        case Kind::libev:
            options.backend = whorl::Backend::libev;
            break;
        case Kind::automatic:
            break;
        default:
            options.backend = whorl::Backend::io_uring;
            break;
    }
    if (kind == Kind::io_uring_plain) options.features_off = 0xFFFF'FFFF;
    else options.registered_buffers = true;
    options.ops_max = 1024;
    options.handles_max = 256;
    options.recv_ring_depth = 4;
    options.recv_ring_depth_max = 16;
    options.submission_queue_depth = 64;
    options.shutdown_bound = 2s;
    return options;
}

whorl::Address own_address() noexcept {
    const auto process = static_cast<std::uint32_t>(::getpid());
    const auto part = [process](int shift) { return static_cast<std::uint8_t>(process >> shift); };
    // 127.64.0.0/10, so that it is neither 127.0.0.1 nor the network's broadcast address.
    return whorl::Address::ipv4(127, 64 | (part(16) & 63), part(8), part(0), 0);
}

bool World::open() noexcept {
    whorl::BackendReport report;
    whorl::Result<whorl::Loop> made = whorl::Loop::create(options_of(kind_), report);
    if (!made) {
        static_cast<void>(failed("create", made.error()));
        return false;
    }
    loop_.emplace(std::move(*made));
    return true;
}

// --- What the scenario hears

int World::ticket_new(const void* buffer) noexcept {
    if (tickets_count_ == tickets_max) {
        wrong("the scenario submits more than the books hold");
        tickets_count_ = 0;
    }
    tickets_[tickets_count_] = {buffer, true};
    return tickets_count_++;
}

bool World::arrived(int ticket, bool more, const void* buffer) noexcept {
    Ticket& entry = tickets_[ticket];
    if (!entry.open) wrong("a completion after the final one");
    if (more) return true;
    if (canary_ == Canary::lose_completion && fired()) return false;
    entry.open = false;
    if (entry.buffer != nullptr && buffer != entry.buffer) wrong("another buffer came home");
    return true;
}

void World::dropped(int ticket) noexcept {
    Ticket& entry = tickets_[ticket];
    if (!entry.open) return;
    entry.open = false;
    const bool ended_by_destruction = leaves_pending_ || (!loop_ && !drained_);
    if (!ended_by_destruction) wrong("a handler was destroyed uncalled");
}

void World::note(const char* where, Error error) noexcept {
    if (!error || canary_ == Canary::swallow) return;
    if (errors_count_ < errors_max) errors_[errors_count_++] = {where, error};
}

bool World::failed(const char* where, Error error) noexcept {
    if (!error) return false;
    while (canary_ == Canary::hang && fired()) ::pause();
    if (!over_) note(where, error);
    over_ = true;
    if (loop_) loop_->stop();
    return true;
}

void World::wrong(const char* what) noexcept {
    if (complaint_[0] == 0) std::snprintf(complaint_, sizeof complaint_, "%s", what);
    over_ = true;
}

void World::finish() noexcept {
    if (over_) return;
    finished_ = true;
    over_ = true;
}

// --- Running

void World::run() noexcept {
    while (!over_) {
        if (++turns_ > turns_max) return wrong("the loop turns and turns");
        const Error error = loop_->run_once();
        if (error == Error::nothing_to_wait_for) return;
        static_cast<void>(failed("run", error));
    }
}

void World::drain() noexcept {
    over_ = true;
    if (!loop_ || leaves_pending_) return;
    for (int attempt = 0; attempt < 3 && !drained_; ++attempt) {
        const Error error = loop_->drain(5s);
        if (!error) drained_ = true;
        else if (error == Error::drain_incomplete) return wrong("draining does not end");
        else note("drain", error);
    }
    if (!drained_) return;
    const whorl::Statistics& statistics = loop_->statistics();
    check(statistics.operations == 0, "operations are left after draining");
    check(statistics.handles == 0, "handles are left after draining");
}

namespace {

// A plain round, without books: connect, send, receive, close.
struct Again {
    whorl::Socket server;
    whorl::Socket client;
    int received = 0;
    Error error;

    void fail(whorl::Loop& loop, Error cause) noexcept {
        if (!error) error = cause;
        loop.stop();
    }
    void operator()(whorl::Loop& loop, whorl::Accept::Done done) noexcept {
        if (done.error) return fail(loop, done.error);
        server = done.socket;
        whorl::Buffer buffer = loop.buffer(100);
        if (!buffer) return fail(loop, Error::from_errno(ENOMEM));
        const auto made = loop.submit(whorl::Recv{server, std::move(buffer)}, this);
        if (!made) fail(loop, made.error());
    }
    void operator()(whorl::Loop& loop, whorl::Connect::Done done) noexcept {
        if (done.error) return fail(loop, done.error);
        client = done.socket;
        whorl::Buffer buffer = loop.buffer(100);
        if (!buffer) return fail(loop, Error::from_errno(ENOMEM));
        buffer.append(whorl::Bytes("again", 5));
        const auto made = loop.submit(whorl::SendAll{client, std::move(buffer)}, this);
        if (!made) fail(loop, made.error());
    }
    void operator()(whorl::Loop& loop, whorl::SendAll::Done done) noexcept {
        if (done.error) fail(loop, done.error);
    }
    void operator()(whorl::Loop& loop, whorl::Recv::Done done) noexcept {
        if (done.error) return fail(loop, done.error);
        received = static_cast<int>(done.buffer.size());
        loop.stop();
    }
};

Error echo_round(whorl::Loop& loop, Again& again) noexcept {
    const whorl::Result<whorl::Listener> listener = whorl::listen(loop, own_address());
    if (!listener) return listener.error();
    const whorl::Result<whorl::Address> address = whorl::local_address(loop, *listener);
    if (!address) return address.error();
    const auto accepting = loop.submit(whorl::Accept{*listener}, &again);
    if (!accepting) return accepting.error();
    const auto connecting = loop.submit(whorl::Connect{*address}, &again);
    if (!connecting) return connecting.error();
    // A timer of one's own shows that timers still work, too.
    const auto bound = loop.after(
        5s, [&again](whorl::Loop& inner, whorl::Expired) { again.fail(inner, Error::timed_out); });
    if (!bound) return bound.error();
    bool ticked = false;
    const auto tick = loop.after(1us, [&ticked](whorl::Loop&, whorl::Expired) { ticked = true; });
    if (!tick) return tick.error();
    if (const Error error = loop.run()) return error;
    while (!ticked && !again.error) {
        if (const Error error = loop.run_once()) return error;
    }
    if (again.error) return again.error;
    if (again.received != 5) return Error::from_errno(EPROTO);
    return loop.drain(5s);
}

}  // namespace

void World::echo_again() noexcept {
    // Only what run() and drain() report may mean that the backend can no longer work (driver.hpp).
    for (int index = 0; index < errors_count_; ++index) {
        const char* where = errors_[index].where;
        if (std::strcmp(where, "run") == 0 || std::strcmp(where, "drain") == 0) return;
    }
    if (!loop_ || !drained_ || complaint() != nullptr) return;
    Again again;
    const Error error = echo_round(*loop_, again);
    if (!error) return;
    std::snprintf(complaint_, sizeof complaint_, "the loop does not go on: %s", error.name());
}

void World::destroy() noexcept {
    if (!loop_) return;
    whorl::Loop ending = std::move(*loop_);
    loop_.reset();
}

void World::settle() noexcept {
    for (int index = 0; index < tickets_count_; ++index) {
        if (tickets_[index].open) wrong("an operation never ended");
    }
    if (fired() && canary_ == Canary::leak_descriptor) {
        static_cast<void>(!::open("/dev/null", O_RDONLY | O_CLOEXEC));
    }
    if (fired() && canary_ == Canary::leak_memory) {
        static_cast<void>(*static_cast<char* volatile*>(new (std::nothrow) char*(nullptr)));
    }
    // The loader keeps the text of its last error, once.
    static_cast<void>(dlerror());
    static_cast<void>(dlerror());
}

}  // namespace fault
