// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/protocol.hpp>

#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

// Handover: a live stream leaves its loop and goes on in another, with no byte lost, doubled or out of
// order, in either direction, whatever the peer sends meanwhile.
//
//   // In the loop that has it. What reads and sends is cancelled first, so the answer comes later.
//   whorl::detach(stream, [&to](whorl::Loop&, whorl::DetachDone done) {
//       if (!done.error) (void)to.send(std::move(done.stream));  // a Sender<whorl::DetachedStream>
//   });
//   // In the loop that gets it.
//   while (whorl::DetachedStream* stream = received.next()) {
//       (void)whorl::attach(loop, std::move(*stream), Session{});
//   }
//
// What goes along: the connection; what has arrived and no callback has had, the beginning of a frame
// included; what was written and the kernel has not taken, half a buffer included; the peer's end, and
// ours that end() has asked for; options, rates and what of them is used up; counters; the times from
// which StreamDeadlines::total and frame count. What does not: the protocol, rate groups (they are a
// loop's), pause(), the place in an acceptor; idle, read and write deadlines begin anew.
//
// A plain socket goes the same way by its number: detach(Loop&, Socket) and adopt_socket() (socket.hpp).

namespace whorl {

namespace detail {
struct DetachedState;
struct DetachedAccess;
}  // namespace detail

// A stream that is in no loop. Move-only; a message for channels, posts and calls as any other.
// Lifetime: its end aborts the connection: what it holds is dropped, the peer gets a reset (TCP).
// Thread: one at a time, any. It holds no memory of the loop that it comes from, which may be gone.
class WHORL_EXPORT DetachedStream {
  public:
    DetachedStream() noexcept = default;
    DetachedStream(DetachedStream&& other) noexcept
        : state_(std::exchange(other.state_, nullptr)) {}
    DetachedStream& operator=(DetachedStream&& other) noexcept {
        DetachedStream moved(std::move(other));
        std::swap(state_, moved.state_);
        return *this;
    }
    ~DetachedStream();

    // Of a connection that no stream has had: one that was accepted here and is dealt out to other loops.
    // Owns: the socket, on success: its handle is stale then. Thread: loop thread only (asserted).
    // Errors: stale_handle, EBUSY (operations are on it), ENOMEM. What is wrong with the options, attach()
    //   says. Cost: one allocation.
    static Result<DetachedStream> of(Loop& loop, Socket socket,
                                     const StreamOptions& options = {}) noexcept;

    // Whether there is a stream in it; false once moved from, attached, or by default.
    explicit operator bool() const noexcept { return state_ != nullptr; }
    // All of these: not of an empty one (asserted).
    std::size_t held() const noexcept;    // bytes that have arrived and wait to be delivered
    std::size_t queued() const noexcept;  // bytes that wait to be sent
    bool peer_ended() const noexcept;     // the peer has ended its side
    // Of its whole life, in all loops.
    const StreamCounters& counters() const noexcept;
    // Those that it had, without groups: what attach() gives it when it is given no others.
    const StreamOptions& options() const noexcept;

