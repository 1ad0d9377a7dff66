// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/connector.hpp>
#include <whorl/http_server.hpp>
#include <whorl/web_socket_frame.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <new>
#include <string_view>
#include <type_traits>
#include <utility>

// WebSocket (RFC 6455) over streams, TCP or TLS: a part of whorl::http. Each connection is handled by an
// object of yours, which the connection owns; it has the callbacks that it needs, and no base class:
//
//   void opened(Connection&)                  the handshake is done
//   void message(Connection&, Kind, Buffer)   a message, whole; text is UTF-8; the buffer is yours
//   void ping(Connection&, Bytes)             was answered already
//   void pong(Connection&, Bytes)
//   void writable(Connection&)                send() had answered false, and the queue is at its low mark
//   void closed(Connection&, const Ended&)    last of all, exactly once, also when `opened` never came
//
// A server accepts in its HTTP handler, a client connects by URL:
//
//   struct Site {
//       void request(http::Exchange& exchange) {
//           if (web_socket::asked(exchange.request())) (void)web_socket::accept(exchange, Echo{});
//           else exchange.respond({404});
//       }
//   };
//   web_socket::connect(loop, "ws://example.org/chat", Talker{});
//
// In each callback everything is allowed: sending, closing, throwing (the connection is then aborted, and
// the exception leaves Loop::run(); `closed` comes all the same). What the peer gets wrong is answered
// with a close frame, 1002, 1007 or 1009, and the end. Extensions, permessage-deflate among them, are
// neither offered nor taken; messages are sent as one frame each.

namespace whorl::http {
struct Url;
}

namespace whorl::web_socket {

// Of a message.
enum class Kind : std::uint8_t {
    text,    // UTF-8; what is received has been checked
    binary,  // any bytes
};

// Of a connection, whichever side.
struct Options {
    FrameLimits limits = {};  // of what the peer may send
    // When nothing has been received for so long, a ping is sent; when nothing comes for `ping_timeout`
    // after it (zero: for ping_every), the connection ends with timed_out. Zero: no pings. A connection
    // that is paused is left alone, and a peer that takes what is sent is alive.
    Nanoseconds ping_every = std::chrono::seconds(30);
    Nanoseconds ping_timeout = std::chrono::seconds(30);  // zero: as ping_every
    // From our close frame to the peer's, and of a client to the server's end. Zero: for ever.
    Nanoseconds close = std::chrono::seconds(5);
};

// Whether a page of `origin` ("https://example.org") may connect. Called for requests that name one,
// which all browsers do and other clients need not.
using OriginCheck = bool (*)(std::string_view origin, const http::Message& request);
// The origin's host and port are those that the request is for. Otherwise any page in the world could
// speak to the server in the name of whoever looks at it.
WHORL_EXPORT bool same_origin(std::string_view origin, const http::Message& request);

// How accept() answers a request.
struct AcceptOptions : Options {
    // What we speak, by preference: "chat.v2, chat.v1". The first that the client offers is chosen; if
    // none is, none is named and the client decides. Must live during the call.
    std::string_view protocols = {};
    OriginCheck origin = &same_origin;  // null: any
};

// How connect() asks.
struct ConnectOptions : Options {
    std::string_view protocols = {};      // offered, by preference; copied
    const http::Field* fields = nullptr;  // further ones of the request: Origin, Cookie; copied
    std::size_t fields_count = 0;         // of `fields`
    Nanoseconds handshake = std::chrono::seconds(10);  // once connected, with TLS; zero: for ever
    // `stream.layer`: a tls::Client's for wss://, none for ws://.
    StreamOptions stream = {};
    ConnectorOptions connect = {};     // addresses, attempts, deadline
    HostResolver* resolver = nullptr;  // null: getaddrinfo(3); it outlives the connecting
    // Masks and keys are drawn from the kernel's random numbers; another number than 0 makes them
    // foreseeable, for tests.
    std::uint64_t seed = 0;
};

// How a connection ended. Lifetime of the text: the call.
struct Ended {
    bool clean = false;       // both sides have sent a close frame
    std::uint16_t code = 0;   // the peer's; 1005: without one; 1006: it has sent no close frame
    std::string_view reason;  // the peer's
    std::uint16_t sent = 0;   // ours; 0: none was sent
    // Why, when it is not clean: frame_malformed, frame_too_large (answered with `sent`), frame_truncated
    // (the peer ended without a close frame), timed_out, ENOMEM, those of connecting, TLS and the stream;
    // ECONNREFUSED (a client: the server has answered with another status than 101).
    Error error;
    std::uint16_t status = 0;  // the server's, where it refused
};

class Connection;

namespace detail {
struct Talk;
struct Table {
    void (*opened)(Connection&);
    void (*message)(Connection&, Kind, Buffer&&);
    void (*ping)(Connection&, Bytes);
    void (*pong)(Connection&, Bytes);
    void (*writable)(Connection&);
    void (*closed)(Connection&, const Ended&);
    void (*destroy)(Connection&) noexcept;
};

// What a connection is owned by on its way, and then by its stream.
class Owner {
  public:
    Owner() noexcept = default;
    explicit Owner(Connection* connection) noexcept : connection_(connection) {}
    Owner(Owner&& other) noexcept : connection_(std::exchange(other.connection_, nullptr)) {}
    Owner& operator=(Owner&&) = delete;
    WHORL_EXPORT ~Owner();
    Connection* operator->() const noexcept { return connection_; }
    Connection& operator*() const noexcept { return *connection_; }
    explicit operator bool() const noexcept { return connection_ != nullptr; }

