// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/address.hpp>
#include <whorl/buffer.hpp>
#include <whorl/buffer_chain.hpp>
#include <whorl/export.hpp>
#include <whorl/loop.hpp>

#include <cstddef>
#include <cstdint>
#include <utility>

// TCP: operations on stream sockets and listeners. Every operation is a small aggregate that is
// submitted with a handler for its Done:
//
//   loop.submit(whorl::Recv{socket, loop.buffer(4096)}, [](whorl::Loop&, whorl::Recv::Done done) { … });
//
// Order on a socket: of all receiving operations one is with the kernel at a time, and of all sending
// ones, too; further ones wait in the loop, first in, first out. SIGPIPE is never raised. Descriptors
// are close-on-exec. Errors named below come besides those of Loop::submit and besides `cancelled` and
// `timed_out`, which every operation may end with.

namespace whorl {

// What a new socket or listener gets. Zero leaves the system's default. Source: tcp(7), socket(7).
struct SocketOptions {
    bool nodelay = true;                 // TCP_NODELAY: small messages are not held back
    std::int32_t receive_buffer = 0;     // SO_RCVBUF, bytes; set before the handshake, so it counts
    std::int32_t send_buffer = 0;        // SO_SNDBUF, bytes
    std::int32_t keepalive_seconds = 0;  // idle time before the first probe; then 9 every 1/3 of it
};

// How a listener is opened. Source: listen(2), bind(2), ip(7), ipv6(7).
struct ListenOptions {
    SocketOptions accepted;       // set on the listener: accepted sockets inherit them
    std::int32_t backlog = 4096;  // cut by net.core.somaxconn
    bool reuse_address = true;    // bind although old connections linger in TIME_WAIT
    bool reuse_port = false;      // several listeners share the port; the kernel spreads
    bool v6_only = true;          // an IPv6 listener takes no IPv4 connections
};

// How a new socket connects.
struct ConnectOptions {
    SocketOptions socket;  // set before it connects
    Address local;         // bind to this first; a default Address does not bind
};

// Opens a listening socket. Calls: nothing. Thread: loop thread only (asserted).
// Errors: EADDRINUSE (somebody listens there), EACCES (port below 1024 without privilege),
//   EADDRNOTAVAIL (not an address of this machine), EMFILE, slots_exhausted, loop_closed.
// Cost: about six system calls; never blocks. Source: listen(2), bind(2).
WHORL_EXPORT Result<Listener> listen(Loop& loop, const Address& address,
                                     const ListenOptions& options = {}) noexcept;

// Connects a new socket. Done carries the socket, or the error and no socket.
// Errors: ECONNREFUSED, ETIMEDOUT (the kernel's, after minutes; use within()), ENETUNREACH,
//   EHOSTUNREACH, EADDRNOTAVAIL (no local port), EADDRINUSE, EMFILE. Source: connect(2).
struct Connect {
    Address address;              // of the peer; a default one is invalid_argument from submit
    ConnectOptions options = {};  // of the new socket

    // The end of connecting.
    struct Done {
        Error error;    // none, or why it is not connected
        Socket socket;  // the connection, yours to close; null with an error
    };

    static constexpr detail::OpKind kind = detail::OpKind::connect;
    static constexpr bool opens = true;
    static constexpr std::uint64_t target() noexcept { return 0; }
    WHORL_EXPORT Error check() const noexcept;
    WHORL_EXPORT Error open(Loop& loop, detail::OpRecord& record) noexcept;
    WHORL_EXPORT void store(detail::OpRecord& record) noexcept;
    static Done finish(detail::OpRecord&, detail::Delivery& delivery) noexcept {
        return {delivery.error, Socket::from_value(delivery.handle)};
    }
};

// Accepts one connection. Connections that were gone before are skipped and counted.
// Errors: EMFILE, ENFILE, ENOBUFS, ENOMEM (nothing was accepted), slots_exhausted (the connection is
//   closed), EINVAL (not listening). Source: accept(2).
struct Accept {
    Listener listener;  // stays open, whatever the outcome

    // One connection, or why there is none.
    struct Done {
        Error error;    // none, or why nothing was accepted
        Socket socket;  // the connection, yours to close; null with an error
    };

