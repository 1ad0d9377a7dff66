// SPDX-License-Identifier: MIT
// Goal: what the simulated ring may do to be unkind is what Linux may do, and it loses nothing.
// Method: many seeds of harsh worlds for what must hold in each, and counts of what must have happened
// in some.
#include "unit/sim_ring_bench.hpp"

namespace whorl::sim_ring_test {
namespace {

// Each cancellation ends in one of the ways that Linux has, and its target in exactly one completion.
TEST(SimRing, cancellations_and_their_targets) {
    std::map<std::pair<int, bool>, int> seen;  // {answer, target was cancelled}
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        SimulationOptions options = SimulationOptions::harsh(seed);
        Bench bench(options, seed % 2 == 0 ? 0 : deferring);
        const auto [near, far] = bench.pair();
        char text[64];
        io_uring_sqe* sqe = bench.entry();
        io_uring_prep_recv(sqe, near, text, sizeof text, 0);
        sqe->user_data = 1;
        bench.submit();
        if (seed % 3 != 0) bench.kernel.send(far, "abc", 3, 0);
        bench.kernel.advance(Nanoseconds(bench.kernel.choices.below(400'000)));
        sqe = bench.entry();
        io_uring_prep_cancel64(sqe, 1, 0);
        sqe->user_data = 2;
        bench.submit();
        int answer = 1, target = 1, targets = 0, answers = 0;
        for (Answer next = bench.next(1s); next.data != UINT64_MAX; next = bench.next(1s)) {
            (next.data == 2 ? answer : target) = next.result;
            ++(next.data == 2 ? answers : targets);
        }
        ASSERT_EQ(answers, 1) << "seed " << seed;
        ASSERT_EQ(targets, 1) << "seed " << seed;
        ASSERT_TRUE(answer == 0 || answer == -ENOENT || answer == -EALREADY) << answer;
        ASSERT_TRUE(target == -ECANCELED || (target >= 1 && target <= 3)) << target;
        if (answer == 0) {
            EXPECT_EQ(target, -ECANCELED);
        }
        ++seen[{answer, target == -ECANCELED}];
    }
    EXPECT_GT((seen[{0, true}]), 0);
    EXPECT_GT((seen[{-ENOENT, false}]), 0);
    EXPECT_GT((seen[{-EALREADY, true}]), 0);
    EXPECT_GT((seen[{-EALREADY, false}]), 0);
}

// A stream of bytes through multishot receives that end at any time, with few buffers and a completion
// queue that overflows: nothing is lost, doubled or out of order.
void stream_through(const SimulationOptions& options, unsigned flags) {
    Bench bench(options, flags, 2, 2);
    ASSERT_EQ(bench.made, 0);
    Buffers buffers(bench, 4, 64);
    for (unsigned id = 0; id < 4; ++id) buffers.give(id);
    const auto [near, far] = bench.pair();
    const std::string text = pattern(8000);
    std::string received;
    std::size_t sent = 0;
    bool armed = false;
    for (int turn = 0; turn < 20000 && received.size() < text.size(); ++turn) {
        if (sent < text.size()) {
            const ssize_t done = bench.kernel.send(far, &text[sent], text.size() - sent, 0);
            if (done > 0) sent += static_cast<std::size_t>(done);
        }
        if (!armed) {
            io_uring_sqe* sqe = bench.entry();
            io_uring_prep_recv(sqe, near, nullptr, 0, 0);
            sqe->ioprio = IORING_RECV_MULTISHOT;
            sqe->flags = IOSQE_BUFFER_SELECT;
            bench.submit();
            armed = true;
        }
        const Answer answer = bench.next();
        ASSERT_NE(answer.data, UINT64_MAX) << "seed " << options.seed;
        ASSERT_TRUE(answer.result > 0 || answer.result == -ENOBUFS || answer.result == -EINTR)
            << answer.result;
        if (answer.result > 0) {
            received += buffers.text(answer);
            buffers.give(answer.flags >> IORING_CQE_BUFFER_SHIFT);
        }
        armed = answer.more();
    }
    ASSERT_EQ(received, text) << "seed " << options.seed;
}

TEST(SimRing, streams_lose_nothing) {
    stream_through(kind(), 0);
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        stream_through(SimulationOptions::harsh(seed), seed % 2 == 0 ? deferring : 0);
        if (::testing::Test::HasFatalFailure()) return;
    }
}

// The memory of a receive is the kernel's until its completion, also when that is a cancellation.
TEST(SimRing, memory_is_written_until_the_completion) {
    std::uint64_t dirty = 0;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        Bench bench(SimulationOptions::harsh(seed));
        const auto [near, far] = bench.pair();
        static_cast<void>(far);
        char text[200] = {};
        io_uring_sqe* sqe = bench.entry();
        io_uring_prep_recv(sqe, near, text, sizeof text, 0);
        sqe->user_data = 1;
        io_uring_prep_cancel64(bench.entry(), 1, 0);
        bench.submit();
        while (bench.next(1s).data != UINT64_MAX) {
        }
        const auto written = [](char byte) { return byte != 0; };
        if (std::any_of(std::begin(text), std::end(text), written)) ++dirty;
        std::memset(text, 0, sizeof text);
        bench.kernel.advance(2s);
        EXPECT_TRUE(std::none_of(std::begin(text), std::end(text), written)) << "seed " << seed;
    }
    EXPECT_GT(dirty, seeds / 10);
    EXPECT_LT(dirty, seeds);
}

// Ring exit does not stop the kernel: what is unfinished is still written to, for a while.
TEST(SimRing, exit_does_not_stop_the_kernel) {
    SimulationOptions options = SimulationOptions::harsh(1);
    Bench bench(options, deferring);
    const auto [near, far] = bench.pair();
    static_cast<void>(far);
    char text[100] = {};
    io_uring_prep_recv(bench.entry(), near, text, sizeof text, 0);
    bench.submit();
    std::memset(text, 0, sizeof text);
    bench.exit();
    EXPECT_EQ(text[0], 0);
    bench.kernel.advance(1s);
    EXPECT_NE(text[0], 0);
    EXPECT_NE(text[99], 0);
}

// Operations fail with every error of their list, one unknown error among them.
TEST(SimRing, operations_fail_as_their_manual_pages_say) {
    std::map<int, int> seen;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        SimulationOptions options = kind();
        options.seed = seed;
        options.operation_error = 1;
        Bench bench(options);
        const auto [near, far] = bench.pair();
        static_cast<void>(far);
        io_uring_prep_send(bench.entry(), near, "x", 1, 0);
        bench.submit();
        ++seen[bench.next().result];
    }
    const std::map<int, int> expected = {{-ECONNRESET, 0}, {-EPIPE, 0}, {-ENOBUFS, 0},
                                         {-ENOMEM, 0},     {-EINTR, 0}, {-EXDEV, 0}};
    ASSERT_EQ(seen.size(), expected.size());
    for (const auto& entry : seen) EXPECT_EQ(expected.count(entry.first), 1u) << entry.first;
}

// io_uring_enter takes a part, nothing, or wakes up for nothing; what it refuses stays in the queue.
TEST(SimRing, refusals_lose_no_submission) {
    std::map<int, int> seen;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        SimulationOptions options = kind();
        options.seed = seed;
        options.ring_refusal = 0.5;
        Bench bench(options, deferring, 8, 64);
        while (bench.enter(1, 1ns) != -ETIME) {  // the first one is never refused
        }
        unsigned written = 0, answered = 0;
        for (int turn = 0; turn < 200 && answered < 20; ++turn) {
            io_uring_sqe* sqe = written < 20 ? io_uring_get_sqe(&bench.ring) : nullptr;
            if (sqe != nullptr) {
                io_uring_prep_nop(sqe);
                sqe->user_data = written++;
            }
            const int done = bench.enter(0);
            ++seen[done];
            for (const Answer& answer : bench.reap()) EXPECT_EQ(answer.data, answered++);
        }
        ASSERT_EQ(answered, 20u) << "seed " << seed;
        ++seen[bench.enter(1, 1ns)];
    }
    for (int refusal : {-EAGAIN, -EBUSY, -EINTR}) EXPECT_GT(seen[refusal], 0) << refusal;
    EXPECT_GT(seen[2], 0);
}

