// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/acceptor.hpp>
#include <whorl/http_parser.hpp>

#include <chrono>
#include <type_traits>
#include <utility>

// An HTTP/1.1 server. For each connection an object of yours handles its requests, one at a time and in
// their order; it has the callbacks that it needs, and no base class:
//
//   void request(Exchange&)        a request's head has arrived
//   void body(Exchange&, Bytes)    a piece of its body, valid during the call
//   void complete(Exchange&)       all of the request has arrived
//   void writable(Exchange&)       write() had answered false, and the queue is at its low watermark
//   void gone(Exchange&)           the connection ended before the answer did
//
// After an answer has ended nothing more is called for its request.
// It may answer in any of them, or later: `later()` gives a handle that knows whether the exchange is
// still there. Throwing aborts the connection, as in every protocol (protocol.hpp).
//
//   struct Hello {
//       void request(Exchange& exchange) { exchange.respond({200, "text/plain"}, "hello\n"); }
//   };
//   auto server = whorl::http::serve(loop, address, [](const whorl::Accepted&) { return Hello{}; });
//
// The server sees to: keep-alive and pipelining, Content-Length and chunks in both directions,
// 100-continue, HEAD, answers without a body, Date, and the deadlines. What is malformed, too large or
// too late it answers itself, with 400, 405, 408, 411, 413, 414, 417, 431, 501, 503 or 505, and closes.

namespace whorl::http {

// The bit of a method in ServerOptions::methods.
constexpr std::uint32_t bit_of(Method method) noexcept {
    return std::uint32_t{1} << static_cast<unsigned>(method);
}

// What a server lets in, and how long it waits.
struct ServerOptions {
    Limits limits = {};  // of requests
    // Zero is for ever.
    Nanoseconds idle = std::chrono::seconds(60);  // between requests: closed without a word
    Nanoseconds head = std::chrono::seconds(10);  // from its first byte until a head is whole: 408
    Nanoseconds body = std::chrono::seconds(20);  // of a body, and a second more for every so many
    std::uint32_t body_rate_min = 1024;           // bytes; not while the handler has paused it: 408
    Nanoseconds answer =
        std::chrono::seconds(60);    // from the whole request to the answer's begin: 503
    std::uint32_t requests_max = 0;  // of a connection; 0: no limit
    // Methods that handlers know: of others 405, or 501 where they are no methods of HTTP's.
    std::uint32_t methods = bit_of(Method::get) | bit_of(Method::head) | bit_of(Method::post) |
                            bit_of(Method::put) | bit_of(Method::patch) | bit_of(Method::remove) |
                            bit_of(Method::options);
    bool length_required = false;  // POST, PUT and PATCH without a length or chunks: 411
    // A body that nobody wants any more, since the answer has been given, is read so far; beyond it the
    // connection is closed.
    std::uint64_t discard_max = std::uint64_t{64} << 10;
};

// The head of an answer. Fields that the server makes itself are not given: Date, Content-Length,
// Transfer-Encoding, Connection.
struct Answer {
    std::uint16_t status = 200;     // 200 to 599
    std::string_view type = {};     // Content-Type
    const Field* fields = nullptr;  // further ones
    std::size_t fields_count = 0;   // of `fields`
    bool close = false;             // the connection ends with it
};

class Exchange;
template <class Handler>
class Serving;

// A handle to an exchange that is answered later: null as soon as the answer has ended or the connection
// is gone. Lifetime: as long as you like, but not beyond the loop. There is one at a time: a later one
// makes the earlier one null. Thread: the loop's.
class Later {
  public:
    Later() noexcept = default;
    Later(Later&& other) noexcept { take(other); }
    Later& operator=(Later&& other) noexcept {
        if (this != &other) {
            leave();
            take(other);
        }
        return *this;
    }
    Later(const Later&) = delete;
    Later& operator=(const Later&) = delete;
    ~Later() { leave(); }

    // Whether there still is an exchange to be answered.
    explicit operator bool() const noexcept { return exchange_ != nullptr; }
    // Limits: not null; no more checked than a pointer is.
    Exchange& operator*() const noexcept { return *exchange_; }
    // As above.
    Exchange* operator->() const noexcept { return exchange_; }

