// SPDX-License-Identifier: MIT
// Goal: a stream that is handed over to another loop loses, doubles and reorders no byte in either
// direction, at whatever moment it goes.
// Method: two loops in turns on one thread; a peer that streams both ways while the connection goes back
// and forth after every count of turns; each piece of a stream's state alone.
#include "conformance/handover_tools.hpp"

#include <whorl/channel.hpp>

#include <algorithm>

namespace whorl::conformance {
namespace {

WHORL_CONFORMANCE(Handover);

// What both protocols of a traveller share: it takes all that comes, and always has something to send.
struct Traveller {
    std::string received;
    std::uint64_t written = 0;
    std::uint64_t total = 0;
    Stream* stream = nullptr;
    int closed = 0;
    std::uint32_t steps = 0;

    void fill(Stream& to) {
        while (written < total && !to.closing()) {
            const std::uint64_t left = total - written;
            // Joined ones, heap buffers alone, shared ones, and more than one call takes.
            static constexpr std::size_t sizes[] = {10, 700, 5'000, 90'000};
            const std::size_t size = std::min<std::uint64_t>(left, sizes[steps++ % 4]);
            const std::string text = pattern(size, written);
            written += size;
            Buffer buffer = Buffer::copy_of(Bytes(text));
            const Buffer shared = steps % 3 == 0 ? buffer.share() : Buffer();
            const bool more = size < 1000 ? to.write(Bytes(text)) : to.write(std::move(buffer));
            if (!more) return;
        }
    }
};
struct Travels {
    Traveller* all;
    void opened(Stream& stream) {
        all->stream = &stream;
        all->fill(stream);
    }
    void received(Stream&, Buffer buffer) { all->received += buffer.text(); }
    void writable(Stream& stream) { all->fill(stream); }
    void closed(Stream&, Closed) { ++all->closed; }
};

TEST_P(Handover, loses_no_byte_whenever_it_happens) {
    WHORL_SKIP_IF_REFUSED();
    for (int every = 2; every <= 12; ++every) {
        SCOPED_TRACE(every);
        Loop loops[2] = {make_loop(), make_loop()};
        Pair pair = make_narrow_pair(loops[0]);
        Traveller all;
        all.total = 400'000;
        StreamOptions options;
        options.high = 100'000;
        options.low = 50'000;
        ASSERT_TRUE(attach(loops[0], pair.socket, Travels{&all}, options));
        std::string to_us = pattern(400'000, 7), from_us;
        std::size_t sent = 0;
        int at = 0, turns = 0, moves = 0;
        bool moving = false;
        both(loops[0], loops[1], [&] {
            const std::size_t part = std::min<std::size_t>(to_us.size() - sent, 3'000);
            const ssize_t taken =
                os::send(pair.peer.fd(), to_us.data() + sent, part, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (taken > 0) sent += static_cast<std::size_t>(taken);
            from_us += receive_now(pair.peer, 4'000);
            // Not for ever: who is moved each time before it sends would get nowhere.
            if (!moving && moves < 100 && all.stream != nullptr && ++turns % every == 0) {
                moving = true;
                EXPECT_FALSE(detach(*all.stream, [&](Loop&, DetachDone done) {
                    ASSERT_FALSE(done.error) << done.error.text();
                    at = 1 - at;
                    all.stream = nullptr;
                    ASSERT_TRUE(attach(loops[at], std::move(done.stream), Travels{&all}));
                    ++moves;
                    moving = false;
                }));
            }
            return from_us.size() == all.total && all.received.size() == to_us.size();
        });
        EXPECT_TRUE(all.received == to_us);
        EXPECT_TRUE(from_us == pattern(all.total));
        EXPECT_GT(moves, 3);
        both(loops[0], loops[1], [&] { return all.stream != nullptr && !moving; });
        EXPECT_EQ(all.stream->counters().bytes_sent, all.total);
        EXPECT_EQ(all.stream->counters().bytes_received, to_us.size());
        all.stream->abort();
        both(loops[0], loops[1], [&] { return all.closed == 1; });
        for (Loop& loop : loops) expect_nothing_left(loop);
    }
}

TEST_P(Handover, goes_through_a_channel_and_outlives_its_loop) {
    WHORL_SKIP_IF_REFUSED();
    Loop there = make_loop();
    Result<Channel<DetachedStream>> channel = Channel<DetachedStream>::create(1);
    ASSERT_TRUE(channel);
    Log before, after;
    Peer peer;
    {
        Loop here = make_loop();
        Pair pair = make_pair(here);
        peer = std::move(pair.peer);
        Stream& stream = attach_log(here, pair.socket, before);
        run_until(here, [&] { return before.has('o'); });
        stream.pause();
        peer.send("held by nobody");
        turns(here, 20);
        DetachedStream travelling = detached(here, stream);
        EXPECT_EQ(before.calls, "o") << "nothing is delivered that goes along, nor `closed`";
        EXPECT_TRUE(before.witness.alone());
        ASSERT_FALSE(channel->sender.send(std::move(travelling)));
        EXPECT_EQ(stream_statistics(here).detached, 1u);
        expect_nothing_left(here);
    }
    ASSERT_TRUE(there.submit(Receive<DetachedStream>{std::move(channel->receiver)},
                             [&](Loop& loop, Receive<DetachedStream>::Done done) {
                                 while (DetachedStream* stream = done.next()) {
                                     attach_there(loop, std::move(*stream), after);
                                 }
                             }));
    run_until(there, [&] { return after.text == "held by nobody"; });
    peer.send(", and on");
    run_until(there, [&] { return after.text == "held by nobody, and on"; });
    after.stream->write("answered");
    EXPECT_EQ(read_peer(there, peer, 8), "answered");
    channel->sender.close();
    peer.close();
    run_closed(there, after);
    EXPECT_EQ(after.reason.by, ClosedBy::peer);
    turns(there, 3);
    expect_nothing_left(there);
}

TEST_P(Handover, the_end_of_either_side_goes_along) {
    WHORL_SKIP_IF_REFUSED();
    for (const bool told : {false, true}) {
        for (const bool ours : {false, true}) {
            SCOPED_TRACE(std::string(told ? "told " : "") + (ours ? "ended" : ""));
            Loop here = make_loop(), there = make_loop();
            Pair pair = make_pair(here);
            Log before, after;
            before.on_peer_closed = [](Stream&) {};  // it stays half open
            Stream& stream = attach_log(here, pair.socket, before);
            run_until(here, [&] { return before.has('o'); });
            if (!told) stream.pause();
            pair.peer.finish_sending();
            if (told) run_until(here, [&] { return before.has('p'); });
            else turns(here, 20);
            if (ours) stream.end();
            DetachedStream travelling = detached(here, stream);
            EXPECT_TRUE(travelling.peer_ended() || GetParam().world || !told);
            after.on_peer_closed = [&](Stream& ended) {
                if (!ours) ended.write("last words");
                ended.close();
            };
            attach_there(there, std::move(travelling), after);
            EXPECT_EQ(pair.peer.receive(0), "");
            const std::string expected = ours ? "" : "last words";
            run_until(there, [&] { return after.closed == 1; });
            EXPECT_EQ(pair.peer.receive(100), expected);
            EXPECT_EQ(after.calls, "opc");
            EXPECT_EQ(after.reason.by, ours && told ? ClosedBy::peer : after.reason.by);
            EXPECT_FALSE(after.reason.error);
            expect_nothing_left(here);
            expect_nothing_left(there);
        }
    }
}

// Frames of four bytes; goes at the one that says so.
struct Frames {
    Log* log;
    DetachedStream* gone;
    Framing framing = Framing::fixed(4);
    void frame(Stream& stream, Bytes frame) {
        log->text += frame.text();
        log->text += '|';
        if (frame.text() != "move") return;
        EXPECT_FALSE(
            detach(stream, [to = gone](Loop&, DetachDone done) { *to = std::move(done.stream); }));
    }
    void closed(Stream&, Closed) { ++log->closed; }
};

TEST_P(Handover, frames_are_cut_the_same_at_every_byte) {
    WHORL_SKIP_IF_REFUSED();
    const std::string all = "one,moveyes!twoohalf";
    for (std::size_t cut = 1; cut < all.size(); ++cut) {
        SCOPED_TRACE(cut);
        Loop here = make_loop(), there = make_loop();
        Pair pair = make_pair(here);
        Log before, after;
        DetachedStream gone;
        const Result<Stream*> stream = attach(here, pair.socket, Frames{&before, &gone});
        ASSERT_TRUE(stream);
        pair.peer.send(all.substr(0, cut));
        turns(here, 20);
        // Within the first frame or after `move` it goes by itself or is told to.
        if (!gone && cut < 8) gone = detached(here, **stream);
        run_until(here, [&] { return static_cast<bool>(gone); });
        DetachedStream none;
        const Result<Stream*> other = attach(there, std::move(gone), Frames{&after, &none});
        ASSERT_TRUE(other);
        pair.peer.send(all.substr(cut));
        if (cut < 8) {  // it goes once more
            run_until(there, [&] { return static_cast<bool>(none); });
            ASSERT_TRUE(attach(here, std::move(none), Frames{&after, &gone}));
            run_until(here, [&] { return (before.text + after.text).size() == 25; });
        } else {
            run_until(there, [&] { return (before.text + after.text).size() == 25; });
        }
        EXPECT_EQ(before.text + after.text, "one,|move|yes!|twoo|half|");
        pair.peer.close();
        both(here, there, [&] { return after.closed == 1; });
        expect_nothing_left(here);
        expect_nothing_left(there);
    }
}

TEST_P(Handover, what_is_written_until_it_goes_goes_along) {
    WHORL_SKIP_IF_REFUSED();
    Loop here = make_loop(), there = make_loop();
    Pair pair = make_pair(here);
    Log before, after;
    Stream& stream = attach_log(here, pair.socket, before);
    DetachDone got;
    before.on_opened = [&](Stream& opened) {
        opened.write("first, ");
        EXPECT_FALSE(detach(opened, [&](Loop&, DetachDone done) {
            opened.write("dropped: it is gone");
            opened.resume();
            opened.abort();
            EXPECT_EQ(detach(opened, [](Loop&, DetachDone) {}), Error::stale_handle);
            got = std::move(done);
        }));
        opened.write("second");
        opened.unread(Buffer::copy_of(Bytes("again")));
        EXPECT_EQ(detach(opened, [](Loop&, DetachDone) {}), Error::from_errno(EALREADY));
        opened.end();
    };
    static_cast<void>(stream);
    run_until(here, [&] { return static_cast<bool>(got.stream); });
    EXPECT_EQ(got.stream.held(), 5u);
    EXPECT_EQ(got.stream.queued(), 13u);
    EXPECT_FALSE(got.stream.peer_ended());
    EXPECT_EQ(got.stream.counters().writes, 2u);
    attach_there(there, std::move(got.stream), after);
    EXPECT_EQ(read_peer(there, pair.peer, 13), "first, second");
    run_until(there, [&] { return after.text == "again"; });
    pair.peer.close();
    run_closed(there, after);
    EXPECT_EQ(after.calls.substr(0, 2), "or");
    expect_nothing_left(here);
    expect_nothing_left(there);
}

TEST_P(Handover, what_comes_for_it_wakes_its_old_loop_no_more) {
    WHORL_SKIP_IF_REFUSED();
    if (GetParam().world) return;  // no host polls there
    Loop here = make_loop();
    const Result<int> notify = here.notify_fd();  // says whether something has come for the loop
    ASSERT_TRUE(notify);
    Pair pair = make_pair(here);
    Log log;
    Stream& stream = attach_log(here, pair.socket, log);
    run_until(here, [&] { return log.has('o'); });
    turns(here, 3);  // it is waited for
    const int fd = fd_of(here, pair.socket);
    DetachedStream travelling = detached(here, stream);
    const auto wakes = [&] {
        pollfd wait{*notify, POLLIN, 0};
        return os::poll(&wait, 1, 0) != 0;
    };
    for (int round = 0; round < 1000 && (round < 10 || wakes()); ++round) {
        EXPECT_FALSE(here.process());
    }
    EXPECT_FALSE(wakes());
    pair.peer.send("for another loop");
    pollfd arrived{fd, POLLIN, 0};
    EXPECT_EQ(os::poll(&arrived, 1, 30'000), 1);
    EXPECT_FALSE(wakes()) << "the connection is still known to the loop that it has left";
    Loop there = make_loop();
    Log after;
    attach_there(there, std::move(travelling), after);
    run_until(there, [&] { return after.text == "for another loop"; });
    pair.peer.send(", and more");
    run_until(there, [&] { return after.text == "for another loop, and more"; });
    after.stream->abort();
    run_closed(there, after);
    expect_nothing_left(there);
}

TEST_P(Handover, an_accepted_connection_is_dealt_out_without_having_been_a_stream) {
    WHORL_SKIP_IF_REFUSED();
    Loop here = make_loop(), there = make_loop();
    Pair pair = make_pair(here);
    EXPECT_EQ(DetachedStream::of(here, Socket()).error(), Error::stale_handle);
    End own;
    const Result<Operation> receive = here.submit(Recv{pair.socket, here.buffer(10)}, into(own));
    ASSERT_TRUE(receive);
    EXPECT_EQ(DetachedStream::of(here, pair.socket).error(), Error::from_errno(EBUSY));
    here.cancel(*receive);
    run_until(here, [&] { return own.finals == 1; });
    pair.peer.send("before anybody read");
    StreamOptions options;
    options.read_rate = Rate{1'000'000, 1'000};
    Result<DetachedStream> dealt = DetachedStream::of(here, pair.socket, options);
    ASSERT_TRUE(dealt);
    expect_nothing_left(here);
    EXPECT_EQ(dealt->held() + dealt->queued(), 0u);
    EXPECT_EQ(dealt->options().read_rate.burst, 1'000u);
    Log log;
    attach_there(there, std::move(*dealt), log);
    run_until(there, [&] { return log.text == "before anybody read"; });
    pair.peer.close();
    run_closed(there, log);
    expect_nothing_left(there);
}

TEST_P(Handover, dropped_it_resets_the_connection_and_frees_all) {
    WHORL_SKIP_IF_REFUSED();
    Loop here = make_loop();
    Pair pair = make_medium_pair(here);
    Log log;
    Stream& stream = attach_log(here, pair.socket, log);
    run_until(here, [&] { return log.has('o'); });
    stream.write(pattern(1'000'000));
    {
        DetachedStream dropped = detached(here, stream);
        DetachedStream moved(std::move(dropped));
        EXPECT_FALSE(dropped);
        dropped = std::move(moved);
        EXPECT_TRUE(dropped);
    }
    EXPECT_TRUE(log.witness.alone());
    os::let_arrive();
    char bytes[4096];
    ssize_t got = 1;
    while (got > 0) got = os::recv(pair.peer.fd(), bytes, sizeof bytes, 0);
    EXPECT_EQ(got, -1) << "no orderly end";
    expect_nothing_left(here);
}

TEST_P(Handover, counters_and_the_time_of_the_whole_go_on) {
    WHORL_SKIP_IF_REFUSED();
    // Only in a world is the time the test's.
    const bool timed = GetParam().world.has_value();
    const Nanoseconds total = timed ? Nanoseconds(100ms) : Nanoseconds(1h);
    Loop here = make_loop(), there = make_loop();
    const Instant earliest = os::now();
    Pair pair = make_pair(here);
    Log before, after;
    StreamOptions options;
    options.deadlines.total = total;
    const Instant begun = os::now();
    Stream& stream = attach_log(here, pair.socket, before, options);
    pair.peer.send("counted");
    run_until(here, [&] { return before.text == "counted"; });
    if (timed) {
        EXPECT_FALSE(here.run_for(60ms));
    }
    DetachedStream travelling = detached(here, stream);
    EXPECT_EQ(travelling.counters().bytes_received, 7u);
    EXPECT_EQ(travelling.options().deadlines.total, total);
    Stream& there_now = attach_there(there, std::move(travelling), after);
    if (!timed) there_now.abort();
    run_closed(there, after);
    EXPECT_EQ(after.reason.by, timed ? ClosedBy::deadline : ClosedBy::us);
    if (timed) {
        EXPECT_GE(os::now() - earliest, total);
        EXPECT_LT(os::now() - begun, total + 50ms);
    }
    EXPECT_EQ(after.counters.bytes_received, 7u);
    expect_nothing_left(there);
}

}  // namespace
}  // namespace whorl::conformance
