// SPDX-License-Identifier: MIT
// Goal: whatever a callback does, and wherever the connection, the loop or a deadline ends it, a stream
// has exactly one `closed`, last of all, and leaves nothing behind.
// Method: every callback combined with every action; a reset, a drain and the loop's end at every stage;
// each deadline alone.
#include "conformance/stream_tools.hpp"

#include <stdexcept>

namespace whorl::conformance {
namespace {

class StreamEnd : public StreamTools {
  protected:
    // A conversation that reaches every callback: the peer sends, does not read until the queue has been
    // at its high watermark, reads, and ends. `act` is asked in each of them.
    static void converse(Loop& loop, Log& log, const std::function<void(char, Stream&)>& act) {
        Pair pair = make_medium_pair(loop);
        StreamOptions options;
        options.high = 50'000;
        options.low = 10'000;
        // A turn at least every millisecond, while nothing else happens.
        const Timer often = *loop.every(1ms, [](Loop&, Expired) {});
        log.on_opened = [&](Stream& stream) { act('o', stream); };
        log.on_received = [&](Stream& stream, std::string_view) {
            if (log.calls == "or") {
                while (stream.write(pattern(5000))) {
                }
            }
            act('r', stream);
        };
        log.on_writable = [&](Stream& stream) { act('w', stream); };
        log.on_peer_closed = [&](Stream& stream) {
            act('p', stream);
            stream.close();
        };
        log.on_closed = [&](Stream& stream) { act('c', stream); };
        attach_log(loop, pair.socket, log, options);
        pair.peer.send("hello");
        bool finished = false;
        int rounds = 0;
        turn(loop, [&] {
            static_cast<void>(receive_now(pair.peer, 1 << 20));
            if (!finished && (log.has('w') || log.witness.alone() || ++rounds > 30)) {
                pair.peer.finish_sending();
                finished = true;
            }
            return log.witness.alone() && stream_statistics(loop).streams == 0;
        });
        loop.cancel(often);
    }
    // As run_until, through exceptions.
    template <class Done>
    static void turn(Loop& loop, Done done) {
#ifdef WHORL_NO_EXCEPTIONS
        run_until(loop, done);
#else
        for (;;) {
            try {
                run_until(loop, done);
                return;
            } catch (const std::runtime_error&) {
            }
        }
#endif
    }
};
WHORL_CONFORMANCE(StreamEnd);

TEST_P(StreamEnd, any_callback_may_do_anything) {
    WHORL_SKIP_IF_REFUSED();
    const std::string actions =
        "nwpeca"
        "xtuR";
    for (const char where : std::string("orwpc")) {
        for (const char action : actions) {
            SCOPED_TRACE(std::string("in ") + where + ": " + action);
            Loop loop = make_loop();
            Log log, next;
            next.on_peer_closed = [](Stream& stream) { stream.close(); };
            bool replaced = false;
            converse(loop, log, [&](char here, Stream& stream) {
                if (here != where) return;
                switch (action) {
                    case 'w':
                        stream.write(pattern(100));
                        break;
                    case 'p':
                        stream.pause();
                        stream.resume();
                        break;
                    case 'e':
                        stream.end();
                        break;
                    case 'c':
                        stream.close();
                        break;
                    case 'a':
                        stream.abort(Error::over_budget);
                        break;
                    case 'x':  // everything at once
                        stream.write("x");
                        stream.pause();
                        stream.end();
                        stream.close();
                        stream.abort();
                        stream.resume();
                        break;
                    case 't':
#ifndef WHORL_NO_EXCEPTIONS
                        throw std::runtime_error("thrown by a callback");
#else
                        break;
#endif
                    case 'u':
                        if (log.calls.size() < 50) stream.unread(Buffer::copy_of(Bytes("again")));
                        break;
                    case 'R': {
                        const Error error = stream.replace(Recorder(next));
                        EXPECT_EQ(error, where == 'c' ? Error(Error::stale_handle) : Error());
                        replaced = !error;
                        break;
                    }
                    default:
                        break;
                }
            });
            EXPECT_EQ(log.closed, replaced ? 0 : 1) << log.calls;
            EXPECT_EQ(next.closed, replaced ? 1 : 0) << next.calls;
            if (replaced) {
                EXPECT_EQ(next.calls[0], 'o');
            }
            if (action == 'a' && where != 'c' && log.has(where)) {
                EXPECT_EQ(log.reason.error, Error::over_budget);
            }
            if (action == 'n') {
                EXPECT_EQ(log.reason.by, ClosedBy::peer);
                EXPECT_FALSE(log.reason.error);
                for (const char call : std::string("orwpc")) {
                    EXPECT_TRUE(log.has(call)) << call;
                }
            }
#ifndef WHORL_NO_EXCEPTIONS
            if (action == 't' && where != 'c') {
                EXPECT_EQ(log.reason.by, ClosedBy::exception);
                EXPECT_EQ(log.reason.error, Error::handler_threw);
            }
#endif
            EXPECT_TRUE(next.witness.alone());
            EXPECT_EQ(loop.statistics().handles, 0u);
        }
    }
}

// Who is told by another stream's callback, too.
TEST_P(StreamEnd, streams_may_end_one_another) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair first = make_pair(loop), second = make_pair(loop);
    Log one, other;
    one.on_received = [&](Stream&, std::string_view) { other.stream->abort(); };
    other.on_closed = [&](Stream&) { one.stream->close(); };
    attach_log(loop, first.socket, one);
    attach_log(loop, second.socket, other);
    run_until(loop, [&] { return one.has('o') && other.has('o'); });
    first.peer.send("x");
    run_closed(loop, other);
    first.peer.close();
    run_closed(loop, one);
    expect_gone(loop, one);
    expect_gone(loop, other);
}

TEST_P(StreamEnd, a_reset_at_every_stage) {
    WHORL_SKIP_IF_REFUSED();
    for (int stage = 0; stage < 7; ++stage) {
        SCOPED_TRACE(stage);
        Loop loop = make_loop();
        Pair pair = make_medium_pair(loop);
        Log log;
        StreamOptions options;
        options.high = 50'000;
        options.low = 10'000;
        Stream& stream = attach_log(loop, pair.socket, log, options);
        if (stage > 0) run_until(loop, [&] { return log.has('o'); });
        if (stage == 2) {
            pair.peer.send("hello");
            run_until(loop, [&] { return log.has('r'); });
        }
        if (stage == 3 || stage == 4 || stage == 6) {  // with a full queue
            while (stream.write(pattern(100'000))) {
            }
            while (stream.queued() < 300'000) stream.write(pattern(100'000));
            turns(loop, 10);
        }
        if (stage == 4 || stage == 5) stream.end();
        if (stage == 6) stream.close();
        if (stage == 5) turns(loop, 10);
        pair.peer.reset();
        run_closed(loop, log);
        EXPECT_EQ(log.reason.by, ClosedBy::error);
        const bool broken = log.reason.error == Error::from_errno(ECONNRESET) ||
                            log.reason.error == Error::from_errno(EPIPE);
        EXPECT_TRUE(broken) << log.reason.error.name();
        expect_gone(loop, log);
    }
}

TEST_P(StreamEnd, the_loop_ends_at_every_stage) {
    WHORL_SKIP_IF_REFUSED();
    for (const bool drained : {false, true}) {
        for (int stage = 0; stage < 6; ++stage) {
            SCOPED_TRACE(std::to_string(stage) + (drained ? " drained" : " destroyed"));
            Log log;
            {
                Loop loop = make_loop();
                Pair pair = make_medium_pair(loop);
                StreamOptions options;
                options.deadlines.idle = 1h;
                Stream& stream = attach_log(loop, pair.socket, log, options);
                if (stage > 0) run_until(loop, [&] { return log.has('o'); });
                if (stage == 2) {  // paused, holding something, nothing under way
                    stream.pause();
                    pair.peer.send("held");
                    turns(loop, 20);
                }
                if (stage == 3 || stage == 4) {
                    while (stream.queued() < 300'000) stream.write(pattern(100'000));
                    turns(loop, 5);
                }
                if (stage == 4) stream.close();
                if (stage == 5) stream.abort();
                if (drained) {
                    ASSERT_FALSE(loop.drain(10s));
                    EXPECT_EQ(log.closed, 1);
                    EXPECT_EQ(log.reason.by, stage == 5 ? ClosedBy::us : ClosedBy::loop);
                    Pair again = make_pair(loop);  // it can be used again
                    Log second;
                    attach_log(loop, again.socket, second);
                    again.peer.close();
                    run_closed(loop, second);
                    expect_gone(loop, second);
                }
            }
            EXPECT_EQ(log.closed, drained ? 1 : 0);
            EXPECT_TRUE(log.witness.alone());
        }
    }
}

TEST_P(StreamEnd, each_deadline_alone) {
    WHORL_SKIP_IF_REFUSED();
    struct Case {
        const char* name;
        Nanoseconds StreamDeadlines::*bound;
    };
    const Case cases[] = {{"idle", &StreamDeadlines::idle},
                          {"read", &StreamDeadlines::read},
                          {"write", &StreamDeadlines::write},
                          {"total", &StreamDeadlines::total},
                          {"close", &StreamDeadlines::close}};
    for (const Case& one : cases) {
        SCOPED_TRACE(one.name);
        Loop loop = make_loop();
        Pair pair = make_medium_pair(loop);
        Log log;
        StreamOptions options;
        options.deadlines.*one.bound = 30ms;
        const std::string name = one.name;
        log.on_opened = [&](Stream& stream) {
            if (name == "write") stream.write(pattern(1'000'000));
            if (name == "close") stream.close();
        };
        const Instant begun = os::now();
        attach_log(loop, pair.socket, log, options);
        run_closed(loop, log);
        EXPECT_GE(os::now() - begun, 30ms);
        EXPECT_EQ(log.reason.by, ClosedBy::deadline);
        EXPECT_EQ(log.reason.error, Error::timed_out);
        expect_gone(loop, log);
    }
}

TEST_P(StreamEnd, deadlines_count_from_attach_also_long_after_the_last_turn) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_medium_pair(loop);
    os::stay_busy(60ms);
    Log log;
    StreamOptions options;
    options.deadlines.total = options.deadlines.idle = 50ms;
    const Instant begun = os::now();
    attach_log(loop, pair.socket, log, options);
    run_closed(loop, log);
    EXPECT_GE(os::now() - begun, 50ms);
    EXPECT_EQ(log.reason.by, ClosedBy::deadline);
    expect_gone(loop, log);
}

