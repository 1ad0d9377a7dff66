// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/connector.hpp>
#include <whorl/stream.hpp>
#include <whorl/wait.hpp>

#include <cstdint>
#include <string_view>
#include <utility>

// Connections to hosts that are used again and again: a client takes one, speaks, and gives it back.
//
//   auto pool = whorl::ConnectionPool::create(loop);
//   loop.submit(whorl::TakeConnection{*pool, "cache.example.org", 6379}, whorl::within(2s),
//               [&](whorl::Loop&, whorl::TakeConnection::Done done) {
//                   if (!done.error) done.error = done.stream->replace(Question{*pool, …});
//               });
//   … in a callback of Question, when the answer is there:  pool.give_back(stream);

namespace whorl {

// How many connections, and how they are made.
struct PoolOptions {
    std::uint32_t per_host_max = 8;    // connections to one host: lent, kept, being made; from 1 on
    std::uint32_t total_max = 100;     // to all of them; from 1 on
    std::uint32_t idle_max = 32;       // kept, to all of them; 0: none is kept
    std::uint32_t waiting_max = 1000;  // who wait for one; from 1 on
    Nanoseconds idle = std::chrono::seconds(15);  // how long one is kept; zero: for ever
    ConnectorOptions connect = {};                // how a new one is made
    StreamOptions stream = {};                    // of all of them
    HostResolver* resolver = nullptr;             // null: getaddrinfo(3); it outlives the pool
};

// Counted since create().
struct PoolStatistics {
    std::uint32_t lent = 0;        // now
    std::uint32_t idle = 0;        // kept
    std::uint32_t connecting = 0;  // being made
    std::uint32_t waiting = 0;     // who wait
    std::uint64_t made = 0;        // connections, successful ones
    std::uint64_t reused = 0;      // lent again
    std::uint64_t dropped =
        0;  // kept ones that the peer has closed, or for which the time was over
};

namespace detail {
struct PoolState;
WHORL_EXPORT Error pool_take(Loop& loop, OpRecord& record, PoolState* pool, std::string_view host,
                             std::uint16_t port);
// Sets the delivery's error when the connection is lost again.
WHORL_EXPORT Stream* pool_finish(OpRecord& record, Delivery& delivery, bool& reused) noexcept;
}  // namespace detail

// Lifetime: who waits when it is destroyed ends with `cancelled`, kept connections are closed, lent ones stay
// with their protocols. Movable. Thread: loop thread only.
class WHORL_EXPORT ConnectionPool {
  public:
    // Errors: invalid_argument (an option), ENOMEM.
    static Result<ConnectionPool> create(Loop& loop, const PoolOptions& options = {}) noexcept;
    ConnectionPool(ConnectionPool&& other) noexcept
        : state_(std::exchange(other.state_, nullptr)) {}
    ConnectionPool& operator=(ConnectionPool&&) = delete;
    ~ConnectionPool();

    // The connection is for the next who wants one to its host; its protocol is destroyed, after the
    // callback when it is in one. Whoever gives it back has read and written whole messages: one that
    // closes, or with bytes that wait to be sent, is closed instead.
    // Limits: a stream that this pool has lent.
    void give_back(Stream& stream) noexcept;
    // It is of no more use. The same as closing it by any other means.
    void discard(Stream& stream) noexcept { stream.abort(); }
    // Closes all that are kept.
    void clear() noexcept;

    // As of now. Cost: a copy.
    PoolStatistics statistics() const noexcept;

  private:
    friend struct TakeConnection;
    explicit ConnectionPool(detail::PoolState* state) noexcept : state_(state) {}
    detail::PoolState* state_;
};

// Waits for a connection to a host: the one that was used last, or a new one when there may be more, or the
// next that is given back or lost; first come, first served for each host, and among hosts that wait for the
// total. For its sake the one that was kept longest, to whichever host, is closed.
// Owns: the name is copied. The stream is lent: its handler gives it a protocol at once (Stream::replace), and
//   it belongs to the loop as any other. When it has closed, the pool knows; nobody need give it back.
// Calls: the handler once, from dispatch: with a stream, cancelled (also by the pool's end), timed_out, or what
//   connect_host() says; ECONNRESET when it was lost before the handler ran.
// Errors: invalid_argument (no name, more than 253 bytes, port 0), queue_full (waiting_max), ENOMEM, and as
//   Loop::submit.
// Cost: O(hosts that have connections or are waited for); allocations; a connection unless one is kept.
struct TakeConnection {
    struct Done {
        Error error;
        // Lent; null with an error. Valid until it is given back or closes.
        Stream* stream = nullptr;
        bool reused = false;  // it was lent before: a server may close it at any time
    };
    // The name is not kept beyond the submission.
    TakeConnection(ConnectionPool& from, std::string_view to, std::uint16_t number) noexcept
        : pool(from.state_), host(to), port(number) {}
    detail::PoolState* pool;
    std::string_view host;  // a name or number, up to 253 bytes
    std::uint16_t port;     // from 1 on

    static constexpr detail::OpKind kind = detail::OpKind::wait;
    static constexpr bool opens = true;
    static constexpr std::uint64_t target() noexcept { return 0; }
    Error check() const noexcept {
        const bool sane = !host.empty() && host.size() <= 253 && port != 0;
        return sane ? Error() : Error(Error::invalid_argument);
    }
    Error open(Loop& loop, detail::OpRecord& record) const {
        return detail::pool_take(loop, record, pool, host, port);
    }
    static void store(detail::OpRecord&) noexcept {}
    static Done finish(detail::OpRecord& record, detail::Delivery& delivery) noexcept {
        bool reused = false;
        Stream* const stream = detail::pool_finish(record, delivery, reused);
        return {delivery.error, stream, reused};
    }
};

}  // namespace whorl
