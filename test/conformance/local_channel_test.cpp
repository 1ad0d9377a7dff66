// SPDX-License-Identifier: MIT
// Goal: inside a loop, a message is delivered once and in order, or comes back, or is destroyed; a broadcast
// reaches every reader, or tells it what it has lost. Method: by hand on one loop, with messages that are
// counted; and a random program beside a model.
#include "conformance/support.hpp"

#include <whorl/broadcast.hpp>
#include <whorl/local_channel.hpp>

#include <deque>
#include <optional>
#include <random>
#include <string>

namespace whorl::conformance {
namespace {

using Text = std::unique_ptr<std::string>;

Text text(const char* words) { return std::make_unique<std::string>(words); }

class LocalChannels : public LoopTest {
  protected:
    // Writes down how operations end: "a:message ", "a! " for cancelled, "a? " for timed out, "a. " for closed.
    struct Note {
        std::string* log;
        char name;
        template <class Done>
        void operator()(Loop&, Done done) const {
            *log += name;
            if (done.error == Error::cancelled) *log += '!';
            else if (done.error == Error::timed_out) *log += '?';
            else if (done.error == Error::channel_closed) *log += '.';
            else EXPECT_FALSE(done.error) << done.error.name();
            if (done.message) *log += ":" + **done.message;
            *log += ' ';
        }
    };
};
WHORL_CONFORMANCE(LocalChannels);

TEST_P(LocalChannels, messages_come_in_order_to_those_who_wait_and_those_who_come) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    LocalChannel<Text> channel;
    std::string log;
    ASSERT_TRUE(loop.submit(ReceiveLocal{channel}, Note{&log, 'a'}));
    ASSERT_TRUE(loop.submit(ReceiveLocal{channel}, Note{&log, 'b'}));
    EXPECT_FALSE(loop.poll());
    EXPECT_EQ(log, "");
    for (const char* words : {"1", "2", "3", "4", "5"}) EXPECT_FALSE(channel.send(text(words)));
    EXPECT_EQ(log, "") << "never inside the call";
    EXPECT_EQ(channel.size(), 3u) << "two are their receivers'";
    EXPECT_EQ(**channel.receive(), "3");
    ASSERT_TRUE(loop.submit(ReceiveLocal{channel}, Note{&log, 'c'}));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(log, "a:1 b:2 c:4 ");
    EXPECT_EQ(**channel.receive(), "5");
    EXPECT_FALSE(channel.receive());
    expect_clean(loop);
}

TEST_P(LocalChannels, a_full_one_hands_back_or_makes_wait) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    LocalChannel<Text> channel(1);
    std::string log;
    EXPECT_FALSE(channel.send(text("1")));
    Text refused = text("2");
    EXPECT_EQ(channel.send(std::move(refused)), Error::queue_full);
    ASSERT_NE(refused, nullptr) << "it has not been moved from";
    ASSERT_TRUE(loop.submit(SendLocal{channel, std::move(refused)}, Note{&log, 'a'}));
    ASSERT_TRUE(loop.submit(SendLocal{channel, text("3")}, within(1ms), Note{&log, 'b'}));
    ASSERT_TRUE(loop.submit(SendLocal{channel, text("4")}, Note{&log, 'c'}));
    run_until(loop, [&log] { return log == "b?:3 "; });
    EXPECT_EQ(**channel.receive(), "1");
    EXPECT_EQ(**channel.receive(), "2") << "who waited comes next, before its handler has run";
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(log, "b?:3 a c ");
    EXPECT_EQ(**channel.receive(), "4");
    ASSERT_TRUE(loop.submit(ReceiveLocal{channel}, Note{&log, 'd'}));
    ASSERT_TRUE(loop.submit(SendLocal{channel, text("5")}, Note{&log, 'e'}));
    EXPECT_EQ(channel.size(), 0u);
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(log, "b?:3 a c d:5 e ");
    expect_clean(loop);
}

TEST_P(LocalChannels, closing_ends_both_sides_and_leaves_what_was_sent) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    LocalChannel<Text> full(1), empty;
    std::string log;
    EXPECT_FALSE(full.send(text("1")));
    ASSERT_TRUE(loop.submit(SendLocal{full, text("2")}, Note{&log, 'a'}));
    ASSERT_TRUE(loop.submit(ReceiveLocal{empty}, Note{&log, 'b'}));
    full.close();
    empty.close();
    EXPECT_EQ(full.send(text("3")), Error::channel_closed);
    ASSERT_TRUE(loop.submit(SendLocal{full, text("4")}, Note{&log, 'c'}));
    ASSERT_TRUE(loop.submit(ReceiveLocal{full}, Note{&log, 'd'}));
    ASSERT_TRUE(loop.submit(ReceiveLocal{full}, Note{&log, 'e'}));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(log, "a.:2 b. c.:4 d:1 e. ");
    expect_clean(loop);
}

