// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include "stream/buffer_queue.hpp"
#include "stream/filter.hpp"
#include "stream/hub.hpp"

#include <whorl/address.hpp>
#include <whorl/buffer_chain.hpp>
#include <whorl/handover.hpp>
#include <whorl/protocol.hpp>
#include <whorl/tcp.hpp>

#include <cstddef>
#include <cstdint>

// A stream's state. Everything that happens to it is noted here and acted upon in settle(), whose steps
// stand in its order; what they find to do follows from the state alone, so it does not matter in which
// order the notes were made.
//
//   file               steps
//   stream.cpp         settle, callbacks, the protocol, what users call
//   stream_read.cpp    deliver, read: receiving, pausing, the peer's end
//   stream_write.cpp   send: the queue, gathering, rates, our end
//   stream_filter.cpp  unseal, seal: a layer between the stream and its socket
//   stream_end.cpp     end: close, abort, deadlines, the last callback
//   handover.cpp       detach: out of this loop, and into it
//
// Only read.cpp, write.cpp and end.cpp name operations: another transport stands beside them there.
// With a filter, `held` and `waiting` are what the protocol reads and writes, and filter->sealed is what
// is sent; `queued_bytes` counts both.
//
// Invariants:
//   1. `pending` counts the handlers that hold a pointer to this state; it is destroyed only at 0.
//   2. At most one operation reads and one sends.
//   3. After `ended` nothing is called but `closed`, once, when pending is 0.
//   4. Protocols are destroyed only while none of their callbacks runs.

namespace whorl::detail {

inline constexpr std::size_t write_chunk = std::size_t{64} << 10;  // at most, given to the kernel
inline constexpr std::uint32_t write_parts = 64;
inline constexpr std::size_t read_chunk = std::size_t{16} << 10;  // of single receives
inline constexpr std::size_t copy_max = 1024;                     // such buffers are joined
inline constexpr std::size_t copy_room = 4096;                    // into one of this size

struct StreamState;

// Who is told that a stream has gone: its acceptor.
struct StreamOwner {
    virtual void stream_gone(StreamState& stream) noexcept = 0;
    virtual void stream_refused() noexcept = 0;

  protected:
    ~StreamOwner() = default;
};

struct StreamState final : Stream, HubEntry {
    StreamState(LoopCore& loop_core, const StreamOptions& given) noexcept;
    ~StreamState() override;
    void settle() override;
    void drain() override;

    // --- stream.cpp
    void start(const ProtocolTable& with, void* with_object) noexcept;
    void call_opened();
    void drop_retired() noexcept;
    // Calls one callback; a stream whose callback throws is aborted.
    template <class Call>
    void call(Call&& callback);

    // --- stream_read.cpp
    void deliver();
    void arrived(Buffer&& buffer);
    void hold(Buffer&& buffer, bool first) noexcept;
    void take_received(Buffer&& buffer);
    void take_plain(Buffer&& buffer);
    void tell_peer_end();
    bool wants_reading() const noexcept;
    bool may_deliver() const noexcept;
    void read() noexcept;
    void read_ended(Error error, bool at_end);
    void on_stream(RecvStream::Done done);
    template <class Done>
    void on_single(Done done);

    // --- stream_write.cpp
    bool queue(Buffer&& buffer) noexcept;
    bool queue_copy(Bytes bytes) noexcept;
    bool put_copy(Bytes bytes) noexcept;
    bool no_memory() noexcept;
    bool admit(std::size_t bytes) noexcept;
    bool below_high() noexcept;
    void send() noexcept;
    void send_single() noexcept;
    void send_gathered() noexcept;
    void sent(Error error, std::uint64_t bytes);
    void on_send(Error error, std::uint64_t bytes, Buffer&& buffer);
    void on_chain(SendChain::Done done);
    Error put_back(std::size_t bytes) noexcept;
    void shut() noexcept;
    void tell_writable();

