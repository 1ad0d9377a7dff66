// SPDX-License-Identifier: MIT
// Goal: a loop that has nothing to do does nothing: it sleeps in one call of the kernel until something is
// there or due. Method: everything that can wait is waiting; its turns and calls are counted over a
// while in which nothing happens.
#include "conformance/tcp_tools.hpp"

namespace whorl::conformance {
namespace {

class LoopIdle : public TcpTools {};

TEST_P(LoopIdle, waits_once_however_much_is_pending) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Listener listener = listen_here(loop);
    Pair receives = make_pair(loop), streams = make_pair(loop);
    const Result<Remote> remote = loop.remote();
    ASSERT_TRUE(remote);
    End accept, receive, stream;
    ASSERT_TRUE(loop.submit(AcceptStream{listener}, into(accept)));
    ASSERT_TRUE(loop.submit(Recv{receives.socket, Buffer::allocate(8)}, within(1h), into(receive)));
    ASSERT_TRUE(loop.submit(RecvStream{streams.socket}, into(stream)));
    const Result<Timer> timer = loop.after(1h, [](Loop&, Expired) {});
    ASSERT_TRUE(timer);
    turns(loop, 5);
    expect_idle(loop, 30ms, "the loop spins over what is pending");
    EXPECT_EQ(accept.finals + receive.finals + stream.finals, 0);
    EXPECT_TRUE(loop.cancel(*timer));
    EXPECT_FALSE(loop.close(listener));
    close_and_wait(loop, receives.socket);
    close_and_wait(loop, streams.socket);
    turns(loop, 5);
    expect_clean(loop);
}

WHORL_CONFORMANCE(LoopIdle);

}  // namespace
}  // namespace whorl::conformance
