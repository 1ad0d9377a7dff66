// SPDX-License-Identifier: MIT
// Goal: a channel keeps order, loses nothing, hands back what does not fit, tells once of room, wakes a
// sleeper once, is fair, and ends from either side as channel.hpp says. Method: two loops in turns on one
// thread, which makes every step visible; channel_stress_test.cpp has the threads.
#include "conformance/support.hpp"
#include "conformance/tcp_pair.hpp"

#include <memory>

namespace whorl::conformance {
namespace {

using Number = std::unique_ptr<int>;
Number number(int value) { return std::make_unique<int>(value); }

class ChannelBasic : public LoopTest {
  protected:
    template <class T = Number>
    static Channel<T> make_channel(std::uint32_t capacity) {
        Result<Channel<T>> made = Channel<T>::create(capacity);
        EXPECT_TRUE(made);
        return std::move(made).value();
    }

    // What a receiver has got, and how it ended.
    struct Log {
        std::vector<int> got;
        std::size_t calls = 0;
        std::size_t ends = 0;
        Error error;
        Receiver<Number> receiver;

        void operator()(Loop&, Receive<Number>::Done done) {
            if (done.more) ++calls;
            while (Number* message = done.next()) got.push_back(**message);
            if (done.more) return;
            ++ends;
            error = done.error;
            receiver = std::move(done.receiver);
        }
    };
    static std::vector<int> numbers(int from, int to) {
        std::vector<int> all;
        for (int value = from; value < to; ++value) all.push_back(value);
        return all;
    }
    // Turns without waiting; enough for whatever has been said to arrive.
    static void turns(Loop& loop, int count = 6) {
        for (int turn = 0; turn < count; ++turn) EXPECT_FALSE(loop.poll());
    }
};
WHORL_CONFORMANCE(ChannelBasic);

TEST_P(ChannelBasic, capacity_has_limits) {
    for (const std::uint32_t wrong : {0u, 3u, 1000u, 1u << 31}) {
        EXPECT_EQ(Channel<int>::create(wrong).error(), Error::invalid_argument);
    }
}

TEST_P(ChannelBasic, messages_arrive_in_order_and_the_end_after_them) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Channel<Number> channel = make_channel(8);
    Log log;
    for (int value = 0; value < 5; ++value) EXPECT_FALSE(channel.sender.send(number(value)));
    ASSERT_TRUE(loop.submit(Receive<Number>{std::move(channel.receiver)}, &log));
    EXPECT_TRUE(log.got.empty()) << "never inside the call";
    turns(loop);
    EXPECT_EQ(log.got, numbers(0, 5)) << "what was sent before it was received from";
    for (int value = 5; value < 9; ++value) EXPECT_FALSE(channel.sender.send(number(value)));
    channel.sender.close();
    EXPECT_TRUE(channel.sender.closed());
    EXPECT_EQ(channel.sender.send(number(9)), Error::channel_closed);
    EXPECT_FALSE(loop.run()) << "an open receive keeps run() going, its end lets it return";
    EXPECT_EQ(log.got, numbers(0, 9));
    EXPECT_EQ(log.ends, 1u);
    EXPECT_EQ(log.error, Error::channel_closed);
    log.receiver.close();
    expect_clean(loop);
}

TEST_P(ChannelBasic, full_hands_the_message_back_and_tells_once_of_room) {
    WHORL_SKIP_IF_REFUSED();
    for (const int capacity : {1, 2, 4, 64}) {
        Loop to = make_loop();
        Loop from = make_loop();
        Channel<Number> channel = make_channel(static_cast<std::uint32_t>(capacity));
        Log log;
        for (int value = 0; value < capacity; ++value) {
            EXPECT_FALSE(channel.sender.send(number(value)));
        }
        Number more = number(capacity);
        EXPECT_EQ(channel.sender.send(std::move(more)), Error::queue_full);
        ASSERT_NE(more, nullptr) << "it was not taken";
        int told = 0;
        const auto space = [&told](Loop&, AwaitSpace::Done done) {
            EXPECT_FALSE(done.error);
            ++told;
        };
        ASSERT_TRUE(from.submit(AwaitSpace{channel.sender}, space));
        EXPECT_EQ(from.submit(AwaitSpace{channel.sender}, space).error(), Error::invalid_argument)
            << "one at a time";
        turns(from);
        EXPECT_EQ(told, 0);
        ASSERT_TRUE(to.submit(Receive<Number>{std::move(channel.receiver)}, &log));
        turns(to);
        turns(from);
        EXPECT_EQ(told, 1);
        EXPECT_FALSE(channel.sender.send(std::move(more)));
        turns(to);
        turns(from);
        EXPECT_EQ(told, 1);
        EXPECT_EQ(log.got, numbers(0, capacity + 1));
        ASSERT_TRUE(from.submit(AwaitSpace{channel.sender}, space));
        turns(from);
        EXPECT_EQ(told, 2) << "there is room already";
        channel.sender.close();
        turns(to);
        log.receiver.close();
        expect_clean(to);
        expect_clean(from);
    }
}

// Each sends whenever it can and waits for room when it cannot; nothing stands still.
struct Node {
    Loop& loop;
    Sender<int> to;
    int sent = 0;
    int got = 0;
    int total = 0;
    bool ended = false;

