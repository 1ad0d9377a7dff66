// SPDX-License-Identifier: MIT
// Goal: accepting under pressure: no descriptors, no slots, bursts, connections that are gone before
// they are accepted. The listener lives, the handler is told once, others are served, no core is burnt.
// Method: the limit of open files is lowered to what is open; peers connect, reset and go away.
#include "conformance/tcp_tools.hpp"

#include <sys/resource.h>

namespace whorl::conformance {
namespace {

// Lowers the limit of open files so that only a few more can be opened, and opens those. The kernel
// reads the limit when an accept is submitted, so that it must be low before.
class FewFiles {
  public:
    FewFiles() {
        os::getrlimit(RLIMIT_NOFILE, &before_);
        rlimit low = before_;
        low.rlim_cur = static_cast<rlim_t>(*os::open_descriptors().rbegin()) + 20;
        EXPECT_EQ(os::setrlimit(RLIMIT_NOFILE, &low), 0);
    }
    FewFiles(const FewFiles&) = delete;
    FewFiles& operator=(const FewFiles&) = delete;
    ~FewFiles() {
        empty();
        os::setrlimit(RLIMIT_NOFILE, &before_);
    }
    void fill() {
        for (;;) {
            const int fd = os::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
            if (fd < 0) return;
            fds_.push_back(fd);
        }
    }
    void empty() {
        for (int fd : fds_) os::close(fd);
        fds_.clear();
    }

  private:
    rlimit before_{};
    std::vector<int> fds_;
};

class TcpAccept : public TcpTools {
  protected:
    static Peer unconnected() { return Peer(os::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)); }
    static void connect(const Peer& peer, std::uint16_t port) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        EXPECT_EQ(os::connect(peer.fd(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    }
    // What was accepted before the listener had let go is delivered, too.
    static void close_stream(Loop& loop, Listener listener, End& end) {
        ASSERT_FALSE(loop.close(listener));
        run_until(loop, [&] { return end.finals == 1; });
        close_all(loop, end.sockets);
    }
    // Sends and receives over an existing connection.
    static void expect_served(Loop& loop, Pair& pair) {
        End receive, send;
        pair.peer.send("ping");
        ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(10)}, into(receive)));
        ASSERT_TRUE(loop.submit(SendAll{pair.socket, filled(4)}, into(send)));
        run_until(loop, [&] { return receive.finals == 1 && send.finals == 1; });
        EXPECT_EQ(receive.text, "ping");
        EXPECT_EQ(pair.peer.receive(4).size(), 4u);
    }
};
WHORL_CONFORMANCE(TcpAccept);

TEST_P(TcpAccept, stream_without_descriptors_pauses_tells_once_and_recovers) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    const Listener listener = listen_here(loop);
    const std::uint16_t port = port_of(loop, listener);
    std::vector<Peer> peers;
    for (int count = 0; count < 5; ++count) peers.push_back(unconnected());
    Peer late = unconnected();
    FewFiles files;
    End end;
    ASSERT_TRUE(loop.submit(AcceptStream{listener}, into(end)));
    turns(loop, 2);
    files.fill();
    for (const Peer& peer : peers) connect(peer, port);
    run_until(loop, [&] { return !end.part_errors.empty(); });
    EXPECT_EQ(end.part_errors[0].value(), EMFILE);
    expect_served(loop, pair);
    const std::uint64_t paused = loop.statistics().accept_paused;
    const std::uint64_t turns_before = loop.statistics().turns;
    EXPECT_FALSE(loop.run_for(200ms));
    // 10, 20, 40 ... 500 ms: five attempts in the first 310 ms, then two a second.
    EXPECT_LE(loop.statistics().accept_paused - paused, 10u);
    EXPECT_LE(loop.statistics().turns - turns_before, 30u) << "no core is burnt";
    EXPECT_EQ(end.part_errors.size(), 1u) << "told once";
    EXPECT_EQ(end.finals, 0);
    expect_served(loop, pair);
    files.empty();
    const Instant lifted = os::now();
    run_until(loop, [&] { return end.sockets.size() == peers.size(); });
    EXPECT_LT((os::now() - lifted).count(), patience(1s).count());
    // A second time is a new episode.
    files.fill();
    connect(late, port);
    run_until(loop, [&] { return end.part_errors.size() == 2; });
    files.empty();
    run_until(loop, [&] { return end.sockets.size() == peers.size() + 1; });
    ASSERT_FALSE(loop.close(pair.socket));
    close_stream(loop, listener, end);
    expect_clean(loop);
}

