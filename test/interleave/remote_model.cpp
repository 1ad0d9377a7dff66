// SPDX-License-Identifier: MIT
// Goal: a post from another thread is neither lost nor run twice nor run after the end; a loop that
// sleeps is woken, once for each sleep; nothing shared is used after it is gone.
// Method: the real Loop and Remote, all of floors 1, 2 and 4, with a driver of this file that can do
// nothing but wait; every order of their steps (explorer.hpp). The mutants in mutate.py must each be
// found. Run with the name of a scenario and the choices that a violation printed to repeat it.
#include "backend/select.hpp"
#include "interleave/atomic.hpp"
#include "loop/remote_state.hpp"

#include <whorl/loop.hpp>
#include <whorl/remote.hpp>

#include <cstdio>
#include <cstring>
#include <iterator>
#include <new>
#include <utility>

namespace {

using interleave::explorer;
using whorl::Loop;
using whorl::Remote;

constexpr std::uint32_t posts_max = 4;

// What happened in one execution. A post is named by its poster and its number there.
struct Ledger {
    std::uint32_t expected = 0;  // posts; the last one stops the loop
    std::uint32_t ran[posts_max] = {};
    std::uint32_t destroyed[posts_max] = {};
    bool accepted[posts_max] = {};
    std::uint32_t ran_total = 0;
    std::uint32_t sleeps = 0;
    std::uint32_t wakes_per_sleep = 1;
    bool loop_gone = false;
};
Ledger ledger;

// Memory of the poster's that it hands over with its post.
struct Message {
    interleave::Plain<std::uint32_t> text;
};

class Post {
  public:
    explicit Post(std::uint32_t id) : id_(id), message_(new (std::nothrow) Message) {
        message_->text.write(id + 100);
    }
    Post(Post&& other) noexcept
        : id_(other.id_), message_(std::exchange(other.message_, nullptr)) {}
    ~Post() {
        if (message_ == nullptr) return;
        ++ledger.destroyed[id_];
        delete message_;
    }
    void operator()(Loop& loop) {
        explorer().check(!ledger.loop_gone, "a post ran after the loop had gone");
        explorer().check(message_->text.read() == id_ + 100,
                         "a post ran and does not see what its poster had written before");
        for (std::uint32_t id = id_ + 1; id < posts_max; ++id) {
            if (id / 2 == id_ / 2)
                explorer().check(ledger.ran[id] == 0, "posts of one thread ran out of order");
        }
        ++ledger.ran[id_];
        if (++ledger.ran_total == ledger.expected) loop.stop();
    }

  private:
    std::uint32_t id_;
    Message* message_;
};

// Can wait, and nothing else.
class WaitingDriver : public whorl::detail::Driver {
  public:
    whorl::Error bind() noexcept override { return {}; }
    whorl::Error wait(whorl::detail::OpList&, whorl::Nanoseconds timeout,
                      whorl::detail::CompletionBatch&) noexcept override {
        explorer().event_wait(event_fd_, timeout != whorl::Nanoseconds::zero(), true);
        return {};
    }
    void cancel(whorl::detail::OpRecord&) noexcept override {}
    void flush() noexcept override {}
    void forget(whorl::detail::Descriptor&) noexcept override {}
    void forget_watch(whorl::detail::OpRecord&) noexcept override {}
    whorl::Error watch_wake(int event_fd) noexcept override {
        event_fd_ = event_fd;
        return {};
    }
    whorl::Result<int> notify_fd() noexcept override { return event_fd_; }

