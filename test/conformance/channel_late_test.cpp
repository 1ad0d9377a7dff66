// SPDX-License-Identifier: MIT
// Goal: what a channel has sent to a loop may come too late: the operation that it was for is gone, another has
// taken its place, what it told of is used up, or the loop itself has ended. Nothing is lost and nobody is woken
// for nothing. Method: two loops in turns on one thread, so that a post is under way for as long as the test likes.
#include "conformance/support.hpp"

namespace whorl::conformance {
namespace {

struct Heard {
    std::vector<int> got;
    int ends = 0;
    Error error;
    Receiver<int> receiver;
    void operator()(Loop&, Receive<int>::Done done) {
        while (const int* message = done.next()) got.push_back(*message);
        if (done.more) return;
        ++ends;
        error = done.error;
        receiver = std::move(done.receiver);
    }
};
struct Room {
    int calls = 0;
    Error error;
    void operator()(Loop&, AwaitSpace::Done done) {
        ++calls;
        error = done.error;
    }
};

class ChannelLate : public LoopTest {
  protected:
    static constexpr std::uint32_t capacity = 4;
    static Channel<int> make_full() {
        Result<Channel<int>> made = Channel<int>::create(capacity);
        EXPECT_TRUE(made);
        Channel<int> channel = std::move(made).value();
        fill(channel.sender);
        return channel;
    }
    static void fill(Sender<int>& sender) {
        int value = 0;
        while (!sender.send(int(value))) ++value;
        EXPECT_EQ(value, static_cast<int>(capacity));
    }
    static void turns(Loop& loop) {
        for (int turn = 0; turn < 6; ++turn) EXPECT_FALSE(loop.poll());
    }
    // Takes all there is, so that the sender's loop is told of room.
    static Operation receive(Loop& loop, Channel<int>& channel, Heard& heard) {
        const auto made = loop.submit(Receive<int>{std::move(channel.receiver)}, &heard);
        EXPECT_TRUE(made);
        turns(loop);
        EXPECT_EQ(heard.got.size(), capacity);
        return *made;
    }
};
WHORL_CONFORMANCE(ChannelLate);

TEST_P(ChannelLate, news_of_room_find_the_wait_that_is_there_by_then) {
    WHORL_SKIP_IF_REFUSED();
    enum class Then { nobody, another, used_up, receiver_gone };
    for (const Then then : {Then::nobody, Then::another, Then::used_up, Then::receiver_gone}) {
        SCOPED_TRACE(static_cast<int>(then));
        Loop to = make_loop();
        Loop from = make_loop();
        Channel<int> channel = make_full();
        Room first, second;
        Heard heard;
        const auto waits = from.submit(AwaitSpace{channel.sender}, &first);
        ASSERT_TRUE(waits);
        turns(from);
        const Operation receives = receive(to, channel, heard);  // the news are under way
        if (then == Then::nobody || then == Then::another) {
            EXPECT_NE(from.cancel(*waits), Cancelled::not_found);
            // Not by turns, in which they would arrive.
        }
        if (then == Then::another) {
            ASSERT_TRUE(from.submit(AwaitSpace{channel.sender}, &second));
        }
        if (then == Then::used_up || then == Then::receiver_gone) fill(channel.sender);
        if (then == Then::receiver_gone) {
            EXPECT_NE(to.cancel(receives), Cancelled::not_found);
            turns(to);
            heard.receiver.close();
        }
        turns(from);
        const bool cancelled = then == Then::nobody || then == Then::another;
        EXPECT_EQ(first.calls, then == Then::used_up ? 0 : 1);
        EXPECT_EQ(first.error, cancelled                     ? Error(Error::cancelled)
                               : then == Then::receiver_gone ? Error(Error::channel_closed)
                                                             : Error());
        EXPECT_EQ(second.calls, then == Then::another ? 1 : 0);
        EXPECT_FALSE(second.error);
        if (then == Then::used_up) {
            turns(to);
            turns(from);
            EXPECT_EQ(first.calls, 1) << "there is room again";
            EXPECT_FALSE(first.error);
        }
        channel.sender.close();
        turns(to);
        turns(from);
        if (then != Then::receiver_gone) heard.receiver.close();
        expect_clean(to);
        expect_clean(from);
    }
}

TEST_P(ChannelLate, news_of_messages_find_the_receive_that_is_there_by_then) {
    WHORL_SKIP_IF_REFUSED();
    for (const bool again : {false, true}) {
        Loop to = make_loop();
        Result<Channel<int>> made = Channel<int>::create(capacity);
        ASSERT_TRUE(made);
        Channel<int> channel = std::move(made).value();
        Heard first, second;
        const auto receives = to.submit(Receive<int>{std::move(channel.receiver)}, &first);
        ASSERT_TRUE(receives);
        turns(to);
        EXPECT_NE(to.cancel(*receives), Cancelled::not_found);
        EXPECT_FALSE(channel.sender.send(1));  // whoever receives is told
        turns(to);
        EXPECT_EQ(first.ends, 1);
        EXPECT_EQ(first.error, Error::cancelled);
        EXPECT_FALSE(channel.sender.send(2));
        if (again) {
            ASSERT_TRUE(to.submit(Receive<int>{std::move(first.receiver)}, &second));
            turns(to);
            EXPECT_EQ(first.got.size() + second.got.size(), 2u);
            channel.sender.close();
            turns(to);
            EXPECT_EQ(second.error, Error::channel_closed);
            second.receiver.close();
        } else {
            channel.sender.close();
            first.receiver.close();
        }
        turns(to);
        expect_clean(to);
    }
}

// The message was sent before the cancel, and the handler that gets the receiver back receives again.
TEST_P(ChannelLate, news_of_messages_that_cross_a_cancel) {
    WHORL_SKIP_IF_REFUSED();
    Loop to = make_loop();
    Result<Channel<int>> made = Channel<int>::create(capacity);
    ASSERT_TRUE(made);
    Channel<int> channel = std::move(made).value();
    Heard again;
    std::vector<int> got;
    const auto receives = to.submit(
        Receive<int>{std::move(channel.receiver)}, [&](Loop& loop, Receive<int>::Done done) {
            while (const int* message = done.next()) got.push_back(*message);
            if (done.more) return;
            EXPECT_EQ(done.error, Error::cancelled);
            EXPECT_TRUE(loop.submit(Receive<int>{std::move(done.receiver)}, &again));
        });
    ASSERT_TRUE(receives);
    turns(to);
    EXPECT_FALSE(channel.sender.send(1));
    EXPECT_NE(to.cancel(*receives), Cancelled::not_found);
    turns(to);
    EXPECT_FALSE(channel.sender.send(2));
    turns(to);
    got.insert(got.end(), again.got.begin(), again.got.end());
    EXPECT_EQ(got, (std::vector<int>{1, 2}));
    channel.sender.close();
    turns(to);
    EXPECT_EQ(again.error, Error::channel_closed);
    again.receiver.close();
    expect_clean(to);
}

TEST_P(ChannelLate, a_wait_for_a_receiver_that_is_gone_ends_at_once) {
    WHORL_SKIP_IF_REFUSED();
    Loop from = make_loop();
    Channel<int> channel = make_full();
    channel.receiver.close();
    Room room;
    ASSERT_TRUE(from.submit(AwaitSpace{channel.sender}, &room));
    EXPECT_EQ(room.calls, 0) << "never inline";
    turns(from);
    EXPECT_EQ(room.calls, 1);
    EXPECT_EQ(room.error, Error::channel_closed);
    channel.sender.close();
    expect_clean(from);
}

TEST_P(ChannelLate, a_sender_belongs_to_the_loop_that_it_has_waited_on) {
    WHORL_SKIP_IF_REFUSED();
    Loop from = make_loop(), other = make_loop();
    Channel<int> channel = make_full();
    Room room;
    const auto waits = from.submit(AwaitSpace{channel.sender}, &room);
    ASSERT_TRUE(waits);
    EXPECT_NE(from.cancel(*waits), Cancelled::not_found);
    turns(from);
    EXPECT_EQ(room.error, Error::cancelled);
    EXPECT_EQ(other.submit(AwaitSpace{channel.sender}, &room).error(), Error::invalid_argument);
    channel.sender.close();
    channel.receiver.close();
    expect_clean(from);
    expect_clean(other);
}

TEST_P(ChannelLate, an_end_that_was_closed_or_moved_from_does_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Channel<int> channel = make_full();
    Sender<int> sender = std::move(channel.sender);
    Receiver<int> receiver = std::move(channel.receiver);
    int message = 1;
    Sender<int>& no_sender = channel.sender;        // NOLINT(bugprone-use-after-move): that is it
    Receiver<int>& no_receiver = channel.receiver;  // NOLINT(bugprone-use-after-move)
    EXPECT_FALSE(no_sender);
    EXPECT_TRUE(no_sender.closed());
    EXPECT_EQ(no_sender.send(int(message)), Error::channel_closed);
    EXPECT_EQ(no_sender.send_batch(&message, 1), 0u);
    EXPECT_EQ(no_sender.undelivered(), 0u);
    no_sender.flush();
    no_sender.close();
    EXPECT_FALSE(no_receiver.try_receive(message));
    no_receiver.close();
    Room room;
    Heard heard;
    EXPECT_EQ(loop.submit(AwaitSpace{no_sender}, &room).error(), Error::invalid_argument);
    EXPECT_EQ(loop.submit(Receive<int>{std::move(no_receiver)}, &heard).error(),
              Error::invalid_argument);
    Receive<int> of_none{std::move(receiver), 0};
    EXPECT_EQ(loop.submit(std::move(of_none), &heard).error(), Error::invalid_argument);
    receiver = std::move(of_none.receiver);  // NOLINT(bugprone-use-after-move): it was refused
    EXPECT_EQ(sender.send_batch(&message, 1), 0u) << "it is full";
    EXPECT_TRUE(receiver.try_receive(message));
    EXPECT_EQ(message, 0);
    EXPECT_EQ(sender.undelivered(), 0u) << "not known yet";
    receiver.close();
    EXPECT_TRUE(sender.closed());
    EXPECT_EQ(sender.undelivered(), capacity - 1);
    EXPECT_EQ(sender.send_batch(&message, 1), 0u);
    EXPECT_EQ(room.calls + heard.ends, 0);
    expect_clean(loop);
}

// The other side's loop ends while it waits, and what is posted to it then comes back.
TEST_P(ChannelLate, posts_to_a_loop_that_has_ended) {
    WHORL_SKIP_IF_REFUSED();
    for (const bool under_way : {false, true}) {
        Loop to = make_loop();
        Channel<int> channel = make_full();
        Room room;
        Heard heard;
        {
            Loop from = make_loop();
            ASSERT_TRUE(from.submit(AwaitSpace{channel.sender}, &room));
            turns(from);
            if (under_way) receive(to, channel, heard);
        }
        EXPECT_EQ(room.calls, 0) << "destroyed uncalled";
        if (!under_way) receive(to, channel, heard);
        EXPECT_FALSE(channel.sender.send(9)) << "it can send still";
        turns(to);
        EXPECT_EQ(heard.got.back(), 9);
        channel.sender.close();
        turns(to);
        EXPECT_EQ(heard.error, Error::channel_closed);
        heard.receiver.close();
        expect_clean(to);
    }
}

}  // namespace
}  // namespace whorl::conformance
