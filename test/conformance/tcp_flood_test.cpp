// SPDX-License-Identifier: MIT
// Goal: who accepts without end does not starve those who are there: a message waits for no more accepts
// than there can be connections before it, however long the flood lasts.
// Method: as soon as one is accepted, another one asks, so that there are always some; meanwhile a
// connection plays ping-pong, and accepts are counted between its rounds. Nothing depends on time.
#include "conformance/tcp_tools.hpp"

#include <deque>

namespace whorl::conformance {
namespace {

class TcpFlood : public TcpTools {
  protected:
    static constexpr std::size_t waiting = 32;  // connections that ask at any time
    static constexpr int rounds_wanted = 40;

    // Accepts by `stream` or one by one, and keeps `waiting` connections asking.
    class Flood {
      public:
        Flood(Loop& loop, Listener listener, std::uint16_t port, bool stream)
            : loop_(loop), listener_(listener), port_(port), stream_(stream) {
            while (asking_.size() < waiting) asking_.push_back(Peer::connect_to(port_));
            begin();
        }
        void end() { ending_ = true; }
        int accepted = 0;
        std::function<void()> after_accept;

      private:
        void begin() {
            if (stream_) {
                ASSERT_TRUE(
                    loop_.submit(AcceptStream{listener_}, [this](Loop&, AcceptStream::Done done) {
                        if (done.socket) took(done.socket);
                    }));
                return;
            }
            ASSERT_TRUE(loop_.submit(Accept{listener_}, [this](Loop&, Accept::Done done) {
                if (done.error) return;
                took(done.socket);
                if (!ending_) begin();
            }));
        }
        void took(Socket socket) {
            ++accepted;
            EXPECT_FALSE(loop_.close(socket));
            if (ending_) return;
            asking_.front()
                .reset();  // an orderly end would keep its port for a minute, thousands of times
            asking_.pop_front();
            asking_.push_back(Peer::connect_to(port_));
            after_accept();
        }

        Loop& loop_;
        Listener listener_;
        std::uint16_t port_;
        bool stream_;
        bool ending_ = false;
        std::deque<Peer> asking_;
    };
};

TEST_P(TcpFlood, accepting_delays_a_message_by_no_more_than_who_was_there_before) {
    WHORL_SKIP_IF_REFUSED();
    for (const bool stream : {true, false}) {
        Loop loop = make_loop();
        Pair pair = make_pair(loop);
        const Listener listener = listen_here(loop);
        Flood flood(loop, listener, port_of(loop, listener), stream);
        int rounds = 0, since = 0, longest = 0;
        bool answered = true;
        std::function<void()> receive = [&] {
            ASSERT_TRUE(
                loop.submit(Recv{pair.socket, Buffer::allocate(1)}, [&](Loop&, Recv::Done done) {
                    if (done.error) return;
                    ++rounds;
                    longest = std::max(longest, since);
                    answered = true;
                    if (rounds < rounds_wanted) receive();
                    else flood.end();
                }));
        };
        flood.after_accept = [&] {
            ++since;
            if (!answered) return;
            answered = false;
            since = 0;
            pair.peer.send("x");
        };
        receive();
        run_until(loop, [&] { return rounds == rounds_wanted || since > 50 * int{waiting}; });
        EXPECT_EQ(rounds, rounds_wanted);
        // Those that had been accepted and not delivered, those that asked, and a turn of slack.
        EXPECT_LE(longest, 3 * int{waiting}) << (stream ? "AcceptStream" : "Accept");
        flood.end();
        EXPECT_FALSE(loop.close(listener));
        close_and_wait(loop, pair.socket);
        turns(loop, 5);
        expect_clean(loop);
    }
}

WHORL_CONFORMANCE(TcpFlood);

}  // namespace
}  // namespace whorl::conformance