    void send() {
        while (sent < total) {
            const Error error = to.send(int(sent));
            if (error == Error::queue_full) {
                EXPECT_TRUE(
                    loop.submit(AwaitSpace{to}, [this](Loop&, AwaitSpace::Done) { send(); }));
                return;
            }
            ASSERT_FALSE(error);
            ++sent;
        }
        to.close();
    }
    void operator()(Loop&, Receive<int>::Done done) {
        while (const int* message = done.next()) EXPECT_EQ(*message, got++);
        if (!done.more) ended = true;
    }
};

TEST_P(ChannelBasic, two_loops_that_send_to_each_other_do_not_deadlock_at_any_capacity) {
    WHORL_SKIP_IF_REFUSED();
    for (const std::uint32_t capacity : {1u, 2u, 16u}) {
        Loop left = make_loop();
        Loop right = make_loop();
        Channel<int> there = make_channel<int>(capacity);
        Channel<int> back = make_channel<int>(capacity);
        Node a{left, std::move(there.sender)};
        Node b{right, std::move(back.sender)};
        a.total = b.total = 300;
        ASSERT_TRUE(left.submit(Receive<int>{std::move(back.receiver), 3}, &a));
        ASSERT_TRUE(right.submit(Receive<int>{std::move(there.receiver), 3}, &b));
        a.send();
        b.send();
        for (int turn = 0; turn < 20'000 && !(a.ended && b.ended); ++turn) {
            EXPECT_FALSE(left.poll());
            EXPECT_FALSE(right.poll());
        }
        EXPECT_TRUE(a.ended && b.ended);
        EXPECT_EQ(a.got, 300);
        EXPECT_EQ(b.got, 300);
        expect_clean(left);
        expect_clean(right);
    }
}

TEST_P(ChannelBasic, a_sleeper_is_woken_once_and_an_awake_loop_never) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Channel<Number> channel = make_channel(256);
    Log log;
    ASSERT_TRUE(loop.submit(Receive<Number>{std::move(channel.receiver)}, &log));
    turns(loop);
    const std::uint64_t before = loop.statistics().remote_wakes;
    const std::uint64_t turns_before = loop.statistics().turns;
    os::Thread producer([&] {
        for (int value = 0; value < 100; ++value) EXPECT_FALSE(channel.sender.send(number(value)));
    });
    run_until(loop, [&] { return log.got.size() == 100; });
    producer.join();
    // Each sleep is ended once; it may fall asleep among the messages of a slow producer.
    const std::uint64_t wakes = loop.statistics().remote_wakes - before;
    EXPECT_LE(wakes, loop.statistics().turns - turns_before);
    EXPECT_LE(wakes, 100u);
    // While it does not sleep, nobody wakes it.
    const std::uint64_t awake = loop.statistics().remote_wakes;
    for (int value = 100; value < 200; ++value) {
        EXPECT_FALSE(channel.sender.send(number(value)));
        if (value % 10 != 0) continue;
        EXPECT_FALSE(loop.poll());
    }
    turns(loop);
    EXPECT_EQ(log.got, numbers(0, 200));
    EXPECT_EQ(loop.statistics().remote_wakes, awake);
    channel.sender.close();
    turns(loop);
    log.receiver.close();
    expect_clean(loop);
}

