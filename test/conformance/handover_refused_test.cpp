// SPDX-License-Identifier: MIT
// Goal: a stream that cannot be handed over says why, and goes on or ends as if nobody had asked; what a
// loop refuses to attach is still whole. Method: every error of both calls, and each allocation refused.
#include "conformance/handover_tools.hpp"
#include "stream/filter.hpp"

#include <new>

namespace {
// How many more requests of the library's own the heap grants before it refuses one; below zero: all.
int heap_grants = -1;
bool heap_grants_one() { return heap_grants < 0 || heap_grants-- > 0; }
}  // namespace

// What the library asks the heap for by itself: null while that is wanted.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    return heap_grants_one() ? ::operator new(size) : nullptr;
}
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
    return heap_grants_one() ? ::operator new[](size) : nullptr;
}

namespace whorl::conformance {
namespace {

class HandoverRefused : public Handover {};
WHORL_CONFORMANCE(HandoverRefused);

TEST_P(HandoverRefused, what_ends_the_stream_meanwhile_is_told_before_closed) {
    WHORL_SKIP_IF_REFUSED();
    struct Case {
        const char* name;
        Error expected;
        std::function<void(Stream&, Peer&)> meanwhile;
    };
    const Case cases[] = {
        {"close", Error::cancelled, [](Stream& stream, Peer&) { stream.close(); }},
        {"close for a reason", Error::from_errno(EPROTO),
         [](Stream& stream, Peer&) { stream.close(Error::from_errno(EPROTO)); }},
        {"abort", Error::from_errno(EPERM),
         [](Stream& stream, Peer&) { stream.abort(Error::from_errno(EPERM)); }},
        {"too much", Error::write_overflow,
         [](Stream& stream, Peer&) { stream.write(pattern(1'100'000)); }},
    };
    for (const Case& what : cases) {
        SCOPED_TRACE(what.name);
        Loop here = make_loop();
        Pair pair = make_narrow_pair(here);
        Log log;
        StreamOptions options;
        options.queue_max = 1'000'000;
        Stream& stream = attach_log(here, pair.socket, log, options);
        run_until(here, [&] { return log.has('o'); });
        stream.write(pattern(500'000));  // stays under way
        turns(here, 5);
        std::optional<Error> told;
        EXPECT_FALSE(detach(stream, [&](Loop&, DetachDone done) {
            EXPECT_FALSE(told) << "told twice";
            EXPECT_EQ(log.closed, 0);
            told = done.error;
        }));
        what.meanwhile(stream, pair.peer);
        EXPECT_FALSE(told) << "told inline";
        EXPECT_EQ(detach(stream, [](Loop&, DetachDone) {}), Error::stale_handle);
        run_until(here, [&] { return told.has_value(); });
        EXPECT_EQ(told.value_or(Error()), what.expected);
        pair.peer.close();
        run_closed(here, log);
        expect_gone(here, log);
    }
}

TEST_P(HandoverRefused, a_loop_that_drains_or_goes_keeps_its_streams) {
    WHORL_SKIP_IF_REFUSED();
    Witness witness;
    std::optional<Error> told;
    Log drained, destroyed;
    {
        Loop here = make_loop(), there = make_loop();
        Pair pair = make_pair(here), other = make_pair(here);
        Stream& stream = attach_log(here, pair.socket, drained);
        run_until(here, [&] { return drained.has('o'); });
        DetachedStream travelling = detached(here, attach_log(here, other.socket, destroyed));
        EXPECT_EQ(refusal(here, stream, [&] { EXPECT_FALSE(here.drain(10s)); }),
                  Error::loop_closed);
        EXPECT_EQ(drained.closed, 1);
        EXPECT_EQ(drained.reason.by, ClosedBy::loop);
        // Attaching into a loop that drains is refused; the stream can go elsewhere.
        Error refused;
        Pair third = make_pair(there);
        Log closing;
        attach_log(there, third.socket, closing);
        closing.on_closed = [&](Stream& closed) {
            refused = attach(closed.loop(), std::move(travelling), Recorder(drained)).error();
        };
        EXPECT_FALSE(there.drain(10s));
        EXPECT_EQ(refused, Error::loop_closed);
        EXPECT_TRUE(travelling);
    }
    {
        Loop here = make_loop();
        Pair pair = make_pair(here);
        Log log;
        Stream& stream = attach_log(here, pair.socket, log);
        EXPECT_FALSE(detach(
            stream, [&told, copy = witness.copy()](Loop&, DetachDone done) { told = done.error; }));
        EXPECT_EQ(witness.others(), 1);
    }
    EXPECT_TRUE(witness.alone()) << "the handler is destroyed with the loop";
    EXPECT_FALSE(told) << "uncalled";
}

TEST_P(HandoverRefused, is_refused_while_the_program_uses_the_socket_and_goes_on) {
    WHORL_SKIP_IF_REFUSED();
    Loop here = make_loop(), there = make_loop();
    Pair pair = make_narrow_pair(here);
    Log before, after;
    Stream& stream = attach_log(here, pair.socket, before);
    run_until(here, [&] { return before.has('o'); });
    stream.pause();
    pair.peer.send("fill");
    turns(here, 20);
    End own;  // behind the stream's own: it waits for what never comes
    ASSERT_TRUE(here.submit(Recv{pair.socket, here.buffer(10)}, into(own)));
    stream.write("written ");
    EXPECT_EQ(refusal(here, stream, [] {}), Error::from_errno(EBUSY));
    pair.peer.send("more");
    run_until(here, [&] { return own.finals == 1; });
    stream.write("and sent");
    EXPECT_EQ(read_peer(here, pair.peer, 16), "written and sent");
    attach_there(there, detached(here, stream), after);
    after.stream = nullptr;
    run_until(there, [&] { return after.has('o'); });
    after.stream->abort();
    run_closed(there, after);
    expect_nothing_left(here);
    expect_nothing_left(there);
}

class NoLayer final : public StreamLayer {
  public:
    Result<detail::StreamFilter*> make(Loop& loop) noexcept override {
        struct Silent final : detail::StreamFilter {
            using StreamFilter::StreamFilter;
            Unsealed unseal(Bytes& input, Buffer&) noexcept override {
                input = {};
                return {};
            }
            Error seal(Bytes) noexcept override { return {}; }
            void end() noexcept override {}
            const void* kind() const noexcept override { return nullptr; }
        };
        detail::StreamFilter* const made = new (std::nothrow) Silent(loop);
        return made;
    }
};

TEST_P(HandoverRefused, is_refused_with_its_reason) {
    WHORL_SKIP_IF_REFUSED();
    Loop here = make_loop(), there = make_loop();
    const auto never = [](Loop&, DetachDone) { ADD_FAILURE() << "called"; };
    NoLayer layer;
    Pair pair = make_pair(here), plain = make_pair(here);
    Log log, piped, moved;
    Stream& stream = attach_log(here, pair.socket, log);
    ASSERT_FALSE(stream.secure(layer));
    EXPECT_EQ(detach(stream, never), Error::from_errno(EOPNOTSUPP)) << "a layer";
    const Result<PipeEnds> pipes = make_pipe(here);
    ASSERT_TRUE(pipes);
    const Result<Stream*> over_pipes = attach(here, *pipes, Recorder(piped));
    ASSERT_TRUE(over_pipes);
    EXPECT_EQ(detach(**over_pipes, never), Error::from_errno(EOPNOTSUPP)) << "pipes";
    stream.abort();
    EXPECT_EQ(detach(stream, never), Error::stale_handle) << "aborted";
    (*over_pipes)->abort();
    both(here, there, [&] { return log.closed == 1 && piped.closed == 1; });

    Stream& goes = attach_log(here, plain.socket, moved);
    run_until(here, [&] { return moved.has('o'); });
    goes.write(pattern(1000));
    ASSERT_FALSE(detach(goes, [](Loop&, DetachDone) {}));
    EXPECT_EQ(goes.secure(layer), Error::invalid_argument) << "being detached";
    run_until(here, [&] { return moved.witness.alone(); });

    DetachedStream none;
    EXPECT_EQ(attach(there, std::move(none), Recorder(moved)).error(), Error::invalid_argument);
    expect_nothing_left(here);
}

TEST_P(HandoverRefused, attaching_is_refused_with_its_reason_and_takes_nothing) {
    WHORL_SKIP_IF_REFUSED();
    Loop here = make_loop(),
         there = make_loop([](LoopOptions&options) { options.handles_max = 1; });
    Pair pair = make_medium_pair(here);
    Log before, after;
    Stream& stream = attach_log(here, pair.socket, before);
    stream.write(pattern(3'000'000));
    turns(here, 5);
    DetachedStream travelling = detached(here, stream);
    const std::size_t left = travelling.queued();
    EXPECT_GT(left, 100'000u);
    const auto refused = [&](const StreamOptions& options) {
        return attach(there, std::move(travelling), Recorder(after), options).error();
    };
    NoLayer layer;
    StreamOptions layered;
    layered.layer = &layer;
    EXPECT_EQ(refused(layered), Error::invalid_argument);
    StreamOptions absurd;
    absurd.low = absurd.high + 1;
    EXPECT_EQ(refused(absurd), Error::invalid_argument);
    ASSERT_FALSE(set_stream_budget(there, {1000, 100'000}));
    EXPECT_EQ(refused({}), Error::over_budget);
    ASSERT_FALSE(set_stream_budget(there, {}));
    const Listener listener = listen_here(there);
    EXPECT_EQ(refused({}), Error::slots_exhausted);
    ASSERT_FALSE(there.close(listener));
    EXPECT_TRUE(after.witness.alone());
    ASSERT_TRUE(travelling);
    EXPECT_EQ(travelling.queued(), left);
    EXPECT_EQ(stream_statistics(there).streams, 0u);
    attach_there(there, std::move(travelling), after);
    std::string got;
    both(here, there, [&] {
        got += receive_now(pair.peer, 100'000);
        return got.size() == 3'000'000;
    });
    EXPECT_TRUE(got == pattern(3'000'000));
    pair.peer.close();
    run_closed(there, after);
    EXPECT_TRUE(after.has('w')) << "who waited for room is told";
    expect_nothing_left(there);
}

TEST_P(HandoverRefused, without_memory_it_stays_where_it_is_and_loses_nothing) {
    WHORL_SKIP_IF_REFUSED();
    bool done = false;
    for (int grants = 0; !done; ++grants) {
        SCOPED_TRACE(grants);
        ASSERT_LT(grants, 40);
        Loop here = make_loop(), there = make_loop();
        Pair pair = make_pair(here);
        Log before, after;
        Stream& stream = attach_log(here, pair.socket, before);
        run_until(here, [&] { return before.has('o'); });
        stream.pause();
        pair.peer.send("held, ");
        turns(here, 20);
        stream.write("small ");
        DetachDone got;
        bool told = false;
        heap_grants = grants;
        const Error refused = detach(stream, [&](Loop&, DetachDone given) {
            heap_grants = -1;
            got = std::move(given);
            told = true;
        });
        if (refused) {
            heap_grants = -1;
            EXPECT_EQ(refused, Error::from_errno(ENOMEM));
        } else {
            for (int turn = 0; turn < 1000 && !told; ++turn) turns(here, 1);
            EXPECT_TRUE(told);
        }
        if (!got.stream) {
            EXPECT_TRUE(refused || got.error == Error::from_errno(ENOMEM)) << got.error.text();
            stream.resume();
            run_until(here, [&] { return before.text == "held, "; });
            EXPECT_EQ(read_peer(here, pair.peer, 6), "small ");
            stream.abort();
            run_closed(here, before);
            expect_nothing_left(here);
            continue;
        }
        for (int more = 0;; ++more) {
            heap_grants = more;
            const Result<Stream*> attached = attach(there, std::move(got.stream), Recorder(after));
            heap_grants = -1;
            if (attached) break;
            EXPECT_EQ(attached.error(), Error::from_errno(ENOMEM));
            EXPECT_TRUE(got.stream);
            ASSERT_LT(more, 40);
        }
        run_until(there, [&] { return after.text == "held, "; });
        EXPECT_EQ(read_peer(there, pair.peer, 6), "small ");
        after.stream->abort();
        run_closed(there, after);
        expect_nothing_left(here);
        expect_nothing_left(there);
        done = true;
    }
}

}  // namespace
}  // namespace whorl::conformance
