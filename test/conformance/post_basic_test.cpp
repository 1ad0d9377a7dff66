// SPDX-License-Identifier: MIT
// Goal: posts run later, in order, a bounded number a turn, and starve nothing. Method: handlers that
// write down their number, and chains that post themselves.
#include "backend/sim_kernel.hpp"
#include "conformance/support.hpp"
#include "conformance/tcp_tools.hpp"

#include <array>

namespace whorl::conformance {
namespace {

class PostBasic : public TcpTools {};
WHORL_CONFORMANCE(PostBasic);

TEST_P(PostBasic, run_first_in_first_out_and_never_inside_the_call) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    std::vector<int> order;
    for (int index = 0; index < 1000; ++index) {
        ASSERT_FALSE(loop.post([&order, index](Loop&) { order.push_back(index); }));
    }
    EXPECT_TRUE(order.empty());
    EXPECT_FALSE(loop.run());
    ASSERT_EQ(order.size(), 1000u);
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
    EXPECT_EQ(loop.statistics().posts_run, 1000u);
    EXPECT_EQ(loop.statistics().posts_high, 1000u);
}

TEST_P(PostBasic, posted_by_a_post_runs_in_the_next_turn_behind_those_before_it) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    std::string log;
    ASSERT_FALSE(loop.post([&](Loop& inner) {
        log += 'a';
        EXPECT_FALSE(inner.post([&](Loop& deeper) {
            log += 'c';
            EXPECT_FALSE(deeper.post([&](Loop&) { log += 'e'; }));
        }));
        EXPECT_FALSE(inner.post([&](Loop&) { log += 'd'; }));
    }));
    ASSERT_FALSE(loop.post([&](Loop&) { log += 'b'; }));
    EXPECT_FALSE(loop.poll());
    EXPECT_EQ(log, "ab");
    EXPECT_FALSE(loop.poll());
    EXPECT_EQ(log, "abcd");
    EXPECT_FALSE(loop.poll());
    EXPECT_EQ(log, "abcde");
    EXPECT_EQ(loop.run_once(), Error::nothing_to_wait_for);
}

TEST_P(PostBasic, a_turn_runs_no_more_than_its_share_in_order) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.posts_per_turn = 5; });
    std::vector<int> order;
    for (int index = 0; index < 12; ++index) {
        ASSERT_FALSE(loop.post([&order, index](Loop&) { order.push_back(index); }));
    }
    for (const std::size_t expected : {5u, 10u, 12u}) {
        EXPECT_FALSE(loop.poll());
        EXPECT_EQ(order.size(), expected);
    }
    EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST_P(PostBasic, a_handler_that_posts_itself_starves_neither_sockets_nor_timers) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    struct Again {
        std::uint64_t calls = 0;
        bool enough = false;
        void operator()(Loop& inner) {
            ++calls;
            if (!enough) {
                EXPECT_FALSE(inner.post(this));
            }
        }
    };
    std::array<Again, 3> chains;
    for (Again& chain : chains) ASSERT_FALSE(loop.post(&chain));
    int received = 0, fired = 0, watched = 0;
    Ends ends = Ends::pipe();
    ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(16)}, [&](Loop&, Recv::Done done) {
        EXPECT_EQ(done.buffer.text(), "x");
        ++received;
    }));
    ASSERT_TRUE(loop.after(2ms, [&](Loop&, Expired) { ++fired; }));
    ASSERT_TRUE(loop.watch(ends.in.get(), Interest::readable, [&](Loop& inner, Watched event) {
        ++watched;
        EXPECT_TRUE(inner.cancel(event.watch));
    }));
    for (int turn = 0; turn < 200; ++turn) ASSERT_FALSE(loop.poll());
    pair.peer.send("x");
    ends.out.write("y");
    run_until(loop, [&] { return received + fired + watched == 3; });
    for (Again& chain : chains) {
        EXPECT_GT(chain.calls, 100u);
        chain.enough = true;
    }
    close_and_wait(loop, pair.socket);
    EXPECT_FALSE(loop.run());
    expect_clean(loop);
}

TEST_P(PostBasic, a_chain_of_posts_looks_at_the_kernel_seldom_but_in_time) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_local_pair(loop);  // what is sent is there at once
    struct Chain {
        int left;
        void operator()(Loop& inner) {
            if (os::world() != nullptr) os::world()->advance(1us);
            if (left-- > 0) {
                EXPECT_FALSE(inner.post(this));
            }
        }
    };
    Chain chain{1000};
    int received_at = 0, sent_at = 0;
    ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(16)},
                            [&](Loop&, Recv::Done) { received_at = 1000 - chain.left; }));
    for (int turn = 0; turn < 10; ++turn) ASSERT_FALSE(loop.poll());
    ASSERT_FALSE(loop.post(&chain));
    const std::uint64_t before = loop.statistics().kernel_waits;
    while (chain.left > 500) ASSERT_FALSE(loop.run_once());
    // Without deferred work, or a kernel, there is nothing cheap to go by.
    const BackendReport& report = loop.backend_report();
    const bool deferred = (report.features & feature_bit(Feature::defer_taskrun)) != 0;
    if (deferred || report.chosen == Backend::libev) {
        EXPECT_LE(loop.statistics().kernel_waits - before, 500u / 8);
    }
    pair.peer.send("x");
    sent_at = 1000 - chain.left;
    while (chain.left > 0) ASSERT_FALSE(loop.run_once());
    EXPECT_GE(received_at, sent_at);
    EXPECT_LE(received_at, sent_at + 200);
    close_and_wait(loop, pair.socket);
    EXPECT_FALSE(loop.run());
    expect_clean(loop);
}