TEST_P(ChannelBasic, a_batch_is_told_of_once) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Channel<int> channel = make_channel<int>(64);
    std::vector<int> got;
    int calls = 0;
    ASSERT_TRUE(
        loop.submit(Receive<int>{std::move(channel.receiver)}, [&](Loop&, Receive<int>::Done done) {
            ++calls;
            while (const int* message = done.next()) got.push_back(*message);
        }));
    turns(loop);
    std::vector<int> batch = numbers(0, 80);
    EXPECT_EQ(channel.sender.send_batch(batch.data(), batch.size()), 64u);
    EXPECT_EQ(channel.sender.send_batch(batch.data() + 64, 16), 0u);
    turns(loop);
    EXPECT_EQ(got, numbers(0, 64));
    EXPECT_EQ(calls, 1);
    EXPECT_FALSE(channel.sender.write(int(64)));
    EXPECT_FALSE(channel.sender.write(int(65)));
    turns(loop);
    channel.sender.flush();
    turns(loop);
    EXPECT_EQ(got, numbers(0, 66));
    channel.sender.close();
    turns(loop);
    EXPECT_EQ(calls, 3 + (calls > 3 ? 1 : 0))
        << "the end, and perhaps what was seen before the flush";
}

TEST_P(ChannelBasic, a_turn_takes_no_more_than_its_share_and_others_get_theirs) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Channel<Number> flood = make_channel(64);
    Channel<Number> trickle = make_channel(64);
    Log much;
    Log little;
    ASSERT_TRUE(loop.submit(Receive<Number>{std::move(flood.receiver), 4}, &much));
    ASSERT_TRUE(loop.submit(Receive<Number>{std::move(trickle.receiver), 4}, &little));
    turns(loop);
    for (int value = 0; value < 64; ++value) EXPECT_FALSE(flood.sender.send(number(value)));
    EXPECT_FALSE(trickle.sender.send(number(0)));
    EXPECT_FALSE(loop.poll());
    EXPECT_EQ(much.got.size(), 4u);
    EXPECT_EQ(little.got.size(), 1u);
    EXPECT_FALSE(loop.poll());
    EXPECT_EQ(much.got.size(), 8u);
    turns(loop, 20);
    EXPECT_EQ(much.got, numbers(0, 64));
    flood.sender.close();
    trickle.sender.close();
    turns(loop);
    EXPECT_EQ(much.ends + little.ends, 2u);
}

TEST_P(ChannelBasic, what_a_handler_leaves_comes_with_the_next_turn) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Channel<Number> channel = make_channel(8);
    std::vector<int> got;
    ASSERT_TRUE(loop.submit(Receive<Number>{std::move(channel.receiver)},
                            [&got](Loop&, Receive<Number>::Done done) {
                                if (Number* message = done.next()) got.push_back(**message);
                            }));
    for (int value = 0; value < 5; ++value) EXPECT_FALSE(channel.sender.send(number(value)));
    EXPECT_FALSE(loop.poll());
    EXPECT_EQ(got, numbers(0, 1));
    EXPECT_FALSE(loop.poll());
    EXPECT_EQ(got, numbers(0, 2));
    channel.sender.close();
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(got, numbers(0, 5));
}

TEST_P(ChannelBasic, cancelled_it_gives_the_receiver_back_with_every_message) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Channel<Number> channel = make_channel(8);
    Log log;
    Result<Operation> receive = loop.submit(Receive<Number>{std::move(channel.receiver)}, &log);
    ASSERT_TRUE(receive);
    turns(loop);
    EXPECT_FALSE(channel.sender.send(number(0)));
    EXPECT_EQ(loop.cancel(*receive), Cancelled::cancelling);
    EXPECT_EQ(loop.cancel(*receive), Cancelled::already_completing);
    EXPECT_FALSE(channel.sender.send(number(1)));
    turns(loop);
    EXPECT_EQ(loop.cancel(*receive), Cancelled::not_found);
    EXPECT_EQ(log.error, Error::cancelled);
    EXPECT_TRUE(log.got.empty());
    ASSERT_TRUE(log.receiver);
    EXPECT_FALSE(channel.sender.closed());
    Number taken;
    EXPECT_TRUE(log.receiver.try_receive(taken));
    EXPECT_EQ(*taken, 0);
    EXPECT_FALSE(channel.sender.send(number(2)));
    // And again, on the same loop; not on another one.
    Loop other = make_loop();
    Receive<Number> again{std::move(log.receiver)};
    EXPECT_EQ(other.submit(std::move(again), &log).error(), Error::invalid_argument);
    ASSERT_TRUE(again.receiver) << "nothing was taken";  // NOLINT(bugprone-use-after-move)
    ASSERT_TRUE(loop.submit(std::move(again), within(100ms), &log));
    turns(loop, 1);
    EXPECT_EQ(log.got, numbers(1, 3));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(log.error, Error::timed_out);
    EXPECT_TRUE(log.receiver);
}

