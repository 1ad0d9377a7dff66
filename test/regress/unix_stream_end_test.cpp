// SPDX-License-Identifier: MIT
// Goal: a received stream of a Unix socket ends when its peer sends and shuts down in one go. Kernels
// that merge the two wake-ups of a multishot receive deliver the data and never the end
// (liburing issue 1549).
// Method: both happen while the loop is not running, so that they are one wake-up to it.
#include "conformance/support.hpp"
#include "conformance/tcp_tools.hpp"

namespace whorl::conformance {
namespace {

class UnixStream : public LoopTest {
  protected:
    // The stream is with the kernel when `peer` acts.
    template <class Peer>
    void expect_end(std::string_view text, Peer peer) {
        WHORL_SKIP_IF_REFUSED();
        Loop loop = make_loop();
        Ends ends = Ends::sockets();
        Result<Socket> socket = adopt_socket(loop, ends.in.release());
        ASSERT_TRUE(socket);
        End stream;
        ASSERT_TRUE(loop.submit(RecvStream{*socket}, Into(stream)));
        ASSERT_FALSE(loop.poll());
        peer(ends.out);
        run_until(
            loop, [&] { return stream.finals == 1; }, 5s);
        EXPECT_EQ(stream.finals, 1) << "the end was lost";
        EXPECT_EQ(stream.text, text);
        EXPECT_FALSE(stream.error);
        ASSERT_FALSE(loop.close(*socket));
        ASSERT_FALSE(loop.drain(5s));
        expect_clean(loop);
    }
};

TEST_P(UnixStream, ends_when_its_peer_sends_and_shuts_down_at_once) {
    expect_end("last words", [](Fd& peer) {
        peer.write("last words");
        ASSERT_EQ(os::shutdown(peer.get(), SHUT_WR), 0);
    });
}
TEST_P(UnixStream, ends_when_its_peer_sends_and_closes_at_once) {
    expect_end("last words", [](Fd& peer) {
        peer.write("last words");
        peer.close();
    });
}
TEST_P(UnixStream, ends_when_its_peer_sends_much_and_shuts_down_at_once) {
    const std::string text(40000, 'x');
    expect_end(text, [&](Fd& peer) {
        peer.write(text);
        ASSERT_EQ(os::shutdown(peer.get(), SHUT_WR), 0);
    });
}

WHORL_CONFORMANCE(UnixStream);

}  // namespace
}  // namespace whorl::conformance