TEST_P(PostBasic, beyond_posts_max_is_refused_and_nothing_is_moved) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.posts_max = 100; });
    int calls = 0;
    for (int index = 0; index < 100; ++index) {
        ASSERT_FALSE(loop.post([&](Loop&) { ++calls; }));
    }
    auto value = std::make_unique<int>(1);
    auto refused = [v = std::move(value)](Loop&) { FAIL(); };
    EXPECT_EQ(loop.post(std::move(refused)), Error::queue_full);
    Witness witness;
    EXPECT_EQ(loop.post([t = witness.copy()](Loop&) { FAIL(); }), Error::queue_full);
    EXPECT_TRUE(witness.alone());
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 100);
    EXPECT_FALSE(loop.post([&](Loop&) { ++calls; }));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 101);
    EXPECT_EQ(loop.statistics().posts_high, 100u);
}

TEST_P(PostBasic, the_one_that_runs_does_not_count_against_posts_max) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.posts_max = 1; });
    struct Again {
        int left = 300;
        void operator()(Loop& inner) {
            if (--left > 0) {
                EXPECT_FALSE(inner.post(this));
            }
        }
    };
    Again chain;
    ASSERT_FALSE(loop.post(&chain));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(chain.left, 0);
}

TEST_P(PostBasic, handlers_may_be_move_only_full_size_boxed_pointers_or_methods) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    struct Object {
        int calls = 0;
        void operator()(Loop&) { ++calls; }
        void method(Loop&) { calls += 10; }
    };
    Object object;
    int sum = 0;
    ASSERT_FALSE(loop.post(&object));
    ASSERT_FALSE(loop.post(bind<&Object::method>(&object)));
    ASSERT_FALSE(loop.post([&sum, value = std::make_unique<int>(5)](Loop&) { sum += *value; }));
    std::array<std::uint64_t, 5> five{1, 2, 3, 4, 5};
    const auto full = [&sum, five](Loop&) { sum += static_cast<int>(five[4]); };
    static_assert(sizeof full == handler_size_max);
    ASSERT_FALSE(loop.post(full));
    std::array<std::uint64_t, 50> fifty{};
    fifty[49] = 100;
    Witness witness;
    ASSERT_FALSE(loop.post(
        boxed([&sum, fifty, t = witness.copy()](Loop&) { sum += static_cast<int>(fifty[49]); })));
    EXPECT_EQ(witness.others(), 1);
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(object.calls, 11);
    EXPECT_EQ(sum, 5 + 5 + 100);
    EXPECT_TRUE(witness.alone());
}

TEST_P(PostBasic, captures_are_destroyed_after_the_call_or_with_the_loop) {
    WHORL_SKIP_IF_REFUSED();
    Witness ran, boxed_ran, left;
    {
        Loop loop = make_loop();
        ASSERT_FALSE(loop.post([&ran, t = ran.copy()](Loop&) { EXPECT_FALSE(ran.alone()); }));
        ASSERT_FALSE(loop.post(boxed([t = boxed_ran.copy()](Loop&) {})));
        EXPECT_FALSE(loop.run());
        EXPECT_TRUE(ran.alone());
        EXPECT_TRUE(boxed_ran.alone());
        for (int index = 0; index < 500; ++index) {
            ASSERT_FALSE(loop.post([t = left.copy()](Loop&) { FAIL(); }));
            ASSERT_FALSE(loop.post(boxed([t = left.copy()](Loop&) { FAIL(); })));
        }
        EXPECT_EQ(left.others(), 1000);
    }
    EXPECT_TRUE(left.alone());
}

TEST_P(PostBasic, everything_may_be_called_from_a_post) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int ends = 0;
    ASSERT_FALSE(loop.post([&](Loop& inner) {
        Result<Operation> nop = inner.submit(Nop{}, [&](Loop&, Nop::Done done) {
            EXPECT_EQ(done.error, Error::cancelled);
            ++ends;
        });
        EXPECT_EQ(inner.cancel(*nop), Cancelled::cancelling);
        Result<Listener> listener = listen(inner, Address::loopback_v4(0));
        EXPECT_TRUE(inner.submit(Accept{*listener}, [&](Loop&, Accept::Done done) {
            EXPECT_EQ(done.error, Error::cancelled);
            ++ends;
        }));
        EXPECT_FALSE(inner.close(*listener, [&](Loop&) { ++ends; }));
        Result<Timer> timer = inner.after(1h, [](Loop&, Expired) { FAIL(); });
        EXPECT_TRUE(inner.cancel(*timer));
        EXPECT_EQ(ends, 0);
    }));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(ends, 3);
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