    static constexpr detail::OpKind kind = detail::OpKind::accept;
    static constexpr bool opens = false;
    std::uint64_t target() const noexcept { return listener.value(); }
    static Error check() noexcept { return {}; }
    static void store(detail::OpRecord&) noexcept {}
    static Done finish(detail::OpRecord&, detail::Delivery& delivery) noexcept {
        return {delivery.error, Socket::from_value(delivery.handle)};
    }
};

// Accepts connections until it is cancelled or its listener closed: a multishot. When descriptors,
// memory or slots are short, the handler hears of it once (error, more == true), accepting pauses for
// 10 ms doubling to 500 ms, and goes on by itself; connections wait in the backlog meanwhile. After a
// cancel or close, connections may still be delivered until the final completion: close them. On
// io_uring a lowered RLIMIT_NOFILE counts from the next time the operation is armed.
// Errors with more == true: EMFILE, ENFILE, ENOBUFS, ENOMEM, slots_exhausted. Final: EINVAL.
struct AcceptStream {
    Listener listener;  // stays open when the stream ends

    // Each connection, each pause, and the end.
    struct Done {
        Error error;  // none with a connection; with more == true why it pauses, else why it ended
        Socket socket;  // the connection, yours to close; null with an error
        bool more;      // the handler will be called again; false exactly once, the last time
    };

    static constexpr detail::OpKind kind = detail::OpKind::accept_stream;
    static constexpr bool opens = false;
    std::uint64_t target() const noexcept { return listener.value(); }
    static Error check() noexcept { return {}; }
    static void store(detail::OpRecord&) noexcept {}
    static Done finish(detail::OpRecord&, detail::Delivery& delivery) noexcept {
        return {delivery.error, Socket::from_value(delivery.handle), delivery.more};
    }
};

// Receives once, from data() on into the whole capacity of a buffer, whose size becomes the number of
// bytes received. No error and an empty buffer: the peer has ended its side. With MSG_WAITALL it goes
// on until the buffer is full; the size tells how far it came, with an error or at the end, too.
// Limits: the buffer must be writable and have room, else invalid_argument.
// Errors: ECONNRESET, ETIMEDOUT (keepalive or user timeout), ENOTCONN. Source: recv(2).
struct Recv {
    Socket socket;  // to receive from
    Buffer buffer;  // what was in it is overwritten
    int flags = 0;  // MSG_PEEK, MSG_WAITALL

    // What was received.
    struct Done {
        Error error;    // none, also at the peer's end
        Buffer buffer;  // the one given, always; empty at the peer's end
    };

    static constexpr detail::OpKind kind = detail::OpKind::recv;
    static constexpr bool opens = false;
    std::uint64_t target() const noexcept { return socket.value(); }
    Error check() const noexcept {
        const bool usable = buffer.capacity() != 0 && buffer.writable();
        return usable ? Error() : Error(Error::invalid_argument);
    }
    void store(detail::OpRecord& record) noexcept {
        record.extra = static_cast<std::uint32_t>(flags);
        record.store(std::move(buffer));
    }
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        return {delivery.error, record.take<Buffer>()};
    }
};

// Receives until the peer ends its side, an error, or a cancel: a multishot that delivers buffers of
// the loop's pool as data arrives. An idle connection holds no buffer. It pauses while the program
// holds recv_buffers_per_stream of its buffers or the pool is empty, and goes on when one is dropped.
// Final: no error and an empty buffer (the peer ended its side), or the error.
// Errors: as Recv; ENOMEM (no memory for a buffer, and none is out that could come home; data stays
//   with the kernel).
struct RecvStream {
    Socket socket;  // to receive from; stays open when the stream ends

    // Each buffer, and the end.
    struct Done {
        Error error;    // none with data and at the peer's end, else why it ended
        Buffer buffer;  // of the pool, now yours; empty in the final one
        bool more;      // the handler will be called again; false exactly once, the last time
    };

    static constexpr detail::OpKind kind = detail::OpKind::recv_stream;
    static constexpr bool opens = false;
    std::uint64_t target() const noexcept { return socket.value(); }
    static Error check() noexcept { return {}; }
    static void store(detail::OpRecord&) noexcept {}
    static Done finish(detail::OpRecord&, detail::Delivery& delivery) noexcept {
        return {delivery.error, delivery.take_buffer(), delivery.more};
    }
};

// Sends once; `bytes` may be fewer than the buffer holds. The buffer comes back unchanged.
// Errors: EPIPE (our side was shut down or the peer is gone), ECONNRESET. Source: send(2).
struct Send {
    Socket socket;  // to send on
    Buffer buffer;  // not to be changed through other references meanwhile
    int flags = 0;  // MSG_MORE, MSG_OOB

