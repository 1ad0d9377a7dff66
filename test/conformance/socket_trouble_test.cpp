// SPDX-License-Identifier: MIT
// Goal: what the kernel refuses about a socket is told with its errno, by every call that asks it, and
// leaves nothing behind. Method: values that it refuses, ends that are gone, and a number under which
// something else lies.
#include "conformance/support.hpp"
#include "conformance/tcp_tools.hpp"

#include <whorl/socket.hpp>

namespace whorl::conformance {
namespace {

class SocketTrouble : public TcpTools {};
WHORL_CONFORMANCE(SocketTrouble);

constexpr int too_long_s = 40000;  // TCP_KEEPIDLE ends at 32767

TEST_P(SocketTrouble, listening_with_options_that_the_kernel_refuses) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    ListenOptions options;
    options.accepted.keepalive_seconds = too_long_s;
    const std::set<int> before = os::open_descriptors();
    EXPECT_EQ(listen(loop, Address::loopback_v4(0), options).error().value(), EINVAL);
    EXPECT_EQ(os::open_descriptors(), before);
    expect_clean(loop);
}

TEST_P(SocketTrouble, connecting_with_options_that_the_kernel_refuses) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Connect connect{Address::loopback_v4(1)};
    connect.options.socket.keepalive_seconds = too_long_s;
    End end;
    ASSERT_TRUE(loop.submit(std::move(connect), into(end)));
    EXPECT_EQ(end.finals, 0) << "never inline";
    run_until(loop, [&] { return end.finals == 1; });
    EXPECT_EQ(end.error.value(), EINVAL);
    EXPECT_FALSE(end.socket);
    turns(loop, 2);
    expect_clean(loop);
}

TEST_P(SocketTrouble, connecting_from_an_address_that_is_not_ours) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Connect connect{Address::loopback_v4(1)};
    connect.options.local = Address::ipv4(192, 0, 2, 1, 0);  // reserved for documentation
    End end;
    ASSERT_TRUE(loop.submit(std::move(connect), into(end)));
    run_until(loop, [&] { return end.finals == 1; });
    EXPECT_EQ(end.error.value(), EADDRNOTAVAIL);
    turns(loop, 2);
    expect_clean(loop);
}

TEST_P(SocketTrouble, the_peer_of_a_socket_that_was_reset) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    ASSERT_TRUE(peer_address(loop, pair.socket));
    pair.peer.reset();
    End end;
    ASSERT_TRUE(loop.submit(Recv{pair.socket, Buffer::allocate(10)}, into(end)));
    run_until(loop, [&] { return end.finals == 1; });
    EXPECT_EQ(end.error.value(), ECONNRESET);
    EXPECT_EQ(peer_address(loop, pair.socket).error().value(), ENOTCONN);
    close_and_wait(loop, pair.socket);
}

TEST_P(SocketTrouble, every_option_of_a_number_under_which_a_pipe_lies) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    const Ends pipe = Ends::pipe();
    const int number = fd_of(loop, pair.socket);
    ASSERT_EQ(os::dup3(pipe.in.get(), number, O_CLOEXEC), number);  // somebody's mistake
#define EXPECT_NO_SOCKET(Type)                                                   \
    EXPECT_EQ(set_option(loop, pair.socket, Type{}).value(), ENOTSOCK) << #Type; \
    EXPECT_EQ((get_option<Type>(loop, pair.socket)).error().value(), ENOTSOCK) << #Type;
    WHORL_SOCKET_OPTION_LIST(EXPECT_NO_SOCKET)
#undef EXPECT_NO_SOCKET
    EXPECT_EQ(local_address(loop, pair.socket).error().value(), ENOTSOCK);
    EXPECT_EQ(peer_address(loop, pair.socket).error().value(), ENOTSOCK);
    close_and_wait(loop, pair.socket);
}