// Completions that could come in one turn come in any order.
TEST(SimRing, completions_are_reordered_and_late) {
    int reordered = 0, late = 0;
    for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
        SimulationOptions options = kind();
        options.seed = seed;
        options.reordering = seed % 2 == 0 ? 0.5 : 0;
        options.late_completion = seed % 2 == 0 ? 0 : 0.5;
        Bench bench(options, deferring);
        int peers[4];
        char bytes[4] = {};
        for (unsigned index = 0; index < 4; ++index) {
            const auto [near, far] = bench.pair();
            peers[index] = far;
            io_uring_sqe* sqe = bench.entry();
            io_uring_prep_recv(sqe, near, &bytes[index], 1, 0);
            sqe->user_data = index;
        }
        bench.submit();
        const Instant start = bench.kernel.clock();
        for (int peer : peers) bench.kernel.send(peer, "x", 1, 0);
        std::vector<std::uint64_t> order;
        for (int count = 0; count < 4; ++count) order.push_back(bench.next().data);
        if (!std::is_sorted(order.begin(), order.end())) ++reordered;
        if (bench.kernel.clock() > start) ++late;
        std::sort(order.begin(), order.end());
        EXPECT_EQ(order, (std::vector<std::uint64_t>{0, 1, 2, 3}));
    }
    EXPECT_GT(reordered, 0);
    EXPECT_GT(late, 0);
}

}  // namespace
}  // namespace whorl::sim_ring_test
