// SPDX-License-Identifier: MIT
// Goal: descriptors that are sent arrive usable and close-on-exec, with the bytes they were sent with;
// those that nobody asked for, or that nobody takes, are closed.
// Method: pipes' ends are sent; the fixture counts what is open before and after; a pipe tells by its
// end when the last descriptor of it has gone.
#include "conformance/unix_tools.hpp"

#include <cstring>

namespace whorl::conformance {
namespace {

class UnixDescriptors : public UnixTools {
  protected:
    struct Received {
        int finals = 0;
        Error error;
        std::string text;
        ReceivedDescriptors descriptors;
        bool truncated = false;
    };
    static auto into_received(Received& got) {
        return [&got](Loop&, ReceiveDescriptors::Done done) {
            EXPECT_EQ(got.finals++, 0);
            got.error = done.error;
            got.text = done.buffer.text();
            got.descriptors = std::move(done.descriptors);
            got.truncated = done.truncated;
        };
    }
    static void receive_with(Loop& loop, Socket socket, Received& got, std::uint32_t most,
                             std::size_t room = 100) {
        got = Received();
        ASSERT_TRUE(loop.submit(ReceiveDescriptors{socket, Buffer::allocate(room), most},
                                into_received(got)));
        run_until(loop, [&] { return got.finals == 1; });
    }
    static Error send_with(Loop& loop, Socket socket, const std::string& text,
                           const std::vector<int>& numbers) {
        End end;
        const Result<Operation> made =
            loop.submit(SendDescriptors{socket, text.empty() ? Buffer() : bytes(text),
                                        numbers.data(), static_cast<std::uint32_t>(numbers.size())},
                        into(end));
        if (!made) return made.error();
        run_until(loop, [&] { return end.finals == 1; });
        EXPECT_EQ(end.bytes, end.error ? 0 : text.size());
        return end.error;
    }
    // Whether all descriptors of the other end have gone.
    static bool alone(const Fd& reading_end) {
        char byte = 0;
        return os::read(reading_end.get(), &byte, 1) == 0;
    }
};
WHORL_CONFORMANCE(UnixDescriptors);

TEST_P(UnixDescriptors, arrive_usable_and_close_on_exec) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (const UnixKind kind : {UnixKind::stream, UnixKind::seqpacket}) {
        const SocketPair pair = *socket_pair(loop, kind);
        Ends ends = Ends::pipe();
        ASSERT_FALSE(send_with(loop, pair.first, "here", {ends.out.get()}));
        ends.out.close();
        Received got;
        receive_with(loop, pair.second, got, 1);
        EXPECT_FALSE(got.error);
        EXPECT_EQ(got.text, "here");
        EXPECT_FALSE(got.truncated);
        ASSERT_EQ(got.descriptors.count(), 1u);
        EXPECT_NE(os::fcntl(got.descriptors[0], F_GETFD) & FD_CLOEXEC, 0);
        Fd taken(got.descriptors.take(0));
        taken.write("through");
        EXPECT_EQ(ends.in.read(100), "through");
        EXPECT_EQ(got.descriptors.take(0), -1);
        got.descriptors.close_all();
        EXPECT_FALSE(alone(ends.in)) << "what was taken is the test's";
        taken.close();
        EXPECT_TRUE(alone(ends.in));
        close_all(loop, {pair.first, pair.second});
    }
    expect_clean(loop);
}

TEST_P(UnixDescriptors, as_many_as_a_message_holds_and_no_more) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const SocketPair pair = *socket_pair(loop);
    Ends ends = Ends::pipe();
    std::vector<int> numbers(253, ends.out.get());
    ASSERT_FALSE(send_with(loop, pair.first, "x", numbers));
    Received got;
    receive_with(loop, pair.second, got, descriptors_per_message_max);
    EXPECT_EQ(got.descriptors.count(), 253u);
    EXPECT_FALSE(got.truncated);
    got.descriptors.close_all();
    numbers.push_back(ends.out.get());
    EXPECT_EQ(send_with(loop, pair.first, "x", numbers), Error::invalid_argument);
    EXPECT_EQ(send_with(loop, pair.first, "x", {}), Error::invalid_argument);
    EXPECT_EQ(send_with(loop, pair.first, "", {ends.out.get()}), Error::invalid_argument);
    EXPECT_EQ(send_with(loop, pair.first, "x", {1'000'000}), Error::from_errno(EBADF));
    ReceiveDescriptors none{pair.second, Buffer::allocate(1), 0};
    EXPECT_EQ(loop.submit(std::move(none), [](Loop&, ReceiveDescriptors::Done) {}).error(),
              Error::invalid_argument);
    ends.out.close();
    EXPECT_TRUE(alone(ends.in));
    close_all(loop, {pair.first, pair.second});
    expect_clean(loop);
}

