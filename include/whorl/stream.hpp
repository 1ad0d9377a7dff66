// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/buffer.hpp>
#include <whorl/bytes.hpp>
#include <whorl/error.hpp>
#include <whorl/export.hpp>
#include <whorl/handle.hpp>
#include <whorl/loop.hpp>
#include <whorl/pipe.hpp>
#include <whorl/rate_limit.hpp>
#include <whorl/result.hpp>
#include <whorl/time.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>

// A stream: a connection with a queue of what is to be written, limits, deadlines and an orderly end.
// It is made by attach() (protocol.hpp) together with the object that handles it. TCP and Unix stream
// sockets and pipes.
//
//   reading ──pause(), high watermark, rate, budget──▶ not reading ──▶ reading
//   open ──end()──▶ our side ends when the queue is empty; receiving goes on
//        ──close()──▶ the queue is flushed, our side ended, the peer's end awaited   ──▶ closed
//        ──abort(), an error, a deadline──▶ the rest of the queue is dropped, a reset ──▶ closed

namespace whorl {

// What may stand between a stream and its socket: TLS (whorl/tls.hpp). Such a layer turns what is
// written into what is sent, and what arrives into what is received.
class StreamLayer;

// How long things may take; zero is for ever. Counted from the turn in which they began.
struct StreamDeadlines {
    Nanoseconds idle{0};  // nothing is received and nothing sent
    Nanoseconds read{0};  // the stream reads, and nothing comes
    Nanoseconds write{
        0};  // the peer takes none of what is with the kernel: at most write_chunk bytes
    Nanoseconds frame{
        0};  // a frame has begun and is not whole: a peer that sends a byte now and then
    Nanoseconds total{0};                         // the stream as a whole, from attach() on
    Nanoseconds close = std::chrono::seconds(5);  // close(): flush, end, and the peer's end
};

// What a stream may hold, how fast it may be, and what stands between it and its socket.
struct StreamOptions {
    StreamDeadlines deadlines = {};  // set_deadlines() changes them later
    // Bytes in the write queue. From `high` on write() answers false, and the stream stops reading, so
    // that a peer that sends and does not read cannot fill the memory; at `low` and below it goes on
    // and `writable` is called.
    std::size_t high = std::size_t{256} << 10;
    std::size_t low = std::size_t{64} << 10;  // at most `high`, and that at most `queue_max`
    bool pause_at_high = true;                // false: who writes looks after it alone
    // Beyond it the stream ends with write_overflow: who writes did not listen to false.
    std::size_t queue_max = std::size_t{16} << 20;
    // Of this stream alone, and of all streams that share a group.
    Rate read_rate = {};
    Rate write_rate = {};        // of what is sent
    RateGroup read_group = {};   // a bucket for the received bytes of all who have it
    RateGroup write_group = {};  // and for the sent ones
    // From the first byte on; `opened` is called when it is ready, after its handshake. It must live
    // as long as streams are made with these options. Null: none.
    StreamLayer* layer = nullptr;
};

// What a loop's streams may hold together, in queues and received but not delivered. From `high` on no
// stream reads what would be added and acceptors accept nobody; below three quarters of it they go on.
// A write that would go beyond `max` ends its stream with over_budget.
struct StreamBudget {
    std::size_t high = std::size_t{64} << 20;  // bytes, above 0
    std::size_t max = std::size_t{128} << 20;  // bytes, at least `high`
};

// Who or what has ended a stream, and which error comes with it.
enum class ClosedBy : std::uint8_t {
    us,         // close(), with its reason; abort(), with its reason
    peer,       // it ended its side first, and everything was flushed
    error,      // of the connection: ECONNRESET, EPIPE, ETIMEDOUT; or ENOMEM, slots_exhausted
    deadline,   // timed_out: idle, read, write, frame, total or close
    limit,      // write_overflow, over_budget
    exception,  // handler_threw
    loop,       // loop_closed: the loop is draining
};

// Why a stream has ended.
struct Closed {
    ClosedBy by = ClosedBy::us;  // says what `error` may be
    Error error;                 // none when it ended in order
};

// With a layer, bytes are those of the connection, its overhead included.
struct StreamCounters {
    std::uint64_t bytes_received = 0;  // from the socket
    std::uint64_t bytes_sent = 0;      // taken by the kernel
    std::uint64_t receives = 0;        // buffers
    std::uint64_t sends = 0;           // calls to the kernel, each with what was gathered
    std::uint64_t writes = 0;          // calls of write()
    std::uint64_t pauses = 0;          // times it stopped reading
    std::size_t queued_high = 0;       // bytes, the longest the write queue has been
};

// Of all streams of a loop.
struct StreamStatistics {
    std::uint32_t streams = 0;       // now
    std::uint32_t streams_high = 0;  // most at once
    std::uint64_t opened = 0;        // made by attach(), acceptors and connectors
    std::uint64_t closed = 0;        // ended, for whatever reason
    std::uint64_t detached = 0;      // handed over to other loops (handover.hpp)
    std::uint64_t shed = 0;          // ended with over_budget
    std::uint64_t overloads = 0;     // times `high` was reached
    std::size_t bytes = 0;           // held now
    std::size_t bytes_high = 0;      // most at once
    bool overloaded = false;  // from `high` down to three quarters of it: nobody reads or accepts
};

namespace detail {
struct StreamState;
struct StreamFilter;
struct ProtocolTable;
template <class P>
struct ProtocolBox;
}  // namespace detail

// Lifetime: the loop's, from attach() until the protocol's `closed` has returned; a pointer to it may be
// kept until then and no longer. When the loop is destroyed, so is the stream, without a call.
// Thread: loop thread only. No call runs a callback: all of them come from the loop's dispatch.
class WHORL_EXPORT Stream {
  public:
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    // Appends to the queue; what is written in one turn goes to the kernel in one call (as far as 64
    // KiB and 64 buffers). Owns: the buffer, always. Returns false when the queue has reached its high
    // watermark: it was taken all the same, but hold back until `writable`, or `closed`, is called.
    // Also false, and dropped, when the stream is closing or our side has ended.
    // Small buffers behind others are copied together. Cost: no allocation, as long as the queue has
    // been as long before.
    bool write(Buffer&& buffer) noexcept;
    // The same with a copy of the bytes.
    bool write(Bytes bytes) noexcept;
    // The same of a text.
    bool write(std::string_view text) noexcept { return write(Bytes(text)); }