    // What was sent.
    struct Done {
        Error error;          // none, also when fewer bytes were sent than given
        std::uint64_t bytes;  // sent: taken by the kernel, not by the peer
        Buffer buffer;        // the one given, always
    };

    static constexpr detail::OpKind kind = detail::OpKind::send;
    static constexpr bool opens = false;
    std::uint64_t target() const noexcept { return socket.value(); }
    static Error check() noexcept { return {}; }
    void store(detail::OpRecord& record) noexcept {
        record.extra = static_cast<std::uint32_t>(flags);
        record.store(std::move(buffer));
    }
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        return {delivery.error, delivery.bytes, record.take<Buffer>()};
    }
};

// Sends a whole buffer, in as many rounds as it takes. With an error, `bytes` is what had been sent.
// Errors: as Send.
struct SendAll {
    Socket socket;  // to send on
    Buffer buffer;  // not to be changed through other references meanwhile
    int flags = 0;  // MSG_MORE

    // What was sent.
    struct Done {
        Error error;          // none when all of it was sent
        std::uint64_t bytes;  // sent: taken by the kernel, not by the peer
        Buffer buffer;        // the one given, always
    };

    static constexpr detail::OpKind kind = detail::OpKind::send_all;
    static constexpr bool opens = false;
    std::uint64_t target() const noexcept { return socket.value(); }
    static Error check() noexcept { return {}; }
    void store(detail::OpRecord& record) noexcept {
        record.extra = static_cast<std::uint32_t>(flags);
        record.store(std::move(buffer));
    }
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        return {delivery.error, delivery.bytes, record.take<Buffer>()};
    }
};

// Sends all buffers of a chain, gathered, in as many rounds as it takes; any number of buffers.
// Errors: as Send; ENOMEM from submit.
struct SendChain {
    Socket socket;      // to send on
    BufferChain chain;  // the buffers in the order in which they are sent
    int flags = 0;      // MSG_MORE

    // What was sent.
    struct Done {
        Error error;          // none when all of it was sent
        std::uint64_t bytes;  // sent, of all buffers together
        BufferChain chain;    // the one given, always
    };

    static constexpr detail::OpKind kind = detail::OpKind::send_chain;
    static constexpr bool opens = true;
    std::uint64_t target() const noexcept { return socket.value(); }
    static Error check() noexcept { return {}; }
    WHORL_EXPORT static Error open(Loop& loop, detail::OpRecord& record) noexcept;
    WHORL_EXPORT void store(detail::OpRecord& record) noexcept;
    WHORL_EXPORT static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept;
};

// Which direction a Shutdown ends.
enum class ShutdownSide : std::uint8_t {
    receive,  // SHUT_RD: who waits to receive sees an end
    send,     // SHUT_WR: the peer sees our end, and may go on sending
    both,     // SHUT_RDWR
};

// Ends one or both directions, after what was submitted for sending before it: a half-close that
// loses nothing. Errors: ENOTCONN. Source: shutdown(2).
struct Shutdown {
    Socket socket;                           // stays open: close it as well
    ShutdownSide side = ShutdownSide::send;  // the direction to end

    // The direction has ended, or why not.
    struct Done {
        Error error;  // none when it has
    };

    static constexpr detail::OpKind kind = detail::OpKind::shutdown;
    static constexpr bool opens = false;
    std::uint64_t target() const noexcept { return socket.value(); }
    static Error check() noexcept { return {}; }
    WHORL_EXPORT void store(detail::OpRecord& record) noexcept;
    static Done finish(detail::OpRecord&, detail::Delivery& delivery) noexcept {
        return {delivery.error};
    }
};

// Does nothing, by way of the kernel: measures and wakes.
struct Nop {
    // It has been through the kernel.
    struct Done {
        Error error;  // none, or cancelled, timed_out
    };

    static constexpr detail::OpKind kind = detail::OpKind::nop;
    static constexpr bool opens = false;
    static constexpr std::uint64_t target() noexcept { return 0; }
    static Error check() noexcept { return {}; }
    static void store(detail::OpRecord&) noexcept {}
    static Done finish(detail::OpRecord&, detail::Delivery& delivery) noexcept {
        return {delivery.error};
    }
};

}  // namespace whorl
