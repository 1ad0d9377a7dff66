// SPDX-License-Identifier: MIT
// Goal: a relay passes everything on, both ways, with backpressure, the end of each direction, and
// resets. Method: two peers of the test around it; sizes beyond all buffers.
#include "conformance/stream_tools.hpp"

#include <whorl/relay.hpp>

namespace whorl::conformance {
namespace {

class Relaying : public StreamTools {
  protected:
    struct Line {
        Peer left, right;
        Relayed result;
        int calls = 0;
    };
    static void connect(Loop& loop, Line& line) {
        Pair left = make_medium_pair(loop), right = make_medium_pair(loop);
        line.left = std::move(left.peer);
        line.right = std::move(right.peer);
        ASSERT_FALSE(relay(loop, left.socket, right.socket, {}, [&](Loop&, const Relayed& result) {
            line.result = result;
            ++line.calls;
        }));
    }
    static void push(Peer& peer, const std::string& text, std::size_t& sent) {
        const ssize_t moved = os::send(peer.fd(), text.data() + sent, text.size() - sent,
                                       MSG_DONTWAIT | MSG_NOSIGNAL);
        if (moved > 0) sent += static_cast<std::size_t>(moved);
    }
};
WHORL_CONFORMANCE(Relaying);

TEST_P(Relaying, both_ways_with_half_closes) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Line line;
    connect(loop, line);
    const std::string there = pattern(1'500'000), back = pattern(700'000, 99);
    std::size_t sent_there = 0, sent_back = 0;
    std::string got_there, got_back;
    bool ended = false;
    turn_until(loop, [&] {
        push(line.left, there, sent_there);
        if (sent_there == there.size() && !ended) {
            line.left.finish_sending();
            ended = true;
        }
        push(line.right, back, sent_back);
        got_there += receive_now(line.right, 1 << 20);
        got_back += receive_now(line.left, 1 << 20);
        return got_there.size() == there.size() && got_back.size() == back.size();
    });
    EXPECT_TRUE(got_there == there);
    EXPECT_TRUE(got_back == back);
    turn_until(loop, [&] { return line.right.readable_within(0ms); });
    EXPECT_EQ(line.right.receive(1), "") << "the end was passed on";
    EXPECT_EQ(line.calls, 0) << "the other direction goes on";
    line.right.send("last");
    EXPECT_EQ(read_peer(loop, line.left, 4), "last");
    line.right.finish_sending();
    run_until(loop, [&] { return line.calls == 1; });
    EXPECT_EQ(line.left.receive(1), "");
    EXPECT_FALSE(line.result.first.error);
    EXPECT_FALSE(line.result.second.error);
    EXPECT_EQ(line.result.first_to_second, there.size());
    EXPECT_EQ(line.result.second_to_first, back.size() + 4);
    EXPECT_EQ(stream_statistics(loop).streams, 0u);
    expect_clean(loop);
}

TEST_P(Relaying, a_reader_that_stops_stops_the_sender) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Line line;
    connect(loop, line);
    const std::string text = pattern(8'000'000);
    std::size_t sent = 0;
    for (int turn = 0; turn < 400; ++turn) {
        push(line.left, text, sent);
        turns(loop, 1);
    }
    EXPECT_LT(sent, text.size());
    EXPECT_LE(stream_statistics(loop).bytes_high,
              StreamOptions().high + (std::size_t{1} << 20) + 131072);
    const std::string got = read_peer(loop, line.right, sent);
    EXPECT_TRUE(got == text.substr(0, sent));
    line.left.close();
    line.right.close();
    run_until(loop, [&] { return line.calls == 1; });
    expect_clean(loop);
}

TEST_P(Relaying, a_reset_is_passed_on) {
    WHORL_SKIP_IF_REFUSED();
    for (const bool from_left : {true, false}) {
        Loop loop = make_loop();
        Line line;
        connect(loop, line);
        line.left.send("x");
        EXPECT_EQ(read_peer(loop, line.right, 1), "x");
        (from_left ? line.left : line.right).reset();
        run_until(loop, [&] { return line.calls == 1; });
        Peer& other = from_left ? line.right : line.left;
        turn_until(loop, [&] { return other.readable_within(0ms); });
        char byte = 0;
        EXPECT_EQ(os::recv(other.fd(), &byte, 1, 0), -1);
        EXPECT_EQ(errno, ECONNRESET);
        expect_clean(loop);
    }
}

TEST_P(Relaying, the_loop_ends_under_it) {
    WHORL_SKIP_IF_REFUSED();
    for (const bool drained : {false, true}) {
        Line line;
        {
            Loop loop = make_loop();
            connect(loop, line);
            line.left.send("x");
            turns(loop, 5);
            if (drained) {
                ASSERT_FALSE(loop.drain(10s));
            }
        }
        EXPECT_EQ(line.calls, drained ? 1 : 0);
    }
}

// Reads up to a full stop, and leaves the rest to the relay.
struct Preface {
    Socket second;
    Relayed* result;
    int* calls;
    void received(Stream& stream, Buffer buffer) const {
        const std::size_t stop = buffer.text().find('.');
        if (stop == std::string_view::npos) return;
        buffer.trim_front(stop + 1);
        if (!buffer.empty()) stream.unread(std::move(buffer));
        stream.pause();
        stream.write("go ");
        EXPECT_FALSE(
            relay(stream, second, {}, [into = result, count = calls](Loop&, const Relayed& end) {
                *into = end;
                ++*count;
            }));
    }
};

TEST_P(Relaying, a_stream_that_has_spoken_becomes_one_side) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair left = make_medium_pair(loop), right = make_medium_pair(loop);
    Relayed result;
    int calls = 0;
    ASSERT_TRUE(attach(loop, left.socket, Preface{right.socket, &result, &calls}));
    const std::string there = pattern(300'000), back = pattern(300'000, 99);
    left.peer.send("to the other side.");
    std::size_t sent_there = 0, sent_back = 0;
    std::string got_there, got_back;
    turn_until(loop, [&] {
        push(left.peer, there, sent_there);
        push(right.peer, back, sent_back);
        got_there += receive_now(right.peer, 1 << 20);
        got_back += receive_now(left.peer, 1 << 20);
        return got_there.size() >= there.size() && got_back.size() >= back.size() + 3;
    });
    EXPECT_TRUE(got_there == there);
    EXPECT_TRUE(got_back == "go " + back);
    left.peer.finish_sending();
    turn_until(loop, [&] { return right.peer.readable_within(0ms); });
    EXPECT_EQ(right.peer.receive(1), "") << "the end was passed on";
    right.peer.finish_sending();
    turn_until(loop, [&] { return calls == 1; });
    EXPECT_FALSE(result.first.error);
    EXPECT_FALSE(result.second.error);
    EXPECT_EQ(result.first_to_second, there.size());
    run_until(loop, [&] { return stream_statistics(loop).streams == 0; });
    const Socket gone = right.socket;
    Pair other = make_pair(loop);
    Stream* const stream = *attach(loop, other.socket, Preface{gone, &result, &calls});
    EXPECT_EQ(relay(*stream, gone, {}, [](Loop&, const Relayed&) {}), Error::stale_handle);
    stream->abort();
    run_until(loop, [&] { return stream_statistics(loop).streams == 0; });
    EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace whorl::conformance
