// SPDX-License-Identifier: MIT
// Goal: whorl-latency's percentiles are those that a server's delays make, counted from when each message
// was due; a closed loop hides a stall, and the tool shows that.
// Method: client and server in a simulated world, where a delay is exactly what it is said to be: every
// expected figure is computed. What may be added is the grain of timers, 1.024 us each for the message,
// the stall's end and the delay, and the histogram's error, 1/1024.
#include <whorl/file.hpp>

#include <fcntl.h>

#include <algorithm>
#include <cmath>

#include "latency_world.hpp"

namespace latency_test {
namespace {

constexpr double grain_ns = 3 * 1024;

// What `percent` of sorted latencies are not above.
double exact(std::vector<double> latencies, double percent) {
    std::sort(latencies.begin(), latencies.end());
    const double rank = std::ceil(percent / 100 * static_cast<double>(latencies.size()) - 1e-9);
    return latencies[static_cast<std::size_t>(rank) - 1];
}

void expect_percentile(const whorl::Histogram& histogram, double percent, double expected) {
    const auto said = static_cast<double>(histogram.percentile(percent));
    EXPECT_GE(said, expected) << "p" << percent;
    EXPECT_LE(said, expected * (1 + 1.0 / 1024) + grain_ns) << "p" << percent;
}

TEST(LatencyWorld, a_fixed_delay_is_every_percentile) {
    World world;
    Server server(world, after(2ms));
    Outcome outcome(make_plan(server.listen()));
    measure(world, outcome);
    EXPECT_EQ(outcome.failure, "");
    EXPECT_EQ(outcome.answered, 1000u);
    for (const double percent : {1.0, 50.0, 99.0, 100.0}) {
        expect_percentile(outcome.intended, percent, 2e6);
        expect_percentile(outcome.sent, percent, 2e6);
    }
    EXPECT_EQ(outcome.judge().verdict, latency::Verdict::stable);
}

// One in twenty takes longer than the others; they are so far apart that none waits for another.
TEST(LatencyWorld, two_delays_are_two_steps) {
    World world;
    int count = 0;
    Server server(world, [&count](Instant came) {
        return came + (++count % 20 == 0 ? Nanoseconds(8ms) : Nanoseconds(1ms));
    });
    Plan plan = make_plan(server.listen());
    plan.rate = 100;
    plan.duration = 10s;
    Outcome outcome(plan);
    measure(world, outcome);
    EXPECT_EQ(outcome.answered, 1000u);
    expect_percentile(outcome.intended, 50, 1e6);
    expect_percentile(outcome.intended, 95, 1e6);
    expect_percentile(outcome.intended, 95.1, 8e6);
    expect_percentile(outcome.intended, 99, 8e6);
}

// A stall of 200 ms in two seconds: what was due in it waits for its end, an arithmetic series.
std::vector<double> latencies_of_a_stall() {
    std::vector<double> latencies;
    for (int message = 0; message < 2000; ++message) {
        const double due_ms = message;
        const bool waits = due_ms >= 1000 && due_ms < 1200;
        latencies.push_back((waits ? 1200 - due_ms : 0) * 1e6 + 100e3);
    }
    return latencies;
}

// The schedule begins a millisecond after the last connection is there, which takes no time.
struct Stall {
    Stall() : server(world, stalled(world.now() + 1ms + 1s, 200ms, 100us)) {
        plan = make_plan(server.listen());
        plan.duration = 2s;
    }
    World world;
    Server server;
    Plan plan;
};

TEST(LatencyWorld, a_stall_is_charged_to_all_that_wait) {
    Stall stall;
    Outcome outcome(stall.plan);
    measure(stall.world, outcome);
    EXPECT_EQ(outcome.answered, 2000u);
    const std::vector<double> expected = latencies_of_a_stall();
    for (const double percent : {50.0, 89.9, 90.1, 95.0, 99.0, 99.9, 100.0}) {
        expect_percentile(outcome.intended, percent, exact(expected, percent));
    }
    // The window with the stall stands out.
    const latency::Judgement judgement = outcome.judge();
    EXPECT_EQ(judgement.verdict, latency::Verdict::unstable);
    ASSERT_EQ(judgement.outliers.size(), 1u);
    EXPECT_EQ(outcome.windows[judgement.outliers[0]].start_s, 1.0);
}

// With one message under way the others are held: their latencies are the same but for the answers that
// come one after the other, and the time from sending shows one bad message of 2000.
TEST(LatencyWorld, what_is_held_counts_from_when_it_was_due) {
    Stall stall;
    stall.plan.depth = 1;
    Outcome outcome(stall.plan);
    measure(stall.world, outcome);
    EXPECT_EQ(outcome.answered, 2000u);
    expect_percentile(outcome.sent, 99, 100e3);
    expect_percentile(outcome.sent, 99.9, 100e3);
    // It came up to a tick after it was due.
    expect_percentile(outcome.sent, 100, 200.1e6 - 1024);
    std::vector<double> expected;
    double free_ms = 0;  // when the one before is answered
    for (int message = 0; message < 2000; ++message) {
        const double sent_ms = std::max(static_cast<double>(message), free_ms);
        const bool waits = sent_ms >= 1000 && sent_ms < 1200;
        free_ms = (waits ? 1200 : sent_ms) + 0.1;
        expected.push_back((free_ms - message) * 1e6);
    }
    for (const double percent : {50.0, 90.0, 99.0, 100.0}) {
        const auto said = static_cast<double>(outcome.intended.percentile(percent));
        const double least = exact(expected, percent);
        EXPECT_GE(said, least) << percent;
        // Up to 223 answers follow one another, with two timers each.
        EXPECT_LE(said, least * (1 + 1.0 / 1024) + 223 * 2 * 1024) << percent;
    }
}

// The same server, the same stall: a closed loop sends nothing meanwhile, and its p99.9 knows of no stall.
TEST(LatencyWorld, a_closed_loop_hides_the_stall) {
    Stall stall;
    stall.plan.closed = true;
    stall.plan.depth = 1;
    Outcome outcome(stall.plan);
    measure(stall.world, outcome);
    EXPECT_GT(outcome.answered, 10'000u);
    for (const double percent : {50.0, 99.0, 99.9}) {
        expect_percentile(outcome.intended, percent, 100e3);
    }
    EXPECT_GE(outcome.intended.max(), 199'000'000u);
    EXPECT_LE(outcome.intended.max(), 200'110'000u);
    // Corrected for the interval that should have been kept it is seen again.
    whorl::Histogram corrected = latency::make_histogram(10);
    corrected.record(100'000, outcome.answered - 1);
    corrected.record_corrected(outcome.intended.max(), 1'000'000);
    EXPECT_GT(corrected.percentile(99.9), 100'000'000u);
}

TEST(LatencyWorld, the_warm_up_counts_for_nothing) {
    World world;
    Server server(world, stalled(world.now(), 500ms, 1ms));
    Plan plan = make_plan(server.listen());
    plan.warmup = 600ms;
    Outcome outcome(plan);
    measure(world, outcome);
    EXPECT_EQ(outcome.answered, 1000u);
    EXPECT_LE(outcome.intended.max(), 1'000'000 + grain_ns);
    EXPECT_EQ(outcome.late.count(), 1000u);
}

TEST(LatencyWorld, many_connections_share_the_schedule) {
    World world;
    Server server(world, after(1ms));
    Plan plan = make_plan(server.listen());
    plan.connections = 7;
    plan.size = 3000;
    Outcome outcome(plan);
    measure(world, outcome);
    EXPECT_EQ(outcome.failure, "");
    EXPECT_EQ(outcome.answered, 1000u);
    expect_percentile(outcome.intended, 50, 1e6);
}

// From 500 ms on there is no answer: 500 messages wait until the patience ends, a second after the end.
TEST(LatencyWorld, what_is_never_answered_counts_with_its_waiting) {
    World world;
    const Instant silence = world.now() + 501ms;
    Server server(world, [silence](Instant came) {
        return came < silence ? came + 1us : whorl::instant_never;
    });
    Outcome outcome(make_plan(server.listen()));
    measure(world, outcome);
    EXPECT_EQ(outcome.answered, 500u);
    EXPECT_EQ(outcome.unanswered, 500u);
    EXPECT_GE(outcome.intended.max(), 1'499'000'000u);
    EXPECT_GE(outcome.intended.percentile(51), 1'000'000'000u);
    EXPECT_EQ(outcome.judge().verdict, latency::Verdict::unstable);
}

TEST(LatencyWorld, lost_datagrams_are_counted) {
    whorl::testing::SimulationOptions options;
    options.datagram_loss = 0.05;
    options.datagram_copy = 0.05;
    options.latency_min = options.latency_max = 1ms;
    World world(options);
    Server server(world, after(0s));
    Plan plan = make_plan(server.listen_datagrams(), Kind::udp);
    plan.patience = 100ms;
    Outcome outcome(plan);
    measure(world, outcome);
    EXPECT_EQ(outcome.failure, "");
    EXPECT_EQ(outcome.answered + outcome.lost, 1000u);
    EXPECT_GT(outcome.lost, 50u);
    EXPECT_LT(outcome.lost, 150u);
    EXPECT_EQ(outcome.intended.count(), outcome.answered);
    EXPECT_EQ(outcome.judge().verdict, latency::Verdict::unstable);
}

// A closed loop goes on after a loss.
TEST(LatencyWorld, a_closed_loop_of_datagrams_survives_losses) {
    whorl::testing::SimulationOptions options;
    options.datagram_loss = 0.05;
    options.latency_min = options.latency_max = 1ms;
    World world(options);
    Server server(world, after(0s));
    Plan plan = make_plan(server.listen_datagrams(), Kind::udp);
    plan.closed = true;
    plan.depth = 1;
    plan.patience = 10ms;
    Outcome outcome(plan);
    measure(world, outcome);
    EXPECT_GT(outcome.lost, 3u);
    EXPECT_GT(outcome.answered, 50u);
}

TEST(LatencyWorld, a_command_is_measured_through_pipes) {
    World world;
    whorl::testing::ChildScript script;
    script.copies = true;
    script.lifetime = Nanoseconds::max();
    world.program("cat", script);
    Plan plan = make_plan({}, Kind::pipe);
    plan.command = {"cat"};
    plan.connections = 2;
    Outcome outcome(plan);
    measure(world, outcome);
    EXPECT_EQ(outcome.failure, "");
    EXPECT_EQ(outcome.answered, 1000u);
    EXPECT_EQ(world.children_alive(), 0u);
}

void make_file(World& world, const char* path, std::size_t size) {
    Loop& loop = world.add_loop();
    bool done = false;
    ASSERT_TRUE(loop.submit(
        whorl::OpenFile{path, O_CREAT | O_WRONLY}, [&](Loop& inside, whorl::OpenFile::Done opened) {
            ASSERT_FALSE(opened.error);
            whorl::Buffer bytes = whorl::Buffer::allocate(size);
            bytes.resize(size);
            whorl::WriteAt writing{opened.file, std::move(bytes), 0};
            ASSERT_TRUE(inside.submit(std::move(writing),
                                      [&](Loop&, whorl::WriteAt::Done) { done = true; }));
        }));
    EXPECT_TRUE(world.run_until([&] { return done; }));
    world.remove_loop(loop);
}

// The file holds three messages and a half; the half is never read.
TEST(LatencyWorld, a_file_is_read_over_and_over) {
    for (const bool closed : {false, true}) {
        World world(7);  // reads end late and in any order
        make_file(world, "/tmp/data", 3500);
        Plan plan = make_plan({}, Kind::file);
        plan.target.path = "/tmp/data";
        plan.size = 1000;
        plan.connections = 2;
        plan.closed = closed;
        plan.depth = closed ? 3 : 4;
        plan.duration = 100ms;
        plan.rate = closed ? 1000 : 10'000;
        Outcome outcome(plan);
        measure(world, outcome);
        EXPECT_EQ(outcome.failure, "");
        EXPECT_EQ(outcome.unanswered, 0u);
        if (!closed) {
            EXPECT_EQ(outcome.answered, 1000u);
        }
        plan.size = 4000;
        Outcome shorter(plan);
        measure(world, shorter);
        EXPECT_NE(shorter.failure.find("shorter"), std::string::npos) << shorter.failure;
    }
}

TEST(LatencyWorld, timers_are_late_by_a_tick_at_most) {
    for (const bool closed : {false, true}) {
        World world;
        Plan plan = make_plan({}, Kind::timer);
        plan.closed = closed;
        plan.connections = 3;
        Outcome outcome(plan);
        measure(world, outcome);
        // A tick more each time when it is closed.
        EXPECT_GE(outcome.answered, closed ? 2990u : 1000u);
        EXPECT_LE(outcome.answered, closed ? 3000u : 1000u);
        EXPECT_LE(outcome.intended.max(), 1024u);
    }
}

// The loop is away when the last timers are due: they count, and with all that they are late.
TEST(LatencyWorld, a_loop_that_is_away_at_the_end_is_charged_for_it) {
    World world;
    Plan plan = make_plan({}, Kind::timer);
    Outcome outcome(plan);
    const Instant begin = world.now() + 1ms;
    Loop& loop = world.add_loop();
    Client client(loop, outcome, [](Loop& inside) { return inside.now(); });
    // Each time it is asked for, the world's clock goes on by 100 ms: a handler that takes so long.
    ASSERT_TRUE(loop.at(begin + 950ms + 500us, [&](Loop&, const whorl::Expired&) {
        world.options().time_per_call = 100ms;
        (void)loop.now();
    }));
    client.start();
    EXPECT_TRUE(world.run_until([&] {
        if (world.now() > begin + 1s) world.options().time_per_call = 0ms;
        return client.finished();
    }));
    EXPECT_EQ(outcome.answered, 1000u);
    EXPECT_EQ(outcome.unanswered, 0u);
    EXPECT_GE(outcome.intended.max(), 40'000'000u);
    world.remove_loop(loop);
}

TEST(LatencyWorld, interrupted_it_tells_what_it_has) {
    World world;
    Server server(world, after(1ms));
    Plan plan = make_plan(server.listen());
    plan.duration = 1000s;
    Outcome outcome(plan);
    measure(world, outcome,
            [&](Client& client) { world.after(2500ms, [&client] { client.interrupt(); }); });
    EXPECT_TRUE(outcome.interrupted);
    EXPECT_NEAR(static_cast<double>(outcome.measured.count()), 2.5e9, 2e6);
    EXPECT_EQ(outcome.unanswered, 0u);
    EXPECT_NEAR(static_cast<double>(outcome.answered), 2500, 2);
}

TEST(LatencyWorld, failures_are_told) {
    World world;
    Server server(world, after(1ms));
    const whorl::Address address = server.listen();
    server.corrupts = true;
    Outcome wrong(make_plan(address));
    measure(world, wrong);
    EXPECT_NE(wrong.failure.find("other bytes came back"), std::string::npos) << wrong.failure;
    server.closes = true;
    Outcome closed(make_plan(address));
    measure(world, closed);
    EXPECT_NE(closed.failure, "");
    Outcome refused(make_plan(whorl::Address::loopback_v4(9)));
    measure(world, refused);
    EXPECT_NE(refused.failure.find("refused"), std::string::npos) << refused.failure;
    EXPECT_EQ(refused.intended.count(), 0u);
}

// Whatever a kernel and a network may do, every message is answered, none twice, and none too early.
TEST(LatencyWorld, harsh_worlds) {
    for (std::uint64_t seed = 1; seed <= 40; ++seed) {
        World world(seed);
        Server server(world, after(1ms));
        Plan plan = make_plan(server.listen());
        plan.connections = 3;
        plan.size = 1 + static_cast<std::uint32_t>(seed * 37 % 600);
        plan.closed = seed % 4 == 0;
        if (plan.closed) plan.depth = 2;
        Outcome outcome(plan);
        measure(world, outcome);
        ASSERT_EQ(outcome.failure, "") << "seed " << seed;
        ASSERT_EQ(outcome.unanswered, 0u) << "seed " << seed;
        ASSERT_TRUE(plan.closed || outcome.answered == 1000) << "seed " << seed;
        ASSERT_GE(outcome.sent.min(), 1'000'000u) << "seed " << seed;
    }
}

}  // namespace
}  // namespace latency_test
