// SPDX-License-Identifier: MIT
// Goal: at 64 loops a mesh keeps order, loses nothing, stands still nowhere and is fair, at any capacity, in
// whatever order the loops get their turns. Method: simulated loops in one world, the order from the seed.
#include <whorl/mesh.hpp>
#include <whorl/testing.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <vector>

namespace {

using whorl::AwaitSpace;
using whorl::Error;
using whorl::Loop;
using whorl::Mesh;
using whorl::MeshPort;
using whorl::Receive;
using whorl::Result;
using whorl::testing::World;

struct Station {
    MeshPort<std::uint32_t> port;
    std::uint32_t each = 0;
    std::vector<std::uint32_t> sent;
    std::vector<std::uint32_t> got;
    std::uint32_t ended = 0;
    std::uint64_t wrong = 0;
    std::uint32_t core = 0;
    std::uint32_t spread_worst = 0;
    std::uint64_t* hash = nullptr;  // of who got what from whom, in the order of all

    void send(Loop& loop, std::uint32_t to) {
        while (sent[to] < each) {
            const Error error = port.to(to).send(std::uint32_t(sent[to]));
            if (error == Error::queue_full) {
                ASSERT_TRUE(
                    loop.submit(AwaitSpace{port.to(to)},
                                [this, to](Loop& inner, AwaitSpace::Done) { send(inner, to); }));
                return;
            }
            ASSERT_FALSE(error);
            ++sent[to];
        }
        port.to(to).close();
    }
    void receive(std::uint32_t from, Receive<std::uint32_t>::Done done) {
        while (const std::uint32_t* number = done.next()) {
            if (*number != got[from]++) ++wrong;
            *hash = (*hash ^ (core << 16 | from)) * 1099511628211u;  // FNV-1a
        }
        if (!done.more) ++ended;
        // Of those who send to one loop, none is far ahead of the others.
        if (core != 0) return;
        const auto [least, most] = std::minmax_element(got.begin() + 1, got.end());
        spread_worst = std::max(spread_worst, *most - *least);
    }
};

// Runs a mesh to its end; a hash of the order in which everything arrived.
std::uint64_t run_mesh(std::uint64_t seed, std::uint32_t loops, std::uint32_t capacity,
                       std::uint32_t each) {
    std::uint64_t hash = 14695981039346656037u;
    World world(whorl::testing::SimulationOptions::harsh(seed));
    std::vector<Station> stations(loops);
    Result<Mesh<std::uint32_t>> mesh = Mesh<std::uint32_t>::create(loops, capacity);
    EXPECT_TRUE(mesh);
    whorl::LoopOptions options;
    options.ops_max = 4 * loops;
    options.handles_max = 4;
    std::vector<Loop*> made;
    for (std::uint32_t core = 0; core < loops; ++core) {
        Station& station = stations[core];
        station.each = each;
        station.core = core;
        station.hash = &hash;
        station.sent.resize(loops);
        station.got.resize(loops);
        station.port = std::move(*mesh->take(core));
        Loop& loop = world.add_loop(options);
        made.push_back(&loop);
        EXPECT_FALSE(station.port.receive(
            loop,
            [&station](Loop&, std::uint32_t from, Receive<std::uint32_t>::Done done) {
                station.receive(from, std::move(done));
            },
            2));
    }
    for (std::uint32_t core = 0; core < loops; ++core) {
        for (std::uint32_t to = 0; to < loops; ++to) {
            if (to != core) stations[core].send(*made[core], to);
        }
    }
    const bool done = world.run_until([&] {
        bool all = true;
        for (const Station& station : stations) {
            if (station.ended != loops - 1) all = false;
        }
        return all;
    });
    EXPECT_TRUE(done) << world.failure().text();
    for (std::uint32_t core = 0; core < loops; ++core) {
        EXPECT_EQ(stations[core].wrong, 0u);
        for (std::uint32_t from = 0; from < loops; ++from) {
            EXPECT_EQ(stations[core].got[from], from == core ? 0 : each);
        }
    }
    std::printf(
        "seed %llu: %u loops, capacity %u, %llu messages, of those who send to one loop at most %u "
        "apart\n",
        static_cast<unsigned long long>(seed), loops, capacity,
        static_cast<unsigned long long>(each) * loops * (loops - 1), stations[0].spread_worst);
    // A sender that runs dry waits for its own turn; beyond that all advance alike.
    EXPECT_LE(stations[0].spread_worst, 4 * capacity);
    return hash;
}

TEST(MeshWorld, sixty_four_loops_lose_nothing_and_keep_order) {
    for (const std::uint64_t seed : {1u, 2u, 3u}) run_mesh(seed, 64, 4, 20);
}

// Long enough that a channel that is passed over would show.
TEST(MeshWorld, sixty_four_loops_are_served_alike_for_long) { run_mesh(11, 64, 16, 250); }

TEST(MeshWorld, one_slot_is_enough_for_sixty_four) { run_mesh(7, 64, 1, 8); }

TEST(MeshWorld, the_same_seed_gives_the_same_run) {
    EXPECT_EQ(run_mesh(5, 8, 2, 10), run_mesh(5, 8, 2, 10));
    EXPECT_NE(run_mesh(5, 8, 2, 10), run_mesh(6, 8, 2, 10));
}

TEST(Mesh, ports_are_taken_once_and_what_was_refused_stays) {
    World world;  // it outlives what its loops receive from
    Result<whorl::Mesh<int>> mesh = whorl::Mesh<int>::create(3, 4);
    ASSERT_TRUE(mesh);
    EXPECT_EQ(mesh->size(), 3u);
    EXPECT_EQ(mesh->take(3).error(), Error::invalid_argument);
    Result<MeshPort<int>> first = mesh->take(0);
    Result<MeshPort<int>> second = mesh->take(1);
    ASSERT_TRUE(first && second);
    EXPECT_EQ(first->core(), 0u);
    EXPECT_EQ(second->core(), 1u);
    EXPECT_EQ(second->size(), 3u);
    EXPECT_EQ(mesh->take(1).error(), Error::invalid_argument) << "it has been taken";
    Loop& loop = world.add_loop();
    int got = 0;
    const auto count = [&got](Loop&, std::uint32_t, Receive<int>::Done done) {
        while (const int* number = done.next()) got += *number;
    };
    ASSERT_FALSE(second->to(0).send(5));
    EXPECT_EQ(first->receive(loop, count, 0), Error::invalid_argument) << "no message at all";
    EXPECT_FALSE(first->receive(loop, count));
    world.advance(std::chrono::milliseconds(1));
    EXPECT_EQ(got, 5) << "it went on with what was left";
    world.remove_loop(loop);
}

}  // namespace
