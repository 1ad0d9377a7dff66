// SPDX-License-Identifier: MIT
// Goal: a layer between a stream and its socket is not seen by the protocol: it is opened after the
// handshake, reads, writes, pauses and ends as without; and a layer may begin in the middle.
// Method: a toy layer with a handshake, records and an end, on one end or both; TLS has its own tests.
#include "conformance/stream_tools.hpp"
#include "stream/filter.hpp"

#include <whorl/acceptor.hpp>

#include <algorithm>
#include <cstring>

namespace whorl::conformance {
namespace {

// Each side says 'H'. A record is 'D', its size in two bytes and its bytes, each plus one; 'E' ends a
// side. Anything else is answered with '!'.
class ToyFilter final : public detail::StreamFilter {
  public:
    ToyFilter(Loop& its_loop, Nanoseconds bound) noexcept : StreamFilter(its_loop) {
        handshake = bound;
    }

    Unsealed unseal(Bytes& input, Buffer& output) noexcept override {
        if (!greeted_) put(Bytes("H"));
        greeted_ = true;
        while (!input.empty()) {
            if (left_ != 0 && output.size() == output.capacity()) return {{}, true, false};
            const auto byte = std::to_integer<unsigned>(*input.data);
            input = {input.data + 1, input.size - 1};
            if (!take(byte, output)) {
                put(Bytes("!"));
                return {Error::tls_malformed};
            }
            if (at_end_) return {{}, false, true};
        }
        return {};
    }
    Error seal(Bytes plain) noexcept override {
        std::string record = "D";
        record += static_cast<char>(plain.size >> 8);
        record += static_cast<char>(plain.size & 255);
        for (const char byte : plain.text()) record += static_cast<char>(byte + 1);
        EXPECT_TRUE(ready);
        return put(Bytes(record)) ? Error() : Error::from_errno(ENOMEM);
    }
    void end() noexcept override { put(Bytes("E")); }
    const void* kind() const noexcept override { return nullptr; }

  private:
    bool take(unsigned byte, Buffer& output) noexcept {
        if (head_ != 0) {
            left_ = left_ << 8 | byte;
            return --head_ != 0 || left_ != 0;
        }
        if (left_ != 0) {
            const auto plain = static_cast<std::byte>(byte - 1);
            --left_;
            return output.append({&plain, 1});
        }
        if (!ready) return ready = byte == 'H';
        if (byte == 'D') head_ = 2;
        at_end_ = byte == 'E';
        return byte == 'D' || byte == 'E';
    }

