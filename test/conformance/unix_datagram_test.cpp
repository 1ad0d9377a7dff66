// SPDX-License-Identifier: MIT
// Goal: Unix datagrams arrive whole, in order and all of them; a sender waits for a connected peer that
// does not read, and every way that an operation on them may end is the contract's.
// Method: both ends in one loop, more datagrams than a socket holds.
#include "conformance/unix_tools.hpp"

namespace whorl::conformance {
namespace {

class UnixDatagrams : public UnixTools {
  protected:
    static UnixDatagram open(Loop& loop, const UnixAddress& address = {}) {
        const Result<UnixDatagram> made = open_unix_datagram(loop, address);
        EXPECT_TRUE(made) << made.error().text();
        return made ? *made : UnixDatagram();
    }
    static Error send(Loop& loop, SendToUnix operation) {
        Error error;
        bool done = false;
        const Result<Operation> made =
            loop.submit(std::move(operation), [&](Loop&, SendToUnix::Done end) {
                error = end.error;
                done = true;
            });
        if (!made) return made.error();
        run_until(loop, [&] { return done; });
        return error;
    }
    struct Got {
        std::string text;
        UnixAddress address;
        bool truncated = false;
    };
    static Got receive_one(Loop& loop, UnixDatagram socket, std::size_t room = 70'000) {
        Got got;
        bool done = false;
        EXPECT_TRUE(loop.submit(
            RecvFromUnix{socket, Buffer::allocate(room)}, [&](Loop&, RecvFromUnix::Done end) {
                EXPECT_FALSE(end.error) << end.error.text();
                got = {std::string(end.buffer.text()), end.address, end.truncated};
                done = true;
            }));
        run_until(loop, [&] { return done; });
        return got;
    }
    static void close_one(Loop& loop, UnixDatagram socket) {
        bool closed = false;
        EXPECT_FALSE(loop.close(socket, [&](Loop&) { closed = true; }));
        run_until(loop, [&] { return closed; });
    }
};
WHORL_CONFORMANCE(UnixDatagrams);

TEST_P(UnixDatagrams, go_both_ways_with_their_names) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Folder folder;
    const UnixAddress here = abstract_name(), there = folder.address();
    const UnixDatagram one = open(loop, here), two = open(loop, there);
    for (const std::size_t size : {1u, 0u, 1000u, 60'000u}) {
        const std::string text = pattern(size);
        const Buffer empty;
        ASSERT_FALSE(send(loop, {one, size == 0 ? Buffer() : bytes(text), there}));
        const Got got = receive_one(loop, two);
        EXPECT_TRUE(got.text == text) << size;
        EXPECT_EQ(got.address, here);
        ASSERT_FALSE(send(loop, {two, bytes("back"), got.address}));
        EXPECT_EQ(receive_one(loop, one).address, there);
    }
    ASSERT_FALSE(send(loop, {one, bytes("too long"), there}));
    const Got cut = receive_one(loop, two, 3);
    EXPECT_EQ(cut.text, "too");
    EXPECT_TRUE(cut.truncated);
    const UnixDatagram nameless = open(loop);
    ASSERT_FALSE(send(loop, {nameless, bytes("guess who"), there}));
    EXPECT_FALSE(receive_one(loop, two).address);
    for (UnixDatagram socket : {one, two, nameless}) close_one(loop, socket);
    ASSERT_FALSE(remove_socket_file(loop, there));
    expect_clean(loop);
}

TEST_P(UnixDatagrams, are_refused_with_their_reason) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UnixAddress name = abstract_name(), taken = abstract_name();
    const UnixDatagram socket = open(loop), other = open(loop, taken);
    EXPECT_EQ(send(loop, {socket, bytes("x")}), Error::from_errno(ENOTCONN));
    EXPECT_EQ(send(loop, {socket, bytes("x"), name}), Error::from_errno(ECONNREFUSED));
    EXPECT_EQ(send(loop, {socket, bytes("x"), *UnixAddress::file("/tmp/whorl-no-such-socket")}),
              Error::from_errno(ENOENT));
    EXPECT_EQ(connect_unix_datagram(loop, socket, name), Error::from_errno(ECONNREFUSED));
    EXPECT_EQ(connect_unix_datagram(loop, socket, UnixAddress()), Error::invalid_argument);
    EXPECT_EQ(open_unix_datagram(loop, taken).error(), Error::from_errno(EADDRINUSE));
    ASSERT_FALSE(connect_unix_datagram(loop, socket, taken));
    ASSERT_FALSE(send(loop, {socket, bytes("x")}));
    EXPECT_EQ(receive_one(loop, other).text, "x");
    close_one(loop, other);
    EXPECT_EQ(send(loop, {socket, bytes("x")}), Error::from_errno(ECONNREFUSED));
    EXPECT_EQ(loop.submit(RecvFromUnix{socket, Buffer()}, [](Loop&, RecvFromUnix::Done) {}).error(),
              Error::invalid_argument);
    close_one(loop, socket);
    EXPECT_EQ(connect_unix_datagram(loop, socket, taken), Error::stale_handle);
    expect_clean(loop);
}

TEST_P(UnixDatagrams, a_connected_sender_waits_and_loses_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UnixAddress there = abstract_name();
    const UnixDatagram to = open(loop, there), from = open(loop);
    ASSERT_FALSE(connect_unix_datagram(loop, from, there));
    constexpr int count = 100;
    int sent = 0;
    for (int index = 0; index < count; ++index) {
        ASSERT_TRUE(loop.submit(SendToUnix{from, bytes(std::to_string(index))},
                                [&](Loop&, SendToUnix::Done done) {
                                    EXPECT_FALSE(done.error) << done.error.text();
                                    ++sent;
                                }));
    }
    turns(loop, 5);
    EXPECT_LT(sent, count);
    EXPECT_GT(sent, 0);
    // The contract of one that waits.
    const auto waiting = [&] { return SendToUnix{from, bytes("never")}; };
    Contract(loop, waiting).cancelled_in_every_way();
    for (int index = 0; index < count; ++index) {
        EXPECT_EQ(receive_one(loop, to).text, std::to_string(index));
    }
    run_until(loop, [&] { return sent == count; });
    close_one(loop, from);
    close_one(loop, to);
    expect_clean(loop);
}

// With an address nothing would tell when there is room.
TEST_P(UnixDatagrams, an_unconnected_sender_is_told_that_there_is_no_room) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UnixAddress there = abstract_name();
    const UnixDatagram to = open(loop, there), from = open(loop);
    int sent = 0;
    Error error;
    while (!error && sent < 1000) {
        error = send(loop, {from, bytes("x"), there});
        if (!error) ++sent;
    }
    EXPECT_EQ(error, Error::from_errno(EAGAIN));
    EXPECT_GT(sent, 0);
    EXPECT_EQ(receive_one(loop, to).text, "x");
    EXPECT_FALSE(send(loop, {from, bytes("x"), there}));
    close_one(loop, from);
    close_one(loop, to);
    expect_clean(loop);
}

TEST_P(UnixDatagrams, receives_keep_the_contract) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UnixDatagram socket = open(loop, abstract_name());
    const auto receive = [&] { return RecvFromUnix{socket, Buffer::allocate(9)}; };
    Contract(loop, receive).cancelled_in_every_way();
    Contract(loop, receive).closed_under(socket);
    expect_clean(loop);
}

TEST_P(UnixDatagrams, a_loop_is_destroyed_under_them) {
    WHORL_SKIP_IF_REFUSED();
    Witness witness;
    {
        Loop loop = make_loop();
        const UnixAddress there = abstract_name();
        open(loop, there);
        const UnixDatagram from = open(loop);
        ASSERT_FALSE(connect_unix_datagram(loop, from, there));
        for (int index = 0; index < 20; ++index) {
            ASSERT_TRUE(loop.submit(SendToUnix{from, bytes("x")},
                                    [copy = witness.copy()](Loop&, SendToUnix::Done) {}));
        }
        turns(loop, 2);
        const auto receive = [&] { return RecvFromUnix{from, Buffer::allocate(9)}; };
        Contract(loop, receive).left_pending(witness.copy());
    }
    EXPECT_TRUE(witness.alone());
}

}  // namespace
}  // namespace whorl::conformance