  private:
    Connection* connection_ = nullptr;
};

WHORL_EXPORT Error accept(http::Exchange& exchange, Owner made,
                          const AcceptOptions& options) noexcept;
WHORL_EXPORT Result<Connection*> connect(Loop& loop, std::string_view url, Owner made,
                                         const ConnectOptions& options) noexcept;
template <class Handler>
class Box;
}  // namespace detail

// Lifetime: until its handler's `closed` has returned; a pointer to it may be kept until then, and no
// longer. When the loop is destroyed, so is it, without a call. Thread: loop thread only.
class WHORL_EXPORT Connection {
  public:
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    // Sends a message. Owns: the buffer, always. Returns false when the queue is at its high watermark
    // (StreamOptions): it was taken all the same, but hold back until `writable`, or `closed`, is called.
    // Also false, and dropped, before `opened` and from close() or the peer's close frame on.
    // Limits: text must be UTF-8, which is not looked at. Cost: a server's goes out as it is; a client's
    // is masked where it lies, or in a copy when it is shared or read-only.
    bool send(Kind kind, Buffer&& message) noexcept;
    // The same with a copy.
    bool send_text(std::string_view text) noexcept;
    // The same with a copy, of bytes.
    bool send_binary(Bytes bytes) noexcept;
    // Limits: 125 bytes, asserted. Pings of Options::ping_every are sent beside these.
    bool ping(Bytes payload = {}) noexcept;

    // Ends in order: what was sent before goes first, then a close frame; no message is delivered any
    // more; the peer's close frame is awaited for Options::close. Calling it again changes nothing. Before
    // `opened` it is abort().
    // Limits: 1000 to 1003, 1007 to 1014, 3000 to 4999 (asserted); of the reason the first 123 bytes are
    // sent, less a sign that they would cut.
    void close(std::uint16_t code = 1000, std::string_view reason = {}) noexcept;
    // Ends at once, without a close frame; `closed` comes with one of the next turns.
    void abort(Error reason = Error::cancelled) noexcept;

    // No messages until resume(); the peer is held back.
    void pause() noexcept;
    // Undoes pause(): what has arrived meanwhile is delivered, from the loop's dispatch.
    void resume() noexcept;

    Loop& loop() noexcept { return *loop_; }  // the one that it was made on
    // The subprotocol that was chosen; empty: none.
    std::string_view protocol() const noexcept { return protocol_.text(); }
    // Between `opened` and close(), or the peer's close frame.
    bool open() const noexcept { return phase_ == Phase::open; }
    // Bytes to be written, not yet with the kernel.
    std::size_t queued() const noexcept { return stream_ != nullptr ? stream_->queued() : 0; }
    // Bytes of the message that is not whole yet; at most FrameLimits::message_max.
    std::size_t gathered() const noexcept { return gathered_.size(); }

  protected:
    // For the library.
    Connection(const detail::Table& table, Role role, const Options& options) noexcept
        : table_(&table), options_(options), role_(role), reader_(role, options.limits) {}
    ~Connection();