TEST_P(ChannelBasic, cancelled_inside_of_its_handler_it_leaves_the_rest_in_the_channel) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Channel<Number> channel = make_channel(8);
    Log rest;
    Result<Operation> receive = Error::cancelled;
    std::vector<int> got;
    int ends = 0;
    const auto take_one = [&](Loop& inner, Receive<Number>::Done done) {
        if (!done.more) {
            ++ends;
            EXPECT_EQ(done.error, Error::cancelled);
            rest.receiver = std::move(done.receiver);
            return;
        }
        Number* const message = done.next();
        ASSERT_NE(message, nullptr);
        got.push_back(**message);
        EXPECT_EQ(inner.cancel(*receive), Cancelled::cancelling);
    };
    receive = loop.submit(Receive<Number>{std::move(channel.receiver)}, take_one);
    ASSERT_TRUE(receive);
    for (int value = 0; value < 3; ++value) EXPECT_FALSE(channel.sender.send(number(value)));
    turns(loop);
    EXPECT_EQ(got, numbers(0, 1));
    EXPECT_EQ(ends, 1);
    ASSERT_TRUE(rest.receiver);
    // What comes while nobody receives is there for the next one, too.
    EXPECT_FALSE(channel.sender.send(number(3)));
    ASSERT_TRUE(loop.submit(Receive<Number>{std::move(rest.receiver)}, &rest));
    turns(loop);
    EXPECT_EQ(rest.got, numbers(1, 4));
    channel.sender.close();
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(rest.error, Error::channel_closed);
}

TEST_P(ChannelBasic, the_receiver_goes_and_the_sender_learns_what_was_lost) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const auto counted = std::make_shared<int>(0);
    Channel<std::shared_ptr<int>> channel = make_channel<std::shared_ptr<int>>(8);
    for (int count = 0; count < 6; ++count) {
        EXPECT_FALSE(channel.sender.send(std::shared_ptr<int>(counted)));
    }
    EXPECT_EQ(channel.sender.undelivered(), 0u) << "not known yet";
    std::shared_ptr<int> taken;
    EXPECT_TRUE(channel.receiver.try_receive(taken));
    EXPECT_TRUE(channel.receiver.try_receive(taken));
    Error told;
    while (!channel.sender.send(std::shared_ptr<int>(counted))) {
    }
    ASSERT_TRUE(loop.submit(AwaitSpace{channel.sender},
                            [&told](Loop&, AwaitSpace::Done done) { told = done.error; }));
    channel.receiver.close();
    EXPECT_EQ(counted.use_count(), 2) << "what was not delivered is destroyed";
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(told, Error::channel_closed);
    EXPECT_TRUE(channel.sender.closed());
    std::shared_ptr<int> more = counted;
    EXPECT_EQ(channel.sender.send(std::move(more)), Error::channel_closed);
    EXPECT_NE(more, nullptr);
    EXPECT_EQ(channel.sender.undelivered(), 8u);
}

TEST_P(ChannelBasic, drain_ends_both_operations) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Channel<Number> in = make_channel(1);
    Channel<Number> out = make_channel(1);
    Log log;
    Error space;
    EXPECT_FALSE(out.sender.send(number(0)));
    ASSERT_TRUE(loop.submit(Receive<Number>{std::move(in.receiver)}, &log));
    ASSERT_TRUE(loop.submit(AwaitSpace{out.sender},
                            [&space](Loop&, AwaitSpace::Done done) { space = done.error; }));
    EXPECT_FALSE(in.sender.send(number(1)));
    EXPECT_FALSE(loop.drain(1s));
    EXPECT_EQ(log.error, Error::cancelled);
    EXPECT_EQ(space, Error::cancelled);
    expect_clean(loop);
}