    // Ends our side when the queue is empty; receiving goes on until the peer ends its side, and then
    // the stream is closed.
    void end() noexcept;
    // Ends in order: nothing is delivered any more, the queue is flushed, our side ended, and what the
    // peer still sends dropped until it ends its side, too; after deadlines.close it is aborted.
    // `reason` is what `closed` will be told. Calling it again changes nothing.
    void close(Error reason = {}) noexcept;
    // Ends at once: the queue is dropped, the peer gets a reset (TCP). `closed` comes with one of the
    // next turns. After it nothing else is called.
    void abort(Error reason = Error::cancelled) noexcept;

    // Nothing is delivered until resume(); what has arrived is kept, and the peer is held back.
    void pause() noexcept;
    // Undoes pause(): what has arrived meanwhile is delivered, from the loop's dispatch.
    void resume() noexcept;
    // Delivers these bytes again, before what comes next: what a protocol leaves to its successor.
    // Owns: the buffer.
    void unread(Buffer&& buffer) noexcept;

    // Another object handles the stream from now on: `opened` of the new one is called first, in this
    // turn. The old one is destroyed without a call, when the callback it may be in has returned.
    // Owns: the protocol, on success. Errors: ENOMEM, stale_handle (aborted or closed). Cost: one
    // allocation. Defined in protocol.hpp.
    template <class P>
    Error replace(P&& protocol) noexcept;

    // From now on a layer stands between the stream and its socket, as after STARTTLS: what was
    // written before goes out as it is, and what has arrived and was not delivered goes through the
    // layer. What is written from now on is sent when the layer is ready; so is, when it is made with
    // replace() in the same turn, the next protocol's `opened` called.
    // Errors: invalid_argument (it has one, our side has ended, or it is being detached), stale_handle
    // (aborted or closed), ENOMEM, those of the layer.
    Error secure(StreamLayer& layer) noexcept;

    // From now on these deadlines count.
    void set_deadlines(const StreamDeadlines& deadlines) noexcept;

    Loop& loop() noexcept;                // the one that it was attached to
    Socket socket() const noexcept;       // null for pipes; for options, addresses; not for sending
    bool paused() const noexcept;         // by pause()
    bool closing() const noexcept;        // by close(), abort() or an error
    std::size_t queued() const noexcept;  // bytes of the write queue, not yet with the kernel
    const StreamCounters& counters() const noexcept;  // lasts as long as the stream

  protected:
    Stream() noexcept = default;
    ~Stream() = default;

  private:
    template <class P>
    friend struct detail::ProtocolBox;
    detail::StreamState& state() noexcept;
    const detail::StreamState& state() const noexcept;
};

// What the streams of a loop may hold together. Thread: the loop's.
// Errors: invalid_argument (high above max, or 0), ENOMEM.
WHORL_EXPORT Error set_stream_budget(Loop& loop, const StreamBudget& budget) noexcept;
// And what they do hold; zeros where there was no stream yet. Thread: the loop's.
WHORL_EXPORT StreamStatistics stream_statistics(Loop& loop) noexcept;

namespace detail {
// What the layer of a stream has made for it, or null.
WHORL_EXPORT StreamFilter* stream_filter(const Stream& stream) noexcept;
}  // namespace detail

}  // namespace whorl