TEST_P(TcpAccept, pausing_stream_ends_at_once_when_asked) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (int way = 0; way < 3; ++way) {
        const Listener listener = listen_here(loop);
        const std::uint16_t port = port_of(loop, listener);
        Peer peer = unconnected();
        End end;
        FewFiles files;
        // The deadline is long enough to pass in the pause.
        const SubmitOptions options = way == 2 ? within(25ms) : SubmitOptions();
        const Result<Operation> made = loop.submit(AcceptStream{listener}, options, into(end));
        ASSERT_TRUE(made);
        turns(loop, 2);
        files.fill();
        connect(peer, port);
        run_until(loop, [&] { return !end.part_errors.empty() || end.finals != 0; });
        const Instant start = os::now();
        if (way == 0) {
            EXPECT_EQ(loop.cancel(*made), Cancelled::cancelling);
        } else if (way == 1) {
            EXPECT_FALSE(loop.close(listener));
        }
        run_until(loop, [&] { return end.finals == 1; });
        EXPECT_EQ(end.error, way == 2 ? Error::timed_out : Error::cancelled);
        EXPECT_LT((os::now() - start).count(), patience(1s).count());
        files.empty();
        static_cast<void>(loop.close(listener));
        run_until(loop, [&] { return loop.statistics().handles == 0; });
    }
    expect_clean(loop);
}

TEST_P(TcpAccept, single_accept_without_descriptors_gets_the_error_and_loses_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Listener listener = listen_here(loop);
    Peer peer = unconnected();
    const std::uint16_t port = port_of(loop, listener);
    End end;
    {
        FewFiles files;
        ASSERT_TRUE(loop.submit(Accept{listener}, into(end)));
        turns(loop, 2);
        files.fill();
        connect(peer, port);
        run_until(loop, [&] { return end.finals == 1; });
        EXPECT_EQ(end.error.value(), EMFILE);
        EXPECT_FALSE(end.socket);
        End connecting;
        ASSERT_TRUE(loop.submit(Connect{Address::loopback_v4(port)}, into(connecting)));
        run_until(loop, [&] { return connecting.finals == 1; });
        EXPECT_EQ(connecting.error.value(), EMFILE);
        EXPECT_FALSE(connecting.socket);
        EXPECT_EQ(listen(loop, Address::loopback_v4(0)).error().value(), EMFILE);
    }
    End next;
    ASSERT_TRUE(loop.submit(Accept{listener}, into(next)));
    run_until(loop, [&] { return next.finals == 1; });
    EXPECT_FALSE(next.error) << "the connection had stayed in the backlog";
    ASSERT_FALSE(loop.close(listener));
    close_all(loop, {next.socket});
    expect_clean(loop);
}

TEST_P(TcpAccept, without_slots_is_told_once_an_episode_and_recovers) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.handles_max = 4; });
    const Listener listener = listen_here(loop);
    const std::uint16_t port = port_of(loop, listener);
    End end;
    ASSERT_TRUE(loop.submit(AcceptStream{listener}, into(end)));
    std::vector<Peer> peers;
    for (int count = 0; count < 3; ++count) peers.push_back(Peer::connect_to(port));
    run_until(loop, [&] { return end.sockets.size() == 3; });
    for (int count = 0; count < 5; ++count) {
        peers.push_back(Peer::connect_to(port));
        turns(loop, 4);
    }
    run_until(loop, [&] { return !end.part_errors.empty(); });
    turns(loop, 5);
    EXPECT_EQ(end.part_errors.size(), 1u) << "told once";
    EXPECT_EQ(end.part_errors[0], Error::slots_exhausted);
    EXPECT_EQ(end.finals, 0);
    EXPECT_EQ(loop.statistics().handles, 4u);
    // Everything else that needs a slot is refused; nothing is lost.
    End refused;
    EXPECT_EQ(listen(loop, Address::loopback_v4(0)).error(), Error::slots_exhausted);
    Result<Operation> connecting = loop.submit(Connect{Address::loopback_v4(port)}, into(refused));
    EXPECT_EQ(connecting.error(), Error::slots_exhausted);
    // A slot comes back.
    bool closed = false;
    ASSERT_FALSE(loop.close(end.sockets[0], [&](Loop&) { closed = true; }));
    run_until(loop, [&] { return closed; });
    const std::size_t before = end.sockets.size();
    if (loop.statistics().handles < 4) peers.push_back(Peer::connect_to(port));
    run_until(loop, [&] { return end.sockets.size() == before + 1; });
    close_stream(loop, listener, end);
    expect_clean(loop);
}

