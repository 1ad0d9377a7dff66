// SPDX-License-Identifier: MIT
// Goal: a post from another thread is neither lost nor run twice nor run after the end; a loop that
// sleeps is woken, once for each sleep; nothing shared is used after it is gone.
// Method: the real Loop and Remote, all of floors 1, 2 and 4, with a driver that can do nothing but wait
// (model_loop.cpp); every order of their steps (explorer.hpp). The mutants in mutate.py must each be
// found. Run with the name of a scenario and the choices that a violation printed to repeat it.
#include "interleave/model_loop.hpp"

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

void begin(std::uint32_t posts) {
    ledger = Ledger();
    ledger.expected = posts;
    explorer().allow_without_cause(1, 1);
    explorer().name_locations(
        {"head", "stop", "sleep", "references", "message", "message", "message", "message"});
    interleave::watch_sleeps(1);
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
    Loop loop = interleave::make_loop();
    spawn_poster(*loop.remote(), 0, 2);
    expect_all_run();
    run_and_end(std::move(loop));
}

void two_posters() {
    begin(2);
    explorer().allow_without_cause(0, 0);
    Loop loop = interleave::make_loop();
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
    Loop loop = interleave::make_loop();
    const Remote remote = *loop.remote();
    explorer().spawn([remote] { remote.stop(); });
    spawn_poster(remote, 0, 1);
    run_and_end(std::move(loop));
}

// The loop goes away among the posts, after a turn that does not wait.
void loop_goes() {
    begin(posts_max);
    Loop loop = interleave::make_loop();
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
    interleave::watch_sleeps(2);  // it also wakes itself, when a post is there as it goes to sleep
    Loop loop = interleave::make_loop();
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
