// SPDX-License-Identifier: MIT
// Goal: datagrams of every size go out and come in whole, with their addresses, and every way that an
// operation on them may end is the contract's.
// Method: the test's own sockets on the loopback; ports that nobody has; too little room.
#include "conformance/udp_tools.hpp"

namespace whorl::conformance {
namespace {

class UdpBasic : public UdpTest {};
WHORL_CONFORMANCE(UdpBasic);

TEST_P(UdpBasic, every_size_goes_both_ways_with_its_address) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UdpSocket socket = open(loop);
    const Address here = address_of(loop, socket);
    const Fd other = peer(here);
    for (const std::size_t size : {0u, 1u, 2u, 576u, 1472u, 1473u, 9000u, 65506u, 65507u}) {
        const std::string text = pattern(size);
        EXPECT_FALSE(send_one(loop, {socket, bytes(text), address_of(other)})) << size;
        EXPECT_TRUE(receive(other) == text) << size;
        send(other, text);
        Datagrams got;
        receive_one(loop, socket, got);
        EXPECT_FALSE(got.error);
        ASSERT_EQ(got.texts.size(), 1u);
        EXPECT_TRUE(got.texts[0] == text) << size;
        EXPECT_EQ(got.senders[0], address_of(other));
        EXPECT_FALSE(got.truncated[0]);
    }
    close_and_wait(loop, socket);
    expect_clean(loop);
}

TEST_P(UdpBasic, too_large_is_refused_and_nothing_leaves) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UdpSocket socket = open(loop);
    const Fd other = peer(address_of(loop, socket));
    EXPECT_EQ(send_one(loop, {socket, bytes(pattern(65508)), address_of(other)}),
              Error::from_errno(EMSGSIZE));
    EXPECT_FALSE(send_one(loop, {socket, bytes("after"), address_of(other)}));
    EXPECT_EQ(receive(other), "after");
    close_and_wait(loop, socket);
    expect_clean(loop);
}

TEST_P(UdpBasic, what_finds_no_room_is_lost_and_told) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UdpSocket socket = open(loop);
    const Fd other = peer(address_of(loop, socket));
    send(other, "0123456789");
    Datagrams got;
    receive_one(loop, socket, got, 4);
    ASSERT_EQ(got.texts.size(), 1u);
    EXPECT_EQ(got.texts[0], "0123");
    EXPECT_TRUE(got.truncated[0]);
    send(other, "next");
    receive_one(loop, socket, got, 4);
    EXPECT_EQ(got.texts[0], "next");
    EXPECT_FALSE(got.truncated[0]);
    close_and_wait(loop, socket);
    expect_clean(loop);
}

TEST_P(UdpBasic, a_peeked_datagram_is_still_there) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UdpSocket socket = open(loop);
    const Fd other = peer(address_of(loop, socket));
    send(other, "text");
    Datagrams peeked, got;
    ASSERT_TRUE(loop.submit(RecvFrom{socket, Buffer::allocate(9), MSG_PEEK}, into(peeked)));
    run_until(loop, [&] { return peeked.finals == 1; });
    ASSERT_EQ(peeked.texts.size(), 1u);
    EXPECT_EQ(peeked.texts[0], "text");
    receive_one(loop, socket, got);
    EXPECT_EQ(got.texts[0], "text");
    close_and_wait(loop, socket);
    expect_clean(loop);
}

TEST_P(UdpBasic, connected_sends_without_an_address_and_hears_only_its_peer) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UdpSocket socket = open(loop);
    const Address here = address_of(loop, socket);
    const Fd friendly = peer(here), stranger = peer(here);
    EXPECT_EQ(send_one(loop, {socket, bytes("nowhere")}), Error::from_errno(EDESTADDRREQ));
    EXPECT_EQ(peer_address(loop, socket).error(), Error::from_errno(ENOTCONN));
    ASSERT_FALSE(connect_udp(loop, socket, address_of(friendly)));
    EXPECT_EQ(*peer_address(loop, socket), address_of(friendly));
    EXPECT_FALSE(send_one(loop, {socket, bytes("hello")}));
    EXPECT_EQ(receive(friendly), "hello");
    EXPECT_FALSE(send_one(loop, {socket, bytes("you too"), address_of(stranger)}));
    EXPECT_EQ(receive(stranger), "you too");
    send(stranger, "unheard");
    os::let_arrive();
    send(friendly, "heard");
    Datagrams got;
    receive_one(loop, socket, got);
    EXPECT_EQ(got.texts[0], "heard");
    ASSERT_FALSE(disconnect_udp(loop, socket));
    const Fd another = peer(here);  // the stranger has been told that nobody is here
    send(another, "heard now");
    receive_one(loop, socket, got);
    EXPECT_EQ(got.texts[0], "heard now");
    close_and_wait(loop, socket);
    expect_clean(loop);
}

