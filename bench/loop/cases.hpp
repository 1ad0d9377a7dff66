// SPDX-License-Identifier: MIT
// What a loop does besides echoing, on the real clock. A rival is a class Loop with those of these
// functions that it has; a case whose functions are missing is skipped.
//
//   watch(end)             end.ready() whenever end.read_fd is readable, until the loop ends
//   run(), stop()          runs until stopped
//   after(ns, fire)        fire.fire() once, after so long
//   jobs(list)             announces jobs; then post(job) has job.run() called by the loop, later
//   turn()                 runs what is posted, without waiting
//   inbox(box)             announces an inbox; then wake() from any thread makes the loop call
//                          box.woken(), once or more often, after what was put into the box before it
//   nop(depth, operations) does so many no-ops by way of the kernel, so many of them under way
#pragma once

#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <mutex>
#include <thread>
#include <type_traits>

#include "../harness.hpp"

namespace bench {

// ---- ping-pong: a byte goes to and fro over a socket pair, both ends watched by the one loop ----

// `count` pairs at once. An operation is one hop: wait, read, write.
template <class Loop>
struct PingPong {
    struct End {
        PingPong* game;
        int read_fd;
        std::uint64_t left;  // hops that this end may still answer
        void ready() {
            unsigned char byte = 0;
            if (read(read_fd, &byte, 1) != 1) return;
            game->sum += byte;
            ++game->hops;
            if (game->hops == game->hops_wanted) return game->loop.stop();
            if (left-- > 0) (void)!write(read_fd, &byte, 1);
        }
    };

    Loop& loop;
    std::deque<End> ends;
    std::uint64_t hops_wanted = 0;
    std::uint64_t hops = 0;
    std::uint64_t sum = 0;

    // Each pair makes the same number of hops, so that the sum is the same in every order.
    PingPong(Loop& of, std::size_t pairs, std::uint64_t operations) : loop(of) {
        const std::uint64_t each = std::max<std::uint64_t>(operations / pairs / 2, 1);
        hops_wanted = each * 2 * pairs;
        for (std::size_t pair = 0; pair != pairs; ++pair) {
            int fds[2];
            if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0) {
                std::perror("socketpair");
                std::exit(1);
            }
            ends.push_back({this, fds[0], each});
            ends.push_back({this, fds[1], each - 1});
        }
        for (End& end : ends) loop.watch(end);
    }
    ~PingPong() {
        for (const End& end : ends) (void)close(end.read_fd);
    }
    void serve() {
        for (std::size_t index = 1; index < ends.size(); index += 2) {
            const auto byte = static_cast<unsigned char>(index);
            (void)!write(ends[index].read_fd, &byte, 1);
        }
    }
};

template <class Loop>
void pingpong(Run& run) {
    Loop loop;
    {
        PingPong<Loop> game(loop, run.count(), run.operations());
        run.measure([&] {
            game.serve();
            loop.run();
        });
        run.add(game.sum);
        loop.finish();
    }
}

// ---- posts to the own loop ----

template <class Loop>
struct Job {
    Loop* loop;
    std::uint64_t index;
    std::uint64_t* sum;
    std::uint64_t* left;  // chain: hops still to go
    void run() {
        *sum += index + 1;
        if (left == nullptr) return;
        if (--*left == 0) loop->stop();
        else loop->post(*this);
    }
};

// `count` handlers are posted and run, again and again.
template <class Loop>
void post_batch(Run& run) {
    Loop loop;
    std::uint64_t sum = 0;
    std::deque<Job<Loop>> jobs;
    for (std::size_t i = 0; i != run.count(); ++i) jobs.push_back({&loop, i, &sum, nullptr});
    loop.jobs(jobs);
    const std::uint64_t each = run.count() * (run.count() + 1) / 2;
    run.measure([&] {
        for (std::uint64_t n = 0; n < run.operations(); n += run.count()) {
            const std::uint64_t wanted = sum + each;
            for (Job<Loop>& job : jobs) loop.post(job);
            while (sum != wanted) loop.turn();
        }
    });
    run.add(sum);
    loop.finish();
}

