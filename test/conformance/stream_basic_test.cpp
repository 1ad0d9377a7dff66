// SPDX-License-Identifier: MIT
// Goal: a stream carries bytes both ways in order, gathers what is written in a turn, pauses, keeps to
// its watermarks, and ends in order: flushed, half-closed, or at once.
// Method: a recording protocol on one end and a socket of the test on the other.
#include "conformance/stream_tools.hpp"

namespace whorl::conformance {
namespace {

class StreamBasic : public StreamTools {};
WHORL_CONFORMANCE(StreamBasic);

void echo(Stream& stream, std::string_view text) { stream.write(text); }

TEST_P(StreamBasic, bytes_come_and_go_over_tcp_and_unix) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (const bool tcp : {true, false}) {
        Pair pair = tcp ? make_pair(loop) : make_local_pair(loop);
        Log log;
        log.on_received = echo;
        attach_log(loop, pair.socket, log);
        EXPECT_EQ(log.calls, "") << "never inline";
        pair.peer.send("hello");
        EXPECT_EQ(read_peer(loop, pair.peer, 5), "hello");
        pair.peer.send(pattern(40'000));
        EXPECT_TRUE(read_peer(loop, pair.peer, 40'000) == pattern(40'000));
        pair.peer.finish_sending();
        run_closed(loop, log);
        EXPECT_EQ(log.text.size(), 40'005u);
        EXPECT_EQ(log.calls.substr(log.calls.size() - 2), "pc");
        EXPECT_EQ(log.reason.by, ClosedBy::peer);
        EXPECT_FALSE(log.reason.error);
        EXPECT_EQ(log.counters.bytes_received, 40'005u);
        EXPECT_EQ(log.counters.bytes_sent, 40'005u);
        EXPECT_EQ(pair.peer.receive(1), "") << "the end";
        expect_gone(loop, log);
    }
}

TEST_P(StreamBasic, pipes) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Result<PipeEnds> there = make_pipe(loop), back = make_pipe(loop);
    ASSERT_TRUE(there && back);
    Log left, right;
    left.on_opened = [](Stream& stream) {
        stream.write(pattern(300'000));
        stream.end();
    };
    right.on_received = echo;
    const auto one = attach(loop, PipeEnds{back->reading, there->writing}, Recorder(left));
    const auto other = attach(loop, PipeEnds{there->reading, back->writing}, Recorder(right));
    ASSERT_TRUE(one && other);
    run_until(loop, [&] { return left.closed + right.closed == 2; });
    EXPECT_TRUE(left.text == pattern(300'000));
    EXPECT_FALSE(left.reason.error);
    EXPECT_FALSE(right.reason.error);
    expect_gone(loop, left);
    expect_gone(loop, right);
}

TEST_P(StreamBasic, what_is_written_in_a_turn_goes_in_one_call) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    Log log;
    std::string all;
    log.on_opened = [&](Stream& stream) {
        for (int count = 0; count < 40; ++count) {
            const std::string part = pattern(static_cast<std::size_t>(count) * 50, all.size());
            all += part;
            EXPECT_TRUE(count % 2 == 0 ? stream.write(part)
                                       : stream.write(Buffer::copy_of(Bytes(part))));
        }
        stream.write(Buffer::of_static(Bytes("static")));
        stream.write("");
        all += "static";
    };
    Stream& stream = attach_log(loop, pair.socket, log);
    run_until(loop, [&] { return log.has('o'); });
    EXPECT_TRUE(read_peer(loop, pair.peer, all.size()) == all);
    run_until(loop, [&] { return stream.queued() == 0; });
    EXPECT_EQ(stream.counters().sends, 1u);
    stream.close();
    pair.peer.close();
    run_closed(loop, log);
    expect_gone(loop, log);
}

TEST_P(StreamBasic, pausing_holds_the_peer_back) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_medium_pair(loop);
    Log log;
    Stream& stream = attach_log(loop, pair.socket, log);
    run_until(loop, [&] { return log.has('o'); });
    stream.pause();
    EXPECT_TRUE(stream.paused());
    const std::string text = pattern(3'000'000);
    std::size_t sent = 0;
    const auto push = [&] {
        const ssize_t moved = os::send(pair.peer.fd(), text.data() + sent, text.size() - sent,
                                       MSG_DONTWAIT | MSG_NOSIGNAL);
        if (moved > 0) sent += static_cast<std::size_t>(moved);
    };
    for (int turn = 0; turn < 200; ++turn) {
        push();
        turns(loop, 1);
    }
    EXPECT_LT(sent, text.size()) << "the peer must be held back";
    EXPECT_EQ(log.text, "");
    EXPECT_LE(stream_statistics(loop).bytes, (std::size_t{1} << 20) + (std::size_t{64} << 10));
    stream.resume();
    run_until(loop, [&] {
        push();
        return log.text.size() == text.size();
    });
    EXPECT_TRUE(log.text == text);
    stream.abort();
    run_closed(loop, log);
    EXPECT_EQ(log.reason.by, ClosedBy::us);
    EXPECT_EQ(log.reason.error, Error::cancelled);
    expect_gone(loop, log);
}

TEST_P(StreamBasic, a_reader_that_stops_bounds_the_writer) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_medium_pair(loop);
    Log log;
    StreamOptions options;
    options.high = 100'000;
    options.low = 20'000;
    std::size_t written = 0;
    const auto fill = [&](Stream& stream) {
        while (written < 2'000'000) {
            const std::string part = pattern(1500, written);
            written += part.size();
            if (!stream.write(part)) return;
        }
    };
    log.on_opened = fill;
    log.on_writable = [&](Stream& stream) {
        EXPECT_LE(stream.queued(), options.low);
        fill(stream);
    };
    Stream& stream = attach_log(loop, pair.socket, log, options);
    for (int turn = 0; turn < 50; ++turn) turns(loop, 1);
    EXPECT_GE(stream.queued(), options.low);
    EXPECT_LE(stream.queued(), options.high + 1500);
    const std::string all = read_peer(loop, pair.peer, 2'001'000);
    EXPECT_TRUE(all == pattern(all.size()));
    EXPECT_LE(stream.counters().queued_high, options.high + 1500);
    EXPECT_TRUE(log.has('w'));
    stream.close();
    pair.peer.close();
    run_closed(loop, log);
    EXPECT_FALSE(log.reason.error);
    expect_gone(loop, log);
}

// The peer sends and never reads: an echo must not collect it.
TEST_P(StreamBasic, reading_stops_at_the_high_watermark) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_medium_pair(loop);
    Log log;
    log.on_received = echo;
    StreamOptions options;
    options.high = 100'000;
    options.low = 50'000;
    Stream& stream = attach_log(loop, pair.socket, log, options);
    const std::string text = pattern(6'000'000);
    std::size_t sent = 0;
    std::string back;
    for (int turn = 0; turn < 300; ++turn) {
        const ssize_t moved = os::send(pair.peer.fd(), text.data() + sent, text.size() - sent,
                                       MSG_DONTWAIT | MSG_NOSIGNAL);
        if (moved > 0) sent += static_cast<std::size_t>(moved);
        turns(loop, 1);
    }
    ASSERT_LT(sent, text.size());
    // One delivery of at most 64 KiB goes beyond; what the kernel had delivered besides is held.
    EXPECT_LE(stream.counters().queued_high, options.high + 65536);
    EXPECT_LE(stream_statistics(loop).bytes_high, options.high + (std::size_t{1} << 20) + 131072);
    back = read_peer(loop, pair.peer, sent);
    EXPECT_TRUE(back == text.substr(0, sent));
    pair.peer.finish_sending();
    run_closed(loop, log);
    EXPECT_EQ(log.reason.by, ClosedBy::peer);
    expect_gone(loop, log);
}

TEST_P(StreamBasic, close_flushes_and_waits_for_the_peer) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_medium_pair(loop);
    Log log;
    StreamOptions options;
    options.deadlines.close = 1h;
    Stream& stream = attach_log(loop, pair.socket, log, options);
    run_until(loop, [&] { return log.has('o'); });
    stream.write(pattern(500'000));
    stream.close();
    stream.close(Error::cancelled);
    EXPECT_TRUE(stream.closing());
    EXPECT_FALSE(stream.write("more"));
    pair.peer.send("dropped");
    EXPECT_TRUE(read_peer(loop, pair.peer, 500'000) == pattern(500'000));
    run_until(loop, [&] { return pair.peer.readable_within(0ms); });
    EXPECT_EQ(pair.peer.receive(1), "") << "the end";
    turns(loop, 20);
    EXPECT_EQ(log.calls, "o") << "the peer has not ended its side";
    pair.peer.close();
    run_closed(loop, log);
    EXPECT_EQ(log.calls, "oc");
    EXPECT_EQ(log.reason.by, ClosedBy::us);
    EXPECT_FALSE(log.reason.error);
    expect_gone(loop, log);
}

TEST_P(StreamBasic, half_close_in_either_order) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (const bool we_first : {true, false}) {
        Pair pair = make_pair(loop);
        Log log;
        log.on_peer_closed = nullptr;
        Stream& stream = attach_log(loop, pair.socket, log);
        run_until(loop, [&] { return log.has('o'); });
        if (we_first) {
            stream.write("last");
            stream.end();
            EXPECT_FALSE(stream.write("late"));
            EXPECT_EQ(read_peer(loop, pair.peer, 4), "last");
            run_until(loop, [&] { return pair.peer.readable_within(0ms); });
            EXPECT_EQ(pair.peer.receive(1), "");
            pair.peer.send("still");
            run_until(loop, [&] { return log.text == "still"; });
            pair.peer.close();
        } else {
            pair.peer.send("bye");
            pair.peer.finish_sending();
            run_until(loop, [&] { return log.has('p'); });
            EXPECT_EQ(log.text, "bye");
            EXPECT_TRUE(stream.write("answer"));
            EXPECT_EQ(read_peer(loop, pair.peer, 6), "answer");
            EXPECT_FALSE(log.closed);
            stream.end();
        }
        run_closed(loop, log);
        EXPECT_EQ(log.reason.by, we_first ? ClosedBy::us : ClosedBy::peer);
        EXPECT_FALSE(log.reason.error);
        expect_gone(loop, log);
    }
}

TEST_P(StreamBasic, abort_resets) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    Log log;
    Stream& stream = attach_log(loop, pair.socket, log);
    run_until(loop, [&] { return log.has('o'); });
    stream.abort(Error::over_budget);
    stream.abort();
    stream.close();
    EXPECT_FALSE(stream.write("x"));
    EXPECT_EQ(log.closed, 0) << "never inline";
    run_closed(loop, log);
    EXPECT_EQ(log.reason.error, Error::over_budget);
    turn_until(loop, [&] { return pair.peer.readable_within(0ms); });
    char byte = 0;
    EXPECT_EQ(os::recv(pair.peer.fd(), &byte, 1, 0), -1);
    EXPECT_EQ(errno, ECONNRESET);
    expect_gone(loop, log);
}

TEST_P(StreamBasic, who_ignores_the_watermark_is_stopped) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_medium_pair(loop);
    Log log;
    StreamOptions options;
    options.queue_max = 1 << 20;
    log.on_opened = [](Stream& stream) {
        for (int count = 0; count < 100; ++count) stream.write(pattern(100'000));
    };
    attach_log(loop, pair.socket, log, options);
    run_closed(loop, log);
    EXPECT_EQ(log.reason.by, ClosedBy::limit);
    EXPECT_EQ(log.reason.error, Error::write_overflow);
    EXPECT_LE(log.counters.queued_high, options.queue_max);
    expect_gone(loop, log);
}

TEST_P(StreamBasic, is_refused_with_its_reason) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Log log;
    EXPECT_EQ(attach(loop, Socket(), Recorder(log)).error(), Error::stale_handle);
    EXPECT_EQ(attach(loop, PipeEnds(), Recorder(log)).error(), Error::stale_handle);
    Pair pair = make_pair(loop);
    StreamOptions options;
    options.low = options.high + 1;
    EXPECT_EQ(attach(loop, pair.socket, Recorder(log), options).error(), Error::invalid_argument);
    EXPECT_EQ(set_stream_budget(loop, {2, 1}), Error::invalid_argument);
    EXPECT_TRUE(log.witness.alone());
    close_and_wait(loop, pair.socket);
    EXPECT_EQ(stream_statistics(loop).streams, 0u);
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