  private:
    friend struct detail::DetachedAccess;
    detail::DetachedState* state_ = nullptr;
};

// What the handler of detach() is given.
struct DetachDone {
    Error error;            // none, or why the stream stays or has ended
    DetachedStream stream;  // without an error
};

namespace detail {
struct DetachCall {
    void* object = nullptr;
    void (*call)(void* object, Loop& loop, DetachDone&& done) = nullptr;
    void (*destroy)(void* object) noexcept = nullptr;
};
WHORL_EXPORT Error stream_detach(Stream& stream, const DetachCall& call) noexcept;
// Makes the stream that stream_take() fills; nothing has been taken before that.
WHORL_EXPORT Result<Stream*> stream_make(Loop& loop, const DetachedStream& from,
                                         const StreamOptions& options) noexcept;
WHORL_EXPORT void stream_unmake_adopted(Stream& stream) noexcept;
WHORL_EXPORT void stream_take(Stream& stream, DetachedStream& from) noexcept;
}  // namespace detail

// Takes a stream out of its loop: `detach(stream, handler)`. From this call on nothing is read, sent or
// delivered; what is with the kernel is cancelled, and keeps what it has moved. What is written or put
// back with unread() meanwhile goes along. May be called in a callback.
// Owns: the handler, on success.
// Calls: handler(Loop&, DetachDone), once, from dispatch, in this turn or one of the next. Without an
//   error the stream is in done.stream; the protocol is destroyed without a call, as by replace(), and
//   the Stream gone, when the handler has returned. When the loop is destroyed: destroyed uncalled.
// Thread: loop thread only (asserted).
// Errors, returned: stale_handle (it is closing, was aborted or has closed), EALREADY (it is being
//     detached), EOPNOTSUPP (over pipes; or with a layer: TLS later), ENOMEM.
//   Delivered, and the stream goes on where it was: EBUSY (operations of the program's own are on its
//     socket), ENOMEM.
//   Delivered, and `closed` follows: cancelled, or the reason (close() or abort() was called meanwhile);
//     what ended the stream, such as ECONNRESET, timed_out, loop_closed.
// Cost: three allocations; buffers of the loop's pool, and shared ones, are copied: at most what has
//   arrived undelivered and what was written in pieces below a KiB. Others are moved as they are.
template <class Handler>
Error detach(Stream& stream, Handler&& handler) noexcept {
    using Stored = std::decay_t<Handler>;
    static_assert(std::is_invocable_v<Stored&, Loop&, DetachDone>,
                  "whorl: a handler of detach is called with (Loop&, DetachDone)");
    static_assert(std::is_nothrow_move_constructible_v<Stored>,
                  "whorl: a handler must be movable without throwing");
    auto* const stored = detail::make_object<Stored>(std::forward<Handler>(handler));
    if (stored == nullptr) return Error::from_errno(12);  // ENOMEM, without a heavier header
    const Error error = detail::stream_detach(
        stream, {stored,
                 [](void* object, Loop& loop, DetachDone&& done) {
                     (*static_cast<Stored*>(object))(loop, std::move(done));
                 },
                 [](void* object) noexcept { detail::drop_object(static_cast<Stored*>(object)); }});
    if (error) detail::drop_object(stored);
    return error;
}

// Gives a stream that was detached to a protocol in this loop: `attach(loop, std::move(detached), P{})`.
// What had arrived is delivered first; when the peer had ended its side, peer_closed comes after it, also
// when the earlier protocol has heard of it.
// Owns: the stream and the protocol, on success; on failure neither has been moved from.
// Calls: the protocol's callbacks, from dispatch, beginning with `opened` in this or the next turn.
// Thread: loop thread only (asserted).
// Errors: as attach(Loop&, Socket); slots_exhausted; over_budget (what it holds does not fit into the
//   loop's StreamBudget::max); invalid_argument (an empty one, one of another simulated world, or options
//   with a layer, unless it comes from of(): secure() it in `opened`).
// Cost: two system calls and two allocations.
template <class P>
Result<Stream*> attach(Loop& loop, DetachedStream&& from, P&& protocol,
                       const StreamOptions& options) noexcept {
    using Box = detail::ProtocolBox<std::decay_t<P>>;
    static_assert(!std::is_lvalue_reference_v<P>, "whorl: attach takes over: std::move it in");
    detail::protocol_check<std::decay_t<P>>();
    const Result<Stream*> stream = detail::stream_make(loop, from, options);
    if (!stream) return stream.error();
    void* const room = detail::object_take(sizeof(Box), alignof(Box));
    if (room == nullptr) {
        detail::stream_unmake_adopted(**stream);
        return Error::from_errno(12);
    }
    detail::stream_start(**stream, Box::table, ::new (room) Box(std::forward<P>(protocol)));
    detail::stream_take(**stream, from);
    return *stream;
}
// As above, with the options that it had.
template <class P>
Result<Stream*> attach(Loop& loop, DetachedStream&& from, P&& protocol) noexcept {
    const StreamOptions options = from ? from.options() : StreamOptions();
    return attach(loop, std::move(from), std::forward<P>(protocol), options);
}

}  // namespace whorl