// A port that somebody had a moment ago.
TEST_P(UdpBasic, nobody_there_is_told_to_a_connected_socket_only) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Fd gone = peer();
    const Address nobody = address_of(gone);
    gone.close();
    const UdpSocket socket = open(loop);
    EXPECT_FALSE(send_one(loop, {socket, bytes("one"), nobody}));
    os::let_arrive();
    EXPECT_FALSE(send_one(loop, {socket, bytes("two"), nobody})) << "unconnected hears of none";
    ASSERT_FALSE(connect_udp(loop, socket, nobody));
    Datagrams got;
    ASSERT_TRUE(loop.submit(RecvFrom{socket, Buffer::allocate(9)}, into(got)));
    EXPECT_FALSE(send_one(loop, {socket, bytes("three")}));
    run_until(loop, [&] { return got.finals == 1; });
    EXPECT_EQ(got.error, Error::from_errno(ECONNREFUSED));
    EXPECT_EQ(got.buffer.capacity(), 9u) << "the buffer comes home";
    EXPECT_TRUE(got.texts.empty());
    // It meant that datagram only.
    ASSERT_FALSE(disconnect_udp(loop, socket));
    const Fd other = peer(address_of(loop, socket));
    send(other, "text");
    receive_one(loop, socket, got);
    EXPECT_EQ(got.texts[0], "text");
    close_and_wait(loop, socket);
    expect_clean(loop);
}

TEST_P(UdpBasic, opening_is_refused_with_its_reason) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UdpSocket socket = open(loop);
    const Address here = address_of(loop, socket);
    EXPECT_EQ(open_udp(loop, here).error(), Error::from_errno(EADDRINUSE));
    EXPECT_EQ(open_udp(loop, *Address::parse("192.0.2.1:0")).error(),
              Error::from_errno(EADDRNOTAVAIL));
    EXPECT_EQ(open_udp(loop, Address()).error(), Error::invalid_argument);
    EXPECT_EQ(connect_udp(loop, socket, Address()), Error::invalid_argument);
    EXPECT_EQ(send_one(loop, {socket, bytes("x"), *Address::parse("255.255.255.255:9")}),
              Error::from_errno(EACCES));
    EXPECT_EQ(join_group(loop, socket, Address::loopback_v4(0)), Error::from_errno(EINVAL));
    const UdpSocket wide = *open_udp(loop, Address::any_v6(0));
    EXPECT_EQ(join_group(loop, wide, *Address::parse("[::1]:0")), Error::from_errno(EINVAL));
    const Result<Operation> full =
        loop.submit(RecvFrom{socket, Buffer()}, [](Loop&, RecvFrom::Done) {});
    EXPECT_EQ(full.error(), Error::invalid_argument);
    SendTo strange{socket, bytes("x"), here};
    strange.control.traffic_class = 256;
    EXPECT_EQ(send_one(loop, std::move(strange)), Error::invalid_argument);
    close_and_wait(loop, wide);
    close_and_wait(loop, socket);
    EXPECT_EQ(local_address(loop, socket).error(), Error::stale_handle);
    EXPECT_EQ(connect_udp(loop, socket, here), Error::stale_handle);
    EXPECT_EQ(disconnect_udp(loop, socket), Error::stale_handle);
    EXPECT_EQ(send_one(loop, {socket, bytes("x"), here}), Error::stale_handle);
    EXPECT_EQ(join_group(loop, socket, here), Error::stale_handle);
    expect_clean(loop);
}

TEST_P(UdpBasic, sockets_share_a_port_when_they_ask) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    UdpOptions options;
    options.reuse_port = true;
    const UdpSocket first = open(loop, options);
    const UdpSocket second = open(loop, options, address_of(loop, first));
    EXPECT_EQ(address_of(loop, first), address_of(loop, second));
    close_and_wait(loop, first);
    close_and_wait(loop, second);
    expect_clean(loop);
}

TEST_P(UdpBasic, ipv6_too) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UdpSocket one = open(loop, {}, Address::loopback_v6(0));
    const UdpSocket two = open(loop, {}, Address::loopback_v6(0));
    EXPECT_FALSE(send_one(loop, {one, bytes("text"), address_of(loop, two)}));
    Datagrams got;
    receive_one(loop, two, got);
    EXPECT_EQ(got.texts[0], "text");
    EXPECT_EQ(got.senders[0], address_of(loop, one));
    close_and_wait(loop, one);
    close_and_wait(loop, two);
    expect_clean(loop);
}

