// SPDX-License-Identifier: MIT
// Goal: every limit of LoopOptions holds, tells when it is met, and leaves the refused arguments
// untouched; the statistics show what was reached. Method: tiny limits, met exactly and overstepped.
#include "conformance/backend_child.hpp"
#include "conformance/tcp_pair.hpp"

#include <functional>

namespace whorl::conformance {
namespace {

class LimitsOptions : public TcpTest {};
WHORL_CONFORMANCE(LimitsOptions);

TEST_P(LimitsOptions, what_is_out_of_range_is_refused_not_repaired) {
    WHORL_SKIP_IF_REFUSED();
    using Change = std::function<void(LoopOptions&)>;
    const std::pair<const char*, Change> wrong[] = {
        {"ops_max 0", [](LoopOptions& o) { o.ops_max = 0; }},
        {"ops_max large", [](LoopOptions& o) { o.ops_max = (1u << 30) + 1; }},
        {"handles_max 0", [](LoopOptions& o) { o.handles_max = 0; }},
        {"handles_max large", [](LoopOptions& o) { o.handles_max = 0xFFFFFFFF; }},
        {"recv_buffer_size small", [](LoopOptions& o) { o.recv_buffer_size = 255; }},
        {"recv_buffer_size large", [](LoopOptions& o) { o.recv_buffer_size = 65537; }},
        {"recv_ring_depth 1", [](LoopOptions& o) { o.recv_ring_depth = 1; }},
        {"recv_ring_depth odd", [](LoopOptions& o) { o.recv_ring_depth = 96; }},
        {"recv_ring_depth large",
         [](LoopOptions& o) { o.recv_ring_depth = o.recv_ring_depth_max = 65536; }},
        {"recv_ring_depth_max odd", [](LoopOptions& o) { o.recv_ring_depth_max = 96; }},
        {"recv_ring_depth_max small",
         [](LoopOptions& o) {
             o.recv_ring_depth = 64;
             o.recv_ring_depth_max = 32;
         }},
        {"recv_bulk_buffer_size large", [](LoopOptions& o) { o.recv_bulk_buffer_size = 65537; }},
        {"recv_bulk_ring_depth 1", [](LoopOptions& o) { o.recv_bulk_ring_depth = 1; }},
        {"recv_bulk_ring_depth odd", [](LoopOptions& o) { o.recv_bulk_ring_depth = 12; }},
        {"recv_buffers_per_stream 0", [](LoopOptions& o) { o.recv_buffers_per_stream = 0; }},
        {"submission_queue_depth 0", [](LoopOptions& o) { o.submission_queue_depth = 0; }},
        {"submission_queue_depth large", [](LoopOptions& o) { o.submission_queue_depth = 32769; }},
        {"completion_queue_depth small",
         [](LoopOptions& o) {
             o.submission_queue_depth = 256;
             o.completion_queue_depth = 255;
         }},
        {"completions_per_turn 0", [](LoopOptions& o) { o.completions_per_turn = 0; }},
        {"posts_per_turn 0", [](LoopOptions& o) { o.posts_per_turn = 0; }},
        {"timers_per_turn 0", [](LoopOptions& o) { o.timers_per_turn = 0; }},
        {"timer_slack negative", [](LoopOptions& o) { o.timer_slack = -1ns; }},
        {"busy_poll negative", [](LoopOptions& o) { o.busy_poll = -1ns; }},
        {"statistics_interval negative", [](LoopOptions& o) { o.statistics_interval = -1ns; }},
    };
    for (const auto& [name, change] : wrong) {
        LoopOptions options = options_here();
        change(options);
        const Result<Loop> loop = Loop::create(options);
        EXPECT_EQ(loop.error(), Error::invalid_argument) << name;
    }
}

TEST_P(LimitsOptions, the_edges_of_the_ranges_work) {
    WHORL_SKIP_IF_REFUSED();
    using Change = std::function<void(LoopOptions&)>;
    const Change edges[] = {
        [](LoopOptions& o) { o.ops_max = 2; },
        [](LoopOptions& o) { o.ops_max = 1u << 30; },
        [](LoopOptions& o) { o.handles_max = 1; },
        [](LoopOptions& o) { o.recv_buffer_size = 256; },
        [](LoopOptions& o) { o.recv_buffer_size = 65536; },
        [](LoopOptions& o) { o.recv_ring_depth = o.recv_ring_depth_max = 32768; },
        [](LoopOptions& o) {
            o.completion_queue_depth = 0;
            o.submission_queue_depth = 32768;
        },
        [](LoopOptions& o) {
            o.submission_queue_depth = 1;
            o.completion_queue_depth = 1;
        },
        [](LoopOptions& o) { o.completions_per_turn = 1; },
        [](LoopOptions& o) { o.posts_per_turn = o.timers_per_turn = 1; },
        [](LoopOptions& o) { o.recv_buffers_per_stream = 1; },
    };
    for (const Change& change : edges) {
        Loop loop = make_loop(change);
        int calls = 0;
        for (int index = 0; index < 2; ++index) {
            ASSERT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) { ++calls; }));
            ASSERT_FALSE(loop.post([&](Loop&) { ++calls; }));
        }
        EXPECT_FALSE(loop.run());
        ASSERT_TRUE(loop.after(0ns, [&](Loop&, Expired) { ++calls; }));
        EXPECT_FALSE(loop.run());
        EXPECT_EQ(calls, 5);
        expect_clean(loop);
    }
}