TEST_P(TcpAccept, single_accept_and_connect_without_slots) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.handles_max = 1; });
    const Listener listener = listen_here(loop);
    const std::uint16_t port = port_of(loop, listener);
    Peer peer = Peer::connect_to(port);
    End end;
    ASSERT_TRUE(loop.submit(Accept{listener}, into(end)));
    run_until(loop, [&] { return end.finals == 1; });
    EXPECT_EQ(end.error, Error::slots_exhausted);
    EXPECT_FALSE(end.socket);
    EXPECT_EQ(peer.receive(1), "") << "the connection is closed";
    EXPECT_EQ(loop.statistics().operations, 0u);
    ASSERT_FALSE(loop.close(listener));
    expect_clean(loop);
}

TEST_P(TcpAccept, burst_of_three_hundred) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    constexpr std::size_t count = 300;
    for (bool early : {true, false}) {
        const Listener listener = listen_here(loop);
        const std::uint16_t port = port_of(loop, listener);
        End end;
        if (early) {
            ASSERT_TRUE(loop.submit(AcceptStream{listener}, into(end)));
            turns(loop, 2);
        }
        std::vector<Peer> peers;
        for (std::size_t index = 0; index < count; ++index) {
            peers.push_back(Peer::connect_to(port));
            peers.back().send("hello");
        }
        if (!early) {
            ASSERT_TRUE(loop.submit(AcceptStream{listener}, into(end)));
        }
        run_until(loop, [&] { return end.sockets.size() == count; });
        turns(loop, 5);
        EXPECT_EQ(end.sockets.size(), count);
        EXPECT_TRUE(end.part_errors.empty());
        const std::set<std::uint64_t> distinct = [&] {
            std::set<std::uint64_t> values;
            for (Socket socket : end.sockets) values.insert(socket.value());
            return values;
        }();
        EXPECT_EQ(distinct.size(), count);
        close_stream(loop, listener, end);
    }
    expect_clean(loop);
}

TEST_P(TcpAccept, many_single_accepts_take_one_connection_each) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Listener listener = listen_here(loop);
    const std::uint16_t port = port_of(loop, listener);
    std::vector<End> ends(10);
    for (End& end : ends) ASSERT_TRUE(loop.submit(Accept{listener}, into(end)));
    turns(loop, 2);
    std::vector<Peer> peers;
    for (int index = 0; index < 7; ++index) peers.push_back(Peer::connect_to(port));
    run_until(loop, [&] { return ends[6].finals == 1; });
    turns(loop, 5);
    EXPECT_EQ(ends[7].finals, 0);
    std::vector<Socket> sockets;
    for (std::size_t index = 0; index < 7; ++index) sockets.push_back(ends[index].socket);
    ASSERT_FALSE(loop.close(listener));
    close_all(loop, sockets);
    for (std::size_t index = 7; index < 10; ++index) {
        EXPECT_EQ(ends[index].error, Error::cancelled);
    }
    expect_clean(loop);
}

// A connection that is reset before it is accepted is a valid one that then says ECONNRESET.
TEST_P(TcpAccept, connections_reset_before_they_are_accepted) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (bool early : {true, false}) {
        const Listener listener = listen_here(loop);
        const std::uint16_t port = port_of(loop, listener);
        End end;
        if (early) {
            ASSERT_TRUE(loop.submit(AcceptStream{listener}, into(end)));
            turns(loop, 2);
        }
        for (int index = 0; index < 20; ++index) {
            Peer peer = Peer::connect_to(port);
            peer.reset();
        }
        if (!early) {
            ASSERT_TRUE(loop.submit(AcceptStream{listener}, into(end)));
        }
        Peer good = Peer::connect_to(port);
        good.send("good");
        // A reset that overtakes the end of its handshake, on another processor, leaves nothing to
        // accept, so it need not be all twenty; the good one always comes.
        int resets = 0, goods = 0;
        for (std::size_t index = 0; goods == 0 || index < end.sockets.size(); ++index) {
            run_until(loop, [&] { return end.sockets.size() > index; });
            ASSERT_GT(end.sockets.size(), index);
            End receive;
            ASSERT_TRUE(loop.submit(Recv{end.sockets[index], loop.buffer(10)}, into(receive)));
            run_until(loop, [&] { return receive.finals == 1; });
            if (receive.error.value() == ECONNRESET) ++resets;
            if (receive.text == "good") ++goods;
        }
        EXPECT_EQ(goods, 1);
        EXPECT_EQ(resets, static_cast<int>(end.sockets.size()) - 1);
        EXPECT_LE(resets, 20);
        if (resets < 20) std::printf("said: %d of 20 arrived, %s\n", resets, GetParam().name);
        EXPECT_EQ(end.finals, 0);
        EXPECT_TRUE(end.part_errors.empty());
        close_stream(loop, listener, end);
    }
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