// Many at once on one socket: each datagram is received once. Those in the world overtake each other.
TEST_P(UdpBasic, receives_wait_in_line_and_each_gets_one) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UdpSocket socket = open(loop);
    const Fd other = peer(address_of(loop, socket));
    constexpr int count = 50;
    Datagrams got[count];
    for (Datagrams& one : got) {
        ASSERT_TRUE(loop.submit(RecvFrom{socket, loop.buffer(100)}, into(one)));
    }
    std::multiset<std::string> sent, received;
    for (int index = 0; index < count; ++index) {
        sent.insert(std::to_string(index));
        send(other, std::to_string(index));
    }
    run_until(loop, [&] { return got[count - 1].finals == 1; });
    for (const Datagrams& one : got) {
        ASSERT_EQ(one.texts.size(), 1u);
        received.insert(one.texts[0]);
    }
    EXPECT_EQ(sent, received);
    close_and_wait(loop, socket);
    expect_clean(loop);
}

// --- the contract of every operation

TEST_P(UdpBasic, a_receive_is_cancelled_and_times_out) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UdpSocket socket = open(loop);
    const auto receive = [&] { return RecvFrom{socket, loop.buffer(100)}; };
    Contract(loop, receive).cancelled_in_every_way();
    // Nothing that comes afterwards is lost.
    const Fd other = peer(address_of(loop, socket));
    send(other, "text");
    Datagrams got;
    receive_one(loop, socket, got);
    EXPECT_EQ(got.texts[0], "text");
    Contract(loop, receive).closed_under(socket);
    expect_clean(loop);
}

TEST_P(UdpBasic, a_send_is_cancelled_before_its_turn) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UdpSocket socket = open(loop);
    const Fd other = peer(address_of(loop, socket));
    const auto send_text = [&] { return SendTo{socket, bytes("no"), address_of(other)}; };
    Contract(loop, send_text).cancelled_before_the_turn();
    Ending end;
    ASSERT_TRUE(loop.submit(send_text(), within(0ns), ending(end)));
    run_until(loop, [&] { return end.finals == 1; });
    EXPECT_EQ(end.error, Error::timed_out);
    EXPECT_FALSE(send_one(loop, {socket, bytes("yes"), address_of(other)}));
    EXPECT_EQ(receive(other), "yes") << "nothing else has left";
    close_and_wait(loop, socket);
    expect_clean(loop);
}

// The first handler cancels the other one, which is complete or not: no datagram is hidden by that.
TEST_P(UdpBasic, cancelled_when_complete_hides_no_datagram) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const UdpSocket sockets[2] = {open(loop), open(loop)};
    Operation operations[2];
    int finals = 0;
    std::string texts[2];
    for (int index = 0; index < 2; ++index) {
        operations[index] = *loop.submit(RecvFrom{sockets[index], loop.buffer(100)},
                                         [&, index](Loop& in, RecvFrom::Done done) {
                                             ++finals;
                                             if (!done.error) texts[index] = done.buffer.text();
                                             else EXPECT_EQ(done.error, Error::cancelled);
                                             EXPECT_EQ(done.buffer.capacity() >= 100, true);
                                             static_cast<void>(in.cancel(operations[1 - index]));
                                         });
    }
    const Fd others[2] = {peer(address_of(loop, sockets[0])), peer(address_of(loop, sockets[1]))};
    for (const Fd& other : others) send(other, "text");
    os::let_arrive();
    run_until(loop, [&] { return finals == 2; });
    for (int index = 0; index < 2; ++index) {
        if (texts[index].empty()) {
            Datagrams got;
            receive_one(loop, sockets[index], got);
            ASSERT_EQ(got.texts.size(), 1u);
            texts[index] = got.texts[0];
        }
        EXPECT_EQ(texts[index], "text");
        close_and_wait(loop, sockets[index]);
    }
    expect_clean(loop);
}

TEST_P(UdpBasic, a_loop_is_destroyed_under_them) {
    WHORL_SKIP_IF_REFUSED();
    Witness witness;
    {
        Loop loop = make_loop();
        const UdpSocket socket = open(loop);
        const auto receive = [&] { return RecvFrom{socket, loop.buffer(100)}; };
        Contract(loop, receive).left_pending(witness.copy());
        ASSERT_TRUE(loop.submit(SendTo{socket, bytes("text"), address_of(loop, socket)},
                                [copy = witness.copy()](Loop&, SendTo::Done) {}));
    }
    EXPECT_TRUE(witness.alone());
}

}  // namespace
}  // namespace whorl::conformance
