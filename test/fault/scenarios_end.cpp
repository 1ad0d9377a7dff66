// SPDX-License-Identifier: MIT
#include "fault/scenario_tools.hpp"

#include <poll.h>
#include <sched.h>
#include <sys/eventfd.h>

#include <atomic>
#include <thread>

// Scenarios about other threads, about ending things early, and about loops as a whole.

namespace fault {

// --- remote_self: posts through a Remote on the loop's own thread

void run_remote_self(World& world) {
    int ran = 0;
    Result<Remote> remote = world.loop().remote();
    if (!remote) return static_cast<void>(world.failed("remote", remote.error()));
    const Remote copy = *remote;
    for (int index = 0; index < 3; ++index) {
        const bool posted = copy.post([&world, &ran](Loop&) {
            if (++ran == 3) world.finish();
        });
        if (!posted) static_cast<void>(world.failed("post", Error::from_errno(ENOMEM)));
    }
    world.run();
    world.drain();
    world.destroy();
    world.check(!copy.alive() && !copy.post([](Loop&) {}), "a Remote outlives its loop");
}

// --- remote_thread: a sleeping loop is woken by another thread, again and again

namespace {

struct Poster {
    Remote remote;
    World* world;
    std::atomic<int> ran{0};
    std::atomic<bool> ends{false};
    std::atomic<bool> refused{false};
    static constexpr int rounds = 4;

    // Posts once at a time, so that the loop goes to sleep in between.
    void work() noexcept {
        for (int round = 0; round < rounds && !ends; ++round) {
            const bool posted = remote.post([this](Loop&) {
                if (++ran == rounds) world->finish();
            });
            if (!posted) {
                refused = true;
                static_cast<void>(remote.stop());
                return;
            }
            while (ran <= round && !ends) sched_yield();
        }
    }
};

}  // namespace

void run_remote_thread(World& world) {
    Result<Remote> remote = world.loop().remote();
    if (!remote) return static_cast<void>(world.failed("remote", remote.error()));
    Poster poster;
    poster.remote = *remote;
    poster.world = &world;
    std::thread thread;
    {
        const Pause pause;
        thread = std::thread([&poster] { poster.work(); });
    }
    // A stop from the other thread ends run_once() like any turn.
    while (!world.over() && !poster.refused) {
        const Error error = world.loop().run_once();
        if (world.failed("run", error)) break;
    }
    if (poster.refused) static_cast<void>(world.failed("post", Error::from_errno(ENOMEM)));
    poster.ends = true;
    {
        const Pause pause;
        thread.join();
        // The thread's stop() ends this call, and no later one.
        if (poster.refused) static_cast<void>(world.loop().poll());
    }
    world.drain();
}

// --- cancel: operations that are cancelled, or end by their deadline

namespace {

struct Cancelling : Pair {
    using Pair::Pair;
    int cancelled = 0;
    int timed_out = 0;
    Operation receiving;
    Operation sending;
    Operation accepting;

    // An operation's end: what was asked for, or a failure.
    void ended(const char* where, Error error, Error asked, int& count) noexcept {
        if (error != asked) {
            world.check(static_cast<bool>(error), "a cancelled operation succeeded");
            static_cast<void>(world.failed(where, error));
            return;
        }
        ++count;
        if (cancelled == 3 && timed_out == 2) world.finish();
    }
    void start() noexcept {
        connect([this] { pending(); });
    }
    void pending() noexcept {
        Buffer into = buffer(100), late = buffer(100), large = buffer(large_size);
        if (!into || !late || !large) return;
        large.resize(large_size);
        // The server sends nothing, and receives nothing, so that the client's send is stuck.
        receiving = world.submit(
            Recv{client, std::move(into)}, SubmitOptions(),
            [this](Recv::Done done) { ended("recv", done.error, Error::cancelled, cancelled); });
        if (world.over()) return;
        world.submit(Recv{client, std::move(late)}, within(2ms), [this](Recv::Done done) {
            ended("recv", done.error, Error::timed_out, timed_out);
        });
        if (world.over()) return;
        sending = world.submit(SendAll{client, std::move(large)}, SubmitOptions(),
                               [this](SendAll::Done done) {
                                   ended("send_all", done.error, Error::cancelled, cancelled);
                               });
        if (world.over()) return;
        accepting = world.submit(Accept{listener}, SubmitOptions(), [this](Accept::Done done) {
            ended("accept", done.error, Error::cancelled, cancelled);
        });
        if (world.over()) return;
        world.submit(Accept{listener}, within(1ms), [this](Accept::Done done) {
            ended("accept", done.error, Error::timed_out, timed_out);
        });
        const Result<Timer> timer = world.loop().after(3ms, [this](Loop& loop, Expired) {
            loop.cancel(receiving);
            loop.cancel(sending);
            loop.cancel(accepting);
        });
        if (!timer) static_cast<void>(world.failed("after", timer.error()));
    }
};

}  // namespace

void run_cancel(World& world) {
    Cancelling cancelling(world);
    cancelling.narrow();
    play(cancelling);
}

// --- drain and destroy: with everything pending

namespace {

struct Everything : Pair {
    using Pair::Pair;
    Fd event;
    int ended = 0;

