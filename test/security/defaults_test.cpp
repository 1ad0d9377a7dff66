// SPDX-License-Identifier: MIT
// Goal: the defaults that docs/SECURITY.md promises: no descriptor survives exec, signals are left
// alone, every table and pool has a bound. Method: a loop with everything open, looked at from outside.
// (That no SIGPIPE is raised: TcpShutdown; that a full table is an error and not more memory: Limits.)
#include "conformance/support.hpp"
#include "conformance/tcp_tools.hpp"

#include <csignal>

namespace whorl::conformance {
namespace {

class SecurityDefaults : public TcpTools {
  protected:
    // What the process does with each signal, and which it blocks.
    static std::string signals() {
        std::string text;
        for (int number = 1; number < NSIG; ++number) {
            struct sigaction action {};
            if (sigaction(number, nullptr, &action) != 0) continue;
            text += std::to_string(reinterpret_cast<std::uintptr_t>(action.sa_handler)) + ' ';
        }
        sigset_t blocked;
        pthread_sigmask(SIG_BLOCK, nullptr, &blocked);
        for (int number = 1; number < NSIG; ++number) {
            text += sigismember(&blocked, number) == 1 ? '1' : '0';
        }
        return text;
    }
};
WHORL_CONFORMANCE_REAL(SecurityDefaults);

TEST_P(SecurityDefaults, every_descriptor_is_closed_on_exec_and_signals_stay_as_they_are) {
    WHORL_SKIP_IF_REFUSED();
    const std::set<int> before = os::open_descriptors();
    const std::string signals_before = signals();
    Loop loop = make_loop();
    ASSERT_TRUE(loop.notify_fd());
    const Result<Remote> remote = loop.remote();
    ASSERT_TRUE(remote);
    Pair pair = make_pair(loop);
    const Listener listener = listen_here(loop);
    End connected;
    End streamed;
    const auto accept = [](Loop&, AcceptStream::Done) {};
    ASSERT_TRUE(loop.submit(AcceptStream{listener}, accept));
    ASSERT_TRUE(
        loop.submit(Connect{Address::loopback_v4(port_of(loop, listener))}, into(connected)));
    ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, into(streamed)));
    const Ends ends = Ends::sockets();
    const auto watched = [](Loop&, Watched) {};
    ASSERT_TRUE(loop.watch(ends.in.get(), Interest::readable | Interest::priority, watched));
    ASSERT_TRUE(loop.after(1h, [](Loop&, Expired) {}));
    run_until(loop, [&] { return connected.finals == 1; });

    int opened = 0;
    for (int number : os::open_descriptors()) {
        if (before.count(number) != 0) continue;
        ++opened;
        EXPECT_NE(fcntl(number, F_GETFD) & FD_CLOEXEC, 0) << "descriptor " << number;
    }
    EXPECT_GE(opened, 6);
    EXPECT_EQ(signals(), signals_before);
    ASSERT_FALSE(loop.drain(5s));
    EXPECT_EQ(signals(), signals_before);
}

TEST(SecurityLimits, every_default_is_a_bound) {
    const LoopOptions options;
    EXPECT_LE(options.ops_max, 1u << 20);
    EXPECT_LE(options.handles_max, 1u << 20);
    EXPECT_LE(options.posts_max, 1u << 20);
    EXPECT_LE(options.buffer_bytes_max, std::size_t{64} << 20);
    EXPECT_LE(options.recv_buffers_per_stream * std::uint64_t{options.recv_buffer_size}, 1u << 20);
    EXPECT_LE(options.shutdown_bound, Nanoseconds(5s));
}

}  // namespace
}  // namespace whorl::conformance