  private:
    int event_fd_ = -1;
};

Loop make_loop() {
    whorl::LoopOptions options;
    options.ops_max = options.handles_max = options.posts_max = 4;
    options.completions_per_turn = 1;
    whorl::Result<Loop> loop = Loop::create(options);
    explorer().check(loop.has_value(), "Loop::create");
    return std::move(*loop);
}

void begin(std::uint32_t posts) {
    ledger = Ledger();
    ledger.expected = posts;
    explorer().allow_without_cause(1, 1);
    explorer().name_locations(
        {"head", "stop", "sleep", "references", "message", "message", "message", "message"});
    explorer().on_write([](const void* tag, interleave::Word value) {
        using whorl::detail::Sleep;
        if (tag != interleave::Atomic<Sleep>::tag()) return;
        if (static_cast<Sleep>(value) == Sleep::sleeping) ++ledger.sleeps;
    });
    explorer().at_end([] {
        for (std::uint32_t id = 0; id < posts_max; ++id) {
            explorer().check(ledger.ran[id] <= 1, "a post ran twice");
            explorer().check(ledger.accepted[id] || ledger.ran[id] == 0,
                             "a post ran that had been refused");
        }
    });
}

// Every accepted post has run by the end of the execution.
void expect_all_run() {
    explorer().at_end([] {
        for (std::uint32_t id = 0; id < posts_max; ++id) {
            explorer().check(!ledger.accepted[id] || ledger.ran[id] == 1, "a post was lost");
        }
    });
}

void post(const Remote& remote, std::uint32_t id) { ledger.accepted[id] = remote.post(Post(id)); }

void spawn_poster(const Remote& remote, std::uint32_t first, std::uint32_t count) {
    explorer().spawn([remote, first, count] {
        for (std::uint32_t id = first; id < first + count; ++id) post(remote, id);
    });
}

void run_and_end(Loop loop) {
    explorer().check(!loop.run(whorl::RunUntil::stopped), "run");
    { const Loop gone(std::move(loop)); }
    ledger.loop_gone = true;
}

// --- the scenarios

void one_poster() {
    begin(2);
    Loop loop = make_loop();
    spawn_poster(*loop.remote(), 0, 2);
    expect_all_run();
    run_and_end(std::move(loop));
}

void two_posters() {
    begin(2);
    explorer().allow_without_cause(0, 0);
    Loop loop = make_loop();
    const Remote remote = *loop.remote();
    spawn_poster(remote, 0, 1);
    spawn_poster(remote, 2, 1);
    expect_all_run();
    run_and_end(std::move(loop));
}

// A stop from outside ends run(); what was posted meanwhile runs, or goes with the loop.
void stopped_from_outside() {
    begin(posts_max);
    explorer().allow_without_cause(0, 0);
    Loop loop = make_loop();
    const Remote remote = *loop.remote();
    explorer().spawn([remote] { remote.stop(); });
    spawn_poster(remote, 0, 1);
    run_and_end(std::move(loop));
}

// The loop goes away among the posts, after a turn that does not wait.
void loop_goes() {
    begin(posts_max);
    Loop loop = make_loop();
    const Remote remote = *loop.remote();
    spawn_poster(remote, 0, 2);
    explorer().check(!loop.poll(), "poll");
    { const Loop gone(std::move(loop)); }
    ledger.loop_gone = true;
}

// A foreign loop that sleeps on notify_fd() until a post has come.
void guest() {
    begin(2);
    explorer().allow_without_cause(0, 0);
    ledger.wakes_per_sleep = 2;  // it also wakes itself, when a post is there as it goes to sleep
    Loop loop = make_loop();
    const int fd = *loop.notify_fd();
    spawn_poster(*loop.remote(), 0, 2);
    expect_all_run();
    explorer().check(!loop.poll(), "poll");
    while (ledger.ran_total < 2) {
        explorer().event_wait(fd, true, false);
        explorer().check(!loop.poll(), "poll");  // a turn only: what it leaves must wake the host
    }
    { const Loop gone(std::move(loop)); }
    ledger.loop_gone = true;
}

struct Scenario {
    const char* name;
    void (*body)();
};
constexpr Scenario scenarios[] = {{"loop_goes", loop_goes},  // the shortest first
                                  {"guest", guest},
                                  {"stopped_from_outside", stopped_from_outside},
                                  {"one_poster", one_poster},
                                  {"two_posters", two_posters}};

}  // namespace