  private:
    friend struct detail::Talk;
    friend class detail::Owner;
    friend Error detail::accept(http::Exchange&, detail::Owner, const AcceptOptions&) noexcept;
    friend Result<Connection*> detail::connect(Loop&, std::string_view, detail::Owner,
                                               const ConnectOptions&) noexcept;
    enum class Phase : std::uint8_t { connecting, shaking, open, closing, done };

    // web_socket.cpp
    void received(Buffer&& buffer);
    bool step(FrameInput& input, Buffer& buffer);
    bool take_piece(Buffer& buffer);
    bool gather(Bytes piece) noexcept;
    void take_control();
    void peer_closes() noexcept;
    void fail(const Fault& fault) noexcept;
    void peer_closed() noexcept;
    void closed(const Error& why);
    bool put(Opcode opcode, Bytes payload) noexcept;
    bool put_buffer(Opcode opcode, Buffer&& payload) noexcept;
    void put_close(std::uint16_t code, std::string_view reason) noexcept;
    bool no_memory() noexcept;
    const std::byte* next_mask(std::byte (&mask)[4]) noexcept;
    void arm(Nanoseconds bound) noexcept;
    void disarm() noexcept;
    void expired() noexcept;
    void check_peer() noexcept;
    void begin_checks() noexcept;
    // web_socket_client.cpp
    void connected(detail::Owner self, const Connected& result);
    Error print_request(const http::Url& url, const ConnectOptions& options) noexcept;
    void begin_shaking() noexcept;
    void shake(Buffer&& buffer);
    void answered(Buffer&& buffer, std::size_t rest);
    Error shaken() noexcept;
    void draw(std::byte* bytes, std::size_t count) noexcept;

    const detail::Table* table_;
    Options options_;
    Role role_;
    Phase phase_ = Phase::connecting;
    Loop* loop_ = nullptr;
    Stream* stream_ = nullptr;
    FrameReader reader_;
    Buffer protocol_;
    Buffer gathered_;  // of a message, so far
    // The deadline of the phase, or the next look at the peer.
    Timer timer_;
    bool pinged_ = false;
    Instant heard_at_{};
    std::uint64_t sent_before_ = 0;  // by the stream, when it was last looked at
    // The end.
    bool peer_closed_ = false;  // its close frame has come
    std::uint16_t sent_code_ = 0;
    std::uint16_t status_ = 0;
    Error why_;
    // A client's.
    struct Client;
    Client* client_ = nullptr;
};

namespace detail {

#define WHORL_WEB_SOCKET_DETECT(name, ...)                                            \
    template <class H, class = void>                                                  \
    struct Has_##name : std::false_type {};                                           \
    template <class H>                                                                \
    struct Has_##name<H, std::void_t<decltype(std::declval<H&>().name(__VA_ARGS__))>> \
        : std::true_type {};                                                          \
    template <class H, class = void>                                                  \
    struct Names_##name : Has_##name<H> {};                                           \
    template <class H>                                                                \
    struct Names_##name<H, std::void_t<decltype(&H::name)>> : std::true_type {};
WHORL_WEB_SOCKET_DETECT(opened, std::declval<Connection&>())
WHORL_WEB_SOCKET_DETECT(message, std::declval<Connection&>(), std::declval<Kind>(),
                        std::declval<Buffer>())
WHORL_WEB_SOCKET_DETECT(ping, std::declval<Connection&>(), std::declval<Bytes>())
WHORL_WEB_SOCKET_DETECT(pong, std::declval<Connection&>(), std::declval<Bytes>())
WHORL_WEB_SOCKET_DETECT(writable, std::declval<Connection&>())
WHORL_WEB_SOCKET_DETECT(closed, std::declval<Connection&>(), std::declval<const Ended&>())
#undef WHORL_WEB_SOCKET_DETECT

// A connection with its handler.
template <class Handler>
class Box final : public Connection, public whorl::detail::Allocated<Box<Handler>> {
    static_assert(Has_message<Handler>::value, "whorl: message(Connection&, Kind, Buffer)");
    // A member of such a name that cannot be called so is a mistake, not another function.
    static_assert(Names_opened<Handler>::value == Has_opened<Handler>::value,
                  "whorl: opened(Connection&)");
    static_assert(Names_ping<Handler>::value == Has_ping<Handler>::value,
                  "whorl: ping(Connection&, Bytes)");
    static_assert(Names_pong<Handler>::value == Has_pong<Handler>::value,
                  "whorl: pong(Connection&, Bytes)");
    static_assert(Names_writable<Handler>::value == Has_writable<Handler>::value,
                  "whorl: writable(Connection&)");
    static_assert(Names_closed<Handler>::value == Has_closed<Handler>::value,
                  "whorl: closed(Connection&, const Ended&)");

