// SPDX-License-Identifier: MIT
// Goal: watches are level-triggered, tell every direction and every trouble, and follow their
// interest. Method: pipes, eventfds and socket pairs of the test on one side, watches on the other.
#include "conformance/support.hpp"
#include "conformance/tcp_pair.hpp"

#include <sys/mman.h>

namespace whorl::conformance {
namespace {

class WatchBasic : public TcpTest {
  protected:
    static void settle(Loop& loop, int turns = 20) {
        for (int turn = 0; turn < turns; ++turn) ASSERT_FALSE(loop.poll());
    }
};
WHORL_CONFORMANCE(WatchBasic);

TEST_P(WatchBasic, fires_again_while_data_remains) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Ends ends = Ends::pipe();
    std::string got;
    int calls = 0;
    Result<Watch> watch = loop.watch(ends.in.get(), Interest::readable, [&](Loop&, Watched event) {
        ++calls;
        EXPECT_TRUE(event.readable);
        EXPECT_FALSE(event.writable || event.priority || event.failed || event.hung_up);
        EXPECT_FALSE(event.error);
        got += ends.in.read(1);  // a partial read
    });
    ASSERT_TRUE(watch);
    settle(loop);
    EXPECT_EQ(calls, 0);
    ends.out.write("level");
    run_until(loop, [&] { return got.size() == 5; });
    EXPECT_EQ(calls, 5);
    settle(loop);
    EXPECT_EQ(calls, 5) << "fired without data";
    ends.out.write("again");
    run_until(loop, [&] { return got.size() == 10; });
    EXPECT_EQ(got, "levelagain");
    EXPECT_TRUE(loop.cancel(*watch));
    EXPECT_FALSE(loop.run());
    expect_clean(loop);
}

TEST_P(WatchBasic, keeps_run_going_until_it_is_cancelled) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Fd event(os::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    int calls = 0;
    ASSERT_TRUE(loop.watch(event.get(), Interest::readable, [&](Loop& inner, Watched watched) {
        ++calls;
        EXPECT_TRUE(inner.cancel(watched.watch));
    }));
    os::Thread writer([&] {
        const std::uint64_t one = 1;
        EXPECT_EQ(os::write(event.get(), &one, sizeof one), 8);
    });
    EXPECT_FALSE(loop.run());
    writer.join();
    EXPECT_EQ(calls, 1);
    expect_clean(loop);
}

TEST_P(WatchBasic, writable_fires_until_full_and_again_when_drained) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Ends ends = Ends::pipe();
    const std::string block(4096, 'b');
    std::size_t written = 0;
    int calls = 0;
    Result<Watch> watch = loop.watch(ends.out.get(), Interest::writable, [&](Loop&, Watched event) {
        ++calls;
        EXPECT_TRUE(event.writable);
        EXPECT_FALSE(event.readable);
        const ssize_t done = os::write(ends.out.get(), block.data(), block.size());
        EXPECT_GT(done, 0) << "told writable and is not";
        if (done > 0) written += static_cast<std::size_t>(done);
    });
    ASSERT_TRUE(watch);
    run_until(loop, [&] {
        pollfd room{ends.out.get(), POLLOUT, 0};
        return os::poll(&room, 1, 0) == 0;
    });
    const int full = calls;
    settle(loop);
    EXPECT_EQ(calls, full) << "fired although the pipe is full";
    while (written > 0) {
        const std::string got = ends.in.read(65536);
        ASSERT_FALSE(got.empty());
        written -= got.size();
    }
    run_until(loop, [&] { return calls > full; });
    EXPECT_TRUE(loop.cancel(*watch));
    expect_clean(loop);
}