TEST_P(SocketTrouble, every_option_can_be_switched_off_again) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    for (const bool on : {true, false}) {
        ASSERT_FALSE(set_option(loop, pair.socket, NoDelay{on}));
        ASSERT_FALSE(set_option(loop, pair.socket, KeepAlive{on, 5s, 5s, 5}));
        ASSERT_FALSE(set_option(loop, pair.socket, Linger{on, 0s}));
        ASSERT_FALSE(set_option(loop, pair.socket, ReuseAddress{on}));
        ASSERT_FALSE(set_option(loop, pair.socket, ReusePort{on}));
        EXPECT_EQ(get_option<NoDelay>(loop, pair.socket)->on, on);
        EXPECT_EQ(get_option<KeepAlive>(loop, pair.socket)->on, on);
        EXPECT_EQ(get_option<Linger>(loop, pair.socket)->on, on);
        EXPECT_EQ(get_option<ReuseAddress>(loop, pair.socket)->on, on);
        EXPECT_EQ(get_option<ReusePort>(loop, pair.socket)->on, on);
    }
    close_and_wait(loop, pair.socket);
}

TEST_P(SocketTrouble, a_loop_that_drains_takes_no_sockets) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    const Ends ends = Ends::sockets();
    bool told = false;
    ASSERT_TRUE(
        loop.submit(Recv{pair.socket, Buffer::allocate(10)}, [&](Loop& draining, Recv::Done) {
            EXPECT_EQ(adopt_socket(draining, ends.in.get()).error(), Error::loop_closed);
            EXPECT_EQ(listen(draining, Address::loopback_v4(0)).error(), Error::loop_closed);
            told = true;
        }));
    ASSERT_FALSE(loop.drain(5s));
    EXPECT_TRUE(told);
    EXPECT_TRUE(fd_is_open(ends.in.get())) << "what was refused stays the caller's";
}

TEST_P(SocketTrouble, listening_where_one_cannot) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const std::set<int> before = os::open_descriptors();
    EXPECT_EQ(listen(loop, Address()).error(), Error::invalid_argument);
    EXPECT_EQ(listen(loop, Address::ipv4(192, 0, 2, 1, 0)).error().value(), EADDRNOTAVAIL);
    ListenOptions options;
    options.backlog = 0;
    EXPECT_EQ(listen(loop, Address::loopback_v4(0), options).error(), Error::invalid_argument);
    EXPECT_EQ(loop.submit(Connect{Address()}, [](Loop&, Connect::Done) {}).error(),
              Error::invalid_argument);
    EXPECT_EQ(os::open_descriptors(), before);
    const Listener first = listen_here(loop);
    const Address taken = Address::loopback_v4(port_of(loop, first));
    EXPECT_EQ(listen(loop, taken).error().value(), EADDRINUSE);
    ASSERT_FALSE(loop.close(first));
    turns(loop, 2);
    expect_clean(loop);
}

TEST_P(SocketTrouble, two_listeners_share_a_port_when_both_say_so) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    ListenOptions options;
    options.reuse_port = true;
    const Listener first = listen_here(loop, options);
    const Address shared = Address::loopback_v4(port_of(loop, first));
    const Result<Listener> second = listen(loop, shared, options);
    ASSERT_TRUE(second) << second.error().text();
    ASSERT_FALSE(loop.close(first));
    ASSERT_FALSE(loop.close(*second));
}

TEST_P(SocketTrouble, one_listener_for_both_families_and_one_for_its_own) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (const bool only : {true, false}) {
        ListenOptions options;
        options.v6_only = only;
        const Result<Listener> listener = listen(loop, Address::any_v6(0), options);
        if (!listener && listener.error().value() == EAFNOSUPPORT) {
            GTEST_SKIP() << "this machine has no IPv6";
        }
        ASSERT_TRUE(listener) << listener.error().text();
        End end;
        const Address here = Address::loopback_v4(local_address(loop, *listener)->port());
        ASSERT_TRUE(loop.submit(Connect{here}, into(end)));
        run_until(loop, [&] { return end.finals == 1; });
        EXPECT_EQ(end.error.value(), only ? ECONNREFUSED : 0);
        if (end.socket) {
            ASSERT_FALSE(loop.close(end.socket));
        }
        ASSERT_FALSE(loop.close(*listener));
    }
}

}  // namespace
}  // namespace whorl::conformance