  private:
    friend class Exchange;
    WHORL_EXPORT void leave() noexcept;
    WHORL_EXPORT void take(Later& other) noexcept;
    Exchange* exchange_ = nullptr;
};

namespace detail {
struct HandlerTable {
    void (*request)(void*, Exchange&);
    void (*body)(void*, Exchange&, Bytes);
    void (*complete)(void*, Exchange&);
    void (*writable)(void*, Exchange&);
    void (*gone)(void*, Exchange&);
};
#define WHORL_HTTP_DETECT(name, ...)                                                  \
    template <class H, class = void>                                                  \
    struct Has_##name : std::false_type {};                                           \
    template <class H>                                                                \
    struct Has_##name<H, std::void_t<decltype(std::declval<H&>().name(__VA_ARGS__))>> \
        : std::true_type {};                                                          \
    template <class H, class = void>                                                  \
    struct Names_##name : Has_##name<H> {};                                           \
    template <class H>                                                                \
    struct Names_##name<H, std::void_t<decltype(&H::name)>> : std::true_type {};
WHORL_HTTP_DETECT(request, std::declval<Exchange&>())
WHORL_HTTP_DETECT(body, std::declval<Exchange&>(), std::declval<Bytes>())
WHORL_HTTP_DETECT(complete, std::declval<Exchange&>())
WHORL_HTTP_DETECT(writable, std::declval<Exchange&>())
WHORL_HTTP_DETECT(gone, std::declval<Exchange&>())
#undef WHORL_HTTP_DETECT

}  // namespace detail

// One request and its answer. Lifetime: of a reference, the callback; beyond it, see later().
// Thread: loop thread only. No call runs a callback.
class WHORL_EXPORT Exchange {
  public:
    // The head. Its views are valid until the answer has ended, or the exchange is gone.
    const Message& request() const noexcept { return parser_.message(); }
    // The loop of its connection.
    Loop& loop() noexcept { return stream_->loop(); }
    // A handle for answering outside of the callbacks.
    Later later() noexcept;

    // Answers all at once. False: an answer has begun already or the connection is ending, and nothing
    // was done; or a field is malformed, and 500 was answered instead.
    // Owns: the buffer, always. Cost: no allocation for a head and body of together up to 64 KiB.
    bool respond(const Answer& answer, Buffer&& body) noexcept;
    // The same with a copy of the text.
    bool respond(const Answer& answer, std::string_view body = {}) noexcept;

    // Begins an answer whose body comes with write(): of exactly `length` bytes, or in chunks, which for
    // HTTP/1.0 is until the connection ends. Returns as respond().
    bool begin(const Answer& answer, std::uint64_t length) noexcept;
    // In chunks.
    bool begin(const Answer& answer) noexcept;
    // A piece of it. Returns false when it is time to hold back until `writable`, or `gone`, is called;
    // it was taken all the same. What is beyond the length, or not wanted (HEAD, 204, 304), is dropped.
    // Owns: the buffer, always.
    bool write(Buffer&& piece) noexcept;
    // A copy of the text.
    bool write(std::string_view piece) noexcept;
    // The answer has ended. One that is shorter than its length aborts the connection.
    void end() noexcept;
    // Breaks the connection off: an answer that cannot be continued.
    void abort(Error reason = Error::cancelled) noexcept { stream_->abort(reason); }

    // The connection speaks another protocol from now on: 101 is answered with these fields (Connection is
    // the server's own), and what has arrived behind the request is for `protocol` (protocol.hpp), whose
    // `opened` is called first. The handler is destroyed without a call, when its callback has returned;
    // outside of one this exchange is gone with the call.
    // Owns: the protocol, on success. Errors: invalid_argument (an answer has begun, the request has a
    //   body, is HTTP/1.0 or does not say Connection: upgrade, a field is malformed; nothing was done),
    //   stale_handle (the connection is ending, or the client has ended its side), ENOMEM (aborted).
    template <class P>
    Error upgrade(const Field* fields, std::size_t fields_count, P&& protocol) noexcept {
        if (Error error = upgrade_begin(fields, fields_count)) return error;
        Stream& stream = *stream_;
        const Error error = stream.replace(std::forward<P>(protocol));
        if (error) stream.abort(error);
        return error;
    }

    // No pieces of the body until resume(): the peer is held back.
    void pause() noexcept;
    // Pieces come again, from dispatch.
    void resume() noexcept;

    // Whether an answer has begun, also one that has ended.
    bool begun() const noexcept { return begun_; }
    // No body goes out, whatever is written: HEAD, 204 and 304.
    bool bodiless() const noexcept { return bodiless_; }

    // Only before it is in use.
    explicit Exchange(const ServerOptions& options) noexcept;
    Exchange(Exchange&& other) noexcept;
    Exchange& operator=(Exchange&&) = delete;
    ~Exchange();

  private:
    template <class Handler>
    friend class Serving;
    friend class Later;

    // server.cpp: requests
    void opened(Stream& stream, const detail::HandlerTable& table, void* handler) noexcept;
    void received(Buffer&& buffer);
    void writable();
    void peer_closed() noexcept;
    void closed();
    bool step(Bytes& input, Buffer& buffer);
    void keep(Buffer&& buffer) noexcept;
    void go_on() noexcept;
    bool begin_request();
    void begin_body();
    bool waits() const noexcept;
    void settle() noexcept;
    void finish() noexcept;
    void fail(std::uint16_t status, Error reason) noexcept;
    void expect_body() noexcept;
    void arm(Nanoseconds bound) noexcept;
    void expired() noexcept;
    void timed_out() noexcept;