    // Leaves one of everything pending, and has given a turn to it. False when it did not come so far.
    bool start() noexcept {
        bool ready = false;
        connect([&ready] { ready = true; });
        while (!ready && !world.over())
            static_cast<void>(world.failed("run", world.loop().run_once()));
        if (!world.over()) pending();
        if (!world.over()) static_cast<void>(world.failed("run", world.loop().poll()));
        return !world.over();
    }
    template <class Done>
    auto count() noexcept {
        return [this](Done done) {
            if (done.error != Error::cancelled) world.note("operation", done.error);
            bool more = false;
            if constexpr (HasMore<Done>::value) more = done.more;
            ended += more ? 0 : 1;
        };
    }
    void pending() noexcept {
        Loop& loop = world.loop();
        Buffer into = buffer(100), large = buffer(large_size);
        if (!into || !large) return;
        large.resize(large_size);
        if (!world.submit(Recv{client, std::move(into)}, within(1h), count<Recv::Done>())) return;
        if (!world.submit(RecvStream{server}, {}, count<RecvStream::Done>())) return;
        // The stream's handler drops what arrives, so something keeps arriving.
        if (!world.submit(SendAll{client, std::move(large)}, {}, count<SendAll::Done>())) return;
        if (!world.submit(AcceptStream{listener}, {}, count<AcceptStream::Done>())) return;
        {
            const Pause pause;
            event.reset(::eventfd(0, EFD_CLOEXEC));
        }
        const Result<Watch> watch =
            loop.watch(event.get(), Interest::readable, [](Loop&, Watched) {});
        if (!watch) return static_cast<void>(world.failed("watch", watch.error()));
        const Result<Timer> timer = loop.after(1h, [](Loop&, Expired) {});
        if (!timer) return static_cast<void>(world.failed("after", timer.error()));
        if (world.failed("post", loop.post([](Loop&) {}))) return;
        const Result<Remote> remote = loop.remote();
        if (!remote) return static_cast<void>(world.failed("remote", remote.error()));
        if (!remote->post([](Loop&) {}))
            static_cast<void>(world.failed("post", Error::from_errno(ENOMEM)));
    }
};

}  // namespace

void run_drain(World& world) {
    Everything everything(world);
    everything.narrow();
    if (everything.start()) {
        const Error error = world.loop().drain(5s);
        if (!world.failed("drain", error)) {
            world.check(everything.ended == 4, "draining ends every operation");
            world.finish();
        }
    }
    world.drain();
}

void run_destroy(World& world) {
    Everything everything(world);
    everything.narrow();
    if (everything.start()) {
        world.leave_pending();
        world.finish();
    }
    world.drain();
    world.destroy();
}

// --- create: a loop made and destroyed, with one operation

void run_create(World& world) {
    if (!world.open()) return;
    world.submit(Nop{}, [&world](Nop::Done done) {
        if (!world.failed("nop", done.error)) world.finish();
    });
    world.run();
    world.drain();
}

// --- guest: the loop inside another one

namespace {

struct Guest : Pair {
    using Pair::Pair;
    bool ticked = false;
    bool received = false;

    void start() noexcept {
        const Result<Timer> timer = world.loop().after(1ms, [this](Loop&, Expired) {
            ticked = true;
            perhaps_finish();
        });
        if (!timer) return static_cast<void>(world.failed("after", timer.error()));
        connect([this] { exchange(); });
    }
    void exchange() noexcept {
        Buffer into = buffer(10), message = buffer(10);
        if (!into || !message) return;
        fill(message, 10, 0);
        world.submit(Recv{server, std::move(into)}, [this](Recv::Done done) {
            if (world.failed("recv", done.error)) return;
            world.check(holds(done.buffer, 0), "other bytes arrived");
            received = true;
            perhaps_finish();
        });
        if (world.over()) return;
        world.submit(SendAll{client, std::move(message)}, [this](SendAll::Done done) {
            static_cast<void>(world.failed("send_all", done.error));
        });
    }
    void perhaps_finish() noexcept {
        if (ticked && received) world.finish();
    }
    // The host: sleeps on the descriptor until the deadline, no longer.
    void host(int fd) noexcept {
        for (int turn = 0; turn < 1000 && !world.over(); ++turn) {
            if (world.failed("run", world.loop().process())) return;
            if (world.over()) return;
            const Instant deadline = world.loop().next_deadline();
            const auto left =
                deadline == instant_never
                    ? 3000ms
                    : std::chrono::ceil<std::chrono::milliseconds>(deadline - clock_now());
            const Pause pause;
            pollfd asked{fd, POLLIN, 0};
            const int time = left < 0ms ? 0 : static_cast<int>(left.count());
            const int ready = ::poll(&asked, 1, time);
            if (ready == 0 && deadline == instant_never)
                return world.wrong("the host sleeps for ever");
        }
        if (!world.over()) world.wrong("the host turns and turns");
    }
};

}  // namespace

void run_guest(World& world) {
    if (!world.open()) return;
    const Result<int> fd = world.loop().notify_fd();
    if (!fd) {
        static_cast<void>(world.failed("notify_fd", fd.error()));
        world.drain();
        return;
    }
    Guest guest(world);
    guest.start();
    guest.host(*fd);
    world.drain();
}

}  // namespace fault
