// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/address.hpp>
#include <whorl/loop.hpp>
#include <whorl/resolve.hpp>
#include <whorl/wait.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

// Names by DNS, without a thread: whorl::dns, a library of its own, on c-ares.
//
//   auto resolver = whorl::dns::Resolver::create(loop);
//   whorl::ResolveQuery query{"example.org", "https"};
//   query.resolver = &*resolver;
//   whorl::resolve(loop, query, handler);          // or connect_host(), or http::ClientOptions::resolver
//   loop.submit(whorl::dns::FindServices{*resolver, "_imap._tcp.example.org"}, whorl::within(5s), handler);
//
// Answers are kept as long as they say. Those who ask for the same at the same time share one question.

namespace whorl::dns {

// What is asked before the servers are.
enum class Hosts : std::uint8_t {
    none,         // servers alone
    file,         // /etc/hosts first
    environment,  // first the file that the variable CARES_HOSTS names, else /etc/hosts
};

// Which servers are asked, how long, and what of their answers is kept.
struct Options {
    // Asked in this order. Port 0 is 53, a scope is refused. None: those of resolv.conf(5), and without
    // one this host.
    const Address* servers = nullptr;
    std::size_t servers_count = 0;  // 0: none
    // Its search domains, ndots and options count for hosts in any case. Null: /etc/resolv.conf.
    const char* resolv_conf = nullptr;
    Hosts hosts = Hosts::file;  // see Hosts
    Nanoseconds timeout =
        std::chrono::seconds(2);  // of a server's first try; then longer. From 1 ms on
    std::uint32_t tries = 3;      // of each server, from 1 on
    // Names for which servers are asked at once; further ones wait. More may be lost on the way.
    std::uint32_t under_way_max = 100;
    std::uint32_t cache_max = 1000;                      // answers that are kept; 0: none
    std::size_t cache_bytes_max = std::size_t{1} << 20;  // of all kept answers; the oldest go first
    Nanoseconds ttl_min{0};  // what is kept shorter by its own word is kept as long as this
    Nanoseconds ttl_max = std::chrono::hours(24);  // what says more is kept no longer than this
    // How long it is kept that a name is not there, or has no such record; 0: not at all.
    Nanoseconds negative_ttl = std::chrono::seconds(10);
};

// Counted since the resolver was made.
struct Statistics {
    std::uint64_t asked = 0;      // questions that c-ares was given
    std::uint64_t kept = 0;       // answered by what was kept
    std::uint64_t joined = 0;     // that another one's answer was waited for
    std::uint64_t evicted = 0;    // for want of room
    std::uint32_t under_way = 0;  // names that servers are asked for now
    std::uint32_t entries = 0;    // kept now
    std::size_t bytes = 0;        // of these
};

// A host and port of a service (SRV).
struct Service {
    std::string_view host;       // valid as long as its Records are
    std::uint16_t port = 0;      // 1 to 65535; 0 comes through as the record has it
    std::uint16_t priority = 0;  // the lowest first
    std::uint16_t weight = 0;    // among those of one priority
};

namespace detail {
struct Answer;
struct State;
enum class Kind : std::uint8_t { addresses, services, texts };
WHORL_EXPORT Answer* answer_share(Answer* answer) noexcept;
WHORL_EXPORT void answer_release(Answer* answer) noexcept;
WHORL_EXPORT const void* answer_records(const Answer* answer) noexcept;
WHORL_EXPORT std::size_t answer_count(const Answer* answer) noexcept;
WHORL_EXPORT Error name_open(Loop& loop, whorl::detail::OpRecord& record, State* state, Kind kind,
                             std::string_view name) noexcept;
WHORL_EXPORT Answer* name_finish(whorl::detail::OpRecord& record,
                                 whorl::detail::Delivery& delivery) noexcept;
}  // namespace detail

// The records of an answer. Owns them, together with the resolver and others. Move-only; on its loop's
// thread.
template <class Record>
class Records {
  public:
    Records() noexcept = default;
    // For the library.
    explicit Records(detail::Answer* answer) noexcept : answer_(answer) {}
    Records(Records&& other) noexcept : answer_(std::exchange(other.answer_, nullptr)) {}
    Records& operator=(Records&& other) noexcept {
        std::swap(answer_, other.answer_);
        return *this;
    }
    ~Records() { detail::answer_release(answer_); }
    const Record* begin() const noexcept {
        return static_cast<const Record*>(detail::answer_records(answer_));
    }
    const Record* end() const noexcept { return begin() + size(); }
    // How many records there are.
    std::size_t size() const noexcept { return detail::answer_count(answer_); }
    bool empty() const noexcept { return size() == 0; }