// A handler posts itself.
template <class Loop>
void post_chain(Run& run) {
    Loop loop;
    std::uint64_t sum = 0, left = run.operations();
    std::deque<Job<Loop>> jobs{{&loop, 0, &sum, &left}};
    loop.jobs(jobs);
    run.measure([&] {
        loop.post(jobs.front());
        loop.run();
    });
    run.add(sum);
    loop.finish();
}

// ---- from another thread ----

// A queue for loops that have a way to be woken and none to be given work.
class Inbox {
  public:
    void put(std::uint64_t value) {
        const std::lock_guard<std::mutex> lock(mutex_);
        values_.push_back(value);
    }
    // On the loop's thread.
    void woken() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            taken_.swap(values_);
        }
        for (const std::uint64_t value : taken_) take(value);
        taken_.clear();
    }
    // For loops that bring the values themselves.
    void take(std::uint64_t value) {
        sum_ += value;
        seen_.store(seen_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
        if (value == last) finished = true;
    }
    std::uint64_t seen() const { return seen_.load(std::memory_order_acquire); }
    std::uint64_t sum() const { return sum_; }

    static constexpr std::uint64_t last = ~std::uint64_t{0};
    bool finished = false;

  private:
    std::mutex mutex_;
    std::vector<std::uint64_t> values_;
    std::vector<std::uint64_t> taken_;
    std::uint64_t sum_ = 0;
    std::atomic<std::uint64_t> seen_{0};
};

inline double quantile(std::vector<std::uint64_t>& values, double share) {
    if (values.empty()) return 0;
    std::sort(values.begin(), values.end());
    return static_cast<double>(
        values[static_cast<std::size_t>(share * static_cast<double>(values.size() - 1))]);
}