TEST_P(WatchBasic, priority_tells_of_urgent_data) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    // A plain TCP pair of the test's own: urgent data needs one.
    Fd server(os::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    ASSERT_EQ(os::bind(server.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    ASSERT_EQ(os::listen(server.get(), 1), 0);
    ASSERT_EQ(os::getsockname(server.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    Peer peer = Peer::connect_to(ntohs(address.sin_port));
    Fd accepted(os::accept4(server.get(), nullptr, nullptr, SOCK_CLOEXEC));
    int urgent = 0, readable = 0;
    Result<Watch> watch =
        loop.watch(accepted.get(), Interest::priority, [&](Loop& inner, Watched event) {
            if (event.priority) ++urgent;
            if (event.readable) ++readable;
            EXPECT_TRUE(inner.cancel(event.watch));
        });
    ASSERT_TRUE(watch);
    peer.send("plain data is not urgent");
    settle(loop);
    EXPECT_EQ(urgent + readable, 0);
    ASSERT_EQ(os::send(peer.fd(), "!", 1, MSG_OOB), 1);
    run_until(loop, [&] { return urgent == 1; });
    EXPECT_EQ(readable, 0);
    EXPECT_FALSE(loop.run());
    expect_clean(loop);
}

// What the kernel says of a wake-up is wider than what has happened: it must not be passed on.
TEST_P(WatchBasic, plain_data_is_not_told_as_urgent) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Listener listener = listen_here(loop);
    Peer peer = Peer::connect_to(port_of(loop, listener));
    Fd accepted(os::accept4(*native_handle(loop, listener), nullptr, nullptr, SOCK_CLOEXEC));
    ASSERT_GE(accepted.get(), 0);
    std::string got;
    Result<Watch> watch = loop.watch(accepted.get(), Interest::readable | Interest::priority,
                                     [&](Loop&, Watched event) {
                                         EXPECT_TRUE(event.readable);
                                         EXPECT_FALSE(event.priority);
                                         got += accepted.read(1);
                                     });
    ASSERT_TRUE(watch);
    settle(loop);
    peer.send("plain");
    run_until(loop, [&] { return got.size() == 5; });
    EXPECT_TRUE(loop.cancel(*watch));
    EXPECT_FALSE(loop.close(listener));
    expect_clean(loop);
}

TEST_P(WatchBasic, two_on_one_descriptor_each_hear_their_direction) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Ends ends = Ends::sockets();
    int reads = 0, writes = 0, both = 0;
    Result<Watch> reader = loop.watch(ends.in.get(), Interest::readable, [&](Loop&, Watched event) {
        EXPECT_TRUE(event.readable);
        EXPECT_FALSE(event.writable);
        ++reads;
    });
    Result<Watch> writer = loop.watch(ends.in.get(), Interest::writable, [&](Loop&, Watched event) {
        EXPECT_TRUE(event.writable);
        EXPECT_FALSE(event.readable);
        ++writes;
    });
    Result<Watch> third = loop.watch(ends.in.get(), Interest::readable | Interest::writable,
                                     [&](Loop&, Watched event) {
                                         EXPECT_TRUE(event.writable);
                                         if (event.readable) ++both;
                                     });
    ASSERT_TRUE(reader && writer && third);
    run_until(loop, [&] { return writes >= 3; });
    EXPECT_EQ(reads + both, 0);
    ends.out.write("x");
    run_until(loop, [&] { return reads >= 3 && both >= 3; });
    EXPECT_TRUE(loop.cancel(*writer));
    EXPECT_TRUE(loop.cancel(*third));
    const int writes_then = writes, both_then = both, reads_then = reads;
    run_until(loop,
              [&] { return reads >= reads_then + 3; });  // the one that stays is not disturbed
    EXPECT_EQ(writes, writes_then);
    EXPECT_EQ(both, both_then);
    EXPECT_TRUE(loop.cancel(*reader));
    EXPECT_FALSE(loop.run());
    expect_clean(loop);
}

TEST_P(WatchBasic, interest_is_paused_and_changed_from_outside_and_inside) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Ends ends = Ends::sockets();
    ends.out.write("always readable");
    std::string log;
    Result<Watch> watch =
        loop.watch(ends.in.get(), Interest::none, [&](Loop& inner, Watched event) {
            log += event.readable ? 'r' : '-';
            log += event.writable ? 'w' : '-';
            if (log.size() == 4) {
                EXPECT_FALSE(inner.modify(event.watch, Interest::writable));
            }
            if (log.size() == 8) {
                EXPECT_FALSE(inner.modify(event.watch, Interest::none));
            }
        });
    ASSERT_TRUE(watch);
    settle(loop);
    EXPECT_EQ(log, "") << "fired without interest";
    ASSERT_FALSE(loop.modify(*watch, Interest::readable));
    run_until(loop, [&] { return log.size() >= 8; });
    settle(loop);
    EXPECT_EQ(log, "r-r--w-w");
    // From another handler, and there and back within one turn.
    ASSERT_FALSE(loop.post([&](Loop& inner) {
        EXPECT_FALSE(inner.modify(*watch, Interest::readable | Interest::writable));
        EXPECT_FALSE(inner.modify(*watch, Interest::none));
        EXPECT_FALSE(inner.modify(*watch, Interest::readable));
        log.clear();
    }));
    run_until(loop, [&] { return log.size() >= 4; });
    EXPECT_EQ(log.substr(0, 4), "r-r-");
    EXPECT_TRUE(loop.cancel(*watch));
    EXPECT_EQ(loop.modify(*watch, Interest::readable), Error::stale_handle);
    expect_clean(loop);
}

TEST_P(WatchBasic, a_change_while_the_kernel_waits_takes_effect_at_once) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Ends ends = Ends::sockets();
    int writes = 0, reads = 0;
    Result<Watch> watch = loop.watch(ends.in.get(), Interest::readable, [&](Loop&, Watched event) {
        if (event.writable) ++writes;
        if (event.readable) ++reads;
    });
    ASSERT_TRUE(watch);
    settle(loop);
    ASSERT_FALSE(loop.modify(*watch, Interest::writable));
    run_until(loop, [&] { return writes >= 2; });
    ends.out.write("x");
    settle(loop);
    EXPECT_EQ(reads, 0);
    ASSERT_FALSE(loop.modify(*watch, Interest::readable));
    run_until(loop, [&] { return reads >= 2; });
    ASSERT_FALSE(loop.modify(*watch, Interest::none));
    reads = writes = 0;
    settle(loop);
    EXPECT_EQ(reads + writes, 0) << "paused, and still heard";
    for (int round = 0; round < 50; ++round) {  // back and forth, across turns or within one
        ASSERT_FALSE(loop.modify(*watch, round % 2 == 0 ? Interest::readable : Interest::none));
        if (round % 3 == 0) {
            ASSERT_FALSE(loop.poll());
        }
    }
    ASSERT_FALSE(loop.modify(*watch, Interest::readable));
    reads = 0;
    run_until(loop, [&] { return reads >= 2; });
    EXPECT_TRUE(loop.cancel(*watch));
    settle(loop);
    expect_clean(loop);
}