  private:
    detail::Answer* answer_ = nullptr;
};

// Lifetime: destroyed before its loop, which stays where it is; what is under way then ends with
// `cancelled`. It may be destroyed in any handler. Movable, but not while its address is in a query or in
// options.
// Thread: loop thread only.
class WHORL_EXPORT Resolver final : public HostResolver {
  public:
    // Errors: invalid_argument (an option; an empty server, or one with a scope), ENOMEM, ENOENT (a file
    //   that c-ares cannot do without), slots_exhausted. A resolv_conf that cannot be read is an empty one.
    // Cost: reads resolv.conf(5) and the like.
    static Result<Resolver> create(Loop& loop, const Options& options = {}) noexcept;
    Resolver(Resolver&& other) noexcept : state_(std::exchange(other.state_, nullptr)) {}
    Resolver& operator=(Resolver&&) = delete;
    ~Resolver() override;

    // What resolve() and connect_host() do when their query has this resolver. Both families are asked
    // for when none is named, with the search domains; the order is that of RFC 6724. `configured` is not
    // looked at. Numbers are not asked for; nor is `passive` a question for servers.
    // Errors, besides those of resolve(): name_no_record, name_malformed; a name as FindServices says.
    // Cost: /etc/hosts and, for the name of a service, /etc/services are read.
    Result<Operation> find(Loop& loop, const ResolveQuery& query,
                           whorl::detail::ResolveListener* listener) override;

    // Forgets all that is kept.
    void clear() noexcept;
    // Valid as long as the resolver is where it is. Cost: none.
    const Statistics& statistics() const noexcept;

  private:
    friend struct FindServices;
    friend struct FindTexts;
    explicit Resolver(detail::State* state) noexcept : state_(state) {}
    detail::State* state_;
};

// Asks for the hosts of a service, such as "_imap._tcp.example.org".
// Owns: the name is copied.
// Calls: the handler once, from dispatch: when the answer has come, cancelled (also by the resolver's end),
//   timed_out. By priority, and the heavier first; choosing by weight (RFC 2782) is left to who asks.
// Errors: name_unknown, name_no_record (it exists, but has no SRV), name_not_answered (no server has
//   answered in its tries, or is there), name_refused (a failure of the server; with several servers that is
//   as if they were away), name_malformed, ENOMEM.
//   When called: invalid_argument (empty, more than 253 bytes, a label that is empty or has more than 63,
//   a byte that is not printable ASCII, a backslash), slots_exhausted, loop_closed, ENOMEM.
// Limits: the name is taken as it is; there is no search. Cost: allocations; none for a server's packets
//   when the answer is kept.
// Source: RFC 2782, RFC 2308.
struct FindServices {
    struct Done {
        Error error;
        Records<Service> services;  // at least one exactly when there is no error
    };
    // The name is used during the submission alone.
    FindServices(Resolver& resolver, std::string_view service) noexcept
        : state(resolver.state_), name(service) {}
    detail::State* state;
    std::string_view name;  // without search

    static constexpr whorl::detail::OpKind kind = whorl::detail::OpKind::wait;
    static constexpr bool opens = true;
    static constexpr std::uint64_t target() noexcept { return 0; }
    static Error check() noexcept { return {}; }
    Error open(Loop& loop, whorl::detail::OpRecord& record) const noexcept {
        return detail::name_open(loop, record, state, detail::Kind::services, name);
    }
    static void store(whorl::detail::OpRecord&) noexcept {}
    static Done finish(whorl::detail::OpRecord& record,
                       whorl::detail::Delivery& delivery) noexcept {
        Records<Service> services(detail::name_finish(record, delivery));
        return {delivery.error, std::move(services)};
    }
};

// Asks for the texts of a name (TXT). Each is one record: its pieces are put together.
// Everything else as for FindServices. Source: RFC 1035 section 3.3.14, RFC 7208 section 3.3.
struct FindTexts {
    struct Done {
        Error error;
        Records<std::string_view> texts;  // at least one exactly when there is no error
    };
    // The name is used during the submission alone.
    FindTexts(Resolver& resolver, std::string_view of) noexcept
        : state(resolver.state_), name(of) {}
    detail::State* state;
    std::string_view name;  // without search

    static constexpr whorl::detail::OpKind kind = whorl::detail::OpKind::wait;
    static constexpr bool opens = true;
    static constexpr std::uint64_t target() noexcept { return 0; }
    static Error check() noexcept { return {}; }
    Error open(Loop& loop, whorl::detail::OpRecord& record) const noexcept {
        return detail::name_open(loop, record, state, detail::Kind::texts, name);
    }
    static void store(whorl::detail::OpRecord&) noexcept {}
    static Done finish(whorl::detail::OpRecord& record,
                       whorl::detail::Delivery& delivery) noexcept {
        Records<std::string_view> texts(detail::name_finish(record, delivery));
        return {delivery.error, std::move(texts)};
    }
};

}  // namespace whorl::dns