// A thread gives a value to a loop that has gone to sleep, and waits until it is there. `ns` is the
// loop's thread's processor time for one; "call_ns" what the call costs who makes it (median), and
// "p50_ns" and "p99_ns" the time until the value is there.
template <class Loop>
void wake(Run& run) {
    Loop loop;
    Inbox box;
    loop.inbox(box);
    std::vector<std::uint64_t> calls, trips;
    std::thread waker([&] {
        run.pin_other();
        for (std::uint64_t n = 0; n != run.operations(); ++n) {
            const timespec pause{0, 50'000};  // so that the loop sleeps; were it awake, only the
            (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);  // figure would be better
            const std::uint64_t begin = clock_read(CLOCK_MONOTONIC);
            loop.give(box, n);
            const std::uint64_t called = clock_read(CLOCK_MONOTONIC);
            while (box.seen() == n) sched_yield();
            trips.push_back(clock_read(CLOCK_MONOTONIC) - begin);
            calls.push_back(called - begin);
        }
        loop.give(box, Inbox::last);
    });
    const std::uint64_t begin = clock_read(CLOCK_THREAD_CPUTIME_ID);
    loop.run();
    run.set_ns(static_cast<double>(clock_read(CLOCK_THREAD_CPUTIME_ID) - begin) /
               static_cast<double>(run.operations()));
    waker.join();
    run.tell("call_ns", quantile(calls, 0.5));
    run.tell("p50_ns", quantile(trips, 0.5));
    run.tell("p99_ns", quantile(trips, 0.99));
    run.add(box.sum());
    loop.finish();
}

// Another thread gives values as fast as it can; the processor time of both, by value. "ahead" is bounded
// so that the queue is not what is measured.
template <class Loop>
void remote(Run& run) {
    constexpr std::uint64_t ahead = 4096;
    Loop loop;
    Inbox box;
    loop.inbox(box);
    run.measure([&] {
        std::thread giver([&] {
            run.pin_other();
            for (std::uint64_t n = 0; n != run.operations(); ++n) {
                while (n - box.seen() > ahead) sched_yield();
                loop.give(box, n);
            }
            loop.give(box, Inbox::last);
        });
        loop.run();
        giver.join();
    });
    run.add(box.sum());
    loop.finish();
}

// ---- time ----

// An idle loop's timers of 2 ms, one after the other: `ns` is the median lateness; "early" how many fired
// before their time, counted from when they were armed.
template <class Loop>
struct Lateness {
    static constexpr std::uint64_t delay_ns = 2'000'000;
    Loop& loop;
    std::uint64_t left;
    std::uint64_t busy_ns = 0;  // how long the handler works before it arms the next
    std::uint64_t due = 0;
    std::uint64_t early = 0;
    std::uint64_t early_ns = 0;  // the worst
    std::vector<std::uint64_t> late = {};
    void arm() {
        due = clock_read(CLOCK_MONOTONIC) + delay_ns;
        loop.after(delay_ns, *this);
    }
    void fire() {
        const std::uint64_t now = clock_read(CLOCK_MONOTONIC);
        if (now < due) {
            ++early;
            early_ns = std::max(early_ns, due - now);
        }
        late.push_back(now < due ? 0 : now - due);
        if (--left == 0) return loop.stop();
        while (clock_read(CLOCK_MONOTONIC) < now + busy_ns) {
        }
        arm();
    }
};

template <class Loop>
void lateness(Run& run, std::uint64_t busy_ns) {
    Loop loop;
    Lateness<Loop> timer{loop, run.operations(), busy_ns};
    timer.arm();
    loop.run();
    run.tell("p99_ns", quantile(timer.late, 0.99));
    run.set_ns(quantile(timer.late, 0.5));
    run.tell("early", static_cast<double>(timer.early));
    run.tell("early_worst_ns", static_cast<double>(timer.early_ns));
    run.add(timer.late.size());
    loop.finish();
}

// ---- which cases a loop has ----

template <class Loop, class = void>
struct HasWatch : std::false_type {};
template <class Loop>
struct HasWatch<Loop, std::void_t<decltype(&Loop::template watch<typename PingPong<Loop>::End>)>>
    : std::true_type {};
template <class Loop, class = void>
struct HasPost : std::false_type {};
template <class Loop>
struct HasPost<Loop, std::void_t<decltype(&Loop::template post<Job<Loop>>)>> : std::true_type {};
template <class Loop, class = void>
struct HasInbox : std::false_type {};
template <class Loop>
struct HasInbox<Loop, std::void_t<decltype(&Loop::give)>> : std::true_type {};
template <class Loop, class = void>
struct HasTimer : std::false_type {};
template <class Loop>
struct HasTimer<Loop, std::void_t<decltype(&Loop::template after<Lateness<Loop>>)>>
    : std::true_type {};
template <class Loop, class = void>
struct HasNop : std::false_type {};
template <class Loop>
struct HasNop<Loop, std::void_t<decltype(&Loop::nop)>> : std::true_type {};

template <class Loop>
bool loop_case(Run& run) {
    if constexpr (HasWatch<Loop>::value) {
        if (run.is("pingpong")) return pingpong<Loop>(run), true;
    }
    if constexpr (HasPost<Loop>::value) {
        if (run.is("post")) return post_batch<Loop>(run), true;
        if (run.is("chain")) return post_chain<Loop>(run), true;
    }
    if constexpr (HasInbox<Loop>::value) {
        if (run.is("wake")) return wake<Loop>(run), true;
        if (run.is("remote")) return remote<Loop>(run), true;
    }
    if constexpr (HasTimer<Loop>::value) {
        if (run.is("lateness")) return lateness<Loop>(run, 0), true;
        if (run.is("slow_handler")) return lateness<Loop>(run, 20'000'000), true;
    }
    if constexpr (HasNop<Loop>::value) {
        if (run.is("nop")) {
            Loop loop;
            run.measure([&] { run.add(loop.nop(run.count(), run.operations())); });
            loop.finish();
            return true;
        }
    }
    return false;
}

template <class Loop>
int loop_main(int argc, char** argv) {
    Run run(Loop::name, argc, argv);
    return loop_case<Loop>(run) ? run.finish() : Run::skip();
}

}  // namespace bench