TEST_P(LocalChannels, waiting_is_cancelled_and_a_message_that_was_given_is_not_taken_back) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    LocalChannel<Text> channel;
    std::string log;
    const Operation waits = *loop.submit(ReceiveLocal{channel}, Note{&log, 'a'});
    const Operation given = *loop.submit(ReceiveLocal{channel}, Note{&log, 'b'});
    EXPECT_EQ(loop.cancel(waits), Cancelled::cancelling);
    EXPECT_FALSE(channel.send(text("1")));
    EXPECT_EQ(loop.cancel(given), Cancelled::already_completing);
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(log, "a! b:1 ");
    expect_clean(loop);
}

TEST_P(LocalChannels, nothing_is_lost_by_whatever_goes_first) {
    WHORL_SKIP_IF_REFUSED();
    const auto witness = std::make_shared<int>(0);
    std::optional<LocalChannel<std::shared_ptr<int>>> channel(std::in_place, 1);
    const auto share = [&witness] { return std::shared_ptr<int>(witness); };
    int calls = 0;
    const auto count = [&calls](Loop&, auto) { ++calls; };
    {  // the loop, with one that waits and one that was given its message
        Loop loop = make_loop();
        ASSERT_TRUE(loop.submit(ReceiveLocal{*channel}, count));
        EXPECT_FALSE(channel->send(share()));
        EXPECT_FALSE(channel->send(share()));
        ASSERT_TRUE(loop.submit(SendLocal{*channel, share()}, count));
        EXPECT_EQ(witness.use_count(), 4);
    }
    EXPECT_EQ(calls, 0);
    EXPECT_EQ(witness.use_count(), 2) << "the one in the channel";
    Loop loop = make_loop();  // the channel, with a message on its way
    ASSERT_TRUE(loop.submit(ReceiveLocal{*channel}, count));
    EXPECT_FALSE(channel->send(share()));
    ASSERT_TRUE(loop.submit(SendLocal{*channel, share()}, count));
    channel.reset();
    EXPECT_EQ(witness.use_count(), 3);
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 2);
    EXPECT_EQ(witness.use_count(), 1);
    expect_clean(loop);
}

TEST_P(LocalChannels, one_shot_value) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    std::string log;
    OneShot<Text> early, late, never;
    EXPECT_TRUE(early.set(text("1")));
    EXPECT_FALSE(early.set(text("2")));
    ASSERT_TRUE(loop.submit(early.await(), Note{&log, 'a'}));
    ASSERT_TRUE(loop.submit(late.await(), Note{&log, 'b'}));
    ASSERT_TRUE(loop.submit(never.await(), Note{&log, 'c'}));
    EXPECT_TRUE(late.set(text("3")));
    never.give_up();
    EXPECT_FALSE(never.set(text("4")));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(log, "a:1 b:3 c. ");
    expect_clean(loop);
}

// A random program: what is received is what was sent, in the order in which the channel took it.
TEST_P(LocalChannels, random_programs_keep_order_and_lose_nothing) {
    WHORL_SKIP_IF_REFUSED();
    for (std::uint32_t seed = 0; seed < 20; ++seed) {
        std::mt19937 random(seed);
        Loop loop = make_loop();
        LocalChannel<int> channel(1 + seed % 4);
        int next = 0, expected = 0, handed_back = 0, ended = 0, begun = 0;
        std::vector<char> refused(400);
        const auto got = [&](int message) {
            while (refused[static_cast<std::size_t>(expected)] != 0) ++expected;
            EXPECT_EQ(message, expected) << "seed " << seed;
            ++expected;
        };
        for (int step = 0; step < 300; ++step) {
            switch (random() % 4) {
                case 0:
                    if (!channel.send(int(next))) ++next;
                    break;
                case 1:
                    ASSERT_TRUE(loop.submit(
                        SendLocal{channel, next++}, [&](Loop&, SendLocal<int>::Done done) {
                            ++ended;
                            if (!done.message) return;
                            ++handed_back;
                            refused[static_cast<std::size_t>(*done.message)] = 1;
                        }));
                    ++begun;
                    break;
                case 2:
                    ASSERT_TRUE(loop.submit(ReceiveLocal{channel},
                                            [&](Loop&, ReceiveLocal<int>::Done done) {
                                                ++ended;
                                                if (done.message) got(*done.message);
                                            }));
                    ++begun;
                    break;
                default:
                    ASSERT_FALSE(loop.poll());
            }
        }
        ASSERT_FALSE(loop.poll());
        channel.close();
        EXPECT_FALSE(loop.run());
        while (std::optional<int> rest = channel.receive()) got(*rest);
        while (expected < next && refused[static_cast<std::size_t>(expected)] != 0) ++expected;
        EXPECT_EQ(expected, next) << "seed " << seed;
        EXPECT_EQ(ended, begun);
        expect_clean(loop);
    }
}