    // answer.cpp: answers
    enum class Framed : std::uint8_t { counted, chunked, until_close };
    bool start(const Answer& answer, Framed framed, std::uint64_t length, std::string_view body,
               bool after) noexcept;
    void put_head(Buffer& buffer, const Answer& answer, std::uint64_t length) noexcept;
    bool put(Buffer&& buffer) noexcept;
    bool well_formed(const Answer& answer) const noexcept;
    Error upgrade_begin(const Field* fields, std::size_t fields_count) noexcept;

    Stream* stream_ = nullptr;
    const detail::HandlerTable* table_ = nullptr;
    void* handler_ = nullptr;
    Later* later_ = nullptr;
    ServerOptions options_;
    std::uint32_t requests_ = 0;
    // The deadline that counts now; the timer fires then or before.
    Timer timer_;
    Instant timer_at_ = instant_never;
    Instant due_ = instant_never;
    Instant body_since_{};
    std::uint64_t body_before_ = 0;
    // The request.
    bool active_ = false;     // it is with the handler
    bool whole_ = false;      // all of it has arrived
    bool expects_ = false;    // it waits for 100 Continue
    bool head_due_ = false;   // a head has begun, and its deadline counts
    bool held_back_ = false;  // pause()
    bool calling_ = false;    // a callback runs
    bool reading_ = false;    // received() runs
    bool last_ = false;       // the connection ends with this answer
    bool peer_ended_ = false;
    bool moved_ = false;  // upgrade(): the stream is another protocol's
    // The answer.
    bool begun_ = false;
    bool done_ = false;
    bool bodiless_ = false;
    Framed framed_ = Framed::counted;
    std::uint64_t left_ = 0;
    std::uint64_t discarded_ = 0;
    Buffer held_;  // it has arrived and waits
    Buffer head_;  // in which the request's head lies
    RequestParser parser_;
};

// The protocol of a connection: `attach(loop, socket, Serving<Hello>(Hello{}, options))`.
template <class Handler>
class Serving {
    static_assert(detail::Has_request<Handler>::value, "whorl: request(Exchange&)");
    // A member of such a name that cannot be called so is a mistake, not another function.
    static_assert(detail::Names_body<Handler>::value == detail::Has_body<Handler>::value,
                  "whorl: body(Exchange&, Bytes)");
    static_assert(detail::Names_complete<Handler>::value == detail::Has_complete<Handler>::value,
                  "whorl: complete(Exchange&)");
    static_assert(detail::Names_writable<Handler>::value == detail::Has_writable<Handler>::value,
                  "whorl: writable(Exchange&)");
    static_assert(detail::Names_gone<Handler>::value == detail::Has_gone<Handler>::value,
                  "whorl: gone(Exchange&)");

  public:
    Serving(Handler&& handler, const ServerOptions& options) noexcept
        : handler_(std::move(handler)), exchange_(options) {}

    // The callbacks of a protocol, for the stream: they are not called by the program.
    void opened(Stream& stream) { exchange_.opened(stream, table, &handler_); }
    // As above.
    void received(Stream&, Buffer buffer) { exchange_.received(std::move(buffer)); }
    // As above.
    void writable(Stream&) { exchange_.writable(); }
    // As above.
    void peer_closed(Stream&) { exchange_.peer_closed(); }
    // As above.
    void closed(Stream&, Closed) { exchange_.closed(); }

  private:
    static Handler& of(void* handler) noexcept { return *static_cast<Handler*>(handler); }
    static void on_request(void* handler, Exchange& exchange) { of(handler).request(exchange); }
    static void on_body(void* handler, Exchange& exchange, Bytes piece) {
        if constexpr (detail::Has_body<Handler>::value) of(handler).body(exchange, piece);
    }
    static void on_complete(void* handler, Exchange& exchange) {
        if constexpr (detail::Has_complete<Handler>::value) of(handler).complete(exchange);
    }
    static void on_writable(void* handler, Exchange& exchange) {
        if constexpr (detail::Has_writable<Handler>::value) of(handler).writable(exchange);
    }
    static void on_gone(void* handler, Exchange& exchange) {
        if constexpr (detail::Has_gone<Handler>::value) of(handler).gone(exchange);
    }
    static constexpr detail::HandlerTable table = {&on_request, &on_body, &on_complete,
                                                   &on_writable, &on_gone};

    Handler handler_;
    Exchange exchange_;
};

// Serves HTTP on an address: for each connection, `make(const Accepted&)` returns its handler.
// A write deadline of 30 s is set where `acceptor` has none. Owns, Errors: as whorl::serve().
template <class Make>
Result<Acceptor*> serve(Loop& loop, const Address& address, Make&& make,
                        const ServerOptions& options = {}, AcceptorOptions acceptor = {}) noexcept {
    auto made = [make = std::forward<Make>(make), options](const Accepted& accepted) {
        return Serving(make(accepted), options);
    };
    Nanoseconds& bound = acceptor.stream.deadlines.write;
    if (bound == Nanoseconds::zero()) bound = std::chrono::seconds(30);
    return whorl::serve(loop, address, std::move(made), acceptor);
}

}  // namespace whorl::http
