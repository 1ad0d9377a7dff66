// SPDX-License-Identifier: MIT
// Goal: the time of every operation is counted once in each phase that it has, and in the phase where it went;
// what has no such phase is not counted there. Method: operations that are held up for a known time in one
// place: only that a time is not shorter than it was made to be depends on a clock.
#include "conformance/tcp_tools.hpp"

#include <whorl/operation_latency.hpp>
#include <whorl/statistics_page.hpp>

#include <memory>

namespace whorl::conformance {
namespace {

class OperationLatency : public TcpTools {
  protected:
    Loop make_watched_loop() {
        return make_loop([](LoopOptions& options) {
            options.operation_latency = true;
            options.statistics_page = true;
            options.statistics_interval = 1h;
        });
    }
    static std::uint64_t count(const Loop& loop, const char* kind, LatencyPhase phase) {
        const Histogram* histogram = loop.latency(kind, phase);
        return histogram == nullptr ? 0 : histogram->count();
    }
    static std::uint64_t longest(const Loop& loop, const char* kind, LatencyPhase phase) {
        const Histogram* histogram = loop.latency(kind, phase);
        return histogram == nullptr ? 0 : histogram->max();
    }
    static void expect_counts(const Loop& loop, const char* kind, std::uint64_t queued,
                              std::uint64_t kernel, std::uint64_t waiting, std::uint64_t handler) {
        EXPECT_EQ(count(loop, kind, LatencyPhase::queued), queued) << kind;
        EXPECT_EQ(count(loop, kind, LatencyPhase::kernel), kernel) << kind;
        EXPECT_EQ(count(loop, kind, LatencyPhase::waiting), waiting) << kind;
        EXPECT_EQ(count(loop, kind, LatencyPhase::handler), handler) << kind;
    }
    static void hold_up(Nanoseconds time) {
        const Instant end = os::now() + time;
        while (os::now() < end) {
        }
    }
    static constexpr std::uint64_t held = 3'000'000;
};

TEST_P(OperationLatency, off_nothing_is_counted) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int calls = 0;
    ASSERT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) { ++calls; }));
    run_until(loop, [&] { return calls == 1; });
    EXPECT_EQ(loop.latency("nop", LatencyPhase::kernel), nullptr);
    loop.reset_latency();
}

TEST_P(OperationLatency, each_is_counted_once_in_each_phase_it_has) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_watched_loop();
    EXPECT_EQ(latency_of<Nop>(loop, LatencyPhase::kernel), nullptr) << "none yet";
    int calls = 0;
    for (int index = 0; index < 7; ++index) {
        ASSERT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) { ++calls; }));
    }
    for (int index = 0; index < 3; ++index) ASSERT_FALSE(loop.post([&](Loop&) { ++calls; }));
    const Result<Timer> timer = loop.after(0ns, [&](Loop&, Expired) { ++calls; });
    ASSERT_TRUE(timer);
    while (calls != 11) ASSERT_FALSE(loop.run_once());
    expect_counts(loop, "nop", 7, 7, 7, 7);
    expect_counts(loop, "post", 3, 0, 0, 3);
    expect_counts(loop, "timer", 0, 0, 0, 1);
    EXPECT_EQ(loop.latency("no such kind", LatencyPhase::kernel), nullptr);
    loop.reset_latency();
    expect_counts(loop, "nop", 0, 0, 0, 0);
}

TEST_P(OperationLatency, time_is_found_where_it_went) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_watched_loop();
    Pair pair = make_pair(loop);
    End receive, send;
    // With the kernel: nothing is sent for a while.
    ASSERT_TRUE(loop.submit(Recv{pair.socket, Buffer::allocate(8)}, into(receive)));
    turns(loop, 2);
    ASSERT_TRUE(loop.after(3ms, [&](Loop&, Expired) { pair.peer.send("x"); }));
    run_until(loop, [&] { return receive.finals == 1; });
    EXPECT_GE(longest(loop, "recv", LatencyPhase::kernel), held);
    // Queued, in a handler that takes its time after it has submitted; and in that handler.
    loop.reset_latency();
    ASSERT_FALSE(loop.post([&](Loop& here) {
        ASSERT_TRUE(here.submit(SendAll{pair.socket, filled(1)}, into(send)));
        hold_up(3ms);
    }));
    run_until(loop, [&] { return send.finals == 1; });
    EXPECT_GE(longest(loop, "send_all", LatencyPhase::queued), held);
    EXPECT_GE(longest(loop, "post", LatencyPhase::handler), held);
    expect_counts(loop, "send_all", 1, 1, 1, 1);
    // Waiting, for those before it that were collected with it.
    loop.reset_latency();
    int calls = 0;
    for (int index = 0; index < 2; ++index) {
        ASSERT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) {
            ++calls;
            hold_up(3ms);
        }));
    }
    while (calls != 2) ASSERT_FALSE(loop.run_once());
    if (exact()) {
        EXPECT_GE(longest(loop, "nop", LatencyPhase::waiting), held);
    }
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(OperationLatency, what_goes_on_has_no_time_with_the_kernel) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_watched_loop();
    Pair pair = make_pair(loop);
    End stream;
    ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, into(stream)));
    pair.peer.send("some");
    run_until(loop, [&] { return stream.text == "some"; });
    const std::uint64_t events = count(loop, "recv_stream", LatencyPhase::handler);
    EXPECT_GE(events, 1u);
    expect_counts(loop, "recv_stream", 0, 0, events, events);
    // One that ends inside the loop, cancelled behind another, was never waited for.
    End first, behind;
    Pair other = make_pair(loop);
    ASSERT_TRUE(loop.submit(Recv{other.socket, Buffer::allocate(8)}, into(first)));
    const auto queued = loop.submit(Recv{other.socket, Buffer::allocate(8)}, into(behind));
    ASSERT_TRUE(queued);
    EXPECT_EQ(loop.cancel(*queued), Cancelled::cancelling);
    run_until(loop, [&] { return behind.finals == 1; });
    expect_counts(loop, "recv", 0, 0, 0, 1);
    close_and_wait(loop, other.socket);
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(OperationLatency, the_page_and_a_copy_say_the_same) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_watched_loop();
    int calls = 0;
    for (int index = 0; index < 100; ++index) {
        ASSERT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) { ++calls; }));
    }
    while (calls != 100) ASSERT_FALSE(loop.run_once());
    ASSERT_FALSE(loop.publish_statistics());
    const Result<StatisticsPage> page = loop.statistics_page();
    ASSERT_TRUE(page);
    const auto figures = std::make_unique<LoopFigures>();
    ASSERT_FALSE(page->read(*figures));
    Result<Histogram> copy = Histogram::create(latency_histogram);
    ASSERT_TRUE(copy);
    for (std::uint32_t phase = 0; phase < latency_phases; ++phase) {
        const Histogram* histogram = latency_of<Nop>(loop, static_cast<LatencyPhase>(phase));
        ASSERT_NE(histogram, nullptr);
        const LatencyFigures& said =
            figures->kinds[static_cast<int>(detail::OpKind::nop)].latency[phase];
        EXPECT_EQ(said.count, 100u);
        EXPECT_EQ(said.p50, histogram->percentile(50));
        EXPECT_EQ(said.p99, histogram->percentile(99));
        EXPECT_EQ(said.max, histogram->max());
        EXPECT_GE(said.sum, said.max);
        EXPECT_FALSE(copy->merge(*histogram)) << "they are made as latency_histogram says";
    }
    EXPECT_EQ(copy->count(), 400u);
}

WHORL_CONFORMANCE(OperationLatency);

}  // namespace
}  // namespace whorl::conformance