TEST_P(LimitsOptions, ops_max) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.ops_max = 10; });
    Pair pair = make_pair(loop);
    int calls = 0;
    for (int index = 0; index < 8; ++index) {
        ASSERT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) { ++calls; }));
    }
    Result<Timer> timer = loop.after(1h, [&](Loop&, Expired) { ++calls; });
    ASSERT_TRUE(timer);
    // A deadline takes a slot of its own: one is left, two are needed, and none is taken.
    EXPECT_EQ(loop.submit(Nop{}, within(1h), [](Loop&, Nop::Done) {}).error(),
              Error::slots_exhausted);
    EXPECT_EQ(loop.statistics().operations, 9u);
    Result<Timer> last = loop.after(1h, [&](Loop&, Expired) { ++calls; });
    ASSERT_TRUE(last);
    Witness witness;
    Recv refused{pair.socket, loop.buffer(100)};
    auto handler = [t = witness.copy()](Loop&, Recv::Done) { FAIL(); };
    EXPECT_EQ(loop.submit(std::move(refused), std::move(handler)).error(), Error::slots_exhausted);
    EXPECT_TRUE(refused.buffer) << "a refused submission was moved from";
    EXPECT_EQ(witness.others(), 1);
    EXPECT_EQ(loop.after(1s, [](Loop&, Expired) {}).error(), Error::slots_exhausted);
    EXPECT_EQ(loop.watch(0, Interest::readable, [](Loop&, Watched) {}).error(),
              Error::slots_exhausted);
    EXPECT_EQ(loop.hook(HookPoint::before_wait, [](Loop&) {}).error(), Error::slots_exhausted);
    EXPECT_EQ(loop.close(pair.socket, [](Loop&) {}), Error::slots_exhausted);
    EXPECT_EQ(loop.statistics().operations, 10u);
    EXPECT_EQ(loop.statistics().operations_high, 10u);
    EXPECT_FALSE(loop.post([&](Loop&) { ++calls; })) << "posts have a limit of their own";
    EXPECT_TRUE(loop.cancel(*timer));
    EXPECT_TRUE(loop.cancel(*last));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 9);
    EXPECT_FALSE(loop.close(pair.socket)) << "nothing was closed before";
    expect_clean(loop);
}

TEST_P(LimitsOptions, handles_max) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.handles_max = 2; });
    const Listener first = listen_here(loop);
    const Listener second = listen_here(loop);
    EXPECT_EQ(listen(loop, Address::loopback_v4(0)).error(), Error::slots_exhausted);
    EXPECT_EQ(loop.submit(Connect{Address::loopback_v4(port_of(loop, first))},
                          [](Loop&, Connect::Done) { FAIL(); })
                  .error(),
              Error::slots_exhausted);
    Ends ends = Ends::sockets();
    EXPECT_EQ(adopt_socket(loop, ends.in.get()).error(), Error::slots_exhausted);
    EXPECT_NE(os::fcntl(ends.in.get(), F_GETFD), -1) << "a refused descriptor stays the caller's";
    // An accepted connection without a slot is closed, and the handler hears why.
    Peer peer = Peer::connect_to(port_of(loop, first));
    Error error;
    ASSERT_TRUE(loop.submit(Accept{first}, [&](Loop&, Accept::Done done) {
        error = done.error;
        EXPECT_FALSE(done.socket);
    }));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(error, Error::slots_exhausted);
    EXPECT_EQ(peer.receive(1), "");
    EXPECT_EQ(loop.statistics().handles, 2u);
    EXPECT_EQ(loop.statistics().handles_high, 2u);
    EXPECT_FALSE(loop.close(second));
    Result<Listener> third = listen(loop, Address::loopback_v4(0));
    EXPECT_TRUE(third);
    EXPECT_FALSE(loop.close(first));
    EXPECT_FALSE(loop.close(*third));
    expect_clean(loop);
}

