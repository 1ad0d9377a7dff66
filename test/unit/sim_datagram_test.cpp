// SPDX-License-Identifier: MIT
// Goal: the simulated network loses, repeats and reorders datagrams as it is told, the same way for the
// same seed, and an example's handlers work in it as they are.
// Method: the echo of examples/udp_echo.hpp and a counting client in one loop of a simulated kernel.
#include "backend/sim_kernel.hpp"

#include "../examples/udp_echo.hpp"

#include <gtest/gtest.h>

#include <map>
#include <string>

namespace whorl {
namespace {

struct Outcome {
    std::map<std::string, int> echoes;
    std::vector<std::string> order;
    std::uint64_t hash = 0;
};

// Sends `count` datagrams to the echo and tells what came back.
Outcome run(const testing::SimulationOptions& simulation, int count) {
    detail::SimKernel kernel(simulation);
    LoopOptions options;
    options.backend = Backend::simulator;
    options.world = &kernel;
    Outcome outcome;
    {
        BackendReport report;
        Loop loop = std::move(*Loop::create(options, report));
        const UdpSocket server = *open_udp(loop, Address::loopback_v4(7));
        const UdpSocket client = *open_udp(loop, Address::loopback_v4(0));
        UdpEcho echo(server);
        EXPECT_TRUE(echo.start(loop));
        EXPECT_TRUE(loop.submit(RecvFromStream{client}, [&](Loop&, RecvFromStream::Done done) {
            if (!done.buffer) return;
            ++outcome.echoes[std::string(done.buffer.text())];
            outcome.order.emplace_back(done.buffer.text());
        }));
        for (int index = 0; index < count; ++index) {
            const std::string text = std::to_string(index);
            EXPECT_TRUE(loop.submit(SendTo{client, Buffer::copy_of(Bytes(std::string_view(text))),
                                           Address::loopback_v4(7)},
                                    [](Loop&, SendTo::Done done) { EXPECT_FALSE(done.error); }));
        }
        EXPECT_FALSE(loop.run_for(std::chrono::seconds(1)));
        EXPECT_FALSE(loop.drain(std::chrono::seconds(1)));
    }
    outcome.hash = kernel.trace_hash();
    return outcome;
}

TEST(SimDatagram, kind_networks_lose_nothing) {
    const Outcome outcome = run({}, 200);
    EXPECT_EQ(outcome.echoes.size(), 200u);
    EXPECT_EQ(outcome.order.size(), 200u);
}

TEST(SimDatagram, are_lost_and_repeated_as_told) {
    testing::SimulationOptions options;
    options.datagram_loss = 1;
    EXPECT_TRUE(run(options, 50).order.empty());
    options.datagram_loss = 0.3;
    const Outcome some = run(options, 200);
    EXPECT_GT(some.order.size(), 0u);
    EXPECT_LT(some.order.size(), 200u);
    options.datagram_loss = 0;
    options.datagram_copy = 1;
    const Outcome copied = run(options, 50);
    EXPECT_EQ(copied.echoes.size(), 50u);
    for (const auto& echo : copied.echoes) EXPECT_EQ(echo.second, 4) << "twice there, twice back";
}

TEST(SimDatagram, overtake_each_other_and_the_same_way_again) {
    testing::SimulationOptions options = testing::SimulationOptions::harsh(3);
    const Outcome once = run(options, 100), again = run(options, 100);
    EXPECT_EQ(once.hash, again.hash);
    EXPECT_EQ(once.order, again.order);
    options.seed = 4;
    EXPECT_NE(run(options, 100).order, once.order);
    testing::SimulationOptions slow;
    slow.latency_max = std::chrono::milliseconds(1);
    const Outcome mixed = run(slow, 100);
    EXPECT_EQ(mixed.echoes.size(), 100u);
    bool overtaken = false;
    for (std::size_t index = 1; index < mixed.order.size(); ++index) {
        overtaken |= std::stoi(mixed.order[index]) < std::stoi(mixed.order[index - 1]);
    }
    EXPECT_TRUE(overtaken);
}

}  // namespace
}  // namespace whorl
