// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/framing.hpp>
#include <whorl/stream.hpp>

#include <new>
#include <type_traits>
#include <utility>

// A protocol: an object of yours that handles one stream. It has the callbacks that it needs, and no
// base class:
//
//   void opened(Stream&)                first of all, once; not when the stream fails before
//   void received(Stream&, Buffer)      bytes have arrived; the buffer is yours
//   void frame(Stream&, Bytes)          instead of `received`: a frame, as the member `framing` says
//   void writable(Stream&)              the queue was at its high watermark and is at its low one
//   void peer_closed(Stream&)           the peer has ended its side; without it: close()
//   void closed(Stream&, Closed)        last of all, exactly once, with the reason
//
// In each of them everything is allowed: writing, closing, aborting this and other streams, replacing
// the protocol, attaching others, throwing (the stream is then aborted, and the exception leaves
// Loop::run(), which may be called again). After `closed` the object is destroyed. It is destroyed
// without `closed` when it was replaced, and with the loop.
//
// With `frame` the object has a member `Framing framing`, which may be changed in `frame` and counts
// from the next frame on. A frame is valid during the call. Too large or malformed frames close the
// stream with that error, and so does its end inside of one (frame_truncated).

namespace whorl {

namespace detail {

// What a stream calls. A null pointer is a callback that the protocol does not have.
struct ProtocolTable {
    void (*opened)(void*, Stream&);
    void (*received)(void*, Stream&, Buffer&&);
    void (*writable)(void*, Stream&);
    void (*peer_closed)(void*, Stream&);
    void (*closed)(void*, Stream&, Closed);
    void (*destroy)(void*) noexcept;
    Bytes (*begun)(
        void*) noexcept;  // what it has of a frame that has begun; null: it has no frames
};

#define WHORL_PROTOCOL_DETECT(name, ...)                                                     \
    template <class P, class = void>                                                         \
    struct Has_##name : std::false_type {};                                                  \
    template <class P>                                                                       \
    struct Has_##name<P, std::void_t<decltype(std::declval<P&>().name(__VA_ARGS__))>>        \
        : std::true_type {};                                                                 \
    /* A member of that name that cannot be called so is a mistake, not another function. */ \
    template <class P, class = void>                                                         \
    struct Names_##name : Has_##name<P> {};                                                  \
    template <class P>                                                                       \
    struct Names_##name<P, std::void_t<decltype(&P::name)>> : std::true_type {};
WHORL_PROTOCOL_DETECT(opened, std::declval<Stream&>())
WHORL_PROTOCOL_DETECT(received, std::declval<Stream&>(), std::declval<Buffer>())
WHORL_PROTOCOL_DETECT(frame, std::declval<Stream&>(), std::declval<Bytes>())
WHORL_PROTOCOL_DETECT(writable, std::declval<Stream&>())
WHORL_PROTOCOL_DETECT(peer_closed, std::declval<Stream&>())
WHORL_PROTOCOL_DETECT(closed, std::declval<Stream&>(), std::declval<Closed>())
#undef WHORL_PROTOCOL_DETECT

template <class P>
constexpr void protocol_check() noexcept {
    static_assert(std::is_class_v<P>, "whorl: a protocol is an object with callbacks");
    static_assert(std::is_nothrow_move_constructible_v<P>,
                  "whorl: a protocol must be movable without throwing");
    static_assert(Has_received<P>::value || Has_frame<P>::value,
                  "whorl: a protocol has received(Stream&, Buffer) or frame(Stream&, Bytes)");
    static_assert(!(Has_received<P>::value && Has_frame<P>::value),
                  "whorl: a protocol has either received() or frame(), not both");
    static_assert(Names_opened<P>::value == Has_opened<P>::value, "whorl: opened(Stream&)");
    static_assert(Names_received<P>::value == Has_received<P>::value,
                  "whorl: received(Stream&, Buffer)");
    static_assert(Names_frame<P>::value == Has_frame<P>::value, "whorl: frame(Stream&, Bytes)");
    static_assert(Names_writable<P>::value == Has_writable<P>::value, "whorl: writable(Stream&)");
    static_assert(Names_peer_closed<P>::value == Has_peer_closed<P>::value,
                  "whorl: peer_closed(Stream&)");
    static_assert(Names_closed<P>::value == Has_closed<P>::value, "whorl: closed(Stream&, Closed)");
}

struct NoFramer {};

WHORL_EXPORT Result<Stream*> stream_make(Loop& loop, Socket socket,
                                         const StreamOptions& options) noexcept;
WHORL_EXPORT Result<Stream*> stream_make(Loop& loop, const PipeEnds& pipes,
                                         const StreamOptions& options) noexcept;
WHORL_EXPORT void stream_unmake(Stream& stream) noexcept;
WHORL_EXPORT void stream_start(Stream& stream, const ProtocolTable& table, void* object) noexcept;
WHORL_EXPORT Error stream_replaceable(const Stream& stream) noexcept;
WHORL_EXPORT const void* stream_object(const Stream& stream) noexcept;
WHORL_EXPORT void stream_frame_open(Stream& stream, bool open) noexcept;
WHORL_EXPORT bool stream_detaching(const Stream& stream) noexcept;
WHORL_EXPORT void stream_pause_at_high(Stream& stream, bool pause) noexcept;

// The protocol on the heap, and how it is called.
template <class P>
struct ProtocolBox {
    static constexpr bool framed = Has_frame<P>::value;
    P protocol;
    std::conditional_t<framed, Framer, NoFramer> framer;

