// SPDX-License-Identifier: MIT
// Goal: nothing is lost, doubled or out of order between threads, while the receiving loop sleeps, works or
// goes away. Method: producers as fast as they can and in small bursts, numbered messages.
#include "conformance/support.hpp"
#include "conformance/tcp_pair.hpp"

#include <atomic>
#include <memory>

namespace whorl::conformance {
namespace {

// Of each layout of the ring.
struct Small {
    std::uint64_t number;
};
struct Line {
    std::uint64_t number;
    std::uint64_t rest[6];
};

class ChannelStress : public LoopTest {
  protected:
    static std::uint64_t total() {
        if (GetParam().world) return scaled(5'000);  // its threads take turns
        const std::string name = GetParam().name;
        return scaled(name == "io_uring" || name == "libev" ? 500'000 : 50'000);
    }

    // A thread that sends numbers; `pause` after each burst until all have arrived.
    template <class T>
    static void produce(Sender<T> sender, std::uint64_t total,
                        const std::atomic<std::uint64_t>* got) {
        for (std::uint64_t sent = 0; sent < total;) {
            T message{};
            message.number = sent;
            const Error error = sender.send(std::move(message));
            if (!error) ++sent;
            else EXPECT_EQ(error, Error::queue_full);
            if (error) os::give_turn();
            if (got == nullptr || sent % 3 != 0) continue;
            os::await([&] { return got->load(std::memory_order_acquire) == sent; });
        }
    }

    template <class T>
    void run_one(std::uint32_t capacity, bool sleeps, std::uint64_t count) {
        Loop loop = make_loop();
        Result<Channel<T>> channel = Channel<T>::create(capacity);
        ASSERT_TRUE(channel);
        std::atomic<std::uint64_t> got{0};
        std::uint64_t wrong = 0;
        Error end;
        ASSERT_TRUE(loop.submit(
            Receive<T>{std::move(channel->receiver)}, [&](Loop&, typename Receive<T>::Done done) {
                while (const T* message = done.next()) {
                    const std::uint64_t expected = got.load(std::memory_order_relaxed);
                    if (message->number != expected) ++wrong;
                    got.store(expected + 1, std::memory_order_release);
                }
                end = done.error;
            }));
        os::Thread producer([&got, sleeps, count, sender = std::move(channel->sender)]() mutable {
            produce<T>(std::move(sender), count, sleeps ? &got : nullptr);
        });
        EXPECT_FALSE(loop.run());
        producer.join();
        EXPECT_EQ(end, Error::channel_closed);
        EXPECT_EQ(got.load(), count);
        EXPECT_EQ(wrong, 0u);
        EXPECT_LE(loop.statistics().remote_wakes, loop.statistics().turns) << "once for each sleep";
        expect_clean(loop);
    }
};
WHORL_CONFORMANCE(ChannelStress);

TEST_P(ChannelStress, a_flood_loses_nothing) {
    WHORL_SKIP_IF_REFUSED();
    run_one<Small>(256, false, total());
    run_one<Line>(256, false, total());
}

TEST_P(ChannelStress, a_loop_that_falls_asleep_after_each_burst_loses_nothing) {
    WHORL_SKIP_IF_REFUSED();
    run_one<Small>(4, true, total() / 20);
    run_one<Line>(4, true, total() / 20);
}

TEST_P(ChannelStress, one_slot_is_enough) {
    WHORL_SKIP_IF_REFUSED();
    run_one<Small>(1, false, total() / 20);
    run_one<Line>(1, false, total() / 20);
}

TEST_P(ChannelStress, loops_go_while_threads_send) {
    WHORL_SKIP_IF_REFUSED();
    for (std::uint64_t round = 0; round < scaled(30) + 10; ++round) {
        const auto counted = std::make_shared<std::atomic<int>>(0);
        struct Load {
            std::shared_ptr<std::atomic<int>> owner;
        };
        os::Thread producer;
        std::uint64_t got = 0;
        std::atomic<std::uint64_t> lost{0};
        std::atomic<std::uint64_t> sent{0};
        {
            Loop loop = make_loop();
            Result<Channel<Load>> channel = Channel<Load>::create(8);
            ASSERT_TRUE(channel);
            ASSERT_TRUE(loop.submit(Receive<Load>{std::move(channel->receiver)},
                                    [&got](Loop&, Receive<Load>::Done done) {
                                        while (done.next() != nullptr) ++got;
                                    }));
            producer = os::Thread([&, sender = std::move(channel->sender)]() mutable {
                while (!sender.closed()) {
                    if (sender.send(Load{counted}) == Error::ok) sent.fetch_add(1);
                    os::give_turn();
                }
                lost.store(sender.undelivered());
            });
            for (std::uint64_t turn = 0; turn < 1 + round % 5; ++turn) EXPECT_FALSE(loop.poll());
        }
        producer.join();
        EXPECT_EQ(sent.load(), got + lost.load());
        EXPECT_EQ(counted.use_count(), 1) << "every message is destroyed";
    }
}

}  // namespace
}  // namespace whorl::conformance