TEST_P(LimitsOptions, buffer_bytes_max) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.buffer_bytes_max = 1 << 20; });
    std::vector<Buffer> buffers;
    for (;;) {
        Buffer buffer = loop.buffer(65536);
        if (!buffer) break;
        EXPECT_GE(buffer.capacity(), 65536u);
        buffers.push_back(std::move(buffer));
        ASSERT_LE(buffers.size(), 16u);
    }
    EXPECT_GE(buffers.size(), 8u);
    EXPECT_LE(loop.statistics().buffer_bytes_mapped, std::uint64_t{1} << 20);
    EXPECT_GE(loop.statistics().buffers_out_high, buffers.size());
    EXPECT_TRUE(loop.buffer(1 << 20)) << "what is larger than a block comes from the heap";
    buffers.pop_back();
    EXPECT_TRUE(loop.buffer(65536));
    buffers.clear();
    EXPECT_EQ(loop.statistics().buffers_out, 0u);
}

TEST_P(LimitsOptions, completions_per_turn_bounds_a_turn) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) {
        options.completions_per_turn = std::min(options.completions_per_turn, 5u);
    });
    const std::uint32_t bound = std::min(GetParam().options.completions_per_turn, 5u);
    std::uint64_t calls = 0, seen = 0, worst = 0;
    Result<Operation> hook = loop.hook(HookPoint::after_wait, [&](Loop&) {
        worst = std::max(worst, calls - std::exchange(seen, calls));
    });
    ASSERT_TRUE(hook);
    for (int index = 0; index < 300; ++index) {
        ASSERT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) { ++calls; }));
    }
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 300u);
    EXPECT_LE(worst, bound);
    EXPECT_LE(loop.statistics().completions_batch_high, bound);
    EXPECT_GE(loop.statistics().completions, 300u);
    EXPECT_EQ(loop.statistics().completions_stale, 0u);
    EXPECT_GE(loop.statistics().handlers, 300u);
    loop.cancel(*hook);
}

TEST_P(LimitsOptions, statistics_come_back_to_zero) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (int round = 0; round < 20; ++round) {
        std::vector<Pair> pairs;
        int finals = 0;
        for (int index = 0; index < 5; ++index) {
            pairs.push_back(make_pair(loop));
            ASSERT_TRUE(
                loop.submit(RecvStream{pairs.back().socket}, [&](Loop&, RecvStream::Done done) {
                    if (!done.more) ++finals;
                }));
            pairs.back().peer.send("data");
            if (index % 2 == 0) pairs.back().peer.finish_sending();
        }
        for (int turn = 0; turn < round; ++turn) ASSERT_FALSE(loop.poll());
        EXPECT_GE(loop.statistics().operations, 1u);
        EXPECT_EQ(loop.statistics().handles, 5u);
        for (const Pair& pair : pairs) EXPECT_FALSE(loop.close(pair.socket));
        EXPECT_FALSE(loop.run());
        EXPECT_EQ(finals, 5);
        expect_clean(loop);
        // What the kernel keeps ready for the next stream is all that is out.
        EXPECT_LE(loop.statistics().buffers_out,
                  GetParam().options.recv_ring_depth_max + GetParam().options.recv_bulk_ring_depth);
    }
    EXPECT_EQ(loop.statistics().handles_high, 6u);
}

// Whatever a backend keeps for a descriptor or a watch must go with it.
TEST_P(LimitsOptions, few_slots_serve_any_number_of_connections_and_watches) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) {
        options.handles_max = 4;
        options.ops_max = 8;
    });
    int pipe[2];
    ASSERT_EQ(os::pipe2(pipe, O_CLOEXEC), 0);
    for (int round = 0; round < 100; ++round) {
        Pair pair = make_pair(loop);
        std::string received;
        ASSERT_TRUE(
            loop.submit(Recv{pair.socket, Buffer::allocate(10)}, [&](Loop&, Recv::Done done) {
                EXPECT_FALSE(done.error) << "round " << round << ": " << done.error.text();
                received = done.buffer.text();
            }));
        const Result<Watch> watch = loop.watch(pipe[0], Interest::readable, [](Loop&, Watched) {});
        ASSERT_TRUE(watch);
        ASSERT_FALSE(loop.poll());
        ASSERT_TRUE(loop.cancel(*watch));
        pair.peer.send("hello");
        run_until(loop, [&] { return !received.empty(); });
        close_and_wait(loop, pair.socket);
    }
    for (int end : pipe) os::close(end);
    expect_clean(loop);
}

#if !WHORL_TEST_SANITIZED  // a sanitizer needs terabytes of address space
TEST_P(LimitsOptions, too_little_address_space_is_told) {
    WHORL_SKIP_IF_REFUSED();
    const std::string answer = in_child([] {
        const rlimit space{rlim_t{100} << 20, rlim_t{100} << 20};
        if (os::setrlimit(RLIMIT_AS, &space) != 0) return std::string("no limit");
        const Result<Loop> large = Loop::create(options_here());
        LoopOptions options = options_here();
        options.ops_max = options.handles_max = 1000;
        const Result<Loop> small = Loop::create(options);
        return std::string(large.error().name()) + " " + (small ? "made" : small.error().name());
    });
    EXPECT_EQ(answer, "ENOMEM made");
}
#endif

}  // namespace
}  // namespace whorl::conformance