namespace whorl {

Instant clock_now() noexcept { return Instant(Nanoseconds(1'000'000'000)); }

namespace detail {

namespace {

// The system of the model: one eventfd, and a clock that stands still.
class ModelSystem final : public System {
  public:
    Instant now() noexcept override { return clock_now(); }
    int eventfd(unsigned, int) noexcept override { return explorer().event_make(); }
    ssize_t write(int fd, const void*, std::size_t size) noexcept override {
        explorer().event_write(fd);
        explorer().check(explorer().event_writes() <= ledger.sleeps * ledger.wakes_per_sleep,
                         "more than one wake call for one sleep");
        return static_cast<ssize_t>(size);
    }
    int close(int fd) noexcept override {
        explorer().event_close(fd);
        return 0;
    }

    // Nothing else is asked for.
    int socket(int, int, int) noexcept override { return -ENOSYS; }
    int bind(int, const sockaddr*, socklen_t) noexcept override { return -ENOSYS; }
    int listen(int, int) noexcept override { return -ENOSYS; }
    int shutdown(int, int) noexcept override { return -ENOSYS; }
    int socketpair(int, int, int, int[2]) noexcept override { return -ENOSYS; }
    int set_blocking(int) noexcept override { return -ENOSYS; }
    int unlink_socket(const char*) noexcept override { return -ENOSYS; }
    ssize_t write_quietly(int, const void*, std::size_t) noexcept override { return -ENOSYS; }
    int pipe2(int[2], int) noexcept override { return -ENOSYS; }
    int duplicate(int) noexcept override { return -ENOSYS; }
    int pipe_access(int) noexcept override { return -ENOSYS; }
    int connect(int, const sockaddr*, socklen_t) noexcept override { return -ENOSYS; }
    ssize_t recvmsg(int, msghdr*, int) noexcept override { return -ENOSYS; }
    int getsockname(int, sockaddr*, socklen_t*) noexcept override { return -ENOSYS; }
    int getpeername(int, sockaddr*, socklen_t*) noexcept override { return -ENOSYS; }
    int setsockopt(int, int, int, const void*, socklen_t) noexcept override { return -ENOSYS; }
    int getsockopt(int, int, int, void*, socklen_t*) noexcept override { return -ENOSYS; }
    ssize_t recv(int, void*, std::size_t, int) noexcept override { return -ENOSYS; }
    ssize_t read(int, void*, std::size_t) noexcept override { return -ENOSYS; }
    int epoll_create1(int) noexcept override { return -ENOSYS; }
    int epoll_ctl(int, int, int, epoll_event*) noexcept override { return -ENOSYS; }
    int poll_now(pollfd*, nfds_t) noexcept override { return -ENOSYS; }
    FileCalls& file_calls() noexcept override { std::abort(); }
    ProcessCalls& process_calls() noexcept override { std::abort(); }
    RingCalls& ring_calls() noexcept override { std::abort(); }
};

}  // namespace

System& system_for(const LoopOptions&) noexcept {
    static ModelSystem system;
    return system;
}

KernelVersion kernel_version_running() noexcept { return {}; }

Result<Driver*> select_driver(const DriverContext&, const KernelVersion&,
                              BackendReport& report) noexcept {
    report = BackendReport{};
    Driver* driver = new (std::nothrow) WaitingDriver;
    return driver;
}

}  // namespace detail
}  // namespace whorl

int main(int argc, char** argv) {
    explorer().name_program(argv[0]);
    for (const Scenario& scenario : scenarios) {
        if (argc > 1 && std::strcmp(argv[1], scenario.name) != 0) continue;
        // A sanitizer makes it ten times slower, and the state space does not change.
        if (interleave::sanitized && scenario.body == two_posters) continue;
        if (argc > 2) explorer().repeat(scenario.name, scenario.body, argv[2]);
        else explorer().explore(scenario.name, scenario.body);
    }
    return 0;
}
