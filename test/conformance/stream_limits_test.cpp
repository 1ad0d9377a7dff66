// SPDX-License-Identifier: MIT
// Goal: rates are kept, alone and in a group; the loop's budget stops readers and sheds who goes beyond;
// framed protocols get the same frames for all cuts, are replaced in the middle of a buffer, and end
// with the framing's error.
// Method: bounds of time from below, sums of bytes, and every cut of a text.
#include "conformance/stream_tools.hpp"

namespace whorl::conformance {
namespace {

class StreamLimits : public StreamTools {};
WHORL_CONFORMANCE(StreamLimits);

TEST_P(StreamLimits, rates_are_kept_in_both_directions) {
    WHORL_SKIP_IF_REFUSED();
    for (const bool reading : {true, false}) {
        for (const bool grouped : {false, true}) {
            SCOPED_TRACE(std::string(reading ? "read" : "write") + (grouped ? " group" : ""));
            Loop loop = make_loop();
            Pair pair = make_pair(loop);
            Log log;
            const Rate rate{1'000'000, 10'000};
            StreamOptions options;
            if (grouped) (reading ? options.read_group : options.write_group) = RateGroup(rate);
            else (reading ? options.read_rate : options.write_rate) = rate;
            Stream& stream = attach_log(loop, pair.socket, log, options);
            const Instant begun = os::now();
            const std::string text = pattern(60'000);
            if (reading) {
                pair.peer.send(text);
                run_until(loop, [&] { return log.text.size() == text.size(); });
                EXPECT_TRUE(log.text == text);
            } else {
                run_until(loop, [&] { return log.has('o'); });
                stream.write(text);
                EXPECT_TRUE(read_peer(loop, pair.peer, text.size()) == text);
            }
            // A burst at once, the last piece is paid for afterwards: at most 16 KiB of a single receive.
            EXPECT_GE(os::now() - begun, 60ms - 10ms - 17ms);
            stream.close();
            pair.peer.close();
            run_closed(loop, log);
            expect_gone(loop, log);
        }
    }
}

TEST_P(StreamLimits, a_group_shares_its_rate_evenly) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    StreamOptions options;
    options.write_group = RateGroup(Rate{1'000'000, 4'000});
    Pair pairs[3];
    Log logs[3];
    for (int index = 0; index < 3; ++index) {
        pairs[index] = make_pair(loop);
        logs[index].on_opened = [](Stream& stream) { stream.write(pattern(60'000)); };
        attach_log(loop, pairs[index].socket, logs[index], options);
    }
    const Instant begun = os::now();
    std::size_t got[3] = {};
    run_until(loop, [&] {
        for (int index = 0; index < 3; ++index) {
            got[index] += receive_now(pairs[index].peer, 100'000).size();
        }
        const bool first = got[0] == 60'000 || got[1] == 60'000 || got[2] == 60'000;
        return first;
    });
    EXPECT_GE(os::now() - begun, 120ms) << "the others had their share";
    for (const std::size_t bytes : got) EXPECT_GE(bytes, 40'000u);
    for (int index = 0; index < 3; ++index) {
        logs[index].stream->abort();
        run_closed(loop, logs[index]);
    }
    expect_gone(loop, logs[0]);
}

TEST_P(StreamLimits, the_budget_stops_readers_and_sheds_writers) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    ASSERT_FALSE(set_stream_budget(loop, {200'000, 500'000}));
    Pair slow = make_medium_pair(loop), other = make_medium_pair(loop);
    Log full, reader;
    StreamOptions options;
    options.high = 300'000;
    Stream& stream = attach_log(loop, slow.socket, full, options);
    attach_log(loop, other.socket, reader);
    run_until(loop, [&] { return full.has('o') && reader.has('o'); });
    while (stream.queued() < 299'000) {
        if (stream.queued() < 290'000) stream.write(pattern(10'000));
        else break;
    }
    for (int turn = 0; turn < 20; ++turn) {
        turns(loop, 1);
        while (stream.queued() < 290'000) stream.write(pattern(10'000));
    }
    EXPECT_TRUE(stream_statistics(loop).overloaded);
    other.peer.send("waits");
    turns(loop, 30);
    EXPECT_EQ(reader.text, "") << "nothing is read beyond the budget";
    // Room again: the reader goes on by itself.
    std::size_t drained = 0;
    turn_until(loop, [&] {
        drained += receive_now(slow.peer, 1 << 20).size();
        return reader.text == "waits";
    });
    EXPECT_GT(drained, 100'000u);
    EXPECT_FALSE(stream_statistics(loop).overloaded);
    EXPECT_EQ(stream_statistics(loop).overloads, 1u);
    reader.stream->write(pattern(600'000));
    run_closed(loop, reader);
    EXPECT_EQ(reader.reason.by, ClosedBy::limit);
    EXPECT_EQ(reader.reason.error, Error::over_budget);
    EXPECT_EQ(stream_statistics(loop).shed, 1u);
    stream.abort();
    run_closed(loop, full);
    expect_gone(loop, full);
}

// As in PARITY.md P1, scaled: WHORL_TEST_SCALE=50 makes ten thousand of it.
TEST_P(StreamLimits, many_readers_that_stop_are_bounded_each) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const std::size_t count = scaled(200);
    StreamOptions options;
    options.high = 32'768;
    options.low = 8'192;
    std::vector<Pair> pairs;
    std::vector<std::unique_ptr<Log>> logs;
    const auto fill = [](Stream& stream) {
        while (stream.write(Buffer::copy_of(Bytes(pattern(700))))) {
        }
    };
    for (std::size_t index = 0; index < count; ++index) {
        pairs.push_back(make_local_pair(loop));
        logs.push_back(std::make_unique<Log>());
        logs.back()->on_opened = fill;
        logs.back()->on_writable = fill;
        attach_log(loop, pairs.back().socket, *logs.back(), options);
    }
    turns(loop, 100);
    const StreamStatistics statistics = stream_statistics(loop);
    EXPECT_EQ(statistics.streams, count);
    EXPECT_LE(statistics.bytes_high, count * (options.high + 700));
    EXPECT_GE(statistics.bytes, count * options.low) << "they must have stopped";
    // Copies that wait share blocks: what they hold is what they count, and little more.
    EXPECT_LE(loop.statistics().buffer_bytes_mapped, 2 * count * options.high + (4u << 20));
    for (const auto& log : logs) log->stream->abort();
    run_until(loop, [&] { return stream_statistics(loop).streams == 0; });
    expect_gone(loop, *logs.front());
}

struct Framed {
    Framing framing = Framing::line(10);
    std::vector<std::string>* frames;
    Closed* reason;
    int* closes;
    void frame(Stream& stream, Bytes bytes) {
        frames->emplace_back(bytes.text());
        if (bytes.text() == "quit") stream.close();
    }
    void closed(Stream&, Closed why) {
        *reason = why;
        ++*closes;
    }
};

TEST_P(StreamLimits, frames_end_as_their_framing_says) {
    WHORL_SKIP_IF_REFUSED();
    struct Case {
        const char* text;
        std::vector<std::string> frames;
        Error error;
        ClosedBy by;
    };
    const Case cases[] = {
        {"one\ntwo\r\n\nthree\n", {"one", "two", "", "three"}, {}, ClosedBy::peer},
        {"one\npart", {"one"}, Error::frame_truncated, ClosedBy::us},
        {"one\nmuch too large\ntwo\n", {"one"}, Error::frame_too_large, ClosedBy::us},
        {"one\nquit\ntwo\n", {"one", "quit"}, {}, ClosedBy::us}};
    for (const Case& one : cases) {
        const std::string text = one.text;
        for (std::size_t at = 1; at < text.size(); at += 2) {
            SCOPED_TRACE(text + ' ' + std::to_string(at));
            Loop loop = make_loop();
            Pair pair = make_pair(loop);
            std::vector<std::string> frames;
            Closed reason;
            int closes = 0;
            ASSERT_TRUE(
                attach(loop, pair.socket, Framed{Framing::line(10), &frames, &reason, &closes}));
            pair.peer.send(text.substr(0, at));
            turns(loop, 3);
            pair.peer.send(text.substr(at));
            pair.peer.finish_sending();
            run_until(loop, [&] { return closes == 1; });
            EXPECT_EQ(frames, one.frames);
            EXPECT_EQ(reason.error, one.error);
            EXPECT_EQ(reason.by, one.by);
            EXPECT_EQ(stream_statistics(loop).streams, 0u);
            expect_clean(loop);
        }
    }
}

// "upgrade\n", and from the next byte on another protocol.
struct Greeter {
    Framing framing = Framing::line(20);
    Log* next;
    void frame(Stream& stream, Bytes line) {
        stream.write(line);
        if (line.text() == "upgrade") {
            EXPECT_FALSE(stream.replace(Recorder(*next)));
        }
    }
};

TEST_P(StreamLimits, a_protocol_hands_the_rest_to_its_successor) {
    WHORL_SKIP_IF_REFUSED();
    const std::string text = "hello\nupgrade\nraw\nbytes";
    for (std::size_t at = 1; at < text.size(); ++at) {
        SCOPED_TRACE(at);
        Loop loop = make_loop();
        Pair pair = make_pair(loop);
        Log log;
        ASSERT_TRUE(attach(loop, pair.socket, Greeter{Framing::line(20), &log}));
        pair.peer.send(text.substr(0, at));
        turns(loop, 3);
        pair.peer.send(text.substr(at));
        pair.peer.finish_sending();
        run_closed(loop, log);
        EXPECT_EQ(log.text, "raw\nbytes");
        EXPECT_EQ(pair.peer.receive(100), "helloupgrade");
        expect_gone(loop, log);
    }
}

TEST_P(StreamLimits, a_frame_that_never_ends_is_given_up) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    std::vector<std::string> frames;
    Closed reason;
    int closes = 0;
    StreamOptions options;
    options.deadlines.frame = 30ms;
    options.deadlines.idle = 1h;
    ASSERT_TRUE(
        attach(loop, pair.socket, Framed{Framing::line(10), &frames, &reason, &closes}, options));
    pair.peer.send("one\n");
    run_until(loop, [&] { return frames.size() == 1; });
    pair.peer.send("t");
    const Timer slow = *loop.every(5ms, [&](Loop&, Expired) {
        if (frames.size() == 1 && closes == 0)
            static_cast<void>(os::send(pair.peer.fd(), "", 0, 0));
    });
    run_until(loop, [&] { return closes == 1; });
    EXPECT_EQ(reason.by, ClosedBy::deadline);
    EXPECT_EQ(reason.error, Error::timed_out);
    loop.cancel(slow);
    expect_clean(loop);
}

}  // namespace
}  // namespace whorl::conformance
