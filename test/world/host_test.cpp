// SPDX-License-Identifier: MIT
// The world's names of hosts, its wall clock and its disk's events, as a test of a program sets them.
#include <whorl/file_observer.hpp>
#include <whorl/names.hpp>
#include <whorl/resolve.hpp>
#include <whorl/testing.hpp>
#include <whorl/wall_clock.hpp>

#include <gtest/gtest.h>

#include <string>

namespace {

using namespace std::chrono_literals;
using whorl::Error;
using whorl::Loop;
using whorl::testing::World;

TEST(WorldHost, names_are_scripted) {
    World world;
    Loop& loop = world.add_loop();
    world.name("db.example", {whorl::Address::ipv4(192, 0, 2, 7, 0)}, 3s);
    world.name_fails("away.example", Error::name_not_answered, 10s);
    std::string found;
    Error error;
    ASSERT_TRUE(
        whorl::resolve(loop, {"DB.example.", "https"}, [&](Loop&, const whorl::ResolveDone& done) {
            EXPECT_FALSE(done.error);
            found = done.addresses[0].print().view();
        }));
    ASSERT_TRUE(whorl::resolve(loop, {"away.example", {}, 1},
                               [&](Loop&, const whorl::ResolveDone& done) { error = done.error; }));
    world.advance(2s);
    EXPECT_EQ(found, "");
    world.advance(2s);
    EXPECT_EQ(found, "192.0.2.7:443");
    EXPECT_FALSE(error);
    world.advance(7s);
    EXPECT_EQ(error, Error::name_not_answered);
}

TEST(WorldHost, the_wall_clock_is_set) {
    World world;
    Loop& loop = world.add_loop();
    world.set_wall_clock(1000s);
    EXPECT_EQ(whorl::wall_now(loop).time_since_epoch(), 1000s);
    int due = 0;
    ASSERT_TRUE(whorl::at_wall_clock(loop, whorl::WallInstant(2000s), {},
                                     [&](Loop&, const whorl::WallExpired&) { ++due; }));
    world.advance(999s);
    EXPECT_EQ(due, 0);
    world.set_wall_clock(0s);
    world.advance(1999s);
    EXPECT_EQ(due, 0);
    world.advance(1s);
    EXPECT_EQ(due, 1);
}

TEST(WorldHost, files_tell_of_themselves) {
    World world;
    Loop& loop = world.add_loop();
    std::string told;
    const auto observer = whorl::observe_files(
        loop, [&](Loop&, const whorl::FileEvent& event) { told += std::string(event.path) + ";"; });
    ASSERT_TRUE(observer);
    ASSERT_TRUE(observer->add(loop, "/tmp", {whorl::FileChange::created}));
    const auto ignore = [](Loop&, const whorl::NameDone& done) { EXPECT_FALSE(done.error); };
    ASSERT_TRUE(loop.submit(whorl::MakeDirectory{"/tmp/one"}, ignore));
    ASSERT_TRUE(loop.submit(whorl::Symlink{"one", "/tmp/two"}, ignore));
    world.advance(1s);
    EXPECT_EQ(told, "one;two;");
    EXPECT_TRUE(observer->close(loop));
}

}  // namespace
