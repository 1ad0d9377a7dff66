// SPDX-License-Identifier: MIT
#pragma once

#include "conformance/support.hpp"
#include "conformance/tcp_tools.hpp"

#include <whorl/protocol.hpp>

#include <cstdlib>
#include <functional>
#include <memory>
#include <string>

// What the tests of streams share: a protocol that writes down what it is told, does what the test says
// in each callback, and fails the test when it is called in a wrong order.
namespace whorl::conformance {

struct Log {
    std::string calls;  // o opened, r received, w writable, p peer_closed, c closed
    std::string text;   // all that was received
    Stream* stream = nullptr;
    Closed reason;
    int closed = 0;
    StreamCounters counters;  // at the end
    Witness witness;
    const bool* inside = nullptr;

    // What to do in a callback, besides writing it down.
    std::function<void(Stream&)> on_opened;
    std::function<void(Stream&, std::string_view)> on_received;
    std::function<void(Stream&)> on_writable;
    std::function<void(Stream&)> on_peer_closed = [](Stream& stream) { stream.close(); };
    std::function<void(Stream&)> on_closed;

    bool has(char call) const { return calls.find(call) != std::string::npos; }
};

class Recorder {
  public:
    explicit Recorder(Log& log) : log_(&log), alive_(log.witness.copy()) {}

    void opened(Stream& stream) {
        EXPECT_EQ(log_->calls, "");
        note('o', stream);
        if (log_->on_opened) log_->on_opened(stream);
    }
    void received(Stream& stream, Buffer buffer) {
        note('r', stream);
        EXPECT_FALSE(buffer.empty());
        const std::string text(buffer.text());
        log_->text += text;
        if (log_->on_received) log_->on_received(stream, text);
    }
    void writable(Stream& stream) {
        note('w', stream);
        if (log_->on_writable) log_->on_writable(stream);
    }
    void peer_closed(Stream& stream) {
        note('p', stream);
        if (log_->on_peer_closed) log_->on_peer_closed(stream);
    }
    void closed(Stream& stream, Closed reason) {
        note('c', stream);
        log_->reason = reason;
        log_->counters = stream.counters();
        ++log_->closed;
        if (log_->on_closed) log_->on_closed(stream);
    }

  private:
    void note(char call, Stream& stream) {
        if (log_->inside != nullptr) {
            EXPECT_FALSE(*log_->inside) << "called inline";
        }
        EXPECT_EQ(log_->closed, 0) << "nothing follows closed";
        if (log_->stream != nullptr) {
            EXPECT_EQ(log_->stream, &stream);
        }
        log_->stream = &stream;
        log_->calls += call;
    }

    Log* log_;
    std::shared_ptr<int> alive_;
};

class StreamTools : public TcpTools {
  protected:
    static Stream& attach_log(Loop& loop, Socket socket, Log& log,
                              const StreamOptions& options = {}) {
        const Result<Stream*> stream = attach(loop, socket, Recorder(log), options);
        EXPECT_TRUE(stream) << stream.error().text();
        if (!stream) std::abort();
        return **stream;
    }
    // A connection that holds some 100 KiB on the way in either direction, and no more.
    static Pair make_medium_pair(Loop& loop) {
        ListenOptions options;
        options.accepted.send_buffer = 65536;
        options.accepted.receive_buffer = 65536;
        Pair pair = make_pair(loop, options, 65536);
        const int size = 65536;
        os::setsockopt(pair.peer.fd(), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
        return pair;
    }
    // Everything that the peer can get without waiting, until `size` bytes are there.
    static std::string read_peer(Loop& loop, Peer& peer, std::size_t size) {
        std::string text;
        run_until(loop, [&] {
            text += receive_now(peer, size - text.size());
            return text.size() == size;
        });
        return text;
    }
    // Until the stream has been closed; the peer's bytes are dropped.
    static void run_closed(Loop& loop, Log& log) {
        run_until(loop, [&] { return log.closed == 1; });
    }
    // That nothing is left of it.
    static void expect_gone(Loop& loop, const Log& log) {
        EXPECT_EQ(log.closed, 1);
        EXPECT_TRUE(log.witness.alone());
        EXPECT_EQ(stream_statistics(loop).streams, 0u);
        EXPECT_EQ(stream_statistics(loop).bytes, 0u);
        expect_clean(loop);
    }
    // run_until, for what nothing in the loop wakes up for: the test's own peer acts.
    template <class Done>
    static void turn_until(Loop& loop, Done done) {
        run_until(loop, [&] {
            os::let_arrive();
            return done();
        });
    }
};

}  // namespace whorl::conformance