    bool greeted_ = false;
    bool at_end_ = false;
    int head_ = 0;
    std::size_t left_ = 0;
};

class ToyLayer final : public StreamLayer {
  public:
    Result<detail::StreamFilter*> make(Loop& loop) noexcept override {
        if (refuse) return refuse;
        return static_cast<detail::StreamFilter*>(new (std::nothrow) ToyFilter(loop, bound));
    }
    Error refuse;
    Nanoseconds bound = 30s;
};

std::string sealed(std::string_view text) {
    std::string record = "D";
    record += static_cast<char>(text.size() >> 8);
    record += static_cast<char>(text.size() & 255);
    for (const char byte : text) record += static_cast<char>(byte + 1);
    return record;
}

class StreamLayers : public StreamTools {
  protected:
    StreamOptions layered() {
        StreamOptions options;
        options.layer = &layer;
        return options;
    }
    ToyLayer layer;
};
WHORL_CONFORMANCE(StreamLayers);

TEST_P(StreamLayers, the_protocol_sees_no_difference) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    Log log;
    log.on_received = [](Stream& stream, std::string_view text) { stream.write(text); };
    attach_log(loop, pair.socket, log, layered());
    EXPECT_EQ(read_peer(loop, pair.peer, 1), "H");
    EXPECT_EQ(log.calls, "") << "opened comes after the handshake";
    pair.peer.send("H" + sealed("one") + sealed("two"));
    std::string answer;
    run_until(loop, [&] {
        answer += receive_now(pair.peer, 1000);
        return log.text == "onetwo" && answer.size() >= 9;
    });
    EXPECT_EQ(log.calls.substr(0, 2), "or");
    pair.peer.send("E");
    run_until(loop, [&] { return log.has('p'); });
    EXPECT_EQ(read_peer(loop, pair.peer, 1), "E");
    run_closed(loop, log);
    EXPECT_EQ(log.reason.by, ClosedBy::peer);
    EXPECT_FALSE(log.reason.error);
    pair.peer.close();
    expect_gone(loop, log);
}

// Both ends are streams; much goes both ways, with pauses and a narrow queue.
TEST_P(StreamLayers, bulk_with_watermarks_and_pauses) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const std::string text = pattern(400'000);
    Log left, right;
    StreamOptions options = layered();
    options.high = 30'000;
    options.low = 10'000;
    std::size_t written = 0;
    const auto fill = [&](Stream& stream) {
        while (written < text.size()) {
            const std::size_t part = std::min<std::size_t>(text.size() - written, 7000);
            written += part;
            if (!stream.write(std::string_view(text).substr(written - part, part))) return;
        }
        stream.end();
    };
    left.on_opened = left.on_writable = fill;
    int pauses = 0;
    right.on_received = [&](Stream& stream, std::string_view part) {
        stream.write(part);
        if (++pauses % 4 != 0) return;
        stream.pause();
        ASSERT_TRUE(loop.after(1ms, [&stream](Loop&, Expired) { stream.resume(); }));
    };
    const auto listener = serve(
        loop, Address::loopback_v4(0), [&](const Accepted&) { return Recorder(right); },
        [&] {
            AcceptorOptions serving;
            serving.stream = options;
            return serving;
        }());
    ASSERT_TRUE(listener);
    const Result<Address> at = local_address(loop, (*listener)->listener());
    ASSERT_TRUE(at);
    const auto connecting = loop.submit(Connect{*at}, [&](Loop&, Connect::Done done) {
        ASSERT_FALSE(done.error);
        attach_log(loop, done.socket, left, options);
    });
    ASSERT_TRUE(connecting);
    run_until(loop, [&] { return left.closed + right.closed == 2; });
    EXPECT_TRUE(right.text == text);
    EXPECT_TRUE(left.text == text);
    EXPECT_FALSE(left.reason.error) << left.reason.error.text();
    EXPECT_FALSE(right.reason.error) << right.reason.error.text();
    EXPECT_LE(left.counters.queued_high, options.high + 7000 + 1000);
    (*listener)->close();
    run_until(loop, [&] { return loop.statistics().operations == 0; });
    expect_gone(loop, left);
    expect_gone(loop, right);
}

TEST_P(StreamLayers, errors_are_told_and_the_peer_learns_why) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    struct Case {
        const char* said;
        bool leaves;
        Error error;
        const char* calls;
        const char* heard;
    };
    const Case cases[] = {
        {"G", false, Error::tls_malformed, "c", "H!"},
        {"H?", false, Error::tls_malformed, "oc", "H!"},
        {"", true, Error::tls_truncated, "c", nullptr},
        {"H", true, Error::tls_truncated, "oc", nullptr},
    };
    for (const Case& the : cases) {
        Pair pair = make_pair(loop);
        Log log;
        attach_log(loop, pair.socket, log, layered());
        pair.peer.send(the.said);
        if (the.leaves) {
            run_until(loop, [&] { return log.calls.size() + 1 == std::strlen(the.calls); });
            pair.peer.finish_sending();
        } else {
            EXPECT_EQ(read_peer(loop, pair.peer, 2), the.heard);
            pair.peer.finish_sending();
        }
        run_closed(loop, log);
        EXPECT_EQ(log.calls, the.calls);
        EXPECT_EQ(log.reason.by, ClosedBy::error);
        EXPECT_EQ(log.reason.error, the.error) << log.reason.error.text();
        pair.peer.close();
        expect_gone(loop, log);
    }
    layer.refuse = Error::tls_setup;
    Pair pair = make_pair(loop);
    Log log;
    EXPECT_EQ(attach(loop, pair.socket, Recorder(log), layered()).error(), Error::tls_setup);
    EXPECT_FALSE(loop.close(pair.socket));
    EXPECT_EQ(stream_statistics(loop).streams, 0u);
}

TEST_P(StreamLayers, a_handshake_has_a_deadline) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    layer.bound = 20ms;
    Pair pair = make_pair(loop);
    Log log;
    Stream& stream = attach_log(loop, pair.socket, log, layered());
    stream.write("waits");
    stream.pause();
    run_closed(loop, log);
    EXPECT_EQ(log.calls, "c");
    EXPECT_EQ(log.reason.by, ClosedBy::deadline);
    EXPECT_EQ(log.reason.error, Error::timed_out);
    expect_gone(loop, log);
}