    explicit ProtocolBox(P&& given) noexcept : protocol(std::move(given)) {}
    static ProtocolBox& of(void* object) noexcept { return *static_cast<ProtocolBox*>(object); }

    static void opened(void* object, Stream& stream) {
        if constexpr (Has_opened<P>::value) of(object).protocol.opened(stream);
    }
    static void received(void* object, Stream& stream, Buffer&& buffer) {
        if constexpr (framed) of(object).cut(stream, std::move(buffer));
        else of(object).protocol.received(stream, std::move(buffer));
    }
    static void writable(void* object, Stream& stream) {
        if constexpr (Has_writable<P>::value) of(object).protocol.writable(stream);
    }
    static void peer_closed(void* object, Stream& stream) {
        if constexpr (framed) {
            if (Error error = of(object).framer.finish()) return stream.close(error);
        }
        if constexpr (Has_peer_closed<P>::value) of(object).protocol.peer_closed(stream);
        else stream.close();
    }
    static void closed(void* object, Stream& stream, Closed reason) {
        if constexpr (Has_closed<P>::value) of(object).protocol.closed(stream, reason);
    }
    static void destroy(void* object) noexcept { drop_object(&of(object)); }
    static Bytes begun(void* object) noexcept {
        if constexpr (framed) return of(object).framer.held_bytes();
        else return {};
    }

    // Frames, as long as this object handles the stream and it reads; the rest waits, for it or for
    // its successor.
    void cut(Stream& stream, Buffer&& buffer) {
        framer.feed(buffer.bytes());
        Bytes frame;
        while (framer.next(protocol.framing, frame)) {
            protocol.frame(stream, frame);
            const bool ours = stream_object(stream) == this;
            const bool going = !stream.closing() && !stream.paused() && !stream_detaching(stream);
            if (ours && going) continue;
            const Bytes rest = framer.take_unread();
            buffer.trim_front(buffer.size() - rest.size);
            if (!rest.empty() && !stream.closing()) stream.unread(std::move(buffer));
            return;
        }
        stream_frame_open(stream, framer.held() != 0);
        if (framer.error()) stream.close(framer.error());
    }

    static constexpr ProtocolTable table = {
        Has_opened<P>::value ? &ProtocolBox::opened : nullptr,
        &ProtocolBox::received,
        Has_writable<P>::value ? &ProtocolBox::writable : nullptr,
        &ProtocolBox::peer_closed,
        Has_closed<P>::value ? &ProtocolBox::closed : nullptr,
        &ProtocolBox::destroy,
        framed ? &ProtocolBox::begun : nullptr,
    };
};

template <class Target, class P>
Result<Stream*> attach_to(Loop& loop, const Target& target, P&& protocol,
                          const StreamOptions& options) noexcept {
    using Box = ProtocolBox<std::decay_t<P>>;
    static_assert(!std::is_lvalue_reference_v<P>, "whorl: attach takes over: std::move it in");
    protocol_check<std::decay_t<P>>();
    Result<Stream*> stream = stream_make(loop, target, options);
    if (!stream) return stream;
    void* const room = object_take(sizeof(Box), alignof(Box));
    if (room == nullptr) {
        stream_unmake(**stream);
        return Error::from_errno(12);  // ENOMEM, without a heavier header
    }
    stream_start(**stream, Box::table, ::new (room) Box(std::forward<P>(protocol)));
    return stream;
}

}  // namespace detail

// Gives a connected socket to a protocol: `attach(loop, socket, Echo{})`.
// Owns: the socket and the protocol, on success; on failure neither has been moved from, and the socket
//   stays open and the caller's.
// Calls: the protocol's callbacks, from dispatch, beginning with `opened` in this or the next turn.
// Thread: loop thread only (asserted).
// Errors: stale_handle, loop_closed, invalid_argument (low above high, high above queue_max), ENOMEM.
// Cost: two allocations for the stream's life; none for what is read and written, after warm-up.
template <class P>
Result<Stream*> attach(Loop& loop, Socket socket, P&& protocol,
                       const StreamOptions& options = {}) noexcept {
    return detail::attach_to(loop, socket, std::forward<P>(protocol), options);
}
// The same over pipes; either may be null, for one that only reads or only writes. `end()` closes the
// writing one. Rates and deadlines as with sockets; abort() cannot send a reset.
template <class P>
Result<Stream*> attach(Loop& loop, const PipeEnds& pipes, P&& protocol,
                       const StreamOptions& options = {}) noexcept {
    return detail::attach_to(loop, pipes, std::forward<P>(protocol), options);
}

template <class P>
Error Stream::replace(P&& protocol) noexcept {
    using Box = detail::ProtocolBox<std::decay_t<P>>;
    static_assert(!std::is_lvalue_reference_v<P>, "whorl: replace takes over: std::move it in");
    detail::protocol_check<std::decay_t<P>>();
    if (Error error = detail::stream_replaceable(*this)) return error;
    void* const room = detail::object_take(sizeof(Box), alignof(Box));
    if (room == nullptr) return Error::from_errno(12);
    detail::stream_start(*this, Box::table, ::new (room) Box(std::forward<P>(protocol)));
    return {};
}

}  // namespace whorl
