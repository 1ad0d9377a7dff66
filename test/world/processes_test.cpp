// SPDX-License-Identifier: MIT
// Goal: signals and children of a world do what its scripts say, on the simulator and on the io_uring
// driver, and whatever fails, no child and no zombie is left. Method: scripted programs; a small
// supervisor under seeded faults, cancels, deadlines and closes.
#include "names.hpp"

#include <csignal>

namespace {

using namespace world_names;
using whorl::Child;
using whorl::ChildExit;
using whorl::ChildStream;
using whorl::Instant;
using whorl::LoopOptions;
using whorl::Signals;
using whorl::SignalStream;
using whorl::Spawn;
using whorl::SpawnOptions;
using whorl::SpawnStep;
using whorl::WaitChild;
using whorl::testing::ChildScript;

SpawnOptions options_of(const char* program) {
    SpawnOptions options;
    options.program = program;
    options.kill_on_close = true;
    return options;
}

LoopOptions on_ring(bool ring) {
    LoopOptions options;
    options.backend = ring ? whorl::Backend::io_uring : whorl::Backend::simulator;
    return options;
}

TEST(WorldProcesses, a_script_is_what_a_child_does) {
    for (const bool ring : {false, true}) {
        World world;
        Loop& loop = world.add_loop(on_ring(ring));
        ChildScript script;
        script.lifetime = 3s;
        script.status = 4;
        script.output = "done";
        world.program("worker", script);
        script.error = Error::from_errno(EACCES);
        world.program("forbidden", script);
        SpawnOptions options = options_of("worker");
        options.output = ChildStream::pipe();
        ChildExit exit;
        std::string output;
        bool ended = false;
        ASSERT_TRUE(loop.submit(Spawn{options}, [&](Loop& inside, const Spawn::Done& done) {
            ASSERT_FALSE(done.error);
            ASSERT_TRUE(
                inside.submit(WaitChild{done.child}, [&](Loop&, const WaitChild::Done& wait) {
                    exit = wait.exit;
                    ended = true;
                }));
            ASSERT_TRUE(
                inside.submit(whorl::Read{done.output, inside.buffer(100)},
                              [&](Loop&, whorl::Read::Done read) { output = read.buffer.text(); }));
        }));
        const Instant start = world.now();
        EXPECT_TRUE(world.run_until([&] { return output == "done"; }));
        EXPECT_EQ(world.children_alive(), 1u);
        EXPECT_TRUE(world.run_until([&] { return ended; }));
        EXPECT_EQ(world.now() - start, 3s);
        EXPECT_EQ(exit.status, 4);
        Spawn::Done refused{};
        for (const char* name : {"forbidden", "unheard-of"}) {
            ASSERT_TRUE(loop.submit(Spawn{options_of(name)},
                                    [&](Loop&, const Spawn::Done& done) { refused = done; }));
            EXPECT_TRUE(world.run_until([&] { return static_cast<bool>(refused.error); }));
            EXPECT_EQ(refused.error, Error::from_errno(*name == 'f' ? EACCES : ENOENT));
            EXPECT_EQ(refused.step, SpawnStep::program);
            refused = {};
        }
        EXPECT_EQ(world.children_alive() + world.zombies(), 0u);
    }
}

TEST(WorldProcesses, a_signal_goes_to_one_loop_or_nowhere) {
    for (const bool ring : {false, true}) {
        World world;
        Loop& first = world.add_loop(on_ring(ring));
        Loop& second = world.add_loop(on_ring(ring));
        EXPECT_FALSE(world.raise(SIGTERM)) << "nobody waits for it";
        const Signals signals = *open_signals(first, {SIGTERM});
        const Signals others = *open_signals(second, {SIGTERM});
        int heard = 0;
        const auto count = [&](Loop&, SignalStream::Done done) { heard += done.more ? 1 : 0; };
        ASSERT_TRUE(first.submit(SignalStream{signals}, count));
        ASSERT_TRUE(second.submit(SignalStream{others}, count));
        for (int sent = 1; sent <= 5; ++sent) {
            world.after(1s, [&] { EXPECT_TRUE(world.raise(SIGTERM)); });
            EXPECT_TRUE(world.run_until([&] { return heard == sent; }));
            world.advance(1s);
            EXPECT_EQ(heard, sent);
        }
    }
}

// Starts what has ended again until a signal comes, in a world where everything fails now and then.
class Keeper {
  public:
    Keeper(World& world, Loop& loop) : world_(world), loop_(loop) {}