// After the layer's end the connection goes on, and nothing is expected from it.
TEST_P(StreamLayers, rates_and_deadlines_after_the_peers_end) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    Log log;
    log.on_peer_closed = [](Stream&) {};
    StreamOptions options = layered();
    options.deadlines.read = 100ms;
    options.write_rate.bytes_per_second = 100'000;
    options.write_rate.burst = 1000;
    Stream& stream = attach_log(loop, pair.socket, log, options);
    pair.peer.send("HE");
    run_until(loop, [&] { return log.has('p'); });
    const std::string text = pattern(20'000);
    stream.write(text);
    const std::string expected = "H" + sealed(text.substr(0, 16'128)) + sealed(text.substr(16'128));
    EXPECT_TRUE(read_peer(loop, pair.peer, expected.size()) == expected);
    stream.close();
    EXPECT_EQ(read_peer(loop, pair.peer, 1), "E");
    run_closed(loop, log);
    EXPECT_EQ(log.reason.by, ClosedBy::peer);
    EXPECT_FALSE(log.reason.error) << log.reason.error.text();
    pair.peer.close();
    expect_gone(loop, log);
}

// What is written before the handshake waits for it, even at the high watermark and paused.
TEST_P(StreamLayers, writing_closing_and_aborting_before_the_handshake) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (const char* how : {"closed", "empty", "aborted"}) {
        Pair pair = make_pair(loop);
        Log log;
        StreamOptions options = layered();
        options.high = options.low = 4;
        Stream& stream = attach_log(loop, pair.socket, log, options);
        EXPECT_EQ(read_peer(loop, pair.peer, 1), "H");
        if (how != std::string("empty")) {
            EXPECT_FALSE(stream.write("early"));
        }
        stream.pause();
        if (how == std::string("aborted")) stream.abort();
        else stream.close();
        if (how == std::string("closed")) {
            turns(loop, 3);
            pair.peer.send("H");
            EXPECT_EQ(read_peer(loop, pair.peer, 9), sealed("early") + "E");
        } else if (how == std::string("empty")) {
            EXPECT_EQ(read_peer(loop, pair.peer, 1), "E");
        }
        pair.peer.close();
        run_closed(loop, log);
        EXPECT_EQ(log.reason.by, ClosedBy::us);
        EXPECT_EQ(log.calls, how == std::string("closed") ? "oc" : "c");
        expect_gone(loop, log);
    }
}

// As STARTTLS: what was said before is not sealed, and what came with the request is not plain.
TEST_P(StreamLayers, a_layer_may_begin_later) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (const bool together : {true, false}) {
        Pair pair = make_pair(loop);
        Log before, after;
        before.on_received = [&](Stream& stream, std::string_view text) {
            stream.write("go ahead\n");
            stream.unread(Buffer::copy_of(Bytes(text.substr(6))));
            EXPECT_FALSE(stream.secure(layer));
            EXPECT_EQ(stream.secure(layer), Error::invalid_argument);
            EXPECT_FALSE(stream.replace(Recorder(after)));
            stream.write("sealed");
        };
        attach_log(loop, pair.socket, before);
        pair.peer.send(together ? "start\nH" + sealed("hello") : "start\n");
        if (!together) {
            EXPECT_EQ(read_peer(loop, pair.peer, 10), "go ahead\nH");
            EXPECT_EQ(after.calls, "");
            pair.peer.send("H" + sealed("hello"));
        }
        const std::string rest = together ? "go ahead\nH" + sealed("sealed") : sealed("sealed");
        EXPECT_EQ(read_peer(loop, pair.peer, rest.size()), rest);
        run_until(loop, [&] { return after.text == "hello"; });
        EXPECT_EQ(before.calls, "or");
        EXPECT_EQ(after.calls.substr(0, 2), "or");
        after.stream->abort();
        run_closed(loop, after);
        expect_gone(loop, after);
    }
}

// The proxy's header is not part of the layer.
TEST_P(StreamLayers, begins_after_a_proxy_header) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Log log;
    Address source;
    AcceptorOptions options;
    options.stream = layered();
    options.proxy_header = true;
    const auto acceptor = serve(
        loop, Address::loopback_v4(0),
        [&](const Accepted& accepted) {
            source = accepted.peer;
            return Recorder(log);
        },
        options);
    ASSERT_TRUE(acceptor);
    const Result<Address> at = local_address(loop, (*acceptor)->listener());
    ASSERT_TRUE(at);
    Peer peer = Peer::connect_to(at->port());
    peer.send("PROXY TCP4 192.0.2.1 192.0.2.2 1000 443\r\nH" + sealed("hello"));
    run_until(loop, [&] { return log.text == "hello"; });
    EXPECT_EQ(source, *Address::parse("192.0.2.1:1000"));
    log.stream->abort();
    peer.close();
    run_closed(loop, log);
    (*acceptor)->close();
    run_until(loop, [&] { return loop.statistics().operations == 0; });
    expect_gone(loop, log);
}

}  // namespace
}  // namespace whorl::conformance
