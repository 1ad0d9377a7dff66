// SPDX-License-Identifier: MIT
// Goal: no post is lost, none runs twice, and each thread's order is kept, while the loop sleeps, works
// or goes away. Method: four threads post numbered handlers as fast as they can; the sums must agree.
#include "conformance/support.hpp"
#include "conformance/tcp_pair.hpp"

#include <array>
#include <atomic>

namespace whorl::conformance {
namespace {

constexpr int posters = 4;

class RemoteStress : public LoopTest {
  protected:
    // What arrived from each thread; written on the loop's thread only.
    struct Arrived {
        std::array<std::uint64_t, posters> next{};
        std::uint64_t out_of_order = 0;
        std::uint64_t total = 0;
        void note(int thread, std::uint64_t number) {
            std::uint64_t& expected = next[static_cast<std::size_t>(thread)];
            if (number != expected) ++out_of_order;
            expected = number + 1;
            ++total;
        }
    };
    // The long configurations only in the first and the fallback; the others differ in nothing here.
    static std::uint64_t per_thread() {
        if (GetParam().world) return scaled(10'000);  // its threads take turns
        const std::string name = GetParam().name;
        const bool main = name == "io_uring" || name == "libev";
        return scaled(main ? 1'000'000 : 100'000);
    }
};
WHORL_CONFORMANCE(RemoteStress);

TEST_P(RemoteStress, four_threads_lose_nothing_on_a_busy_loop) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const std::uint64_t each = per_thread();
    Result<Remote> remote = loop.remote();
    ASSERT_TRUE(remote);
    Arrived arrived;
    std::vector<os::Thread> threads;
    for (int index = 0; index < posters; ++index) {
        threads.emplace_back([&arrived, to = *remote, each, index] {
            for (std::uint64_t number = 0; number < each; ++number) {
                EXPECT_TRUE(
                    to.post([&arrived, index, number](Loop&) { arrived.note(index, number); }));
                os::give_turn();
            }
        });
    }
    run_until(
        loop, [&] { return arrived.total == each * posters; }, 120s);
    for (os::Thread& thread : threads) thread.join();
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(arrived.total, each * posters);
    EXPECT_EQ(arrived.out_of_order, 0u);
    EXPECT_EQ(loop.statistics().remote_posts_run, each * posters);
    expect_clean(loop);
}

// Each thread posts a few and waits until they have run, so that the loop falls asleep over and over
// again and every wake-up counts: one that is lost hangs the test, which the time limit ends.
TEST_P(RemoteStress, four_threads_lose_nothing_on_a_loop_that_falls_asleep) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Result<Remote> remote = loop.remote();
    ASSERT_TRUE(remote);
    const std::uint64_t rounds = scaled(10'000);
    Arrived arrived;
    std::atomic<int> running{posters};
    std::vector<os::Thread> threads;
    for (int index = 0; index < posters; ++index) {
        threads.emplace_back([&, to = *remote, index] {
            std::atomic<std::uint64_t> done{0};
            std::uint64_t number = 0;
            for (std::uint64_t round = 0; round < rounds; ++round) {
                const std::uint64_t count = 1 + (round + static_cast<std::uint64_t>(index)) % 3;
                for (std::uint64_t post = 0; post < count; ++post, ++number) {
                    EXPECT_TRUE(to.post([&arrived, &done, index, number](Loop&) {
                        arrived.note(index, number);
                        done.store(number + 1, std::memory_order_release);
                    }));
                }
                os::await([&] { return done.load(std::memory_order_acquire) == number; });
            }
            if (running.fetch_sub(1) == 1) {
                EXPECT_TRUE(to.stop());
            }
        });
    }
    EXPECT_FALSE(loop.run(RunUntil::stopped));
    for (os::Thread& thread : threads) thread.join();
    EXPECT_EQ(arrived.out_of_order, 0u);
    EXPECT_EQ(loop.statistics().remote_posts_run, arrived.total);
    EXPECT_LE(loop.statistics().remote_wakes, arrived.total + 1);
    expect_clean(loop);
}

TEST_P(RemoteStress, a_loop_goes_while_four_threads_post) {
    WHORL_SKIP_IF_REFUSED();
    // Counts constructions and destructions of what a handler holds.
    struct Load {
        std::atomic<std::int64_t>* live;
        explicit Load(std::atomic<std::int64_t>& counter) : live(&counter) { ++*live; }
        Load(Load&& other) noexcept : live(other.live) { ++*live; }
        ~Load() { --*live; }
    };
    for (std::uint64_t round = 0; round < scaled(40) + 10; ++round) {
        std::atomic<std::int64_t> live{0};
        std::atomic<std::uint64_t> accepted{0};
        std::uint64_t ran = 0;
        std::vector<os::Thread> threads;
        {
            Loop loop = make_loop();
            Result<Remote> remote = loop.remote();
            ASSERT_TRUE(remote);
            for (int index = 0; index < posters; ++index) {
                threads.emplace_back([&live, &accepted, &ran, to = *remote] {
                    while (to.post([load = Load(live), &ran](Loop&) { ++ran; })) {
                        ++accepted;
                        os::give_turn();
                    }
                    EXPECT_FALSE(to.alive());
                });
            }
            while (accepted < 20) ASSERT_FALSE(loop.poll());
            if (round % 2 == 0) {
                ASSERT_FALSE(loop.run_for(1ms));
            }
        }
        for (os::Thread& thread : threads) thread.join();
        EXPECT_EQ(live, 0) << "a handler was lost with the loop";
        EXPECT_LE(ran, accepted);
        if (HasFailure()) break;
    }
}

TEST_P(RemoteStress, many_loops_post_to_each_other_and_go_one_by_one) {
    WHORL_SKIP_IF_REFUSED();
    constexpr int loops = 4;
    std::array<Remote, loops> remotes;
    std::atomic<int> ready{0};
    std::array<std::atomic<std::uint64_t>, loops> received{};
    const std::uint64_t goal = scaled(2000);
    const auto worker = [&](int self) {
        Result<Loop> made = Loop::create(options_here());
        ASSERT_TRUE(made);
        Loop loop = std::move(*made);
        remotes[static_cast<std::size_t>(self)] = *loop.remote();
        ++ready;
        os::await([&] { return ready == loops; });
        const std::array<Remote, loops> others = remotes;
        std::uint64_t posted = 0;
        struct Pump {
            const std::array<Remote, loops>& others;
            std::array<std::atomic<std::uint64_t>, loops>& received;
            std::uint64_t& posted;
            std::uint64_t goal;
            void operator()(Loop& inner) {
                for (std::size_t index = 0; index < loops; ++index) {
                    auto& counter = received[index];
                    others[index].post([&counter](Loop&) { ++counter; });
                }
                if (++posted < goal) {
                    EXPECT_FALSE(inner.post(this));
                } else inner.stop();
            }
        };
        Pump pump{others, received, posted, goal};
        EXPECT_FALSE(loop.post(&pump));
        EXPECT_FALSE(loop.run(RunUntil::stopped));
        EXPECT_EQ(posted, goal);
    };
    std::vector<os::Thread> threads;
    for (int self = 0; self < loops; ++self)
        threads.emplace_back([&worker, self] { worker(self); });
    for (os::Thread& thread : threads) thread.join();
    for (const auto& count : received) {
        EXPECT_GE(count, 1u);
        EXPECT_LE(count, goal * loops);
    }
    for (const Remote& remote : remotes) EXPECT_FALSE(remote.alive());
}

TEST_P(RemoteStress, loops_come_and_go_under_remotes_that_outlive_them) {
    WHORL_SKIP_IF_REFUSED();
    for (std::uint64_t round = 0; round < scaled(100) + 3; ++round) {
        std::atomic<int> stage{0};
        Remote remote;
        os::Thread owner([&] {
            Result<Loop> loop = Loop::create(options_here());
            ASSERT_TRUE(loop);
            remote = *loop->remote();
            stage = 1;
            EXPECT_FALSE(loop->run(RunUntil::stopped));
        });
        os::await([&] { return stage != 0; });
        std::vector<os::Thread> threads;
        for (int index = 0; index < 3; ++index) {
            threads.emplace_back([to = remote] {
                Remote copy = to;
                for (int post = 0; post < 50; ++post) {
                    Remote another = copy;
                    another.post([](Loop&) {});
                    os::give_turn();
                }
                copy.stop();
            });
        }
        owner.join();
        for (os::Thread& thread : threads) thread.join();
        EXPECT_FALSE(remote.alive());
    }
}

}  // namespace
}  // namespace whorl::conformance