  public:
    Box(Handler&& handler, Role role, const Options& options) noexcept
        : Connection(table, role, options), handler_(std::move(handler)) {}

  private:
    static Handler& of(Connection& connection) noexcept {
        return static_cast<Box&>(connection).handler_;
    }
    static void on_opened(Connection& c) {
        if constexpr (Has_opened<Handler>::value) of(c).opened(c);
    }
    static void on_message(Connection& c, Kind kind, Buffer&& message) {
        of(c).message(c, kind, std::move(message));
    }
    static void on_ping(Connection& c, Bytes payload) {
        if constexpr (Has_ping<Handler>::value) of(c).ping(c, payload);
    }
    static void on_pong(Connection& c, Bytes payload) {
        if constexpr (Has_pong<Handler>::value) of(c).pong(c, payload);
    }
    static void on_writable(Connection& c) {
        if constexpr (Has_writable<Handler>::value) of(c).writable(c);
    }
    static void on_closed(Connection& c, const Ended& ended) {
        if constexpr (Has_closed<Handler>::value) of(c).closed(c, ended);
    }
    static void destroy(Connection& c) noexcept { delete static_cast<Box*>(&c); }
    static constexpr Table table = {&on_opened,   &on_message, &on_ping, &on_pong,
                                    &on_writable, &on_closed,  &destroy};

    Handler handler_;
};

}  // namespace detail

// Whether a request wants a WebSocket: it names `websocket` in Upgrade.
WHORL_EXPORT bool asked(const http::Message& request) noexcept;

// Makes a WebSocket of a request's connection: answers 101, and hands it over. The HTTP handler is
// destroyed when its callback has returned. In `request` or later, before an answer has begun.
// Owns: the handler, always. Calls: its callbacks, beginning with `opened`, from the next dispatch on;
//   none, if an error is returned, and the request has been answered.
// Errors: invalid_argument (answered 400, no proper request for one: method, HTTP/1.0, key; 426, no
//   Upgrade or another version than 13; 403, the origin; nothing, when an answer has begun),
//   stale_handle (the connection is ending), ENOMEM (503, or the connection is aborted).
// Cost: two allocations for the connection's life.
template <class Handler>
Error accept(http::Exchange& exchange, Handler&& handler,
             const AcceptOptions& options = {}) noexcept {
    using Box = detail::Box<std::decay_t<Handler>>;
    static_assert(!std::is_lvalue_reference_v<Handler>,
                  "whorl: accept takes over: std::move it in");
    detail::Owner made(new (std::nothrow)
                           Box(std::forward<Handler>(handler), Role::server, options));
    return detail::accept(exchange, std::move(made), options);
}

// Connects to "ws://host:port/path?query" or, with a TLS layer, "wss://".
// Owns: the handler, always. Calls: `opened` when the server has accepted; `closed` once, also when that
//   never came; nothing when an error is returned, or the loop is destroyed.
// Errors: invalid_argument (the URL, a field, a subprotocol; wss without a layer, ws with one), ENOMEM,
//   slots_exhausted, queue_full, loop_closed. Later: see Ended.
// Cost: allocations; a connection.
template <class Handler>
Result<Connection*> connect(Loop& loop, std::string_view url, Handler&& handler,
                            const ConnectOptions& options = {}) noexcept {
    using Box = detail::Box<std::decay_t<Handler>>;
    static_assert(!std::is_lvalue_reference_v<Handler>,
                  "whorl: connect takes over: std::move it in");
    detail::Owner made(new (std::nothrow)
                           Box(std::forward<Handler>(handler), Role::client, options));
    return detail::connect(loop, url, std::move(made), options);
}

}  // namespace whorl::web_socket
