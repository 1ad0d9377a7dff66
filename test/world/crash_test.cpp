// SPDX-License-Identifier: MIT
// Goal: a world's disk loses in a crash what a disk may lose, and nothing that was synced; so who promises
// durability can be held to it. Method: write_file_atomically is cut off after each of its steps, in many
// worlds; without syncing it must be caught.
#include "names.hpp"

#include <whorl/file.hpp>
#include <whorl/names.hpp>
#include <whorl/whole_file.hpp>

#include <fcntl.h>

namespace {

using namespace world_names;
using whorl::WholeFileDone;

constexpr std::size_t size = 20'000;  // some pages

SimulationOptions options_for(std::uint64_t seed) {
    SimulationOptions options = SimulationOptions::harsh(seed);
    options.power_loss = true;
    return options;
}

std::string read(World& world, const char* path) {
    Loop& loop = world.add_loop();
    std::string text = "no answer";
    EXPECT_TRUE(whorl::read_whole_file(loop, path, {}, [&](Loop&, WholeFileDone done) {
        text = done.error ? done.error.name() : std::string(done.buffer.text());
    }));
    EXPECT_TRUE(world.run_idle());
    world.remove_loop(loop);
    return text;
}

void write(Loop& loop, const std::string& text, bool durable, bool& done) {
    whorl::AtomicWriteOptions options;
    options.durable = durable;
    EXPECT_TRUE(whorl::write_file_atomically(loop, "/tmp/file", whorl::adopt(std::string(text)),
                                             options, [&done](Loop&, WholeFileDone ended) {
                                                 EXPECT_FALSE(ended.error) << ended.message();
                                                 done = true;
                                             }));
}

struct Tally {
    int old = 0;
    int fresh = 0;
    int broken = 0;
    int lost = 0;  // the old file is there although the new one was reported as written
};

// The power goes after `steps` rounds of the world. False: it was too late for that.
bool cut_off(std::uint64_t seed, int steps, bool durable, Tally& tally) {
    World world(options_for(seed));
    const std::string before(size, 'o'), after(size + 5000, 'n');
    bool done = false;
    Loop& loop = world.add_loop();
    write(loop, before, true, done);
    EXPECT_TRUE(world.run_idle());
    EXPECT_TRUE(done);
    done = false;
    write(loop, after, durable, done);
    int left = steps;
    static_cast<void>(world.run_until([&] { return done || left-- <= 0; }));
    const bool told = done;
    world.lose_power();
    const std::string there = read(world, "/tmp/file");
    if (there == after) ++tally.fresh;
    else if (there != before) ++tally.broken;
    else if (told) ++tally.lost;
    else ++tally.old;
    return !told;
}

Tally cut_off_everywhere(bool durable, std::uint64_t seeds) {
    Tally tally;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        for (int steps = 0; cut_off(seed, steps, durable, tally); ++steps) {
            if (steps > 10'000) ADD_FAILURE() << "it never ends";
            if (::testing::Test::HasFailure()) return tally;
        }
    }
    return tally;
}

TEST(WorldCrash, an_atomic_write_leaves_the_old_file_or_the_new_one) {
    const Tally tally = cut_off_everywhere(true, 40);
    EXPECT_EQ(tally.broken, 0);
    EXPECT_EQ(tally.lost, 0);
    EXPECT_GT(tally.old, 40);
    EXPECT_GE(tally.fresh, 40);
}

TEST(WorldCrash, without_syncing_it_is_caught) {
    const Tally tally = cut_off_everywhere(false, 40);
    EXPECT_GT(tally.broken, 0) << "a file that was not synced has survived every crash";
    EXPECT_GT(tally.lost, 0) << "so has its name";
}

// Opens, and calls `then(file)`.
template <class Then>
void open(Loop& loop, const char* path, int flags, Then then) {
    ASSERT_TRUE(loop.submit(whorl::OpenFile{path, flags},
                            [then](Loop&, whorl::OpenFile::Done done) mutable {
                                ASSERT_FALSE(done.error) << done.error.name();
                                then(done.file);
                            }));
}

TEST(WorldCrash, names_that_were_synced_are_there_with_their_links) {
    for (std::uint64_t seed = 1; seed <= 50; ++seed) {
        World world(options_for(seed));
        Loop& loop = world.add_loop();
        whorl::File directory;
        open(loop, "/tmp", O_RDONLY | O_DIRECTORY, [&](whorl::File file) { directory = file; });
        ASSERT_TRUE(world.run_idle());
        bool made = false;
        write(loop, "linked", true, made);
        ASSERT_TRUE(world.run_idle());
        const auto nothing = [](Loop&, whorl::NameDone done) { EXPECT_FALSE(done.error); };
        ASSERT_TRUE(loop.submit(whorl::Link{"/tmp/file", "/tmp/second"}, nothing));
        ASSERT_TRUE(loop.submit(whorl::MakeDirectory{"/tmp/below"}, nothing));
        ASSERT_TRUE(world.run_idle());
        ASSERT_TRUE(loop.submit(whorl::Sync{directory},
                                [](Loop&, whorl::Sync::Done done) { EXPECT_FALSE(done.error); }));
        ASSERT_TRUE(world.run_idle());
        ASSERT_TRUE(loop.submit(whorl::Unlink{"/tmp/file"}, nothing));
        ASSERT_TRUE(loop.submit(whorl::Rename{"/tmp/second", "/tmp/third"}, nothing));
        ASSERT_TRUE(world.run_idle());
        world.lose_power();
        int names = 0;
        for (const char* path : {"/tmp/file", "/tmp/second", "/tmp/third"}) {
            const std::string text = read(world, path);
            EXPECT_TRUE(text == "linked" || text == "ENOENT") << text;
            if (text == "linked") ++names;
        }
        EXPECT_GE(names, 1) << "seed " << seed;
        Loop& next = world.add_loop();
        std::uint32_t links = 0;
        for (const char* path : {"/tmp/second", "/tmp/third"}) {
            ASSERT_TRUE(next.submit(whorl::Stat{path}, [&](Loop&, whorl::Stat::Done done) {
                if (!done.error) links = done.status.links;
            }));
        }
        ASSERT_TRUE(next.submit(whorl::Stat{"/tmp/below"}, [](Loop&, whorl::Stat::Done done) {
            EXPECT_TRUE(!done.error && done.status.is_directory());
        }));
        ASSERT_TRUE(world.run_idle());
        EXPECT_EQ(links, static_cast<std::uint32_t>(names)) << "seed " << seed;
    }
}

TEST(WorldCrash, a_loop_of_the_callers_must_be_gone) {
    World world(options_for(0));
    whorl::Result<Loop> mine = world.make_loop();
    ASSERT_TRUE(mine);
    EXPECT_DEATH(world.lose_power(), "still exist");
}

TEST(WorldCrash, must_have_been_asked_for) {
    World world;
    EXPECT_DEATH(world.lose_power(), "power_loss");
}

}  // namespace