// One, two and three asked for: a control message's padding must not let one more in.
TEST_P(UnixDescriptors, more_than_asked_for_are_closed_and_told) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const SocketPair pair = *socket_pair(loop);
    for (const std::uint32_t most : {1u, 2u, 3u}) {
        Ends ends = Ends::pipe();
        const std::set<int> before = os::open_descriptors();
        ASSERT_FALSE(send_with(loop, pair.first, "x", std::vector<int>(5, ends.out.get())));
        Received got;
        receive_with(loop, pair.second, got, most);
        EXPECT_EQ(got.text, "x");
        EXPECT_EQ(got.descriptors.count(), most);
        EXPECT_TRUE(got.truncated);
        EXPECT_EQ(os::open_descriptors().size(), before.size() + most);
        got.descriptors.close_all();
        EXPECT_EQ(os::open_descriptors(), before);
    }
    close_all(loop, {pair.first, pair.second});
    expect_clean(loop);
}

TEST_P(UnixDescriptors, uninvited_with_a_plain_receive_are_closed) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const SocketPair pair = *socket_pair(loop);
    const std::set<int> before = os::open_descriptors();
    {
        Ends ends = Ends::pipe();
        ASSERT_FALSE(send_with(loop, pair.first, "one", {ends.out.get()}));
        EXPECT_EQ(receive_exactly(loop, pair.second, 3), "one");
        ends.out.close();
        EXPECT_TRUE(alone(ends.in));
    }
    {
        Ends ends = Ends::pipe();
        End stream;
        const Operation receiving = *loop.submit(RecvStream{pair.second}, into(stream));
        ASSERT_FALSE(send_with(loop, pair.first, "two", {ends.out.get()}));
        run_until(loop, [&] { return stream.text == "two"; });
        EXPECT_EQ(loop.cancel(receiving), Cancelled::cancelling);
        run_until(loop, [&] { return stream.finals == 1; });
        ends.out.close();
        EXPECT_TRUE(alone(ends.in));
    }
    EXPECT_EQ(os::open_descriptors(), before);
    close_all(loop, {pair.first, pair.second});
    expect_clean(loop);
}

TEST_P(UnixDescriptors, stay_with_the_bytes_they_were_sent_with) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const SocketPair pair = *socket_pair(loop);
    Ends first = Ends::pipe(), second = Ends::pipe();
    send_all(loop, pair.first, "before");
    ASSERT_FALSE(send_with(loop, pair.first, "A", {first.out.get()}));
    ASSERT_FALSE(send_with(loop, pair.first, "B", {second.out.get()}));
    std::string text;
    std::vector<std::size_t> places;
    while (text.size() < 8) {
        Received got;
        receive_with(loop, pair.second, got, 5);
        ASSERT_FALSE(got.text.empty());
        text += got.text;
        if (got.descriptors.count() != 0) places.push_back(text.size());
        EXPECT_LE(got.descriptors.count(), 1u);
    }
    EXPECT_EQ(text, "beforeAB");
    EXPECT_EQ(places, (std::vector<std::size_t>{7, 8}));
    close_all(loop, {pair.first, pair.second});
    expect_clean(loop);
}

TEST_P(UnixDescriptors, the_end_comes_without_any) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const SocketPair pair = *socket_pair(loop);
    close_and_wait(loop, pair.first);
    Received got;
    receive_with(loop, pair.second, got, 1);
    EXPECT_FALSE(got.error);
    EXPECT_EQ(got.text, "");
    EXPECT_EQ(got.descriptors.count(), 0u);
    EXPECT_EQ(send_with(loop, pair.second, "x", {0}), Error::from_errno(EPIPE));
    close_and_wait(loop, pair.second);
    expect_clean(loop);
}

