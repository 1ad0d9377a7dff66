// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/protocol.hpp>
#include <whorl/proxy_header.hpp>
#include <whorl/socket.hpp>
#include <whorl/tcp.hpp>

#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

// An acceptor: a listener that makes a stream with its protocol of every connection, within limits, and
// ends in order.
//
//   auto server = whorl::serve(loop, address, [](const whorl::Accepted&) { return LineEcho{}; });

namespace whorl {

class Acceptor;

// A connection that was accepted.
struct Accepted {
    Loop& loop;           // of its stream
    Socket socket;        // connected; the stream's from when the callable returns
    Address peer;         // who connected; with a PROXY header, who connected to the proxy
    Address proxy;        // the proxy, else null
    Address destination;  // where the proxy was connected to, else null
};

// How to listen, what the streams are like, and who is let in.
struct AcceptorOptions {
    ListenOptions listen = {};  // used by serve() of an address only
    StreamOptions stream = {};  // of every connection
    // Streams at once; 0: no limit. Further connections wait, a few accepted, the rest in the backlog.
    std::uint32_t connections_max = 0;
    // Of one IP address; 0: no limit. Further ones are reset and counted. Cost: a look-up.
    std::uint32_t per_peer_max = 0;
    // Every connection begins with a PROXY header (proxy_header.hpp), or is closed: only for ports that
    // nobody but the proxy reaches. Limits per peer then count proxies.
    bool proxy_header = false;
    // How long the header may take; the connection is closed then. Zero: for ever.
    Nanoseconds proxy_header_deadline = std::chrono::seconds(5);
};

// Counted since serve(); marks are of the whole time.
struct AcceptorStatistics {
    std::uint32_t open = 0;          // streams now
    std::uint32_t open_high = 0;     // the most at once
    std::uint64_t accepted = 0;      // taken from the backlog, refused ones included
    std::uint64_t refused_peer = 0;  // by per_peer_max
    std::uint64_t refused = 0;       // no memory, no slot, bad PROXY header
    std::uint64_t shortages = 0;     // of descriptors, memory or slots; accepting goes on by itself
    std::uint64_t pauses = 0;        // at connections_max, or over the budget
    // Why the last shortage or refusal was; none before the first. It is not cleared.
    Error last_error;
};

namespace detail {
struct AcceptorState;

struct AcceptorMake {
    void* object = nullptr;
    Result<Stream*> (*attach)(void*, const Accepted&, const AcceptorOptions&) = nullptr;
    void (*destroy)(void*) noexcept = nullptr;
};
struct AcceptorDone {
    void* object = nullptr;
    void (*call)(void*, Loop&, std::uint32_t aborted) = nullptr;
    void (*destroy)(void*) noexcept = nullptr;
};
WHORL_EXPORT void acceptor_refused(Stream& stream) noexcept;
WHORL_EXPORT Result<Acceptor*> acceptor_start(Loop& loop, Listener listener,
                                              const AcceptorOptions& options,
                                              const AcceptorMake& make) noexcept;
}  // namespace detail

// Lifetime: the loop's. A pointer to it is valid until close() is called, or until the handler given to
// drain() has returned. Thread: loop thread only.
class WHORL_EXPORT Acceptor {
  public:
    Acceptor(const Acceptor&) = delete;
    Acceptor& operator=(const Acceptor&) = delete;

    // The listener; stale once it was closed.
    Listener listener() const noexcept;
    // Valid as long as the acceptor is. Cost: none.
    const AcceptorStatistics& statistics() const noexcept;
    // Nobody is accepted until resume(); connections wait in the backlog.
    void pause() noexcept;
    // Goes on after pause(). The streams that are there are not touched by either.
    void resume() noexcept;
    // Stops listening. Its streams go on. Who has none yet, be it that the kernel has accepted them already or
    // that they are in the backlog, is closed and sees an end or a reset; retire() serves those accepted.
    void close() noexcept;
    // Stops listening as close() does, closes every stream in order (Stream::close), aborts those that are
    // left after `bound`, and calls `handler(Loop&)` when the last has gone, from dispatch.
    // Errors: ENOMEM, slots_exhausted; invalid_argument (it drains already). Nothing has begun then.
    template <class Handler>
    Error drain(Nanoseconds bound, Handler&& handler) noexcept {
        using Stored = std::decay_t<Handler>;
        auto* stored = detail::make_object<Stored>(std::forward<Handler>(handler));
        if (stored == nullptr) return Error::from_errno(12);
        const detail::AcceptorDone done = {
            stored,
            [](void* object, Loop& loop, std::uint32_t) { (*static_cast<Stored*>(object))(loop); },
            [](void* object) noexcept { detail::drop_object(static_cast<Stored*>(object)); }};
        const Error error = drain_to(bound, done);
        if (error) detail::drop_object(stored);
        return error;
    }
    // Accepts no more, serves what the kernel had accepted until then, lets its streams come to their own
    // end, aborts those that are left after `bound`, and calls `handler(Loop&, std::uint32_t aborted)`
    // when the last has gone, from dispatch. For a listener that somebody else has, too (hot_restart.hpp):
    // who is in its backlog is theirs. Errors: as drain.
    template <class Handler>
    Error retire(Nanoseconds bound, Handler&& handler) noexcept {
        using Stored = std::decay_t<Handler>;
        auto* stored = detail::make_object<Stored>(std::forward<Handler>(handler));
        if (stored == nullptr) return Error::from_errno(12);
        const detail::AcceptorDone done = {
            stored,
            [](void* object, Loop& loop, std::uint32_t aborted) {
                (*static_cast<Stored*>(object))(loop, aborted);
            },
            [](void* object) noexcept { detail::drop_object(static_cast<Stored*>(object)); }};
        const Error error = retire_to(bound, done);
        if (error) detail::drop_object(stored);
        return error;
    }