    void begin() {
        const auto signals = open_signals(loop_, {SIGTERM, SIGCHLD});
        if (!signals) return;
        static_cast<void>(
            loop_.submit(SignalStream{*signals}, [this](Loop&, SignalStream::Done done) {
                if (done.signal.number == SIGTERM) ending = true;
            }));
        for (int count = 0; count < 4; ++count) start();
    }
    bool ending = false;

  private:
    void start() {
        if (ending || started_ > 40) return;
        ++started_;
        static constexpr const char* programs[] = {"quick", "slow", "deaf", "unheard-of"};
        SpawnOptions options = options_of(programs[world_.draw(4)]);
        if (world_.draw(2) == 0) options.output = ChildStream::pipe();
        const auto limit = whorl::within(world_.draw(3) == 0 ? 1ms : 1h);
        const auto made =
            loop_.submit(Spawn{options}, limit, [this](Loop&, const Spawn::Done& done) {
                world_.check(static_cast<bool>(done.error) != static_cast<bool>(done.child),
                             "a child or an error");
                if (done.output) static_cast<void>(loop_.close(done.output));
                if (done.error) return again();
                started(done.child);
            });
        if (made && world_.draw(8) == 0) loop_.cancel(*made);
    }
    void again() {
        static_cast<void>(loop_.after(10ms, [this](Loop&, whorl::Expired) { start(); }));
    }
    void started(Child child) {
        if (world_.draw(4) == 0) {  // given up: the loop reaps it
            static_cast<void>(loop_.close(child));
            return again();
        }
        const auto limit = whorl::within(world_.draw(2) == 0 ? 20ms : 1h);
        static_cast<void>(
            loop_.submit(WaitChild{child}, limit, [this, child](Loop&, const WaitChild::Done&) {
                static_cast<void>(loop_.close(child));
                again();
            }));
    }

    World& world_;
    Loop& loop_;
    int started_ = 0;
};

void keep(World& world, bool ring) {
    ChildScript script;
    script.lifetime = 5ms;
    world.program("quick", script);
    script.lifetime = 1s;
    world.program("slow", script);
    script.lifetime = whorl::Nanoseconds::max();
    script.ignored = {SIGTERM};
    world.program("deaf", script);
    Loop& loop = world.add_loop(on_ring(ring));
    Keeper keeper(world, loop);
    keeper.begin();
    world.after(100ms, [&] {
        if (!world.raise(SIGTERM)) keeper.ending = true;
    });
    static_cast<void>(world.run_until([&] { return keeper.ending; }, 10s));
    if (world.failed()) return;
    if (world.draw(2) == 0) {
        static_cast<void>(loop.drain(1h));
        world.check(world.children_alive() + world.zombies() == 0, "a child is left after drain");
    }
    world.remove_loop(loop);
    world.check(world.children_alive() + world.zombies() == 0, "a child is left after the loop");
}

TEST(WorldProcesses, nothing_is_left_whatever_fails) {
    whorl::testing::Exploration exploration;
    exploration.count = 300;
    const Found simulator = explore([](World& world) { keep(world, false); }, exploration);
    EXPECT_FALSE(simulator.failed) << simulator.text();
    EXPECT_GT(simulator.faults, 0u);
    const Found ring = explore([](World& world) { keep(world, true); }, exploration);
    EXPECT_FALSE(ring.failed) << ring.text();
}

}  // namespace