// Every order in which two loops and two ends can go, with messages on the way and a wait for room.
TEST_P(ChannelBasic, loops_and_ends_go_in_any_order) {
    WHORL_SKIP_IF_REFUSED();
    std::vector<int> order{0, 1, 2};
    do {
        const auto counted = std::make_shared<int>(0);
        {
            std::optional<Loop> to(make_loop());
            std::optional<Loop> from(make_loop());
            Channel<std::shared_ptr<int>> channel = make_channel<std::shared_ptr<int>>(2);
            ASSERT_TRUE(to->submit(Receive<std::shared_ptr<int>>{std::move(channel.receiver)},
                                   [](Loop&, Receive<std::shared_ptr<int>>::Done) {}));
            ASSERT_FALSE(to->poll());
            while (!channel.sender.send(std::shared_ptr<int>(counted))) {
            }
            ASSERT_TRUE(from->submit(AwaitSpace{channel.sender}, [](Loop&, AwaitSpace::Done) {}));
            ASSERT_FALSE(from->poll());
            for (const int what : order) {
                if (what == 0) to.reset();
                if (what == 1) from.reset();
                if (what == 2) channel.sender.close();
                for (std::optional<Loop>* left : {&to, &from}) {
                    if (!left->has_value()) continue;
                    ASSERT_FALSE((*left)->poll());
                }
                if (what == 0 && !channel.sender.closed()) {
                    ADD_FAILURE() << "the receiver went with its loop";
                }
            }
        }
        EXPECT_EQ(counted.use_count(), 1);
    } while (std::next_permutation(order.begin(), order.end()));
}

TEST_P(ChannelBasic, a_loop_is_its_own_receiver) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Channel<int> channel = make_channel<int>(1);
    Node node{loop, std::move(channel.sender)};
    node.total = 50;
    ASSERT_TRUE(loop.submit(Receive<int>{std::move(channel.receiver)}, &node));
    node.send();
    EXPECT_FALSE(loop.run());
    EXPECT_TRUE(node.ended);
    EXPECT_EQ(node.got, 50);
    expect_clean(loop);
}

TEST_P(ChannelBasic, an_end_that_was_moved_from_says_so_and_does_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Channel<Number> channel = make_channel<Number>(4);
    Sender<Number> sender = std::move(channel.sender);
    Receiver<Number> receiver = std::move(channel.receiver);
    EXPECT_TRUE(channel.sender.closed());
    EXPECT_EQ(channel.sender.undelivered(), 0u);
    EXPECT_EQ(channel.sender.send(std::make_unique<int>(1)), Error::channel_closed);
    channel.sender.flush();
    EXPECT_EQ(loop.submit(AwaitSpace{channel.sender}, [](Loop&, AwaitSpace::Done) {}).error(),
              Error::invalid_argument);
    Number got;
    EXPECT_TRUE(channel.receiver.ended());
    EXPECT_FALSE(channel.receiver.try_receive(got));
    const auto refuse = [&](Receiver<Number>& end, std::uint32_t most) {
        Receive<Number> operation(std::move(end), most);
        const auto made = loop.submit(std::move(operation), [](Loop&, Receive<Number>::Done) {
            ADD_FAILURE() << "it was refused";
        });
        EXPECT_EQ(made.error(), Error::invalid_argument);
        end = std::move(operation.receiver);  // NOLINT(bugprone-use-after-move): it was refused
    };
    refuse(channel.receiver, 1);
    refuse(receiver, 0);
    ASSERT_TRUE(receiver) << "it came back";

    EXPECT_FALSE(receiver.try_receive(got)) << "there is none yet";
    std::vector<Number> messages;
    for (int value = 0; value < 6; ++value) messages.push_back(std::make_unique<int>(value));
    EXPECT_EQ(sender.send_batch(messages.data(), messages.size()), 4u) << "there is room for four";
    EXPECT_TRUE(messages[4]) << "what was not sent is still ours";
    ASSERT_TRUE(receiver.try_receive(got));
    EXPECT_EQ(*got, 0);
    EXPECT_EQ(sender.undelivered(), 0u) << "they may be yet";
    receiver.close();
    EXPECT_EQ(sender.undelivered(), 3u);
    EXPECT_EQ(sender.send_batch(messages.data() + 4, 2), 0u);
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
