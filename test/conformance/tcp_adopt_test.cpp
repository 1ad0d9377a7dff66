// SPDX-License-Identifier: MIT
// Goal: descriptors that others made come in and go out unharmed, whatever their flags and numbers;
// options are what was set. Method: blocking and non-blocking pairs, a child without the standard
// descriptors, getsockopt beside get_option.
#include "conformance/tcp_tools.hpp"

#include <sys/wait.h>

#include <cstdio>

namespace whorl::conformance {
namespace {

class TcpAdopt : public TcpTools {
  protected:
    // Two ends of a TCP connection of the test.
    static void make_ends(int (&fds)[2], bool nonblocking) {
        const int listener = os::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        auto* generic = reinterpret_cast<sockaddr*>(&address);
        ASSERT_EQ(os::bind(listener, generic, size), 0);
        ASSERT_EQ(os::listen(listener, 1), 0);
        ASSERT_EQ(os::getsockname(listener, generic, &size), 0);
        fds[1] = os::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ASSERT_EQ(os::connect(fds[1], generic, size), 0);
        fds[0] = os::accept4(listener, nullptr, nullptr,
                             SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0));
        ASSERT_GE(fds[0], 0);
        os::close(listener);
    }
};
WHORL_CONFORMANCE(TcpAdopt);

// A non-blocking socket makes io_uring answer EAGAIN instead of waiting.
TEST_P(TcpAdopt, blocking_and_nonblocking_sockets_do_everything) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (bool nonblocking : {false, true}) {
        int fds[2];
        make_ends(fds, nonblocking);
        const int small = 32'768, on = 1;
        os::setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
        os::setsockopt(fds[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        const int flags = os::fcntl(fds[0], F_GETFL);
        const Result<Socket> adopted = adopt_socket(loop, fds[0]);
        ASSERT_TRUE(adopted);
        const Socket socket = *adopted;
        Peer peer(fds[1]);
        EXPECT_EQ(*native_handle(loop, socket), fds[0]);
        std::vector<End> ends(6);
        ASSERT_TRUE(loop.submit(Recv{socket, Buffer::allocate(4), MSG_WAITALL}, into(ends[0])));
        ASSERT_TRUE(loop.submit(Recv{socket, Buffer::allocate(6), MSG_WAITALL}, into(ends[1])));
        ASSERT_TRUE(loop.submit(RecvStream{socket}, into(ends[2])));
        ASSERT_TRUE(loop.submit(SendAll{socket, filled(500'000)}, into(ends[3])));
        SendChain chain{socket, {}};
        ASSERT_TRUE(chain.chain.push_back(filled(250'000, 500'000)));
        ASSERT_TRUE(chain.chain.push_back(filled(250'000, 750'000)));
        ASSERT_TRUE(loop.submit(std::move(chain), into(ends[4])));
        ASSERT_TRUE(loop.submit(Send{socket, filled(1, 1'000'000)}, into(ends[5])));
        turns(loop, 5);
        EXPECT_EQ(ends[0].finals, 0) << "it waits";
        peer.send("four");
        run_until(loop, [&] { return ends[0].finals == 1; });
        peer.send("abc");
        turns(loop, 5);
        EXPECT_EQ(ends[1].finals, 0);
        peer.send("def");
        run_until(loop, [&] { return ends[1].finals == 1; });
        EXPECT_EQ(ends[0].text, "four");
        EXPECT_EQ(ends[1].text, "abcdef");
        std::string got;
        os::Thread reader([&] { got = peer.receive(1'000'001); });
        run_until(loop, [&] { return ends[5].finals == 1; });
        reader.join();
        EXPECT_TRUE(got == pattern(1'000'001));
        peer.send("streamed");
        run_until(loop, [&] { return ends[2].text.size() == 8; });
        peer.finish_sending();
        run_until(loop, [&] { return ends[2].finals == 1; });
        EXPECT_EQ(ends[2].text, "streamed");
        EXPECT_EQ(os::fcntl(fds[0], F_GETFL), flags) << "the flags are left as they are";
        close_and_wait(loop, socket);
        EXPECT_EQ(peer.receive(1), "");
    }
    expect_clean(loop);
}

TEST_P(TcpAdopt, nonblocking_operations_are_cancelled_and_time_out) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int fds[2];
    make_ends(fds, true);
    const Socket socket = *adopt_socket(loop, fds[0]);
    Peer peer(fds[1]);
    for (int count = 0; count < 5; ++count) {
        End receive, stream, timed, send;
        const Result<Operation> first =
            loop.submit(Recv{socket, Buffer::allocate(4)}, into(receive));
        ASSERT_TRUE(first);
        turns(loop, count);
        EXPECT_EQ(loop.cancel(*first), Cancelled::cancelling);
        run_until(loop, [&] { return receive.finals == 1; });
        EXPECT_EQ(receive.error, Error::cancelled);
        const Result<Operation> second = loop.submit(RecvStream{socket}, into(stream));
        ASSERT_TRUE(second);
        turns(loop, count);
        EXPECT_EQ(loop.cancel(*second), Cancelled::cancelling);
        run_until(loop, [&] { return stream.finals == 1; });
        EXPECT_EQ(stream.error, Error::cancelled);
        ASSERT_TRUE(loop.submit(Recv{socket, Buffer::allocate(4)}, within(2ms), into(timed)));
        Buffer large = Buffer::allocate(20 << 20);
        large.resize(large.capacity());
        ASSERT_TRUE(loop.submit(SendAll{socket, std::move(large)}, within(2ms), into(send)));
        run_until(loop, [&] { return timed.finals == 1 && send.finals == 1; });
        EXPECT_EQ(timed.error, Error::timed_out);
        EXPECT_EQ(send.error, Error::timed_out);
    }
    close_and_wait(loop, socket);
    expect_clean(loop);
}

TEST_P(TcpAdopt, listeners_of_both_kinds_accept) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (bool nonblocking : {false, true}) {
        const int fd =
            os::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0), 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        ASSERT_EQ(os::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        EXPECT_EQ(adopt_listener(loop, fd).error(), Error::invalid_argument) << "not listening";
        ASSERT_EQ(os::listen(fd, 10), 0);
        const Result<Listener> listener = adopt_listener(loop, fd);
        ASSERT_TRUE(listener);
        EXPECT_EQ(adopt_socket(loop, fd).error(), Error::invalid_argument);
        const std::uint16_t port = port_of(loop, *listener);
        End single, stream;
        ASSERT_TRUE(loop.submit(Accept{*listener}, into(single)));
        ASSERT_TRUE(loop.submit(AcceptStream{*listener}, into(stream)));
        turns(loop, 3);
        std::vector<Peer> peers;
        for (std::size_t index = 0; index < 5; ++index) {
            peers.push_back(Peer::connect_to(port));
            run_until(loop, [&] { return single.finals + stream.parts == int(index) + 1; });
        }
        for (Socket socket : stream.sockets) {  // accepted ones block nobody and are not inherited
            const int number = fd_of(loop, socket);
            EXPECT_NE(os::fcntl(number, F_GETFD) & FD_CLOEXEC, 0);
        }
        EXPECT_FALSE(loop.close(*listener));
        run_until(loop, [&] { return stream.finals == 1; });
        stream.sockets.push_back(single.socket);
        close_all(loop, stream.sockets);
    }
    expect_clean(loop);
}

TEST_P(TcpAdopt, refuses_what_is_no_stream_socket) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    int ends[2];
    ASSERT_EQ(os::pipe2(ends, O_CLOEXEC), 0);
    const int datagram = os::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(adopt_socket(loop, ends[0]).error().value(), ENOTSOCK);
    EXPECT_EQ(adopt_socket(loop, datagram).error(), Error::invalid_argument);
    EXPECT_EQ(adopt_socket(loop, -1).error().value(), EBADF);
    for (int fd : {ends[0], ends[1], datagram}) {
        EXPECT_TRUE(fd_is_open(fd)) << "a refused descriptor stays the caller's";
        os::close(fd);
    }
    expect_clean(loop);
}

TEST_P(TcpAdopt, detached_descriptor_is_the_callers) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    End stream;
    const Result<Operation> receiving = loop.submit(RecvStream{pair.socket}, into(stream));
    ASSERT_TRUE(receiving);
    turns(loop, 2);
    EXPECT_EQ(detach(loop, pair.socket).error().value(), EBUSY);
    static_cast<void>(loop.cancel(*receiving));
    run_until(loop, [&] { return stream.finals == 1; });
    const Result<int> fd = detach(loop, pair.socket);
    ASSERT_TRUE(fd);
    EXPECT_EQ(loop.close(pair.socket), Error::stale_handle);
    EXPECT_EQ(loop.statistics().handles, 0u);
    pair.peer.send("mine");
    turns(loop, 3);
    char room[8];
    EXPECT_EQ(os::recv(*fd, room, sizeof room, 0), 4);
    // And back again.
    const Result<Socket> again = adopt_socket(loop, *fd);
    ASSERT_TRUE(again);
    End receive;
    pair.peer.send("again");
    ASSERT_TRUE(loop.submit(Recv{*again, loop.buffer(10)}, into(receive)));
    run_until(loop, [&] { return receive.finals == 1; });
    EXPECT_EQ(receive.text, "again");
    close_and_wait(loop, *again);
    EXPECT_EQ(pair.peer.receive(1), "");
    expect_clean(loop);
}

TEST_P(TcpAdopt, options_are_what_was_set) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    const Socket socket = pair.socket;
    EXPECT_TRUE(get_option<NoDelay>(loop, socket)->on) << "the default";
    EXPECT_FALSE(set_option(loop, socket, NoDelay{false}));
    EXPECT_FALSE(get_option<NoDelay>(loop, socket)->on);
    EXPECT_FALSE(set_option(loop, socket, KeepAlive{true, 45s, 7s, 3}));
    const KeepAlive keepalive = *get_option<KeepAlive>(loop, socket);
    EXPECT_TRUE(keepalive.on);
    EXPECT_EQ(keepalive.idle, 45s);
    EXPECT_EQ(keepalive.interval, 7s);
    EXPECT_EQ(keepalive.probes, 3);
    KeepAlive off;
    off.on = false;
    EXPECT_FALSE(set_option(loop, socket, off));
    EXPECT_FALSE(get_option<KeepAlive>(loop, socket)->on);
    EXPECT_FALSE(set_option(loop, socket, SendBuffer{10'000}));
    EXPECT_EQ(get_option<SendBuffer>(loop, socket)->bytes, 20'000) << "the kernel doubles";
    EXPECT_FALSE(set_option(loop, socket, ReceiveBuffer{10'000}));
    EXPECT_EQ(get_option<ReceiveBuffer>(loop, socket)->bytes, 20'000);
    EXPECT_FALSE(set_option(loop, socket, UserTimeout{1'500ms}));
    EXPECT_EQ(get_option<UserTimeout>(loop, socket)->time, 1'500ms);
    EXPECT_FALSE(set_option(loop, socket, ReuseAddress{true}));
    EXPECT_TRUE(get_option<ReuseAddress>(loop, socket)->on);
    EXPECT_FALSE(set_option(loop, socket, ReusePort{true}));
    EXPECT_TRUE(get_option<ReusePort>(loop, socket)->on);
    EXPECT_EQ(set_option(loop, socket, KeepAlive{true, 0s, 1s, 1}).value(), EINVAL);
    // Linger with zero seconds makes close send a reset.
    EXPECT_FALSE(set_option(loop, socket, Linger{true, 0s}));
    EXPECT_TRUE(get_option<Linger>(loop, socket)->on);
    close_and_wait(loop, socket);
    char room = 0;
    EXPECT_EQ(os::recv(pair.peer.fd(), &room, 1, 0), -1);
    EXPECT_EQ(errno, ECONNRESET);
    expect_clean(loop);
}

TEST_P(TcpAdopt, options_of_listen_and_connect_arrive_at_the_sockets) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    ListenOptions options;
    options.accepted = {false, 20'000, 30'000, 50};
    const Listener listener = listen_here(loop, options);
    const std::uint16_t port = port_of(loop, listener);
    End accepted, connected;
    ASSERT_TRUE(loop.submit(Accept{listener}, into(accepted)));
    ConnectOptions client;
    client.socket = {true, 0, 40'000, 0};
    client.local = Address::ipv4(127, 0, 0, 2, 0);
    ASSERT_TRUE(loop.submit(Connect{Address::loopback_v4(port), client}, into(connected)));
    run_until(loop, [&] { return accepted.finals + connected.finals == 2; });
    ASSERT_FALSE(connected.error) << connected.error.text();
    EXPECT_FALSE(get_option<NoDelay>(loop, accepted.socket)->on);
    EXPECT_EQ(get_option<ReceiveBuffer>(loop, accepted.socket)->bytes, 40'000);
    EXPECT_EQ(get_option<SendBuffer>(loop, accepted.socket)->bytes, 60'000);
    EXPECT_EQ(get_option<KeepAlive>(loop, accepted.socket)->idle, 50s);
    EXPECT_TRUE(get_option<NoDelay>(loop, connected.socket)->on);
    EXPECT_EQ(get_option<SendBuffer>(loop, connected.socket)->bytes, 80'000);
    const Address from = *peer_address(loop, accepted.socket);
    EXPECT_EQ(from, *local_address(loop, connected.socket));
    EXPECT_EQ(from, Address::ipv4(127, 0, 0, 2, from.port()));
    ASSERT_FALSE(loop.close(listener));
    close_all(loop, {accepted.socket, connected.socket});
    expect_clean(loop);
}

// Runs in a child that closes its descriptors 0 to 2 before the backend, the listener or the
// connections are made, which get those numbers. Returns an exit status, 0 when all is well.
int life_without_standard_descriptors(const LoopOptions& options, int stage) {
    const auto close_standard = [stage](int now) {
        for (int fd = 0; fd < 3 && stage == now; ++fd) os::close(fd);
    };
    close_standard(0);
    Result<Loop> made = Loop::create(options);
    if (!made) return 1;
    Loop loop = std::move(*made);
    close_standard(1);
    Result<Listener> listener = listen(loop, Address::loopback_v4(0));
    if (!listener || (stage == 1 && *native_handle(loop, *listener) != 0)) return 2;
    const Address address = *local_address(loop, *listener);
    close_standard(2);
    int echoed = 0;
    for (int round = 0; round < 4; ++round) {
        End accepted, connected, stream, sent, received, answered;
        if (!loop.submit(Accept{*listener}, into(accepted))) return 3;
        if (!loop.submit(Connect{address}, into(connected))) return 4;
        if (loop.run()) return 5;
        const Socket server = accepted.socket, client = connected.socket;
        if (!server || !client) return 6;
        if (stage == 2 && *native_handle(loop, client) != 0) return 7;
        const bool submitted =
            loop.submit(RecvStream{server}, into(stream)) &&
            loop.submit(SendAll{client, filled(10)}, into(sent)) &&
            loop.submit(Recv{client, Buffer::allocate(10), MSG_WAITALL}, into(received)) &&
            loop.submit(SendAll{server, filled(10)}, into(answered));
        if (!submitted) return 8;
        while (received.finals == 0 || stream.text.size() < 10) {
            if (loop.run_once()) return 8;
        }
        if (received.text == pattern(10)) ++echoed;
        if (loop.close(client) || loop.close(server) || loop.run()) return 8;
        if (stream.text != pattern(10)) return 9;
    }
    if (loop.close(*listener) || loop.run()) return 10;
    if (loop.statistics().handles != 0 || loop.statistics().operations != 0) return 11;
    return echoed == 4 ? 0 : 12;
}

// The same for a stream of connections: descriptor 0 is a success with more to come. Who connects has a
// socket from before.
int stream_of_standard_descriptors(const LoopOptions& options, int) {
    Result<Loop> made = Loop::create(options);
    if (!made) return 1;
    Loop loop = std::move(*made);
    Result<Listener> listener = listen(loop, Address::loopback_v4(0));
    if (!listener) return 2;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(local_address(loop, *listener)->port());
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    constexpr std::size_t peers_max = 4;
    std::vector<Peer> peers;
    for (std::size_t count = 0; count < peers_max; ++count) {
        peers.emplace_back(os::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    }
    End end;
    if (!loop.submit(AcceptStream{*listener}, into(end))) return 3;
    for (int turn = 0; turn < 3; ++turn) {
        if (loop.poll()) return 4;
    }
    for (int fd = 0; fd < 3; ++fd) os::close(fd);
    for (std::size_t count = 0; count < peers_max; ++count) {
        const auto* to = reinterpret_cast<const sockaddr*>(&address);
        if (os::connect(peers[count].fd(), to, sizeof address) != 0) return 12;
        while (end.sockets.size() == count && end.finals == 0) {
            if (loop.run_once()) return 5;
        }
    }
    if (end.finals != 0 || end.sockets.size() != peers_max) return 6;
    for (int fd = 0; fd < 3; ++fd) {
        const Socket socket = end.sockets[static_cast<std::size_t>(fd)];
        if (*native_handle(loop, socket) != fd) return 7;
    }
    for (const Socket socket : end.sockets) {
        if (loop.close(socket)) return 8;
    }
    if (loop.close(*listener) || loop.run()) return 9;
    if (loop.statistics().handles != 0 || loop.statistics().operations != 0) return 10;
    if (end.finals != 1 || end.error != Error::cancelled) return 11;
    // Nothing in the kernel holds the listener any more.
    const Peer late(os::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto* to = reinterpret_cast<const sockaddr*>(&address);
    return os::connect(late.fd(), to, sizeof address) < 0 && errno == ECONNREFUSED ? 0 : 13;
}

void expect_in_a_child(int (*run)(const LoopOptions&, int), const LoopOptions& options, int stage) {
    std::fflush(nullptr);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) std::_Exit(run(options, stage));
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
    EXPECT_EQ(WEXITSTATUS(status), 0) << "stage " << stage;
}

TEST_P(TcpAdopt, numbers_zero_to_two_are_descriptors_like_others) {
    WHORL_SKIP_IF_REFUSED();
    for (int stage = 0; stage < 3; ++stage) {
        expect_in_a_child(&life_without_standard_descriptors, options_here(), stage);
    }
}

TEST_P(TcpAdopt, numbers_zero_to_two_come_from_a_stream_of_connections) {
    WHORL_SKIP_IF_REFUSED();
    expect_in_a_child(&stream_of_standard_descriptors, options_here(), 0);
}

}  // namespace
}  // namespace whorl::conformance