  protected:
    Acceptor() noexcept = default;
    ~Acceptor() = default;

  private:
    Error drain_to(Nanoseconds bound, const detail::AcceptorDone& done) noexcept;
    Error retire_to(Nanoseconds bound, const detail::AcceptorDone& done) noexcept;
};

namespace detail {

// Reads the PROXY header, and then lets the real protocol take over.
template <class Make>
struct ProxyGate {
    Make* make;
    Accepted accepted;
    StreamDeadlines deadlines;  // those of the stream, in force after the header
    StreamLayer* layer;         // begins after the header
    Buffer joined;              // a header that came in pieces, so far

    void received(Stream& stream, Buffer buffer) {
        const std::size_t before = joined.size();
        if (joined) {
            const std::size_t room = joined.capacity() - before;
            const std::size_t part = buffer.size() < room ? buffer.size() : room;
            static_cast<void>(joined.append({buffer.data(), part}));
        }
        const ProxyHeader header = parse_proxy_header(joined ? joined.bytes() : buffer.bytes());
        if (header.state == ProxyHeader::State::invalid) return refuse(stream);
        if (header.state == ProxyHeader::State::more) {
            if (!joined) joined = Buffer::allocate(proxy_header_max);
            if (joined.size() == before && !joined.append(buffer.bytes())) refuse(stream);
            return;
        }
        if (header.source) {
            accepted.proxy = accepted.peer;
            accepted.peer = header.source;
            accepted.destination = header.destination;
        }
        stream.set_deadlines(deadlines);
        buffer.trim_front(header.size - before);
        stream.unread(std::move(buffer));
        if (layer != nullptr) {
            if (Error error = stream.secure(*layer)) return stream.abort(error);
        }
        if (Error error = stream.replace((*make)(accepted))) stream.abort(error);
    }
    void peer_closed(Stream& stream) { refuse(stream); }
    void refuse(Stream& stream) {
        acceptor_refused(stream);
        stream.abort(Error::frame_malformed);
    }
};

template <class Make>
Result<Stream*> acceptor_attach(void* object, const Accepted& accepted,
                                const AcceptorOptions& options) {
    Make& make = *static_cast<Make*>(object);
    if (!options.proxy_header) {
        return attach(accepted.loop, accepted.socket, make(accepted), options.stream);
    }
    StreamOptions stream = options.stream;
    stream.deadlines.total = options.proxy_header_deadline;
    stream.layer = nullptr;
    return attach(
        accepted.loop, accepted.socket,
        ProxyGate<Make>{&make, accepted, options.stream.deadlines, options.stream.layer, {}},
        stream);
}

}  // namespace detail

// Makes streams of the connections to a listener: for each, `make(const Accepted&)` returns the protocol.
// Owns: the listener, on success; `make`, on success, for as long as one of its streams lives.
// Errors: stale_handle, loop_closed, slots_exhausted, ENOMEM.
template <class Make>
Result<Acceptor*> serve(Loop& loop, Listener listener, Make&& make,
                        const AcceptorOptions& options = {}) noexcept {
    using Stored = std::decay_t<Make>;
    static_assert(std::is_invocable_v<Stored&, const Accepted&>,
                  "whorl: serve takes a callable that makes a protocol of a const Accepted&");
    auto* stored = detail::make_object<Stored>(std::forward<Make>(make));
    if (stored == nullptr) return Error::from_errno(12);
    const detail::AcceptorMake made = {
        stored, &detail::acceptor_attach<Stored>,
        [](void* object) noexcept { detail::drop_object(static_cast<Stored*>(object)); }};
    Result<Acceptor*> acceptor = detail::acceptor_start(loop, listener, options, made);
    if (!acceptor) detail::drop_object(stored);
    return acceptor;
}
// The same, and opens the listener. Errors: as listen().
template <class Make>
Result<Acceptor*> serve(Loop& loop, const Address& address, Make&& make,
                        const AcceptorOptions& options = {}) noexcept {
    Result<Listener> listener = listen(loop, address, options.listen);
    if (!listener) return listener.error();
    Result<Acceptor*> acceptor = serve(loop, *listener, std::forward<Make>(make), options);
    if (!acceptor) static_cast<void>(loop.close(*listener));
    return acceptor;
}

}  // namespace whorl