// The times themselves in worlds only, whose clock is exact.
TEST_P(StreamEnd, deadlines_are_pushed_back_by_what_they_wait_for) {
    WHORL_SKIP_IF_REFUSED();
    const bool exact_clock = GetParam().world.has_value();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    Log log;
    StreamOptions options;
    options.deadlines.idle = exact_clock ? Nanoseconds(100ms) : Nanoseconds(1h);
    options.deadlines.read = exact_clock ? Nanoseconds(200ms) : Nanoseconds(1h);
    Stream& stream = attach_log(loop, pair.socket, log, options);
    for (int round = 0; exact_clock && round < 20; ++round) {  // receiving pushes both
        pair.peer.send("x");
        ASSERT_FALSE(loop.run_for(60ms));
        ASSERT_EQ(log.closed, 0);
    }
    for (int round = 0; exact_clock && round < 2; ++round) {  // sending pushes idle alone
        stream.write("x");
        ASSERT_FALSE(loop.run_for(60ms));
        ASSERT_EQ(log.closed, 0) << round;
    }
    stream.set_deadlines({});
    ASSERT_FALSE(loop.run_for(exact_clock ? Nanoseconds(10min) : Nanoseconds(1ms)));
    EXPECT_EQ(log.closed, 0);
    StreamDeadlines total;
    total.total = 1us;
    stream.set_deadlines(total);
    run_closed(loop, log);
    EXPECT_EQ(log.reason.by, ClosedBy::deadline) << "counted from the beginning";
    expect_gone(loop, log);
}

}  // namespace
}  // namespace whorl::conformance