TEST_P(LocalChannels, broadcast_reaches_every_reader_and_tells_the_slow_one) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Result<Broadcast<std::string>> made = Broadcast<std::string>::create(3);
    ASSERT_TRUE(made);
    Broadcast<std::string> news = std::move(*made);
    EXPECT_FALSE(news.publish("before"));
    BroadcastReader quick(news), slow(news);
    EXPECT_EQ(quick.next(), nullptr) << "it reads from now on";
    std::string log;
    int wakes = 0;
    const auto read = [&](Loop&, AwaitBroadcast::Done done) {
        EXPECT_FALSE(done.error);
        ++wakes;
        while (const std::string* message = quick.next()) log += *message;
    };
    ASSERT_TRUE(loop.submit(AwaitBroadcast{quick}, read));
    EXPECT_FALSE(loop.poll());
    EXPECT_EQ(wakes, 0);
    for (const char* words : {"1", "2"}) EXPECT_FALSE(news.publish(words));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(wakes, 1);
    for (const char* words : {"3", "4", "5"}) EXPECT_FALSE(news.publish(words));
    ASSERT_TRUE(loop.submit(AwaitBroadcast{quick}, read));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(log, "12345");
    EXPECT_EQ(quick.lost(), 0u);
    EXPECT_EQ(slow.behind(), 5u);
    EXPECT_EQ(*slow.next(), "3");
    EXPECT_EQ(slow.lost(), 2u);
    news.close();
    EXPECT_EQ(news.publish("late"), Error::channel_closed);
    EXPECT_FALSE(slow.ended());
    EXPECT_EQ(*slow.next(), "4");
    EXPECT_EQ(*slow.next(), "5");
    EXPECT_TRUE(slow.ended());
    Error error;
    ASSERT_TRUE(loop.submit(AwaitBroadcast{slow},
                            [&](Loop&, AwaitBroadcast::Done done) { error = done.error; }));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(error, Error::channel_closed);
    expect_clean(loop);
}

// What is published while the operation waits to be submitted is there to be read.
TEST_P(LocalChannels, broadcast_looks_at_its_reader_when_it_is_submitted) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Result<Broadcast<int>> news = Broadcast<int>::create(3);
    ASSERT_TRUE(news);
    BroadcastReader reader(*news);
    AwaitBroadcast prepared(reader);
    EXPECT_FALSE(news->publish(7));
    int read = 0;
    const auto into_read = [&](Loop&, AwaitBroadcast::Done) {
        if (const int* message = reader.next()) read = *message;
    };
    ASSERT_TRUE(loop.submit(std::move(prepared), into_read));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(read, 7);
    expect_clean(loop);
}

TEST_P(LocalChannels, broadcast_ends_those_who_wait_and_destroys_what_it_keeps) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const auto witness = std::make_shared<int>(0);
    std::vector<Error> errors;
    {
        auto made = Broadcast<std::shared_ptr<int>>::create(2);
        ASSERT_TRUE(made);
        for (int round = 0; round < 5; ++round) EXPECT_FALSE(made->publish(witness));
        EXPECT_EQ(witness.use_count(), 3);
        const BroadcastReader reader(*made);
        const auto note = [&](Loop&, AwaitBroadcast::Done done) { errors.push_back(done.error); };
        const Operation cancelled = *loop.submit(AwaitBroadcast{reader}, note);
        ASSERT_TRUE(loop.submit(AwaitBroadcast{reader}, within(1ms), note));
        ASSERT_TRUE(loop.submit(AwaitBroadcast{reader}, note));
        EXPECT_EQ(loop.cancel(cancelled), Cancelled::cancelling);
        run_until(loop, [&] { return errors.size() == 2; });
    }
    EXPECT_EQ(witness.use_count(), 1);
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(errors,
              (std::vector<Error>{Error::cancelled, Error::timed_out, Error::channel_closed}));
    EXPECT_EQ(Broadcast<int>::create(0).error(), Error::invalid_argument);
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
