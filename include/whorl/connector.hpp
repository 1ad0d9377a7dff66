// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/address.hpp>
#include <whorl/allocated.hpp>
#include <whorl/resolve.hpp>
#include <whorl/tcp.hpp>

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

namespace whorl {

// How long to wait, how often to try.
struct ConnectorOptions {
    ConnectOptions connect = {};  // of every attempt
    // How long an address is given before the next is tried beside it; one that fails is followed at
    // once. Source: RFC 8305 section 5.
    Nanoseconds stagger = std::chrono::milliseconds(250);
    Nanoseconds attempt{0};                                // bound of one attempt; 0: none
    Nanoseconds total = std::chrono::seconds(30);          // bound of everything; 0: none
    std::uint32_t rounds = 1;                              // how often all addresses are tried
    Nanoseconds backoff = std::chrono::milliseconds(100);  // before the second round, then doubling
    // Where the doubling of `backoff` ends.
    Nanoseconds backoff_max = std::chrono::seconds(30);
    // Half to all of the back-off is waited, as drawn from this and the clock, so that clients that
    // lost a server together do not come back together.
    std::uint64_t seed = 0;
};

// What a connector's handler is given.
struct Connected {
    Error error;                 // none, or of the last attempt
    Socket socket;               // the handler's; null with an error
    Address address;             // the one that answered
    std::uint32_t attempts = 0;  // that were begun
};

class Connector;

namespace detail {
struct ConnectorDone {
    void* object = nullptr;
    void (*call)(void*, Loop&, const Connected&) = nullptr;
    void (*destroy)(void*) noexcept = nullptr;
};
WHORL_EXPORT Result<Connector*> connector_start(Loop& loop, const Address* addresses,
                                                std::size_t count, const ConnectorOptions& options,
                                                const ConnectorDone& done) noexcept;
WHORL_EXPORT Result<Connector*> connector_start(Loop& loop, const ResolveQuery& query,
                                                const ConnectorOptions& options,
                                                const ConnectorDone& done);

template <class Handler>
ConnectorDone connector_done(Handler* handler) noexcept {
    return {handler,
            [](void* object, Loop& at, const Connected& result) {
                (*static_cast<Handler*>(object))(at, result);
            },
            [](void* object) noexcept { drop_object(static_cast<Handler*>(object)); }};
}
}  // namespace detail

// Lifetime: the loop's; a pointer to it is valid until the handler has been called.
class WHORL_EXPORT Connector {
  public:
    Connector(const Connector&) = delete;
    Connector& operator=(const Connector&) = delete;
    // The handler gets `cancelled`, with one of the next turns.
    void cancel() noexcept;

  protected:
    Connector() noexcept = default;
    ~Connector() = default;
};

// Connects to whichever of the addresses answers first: they are tried in order, families taking turns
// (RFC 8305 section 4), each with a head start. The other attempts are cancelled, and their sockets
// closed.
// Owns: the handler, on success; the addresses are copied.
// Calls: handler(Loop&, const Connected&) once, from dispatch; not when the loop is destroyed.
// Errors: invalid_argument (no address, an empty one, or a round of 0), loop_closed, ENOMEM,
//   slots_exhausted. In Connected: that of the last attempt that failed, timed_out (total), cancelled,
//   loop_closed (it drains).
template <class Handler>
Result<Connector*> connect_any(Loop& loop, const Address* addresses, std::size_t count,
                               const ConnectorOptions& options, Handler&& handler) noexcept {
    using Stored = std::decay_t<Handler>;
    static_assert(std::is_invocable_v<Stored&, Loop&, const Connected&>,
                  "whorl: the handler takes (Loop&, const Connected&)");
    auto* stored = detail::make_object<Stored>(std::forward<Handler>(handler));
    if (stored == nullptr) return Error::from_errno(12);
    Result<Connector*> made =
        detail::connector_start(loop, addresses, count, options, detail::connector_done(stored));
    if (!made) detail::drop_object(stored);
    return made;
}

// Finds the addresses of a host, as resolve() does (by the query's resolver, if it has one), and connects to whichever answers first, as
// connect_any() does. `total` and cancel() are of both; further rounds do not ask for the host again.
// Owns, calls: as connect_any(); the texts of the query are copied.
// Errors: as connect_any() and resolve() say. In Connected, with no attempts: what resolve() found, and
//   ENOMEM.
// Limits: the deadline of the query counts for the question alone.
template <class Handler>
Result<Connector*> connect_host(Loop& loop, const ResolveQuery& query,
                                const ConnectorOptions& options, Handler&& handler) {
    using Stored = std::decay_t<Handler>;
    static_assert(std::is_invocable_v<Stored&, Loop&, const Connected&>,
                  "whorl: the handler takes (Loop&, const Connected&)");
    auto* stored = detail::make_object<Stored>(std::forward<Handler>(handler));
    if (stored == nullptr) return Error::from_errno(12);
    Result<Connector*> made =
        detail::connector_start(loop, query, options, detail::connector_done(stored));
    if (!made) detail::drop_object(stored);
    return made;
}

}  // namespace whorl