    // --- stream_filter.cpp
    bool handshaking() const noexcept { return filter != nullptr && !filter->ready; }
    BufferQueue& to_send() noexcept { return filter != nullptr ? filter->sealed : waiting; }
    Error set_filter(StreamLayer& layer) noexcept;
    void begin_filter();
    void unseal(Bytes bytes);
    bool unseal_some(Bytes& bytes);
    void seal() noexcept;
    void count_sealed() noexcept;
    void filter_failed(Error error) noexcept;

    // --- stream_end.cpp
    void fail(ClosedBy by, Error error, bool reset = true) noexcept;
    void end_orderly() noexcept;
    void release_all() noexcept;
    void finish();
    void handler_ended();
    void arm() noexcept;
    Instant next_due() const noexcept;
    void expired();
    void reset_on_close() noexcept;

    // --- handover.cpp
    bool detaching() const noexcept { return detach.object != nullptr; }
    bool going() const noexcept { return !ended && !detaching(); }
    void stop_transfers() noexcept;
    void settle_detach();
    void detach_failed(Error error);
    Error pack(DetachedState& into) noexcept;
    void leave() noexcept;

    // Fixed.
    Socket descriptor;
    Pipe in;
    Pipe out;
    bool pipes = false;
    StreamOptions options;
    TokenBucket read_bucket;
    TokenBucket write_bucket;
    Instant attached_at{};

    // Whose it is, besides the loop's.
    struct OwnerLink : ListNode {
        StreamState* stream = nullptr;
    };
    StreamOwner* owner = nullptr;
    OwnerLink in_owner;   // all of its streams
    OwnerLink in_bucket;  // those of the same peer, and of some others
    Address peer;

    // The protocol.
    const ProtocolTable* table = nullptr;
    void* object = nullptr;
    const ProtocolTable* retired_table = nullptr;
    void* retired = nullptr;
    bool calling = false;
    bool owes_opened = false;

    StreamFilter* filter = nullptr;

    // Reading.
    BufferQueue held;  // received, not delivered
    std::size_t held_bytes = 0;
    Operation reading;        // null: none
    bool streaming = false;   // it is a RecvStream
    bool stop_asked = false;  // and was cancelled
    bool user_paused = false;
    bool budget_paused = false;
    bool peer_ended = false;
    bool peer_told = false;
    bool frame_open = false;
    Instant read_at{};  // not before, for its rate
    Instant received_at{};
    Instant frame_at{};

    // Writing.
    BufferQueue waiting;
    BufferChain flying;  // room for what is gathered
    std::size_t queued_bytes = 0;
    std::size_t flying_bytes = 0;  // of one buffer, what it has; its size is set to what may go now
    Operation send_operation;      // while `sending`
    bool send_stop_asked = false;  // and was cancelled
    bool sending = false;
    bool back_is_ours = false;  // the queue's last buffer may be appended to
    bool above_high = false;
    bool ending = false;    // end() or close()
    bool shutting = false;  // our end is on its way
    bool shut_done = false;
    Instant write_at{};
    Instant sent_at{};
    Instant send_began{};

    // The end.
    bool closes = false;  // close()
    bool ended = false;   // the descriptor is being closed
    Closed reason;
    Instant close_at{};
    DetachCall detach;  // who waits for the stream to be detached
    std::uint32_t pending = 0;
    Timer timer;
    Instant timer_at = instant_never;
    StreamCounters counts;
};

template <class Call>
void StreamState::call(Call&& callback) {
    struct Calling {
        StreamState& stream;
        bool returned = false;
        explicit Calling(StreamState& owner) noexcept : stream(owner) { stream.calling = true; }
        ~Calling() {
            stream.calling = false;
            stream.drop_retired();
            if (!returned) stream.fail(ClosedBy::exception, Error::handler_threw);
        }
    };
    WHORL_ASSERT(!calling && !ended);
    Calling guard(*this);
    callback();
    guard.returned = true;
}

}  // namespace whorl::detail
