// SPDX-License-Identifier: MIT
// Exploration finds a planted bug, makes it short, and what it tells is enough to see it again.
#include "names.hpp"

#include <cstdlib>

namespace {

using namespace world_names;

// A receiver with the oldest bug there is: it takes one arrival for one message.
void takes_an_arrival_for_a_message(World& world) {
    Loop& loop = world.add_loop();
    auto listener = whorl::listen(loop, Address::loopback_v4(7007));
    world.check(static_cast<bool>(listener), "listen");
    bool ended = false;
    struct Receiver {
        World& world;
        bool& ended;
        void operator()(Loop& loop, whorl::Accept::Done done) {
            (void)loop.submit(whorl::RecvStream{done.socket}, this);
        }
        void operator()(Loop&, whorl::RecvStream::Done done) {
            ended = !done.more;
            if (done.more) world.check(done.buffer.text() == "one message\n", "half a message");
        }
    } receiver{world, ended};
    (void)loop.submit(whorl::Accept{*listener}, &receiver);
    Peer peer = world.connect(7007);
    peer.send("one message\n").finish_sending();
    (void)world.run_until([&] { return ended; });
}

Exploration quiet() {
    Exploration exploration;
    exploration.print = false;
    return exploration;
}

TEST(WorldExplore, finds_shrinks_and_repeats) {
    const Found found = explore(takes_an_arrival_for_a_message, quiet());
    ASSERT_TRUE(found.failed) << found.text();
    EXPECT_EQ(found.failure.what, "half a message");
    EXPECT_EQ(found.failure.seed, found.seed);
    // One short transfer, and where it cuts: nothing else is needed.
    EXPECT_LE(found.choices_left, 2u) << found.text();
    EXPECT_GE(found.choices_left, 1u);
    EXPECT_LE(found.tape.size(), found.choices);
    EXPECT_NE(found.text().find("WHORL_SEED="), std::string::npos);
    const whorl::testing::Failure again =
        whorl::testing::replay(takes_an_arrival_for_a_message,
                               whorl::testing::SimulationOptions::harsh(found.seed), found.tape);
    EXPECT_EQ(again.what, found.failure.what);
    EXPECT_EQ(again.trace, found.failure.trace);
}

TEST(WorldExplore, environment_chooses_the_seed_and_the_count) {
    ASSERT_EQ(::setenv("WHORL_SEED", "77", 1), 0);
    std::vector<std::uint64_t> seeds;
    const auto note = [&](World& world) { seeds.push_back(world.seed()); };
    Found found = explore(note, quiet());
    EXPECT_EQ(seeds, (std::vector<std::uint64_t>{77, 77}));  // twice, to compare the traces
    EXPECT_EQ(found.seeds, 1u);
    ASSERT_EQ(::unsetenv("WHORL_SEED"), 0);
    ASSERT_EQ(::setenv("WHORL_SEEDS", "5", 1), 0);
    seeds.clear();
    found = explore(note, quiet());
    EXPECT_EQ(seeds, (std::vector<std::uint64_t>{1, 2, 3, 4, 5}));
    ASSERT_EQ(::unsetenv("WHORL_SEEDS"), 0);
}

TEST(WorldExplore, a_scenario_that_depends_on_more_than_the_seed_is_found_out) {
    int runs = 0;
    const auto scenario = [&](World& world) { world.note(std::to_string(++runs)); };
    const Found found = explore(scenario, quiet());
    EXPECT_TRUE(found.failed);
    EXPECT_EQ(found.seed, 100u);
    EXPECT_EQ(found.failure.what, "the same seed gave two different traces");
}

TEST(WorldExplore, draws_of_the_test_are_shrunk_too) {
    const auto scenario = [](World& world) {
        std::uint32_t sum = 0;
        for (int count = 0; count < 50; ++count) sum += world.draw(10) == 9 ? 1 : 0;
        world.check(sum < 3, "three nines");
    };
    const Found found = explore(scenario, quiet());
    ASSERT_TRUE(found.failed);
    EXPECT_EQ(found.choices_left, 3u);
}

TEST(WorldExplore, says_what_it_has_done) {
    Exploration exploration = quiet();
    exploration.count = 20;
    const auto scenario = [](World& world) {
        Loop& loop = world.add_loop();
        Peer peer = world.accept();
        std::string got;
        struct Reader {
            std::string& got;
            void operator()(Loop& loop, whorl::Connect::Done done) {
                (void)loop.submit(whorl::RecvStream{done.socket}, this);
            }
            void operator()(Loop&, whorl::RecvStream::Done done) { got += done.buffer.text(); }
        } reader{got};
        (void)loop.submit(whorl::Connect{peer.address()}, &reader);
        peer.send(std::string(20'000, 'x'));
        world.check(world.run_until([&] { return got.size() == 20'000; }), "all of it arrives");
    };
    const Found found = explore(scenario, exploration);
    EXPECT_FALSE(found.failed) << found.text();
    EXPECT_EQ(found.seeds, 20u);
    EXPECT_GT(found.faults, 20u);
    EXPECT_NE(found.text().find("nothing failed"), std::string::npos);
}

TEST(WorldExplore, each_world_has_its_seed_whatever_the_options_say) {
    Exploration exploration = quiet();
    exploration.count = 20;
    exploration.options = [](std::uint64_t) noexcept {
        return whorl::testing::SimulationOptions();
    };
    std::vector<std::uint64_t> seeds;
    const Found found = explore([&](World& world) { seeds.push_back(world.seed()); }, exploration);
    EXPECT_EQ(found.seeds, 20u);
    ASSERT_EQ(seeds.size(), 20u);
    EXPECT_EQ(seeds.front(), 1u);
    EXPECT_EQ(seeds.back(), 20u);
}

TEST(WorldExplore, a_failure_that_does_not_come_again_says_so) {
    int runs = 0;
    const auto scenario = [&](World& world) { world.check(++runs != 3, "sometimes"); };
    const Found found = explore(scenario, quiet());
    ASSERT_TRUE(found.failed);
    EXPECT_EQ(found.seed, 3u);
    EXPECT_EQ(found.failure.what.find("sometimes;"), 0u);
    EXPECT_NE(found.text().find("not again with the same seed"), std::string::npos) << found.text();
}

TEST(WorldExploreDeathTest, a_number_in_the_environment_that_is_none) {
    for (const char* wrong : {"1e6", "abc", "17 ", "-1", "99999999999999999999"}) {
        for (const char* name : {"WHORL_SEED", "WHORL_SEEDS"}) {
            ASSERT_EQ(::setenv(name, wrong, 1), 0);
            EXPECT_DEATH((void)explore([](World&) {}, quiet()), name);
            ASSERT_EQ(::unsetenv(name), 0);
        }
    }
    ASSERT_EQ(::setenv("WHORL_SEED", "", 1), 0);  // as if it were not there
    Exploration exploration = quiet();
    exploration.count = 5;
    EXPECT_EQ(explore([](World&) {}, exploration).seeds, 5u);
    ASSERT_EQ(::unsetenv("WHORL_SEED"), 0);
}

}  // namespace