TEST_P(WatchBasic, a_hang_up_is_told_to_every_direction_asked_for) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (const Interest interest :
         {Interest::readable, Interest::writable, Interest::readable | Interest::writable}) {
        Ends ends = Ends::sockets();
        int calls = 0;
        Result<Watch> watch = loop.watch(ends.in.get(), interest, [&](Loop& inner, Watched event) {
            if (!event.hung_up) return;  // writable all the time
            ++calls;
            EXPECT_EQ(event.readable, has(interest, Interest::readable));
            EXPECT_EQ(event.writable, has(interest, Interest::writable));
            EXPECT_TRUE(inner.cancel(event.watch));
        });
        ASSERT_TRUE(watch);
        settle(loop);
        ends.out.close();
        run_until(loop, [&] { return calls == 1; });
    }
    expect_clean(loop);
}

TEST_P(WatchBasic, an_error_is_told_to_every_direction_asked_for) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (const Interest interest : {Interest::writable, Interest::readable | Interest::writable}) {
        Ends ends = Ends::pipe();
        const std::string block(4096, 'b');
        while (os::write(ends.out.get(), block.data(), block.size()) > 0) {
        }
        int calls = 0;
        Result<Watch> watch = loop.watch(ends.out.get(), interest, [&](Loop& inner, Watched event) {
            ++calls;
            EXPECT_TRUE(event.failed);
            EXPECT_TRUE(event.writable);
            EXPECT_EQ(event.readable, has(interest, Interest::readable));
            EXPECT_TRUE(inner.cancel(event.watch));
        });
        ASSERT_TRUE(watch);
        settle(loop);
        EXPECT_EQ(calls, 0);
        ends.in.close();  // the pipe has no reader any more: POLLERR
        run_until(loop, [&] { return calls == 1; });
    }
    expect_clean(loop);
}

TEST_P(WatchBasic, trouble_does_not_spin_once_interest_is_gone) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Ends ends = Ends::sockets();
    ends.out.write("data and a hang-up");
    ends.out.close();
    int calls = 0;
    Result<Watch> watch = loop.watch(ends.in.get(), Interest::readable | Interest::writable,
                                     [&](Loop& inner, Watched event) {
                                         ++calls;
                                         EXPECT_TRUE(event.hung_up);
                                         EXPECT_FALSE(inner.modify(event.watch, Interest::none));
                                     });
    ASSERT_TRUE(watch);
    run_until(loop, [&] { return calls == 1; });
    expect_idle(loop, 50ms, "the loop spins on a hang-up");
    EXPECT_EQ(calls, 1);
    EXPECT_TRUE(loop.cancel(*watch));
    expect_clean(loop);
}

TEST_P(WatchBasic, a_descriptor_that_is_none_ends_the_watch_with_its_error) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    EXPECT_EQ(loop.watch(-1, Interest::readable, [](Loop&, Watched) { FAIL(); }).error(),
              Error::invalid_argument);
    Witness witness;
    int number = 0;
    {
        Ends ends = Ends::pipe();
        number = ends.in.get();
    }
    int calls = 0;
    Result<Watch> watch =
        loop.watch(number, Interest::readable, [&, t = witness.copy()](Loop& inner, Watched event) {
            ++calls;
            EXPECT_EQ(event.error.value(), EBADF);
            EXPECT_FALSE(inner.cancel(event.watch));
        });
    ASSERT_TRUE(watch);
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 1);
    EXPECT_TRUE(witness.alone());
    EXPECT_FALSE(loop.cancel(*watch));
    expect_clean(loop);
}

TEST_P(WatchBasic, a_regular_file_is_always_ready) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Fd file(os::regular_file());
    ASSERT_GE(file.get(), 0);
    int reads = 0, writes = 0;
    Result<Watch> watch =
        loop.watch(file.get(), Interest::readable | Interest::writable, [&](Loop&, Watched event) {
            EXPECT_FALSE(event.error) << event.error.name();
            if (event.readable) ++reads;
            if (event.writable) ++writes;
        });
    ASSERT_TRUE(watch);
    run_until(loop, [&] { return reads >= 3 && writes >= 3; });
    EXPECT_TRUE(loop.cancel(*watch));
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