TEST_P(UnixDescriptors, a_handler_that_does_not_look_closes_them) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const SocketPair pair = *socket_pair(loop);
    Ends ends = Ends::pipe();
    bool received = false;
    ASSERT_FALSE(send_with(loop, pair.first, "x", {ends.out.get()}));
    ASSERT_TRUE(loop.submit(ReceiveDescriptors{pair.second, Buffer::allocate(9)},
                            [&](Loop&, ReceiveDescriptors::Done) { received = true; }));
    run_until(loop, [&] { return received; });
    ends.out.close();
    EXPECT_TRUE(alone(ends.in));
    close_all(loop, {pair.first, pair.second});
    expect_clean(loop);
}

TEST_P(UnixDescriptors, the_operations_keep_the_contract) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const SocketPair pair = *socket_pair(loop);
    const auto receive = [&] { return ReceiveDescriptors{pair.second, Buffer::allocate(9)}; };
    Contract(loop, receive).cancelled_in_every_way();
    Ends ends = Ends::pipe();
    const int number = ends.out.get();
    const auto send = [&] { return SendDescriptors{pair.first, bytes("x"), &number, 1}; };
    Contract(loop, send).cancelled_before_the_turn();
    ends.out.close();
    EXPECT_TRUE(alone(ends.in)) << "nothing has left";
    Contract(loop, receive).closed_under(pair.second);
    close_and_wait(loop, pair.first);
    expect_clean(loop);
}

// Received or not, in the kernel or on the way to the handler: the loop's end closes them.
TEST_P(UnixDescriptors, a_loop_destroyed_with_some_under_way_leaves_none) {
    WHORL_SKIP_IF_REFUSED();
    for (const int turns_before : {0, 1}) {
        Witness witness;
        Ends ends = Ends::pipe();
        {
            Loop loop = make_loop();
            const SocketPair pair = *socket_pair(loop);
            const auto receive = [&] {
                return ReceiveDescriptors{pair.second, Buffer::allocate(9)};
            };
            Contract(loop, receive).left_pending(witness.copy());
            if (turns_before == 1) {
                EXPECT_FALSE(loop.poll());
            }
            // Past the loop's back, so that the receive completes while the loop is destroyed.
            const int number = ends.out.get();
            char byte = 'x';
            iovec part{&byte, 1};
            alignas(cmsghdr) char control[CMSG_SPACE(sizeof number)] = {};
            msghdr message{};
            message.msg_iov = &part;
            message.msg_iovlen = 1;
            message.msg_control = control;
            message.msg_controllen = sizeof control;
            cmsghdr* item = CMSG_FIRSTHDR(&message);
            item->cmsg_len = CMSG_LEN(sizeof number);
            item->cmsg_level = SOL_SOCKET;
            item->cmsg_type = SCM_RIGHTS;
            std::memcpy(CMSG_DATA(item), &number, sizeof number);
            EXPECT_EQ(os::sendmsg(*native_handle(loop, pair.first), &message, 0), 1);
        }
        EXPECT_TRUE(witness.alone());
        ends.out.close();
        EXPECT_TRUE(alone(ends.in));
    }
}

TEST_P(UnixDescriptors, what_cannot_be_received_into_is_refused) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const SocketPair pair = *socket_pair(loop);
    const auto refuse = [&](Buffer buffer, std::uint32_t most) {
        ReceiveDescriptors receive{pair.second, std::move(buffer)};
        receive.most = most;
        EXPECT_EQ(loop.submit(std::move(receive), [](Loop&, ReceiveDescriptors::Done) {}).error(),
                  Error::invalid_argument);
    };
    refuse(Buffer(), 1);
    refuse(Buffer::of_static(Bytes("text", 4)), 1);
    refuse(Buffer::allocate(9), 0);
    refuse(Buffer::allocate(9), descriptors_per_message_max + 1);
    Ends ends = Ends::pipe();
    ASSERT_FALSE(send_with(loop, pair.first, "x", {ends.out.get()}));
    ends.out.close();
    Received got;
    receive_with(loop, pair.second, got, 1);
    ReceivedDescriptors held = std::move(got.descriptors);
    ReceivedDescriptors& same = held;
    held = std::move(same);
    ASSERT_EQ(held.count(), 1u);
    ASSERT_TRUE(os::write(held[0], "y", 1) == 1) << "it still is open";
    char byte = 0;
    ASSERT_EQ(os::read(ends.in.get(), &byte, 1), 1);
    held = ReceivedDescriptors();
    EXPECT_TRUE(alone(ends.in));
    close_and_wait(loop, pair.first);
    close_and_wait(loop, pair.second);
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
