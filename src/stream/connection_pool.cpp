// SPDX-License-Identifier: MIT
// Floor: 6
#include <whorl/connection_pool.hpp>

#include <whorl/allocated.hpp>

#include "stream/stream_state.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>

// Who waits is an operation in the queue of its host. A host is the owner of its streams (StreamOwner), and
// so hears of the end of each, whatever protocol it has by then.
//
// Invariants:
//   1. `connections` of a host counts its streams, kept, lent or about to go; `connecting` the attempts.
//      Together they are at most per_host_max, and those of all hosts at most total_max.
//   2. A stream that is kept is in its host's `idle` (in_owner) and in the pool's (in_bucket), the oldest
//      first; all others are in `others`.
//   3. A host lives while it has a connection, an attempt, or somebody who waits.

namespace whorl::detail {

namespace {

// What a waiting operation holds: in the end, its stream.
struct PoolTicket final : Carried, ListNode, Allocated<PoolTicket> {
    PoolTicket() noexcept : Carried{nullptr, &drop_ticket} {}
    PoolTicket(const PoolTicket&) = delete;
    PoolTicket& operator=(const PoolTicket&) = delete;
    ~PoolTicket() {
        if (List::is_linked(*this)) List::remove(*this);
    }
    static void drop_ticket(Carried* carried) noexcept { delete static_cast<PoolTicket*>(carried); }
    StreamState* stream = nullptr;  // while linked; null: lost
    Error lost;
    bool reused = false;
};

struct PoolHost;

// A connection that is being made. The connector's handler owns it.
struct PoolAttempt : ListNode, Allocated<PoolAttempt> {
    explicit PoolAttempt(PoolHost& of) noexcept;
    PoolAttempt(const PoolAttempt&) = delete;
    PoolAttempt& operator=(const PoolAttempt&) = delete;
    ~PoolAttempt();
    PoolHost* host;  // null: the pool is gone
    Connector* connector = nullptr;
};

struct PoolHost final : ListNode, StreamOwner, Allocated<PoolHost> {
    PoolHost(PoolState& of, std::uint16_t number, Buffer&& text) noexcept
        : pool(&of), port(number), memory(std::move(text)), queue(&one_left, this) {
        blocked.host = this;
    }
    PoolHost(const PoolHost&) = delete;
    PoolHost& operator=(const PoolHost&) = delete;
    virtual ~PoolHost() = default;
    static void one_left(void* self) noexcept { static_cast<PoolHost*>(self)->left(); }
    void stream_gone(StreamState& stream) noexcept override;
    void stream_refused() noexcept override {}
    void left() noexcept;
    bool is(std::string_view name, std::uint16_t number) const noexcept;
    std::uint32_t used() const noexcept { return connections + connecting; }

    PoolState* pool;
    std::uint16_t port;
    std::uint32_t connections = 0;
    std::uint32_t connecting = 0;
    std::uint32_t waiting = 0;
    Buffer memory;  // the name
    WaitQueue queue;
    List idle;
    List others;
    List attempts;
    struct Blocked : ListNode {
        PoolHost* host = nullptr;
    } blocked;  // in the pool's list: it waits for the total
};

// A kept connection: whoever sends now is not understood.
struct Kept {
    static void received(Stream& stream, const Buffer&) { stream.abort(Error::frame_malformed); }
};

}  // namespace

struct PoolState : Allocated<PoolState> {
    PoolState(Loop& at, const PoolOptions& given) noexcept : loop(&at), options(given) {}
    PoolState(const PoolState&) = delete;
    PoolState& operator=(const PoolState&) = delete;
    ~PoolState();

    PoolHost* find(std::string_view name, std::uint16_t port) noexcept;
    PoolHost* make(std::string_view name, std::uint16_t port) noexcept;
    void pump(PoolHost& host);
    void pump_blocked();
    bool has_room(PoolHost& host) noexcept;
    Error connect(PoolHost& host);
    void connected(PoolHost& host, const Connected& result, bool given_up);
    void offer(PoolHost& host, StreamState& stream) noexcept;
    void hand(PoolHost& host, StreamState& stream, bool reused) noexcept;
    void tell(PoolHost& host, Error error) noexcept;
    StreamState* take_idle(PoolHost& host) noexcept;
    void unkeep(PoolHost& host, StreamState& stream) noexcept;
    void close_idle(StreamState& stream) noexcept;
    void rest(PoolHost& host) noexcept;

    Loop* loop;
    PoolOptions options;
    PoolStatistics statistics;
    std::uint32_t total = 0;  // connections and attempts of all hosts
    List hosts;
    List idle;
    List blocked;
    List handed;  // tickets with streams whose handler has not run
};

namespace {

StreamState& stream_in(ListNode* node) noexcept {
    return *static_cast<StreamState::OwnerLink*>(node)->stream;
}

PoolAttempt::PoolAttempt(PoolHost& of) noexcept : host(&of) {
    of.attempts.push_back(*this);
    ++of.connecting;
    ++of.pool->statistics.connecting;
    ++of.pool->total;
}

PoolAttempt::~PoolAttempt() {
    if (host == nullptr) return;
    List::remove(*this);
    --host->connecting;
    --host->pool->statistics.connecting;
    --host->pool->total;
}

bool PoolHost::is(std::string_view name, std::uint16_t number) const noexcept {
    const auto lower = [](char sign) { return sign >= 'A' && sign <= 'Z' ? sign + 32 : sign; };
    const std::string_view own = memory.text();
    return port == number && std::equal(own.begin(), own.end(), name.begin(), name.end(),
                                        [&](char a, char b) { return lower(a) == lower(b); });
}

void PoolHost::stream_gone(StreamState& stream) noexcept {
    PoolState& of = *pool;
    for (ListNode* node = of.handed.front(); node != nullptr; node = of.handed.after(*node)) {
        auto& ticket = static_cast<PoolTicket&>(*node);
        if (ticket.stream != &stream) continue;
        ticket.stream = nullptr;
        ticket.lost = Error::from_errno(ECONNRESET);
    }
    if (List::is_linked(stream.in_bucket)) {  // it was kept until now
        of.unkeep(*this, stream);
        ++of.statistics.dropped;
    } else {
        --of.statistics.lent;
    }
    List::remove(stream.in_owner);
    --connections;
    --of.total;
    of.pump(*this);
    of.pump_blocked();
}

// One who waited was cancelled. What is only made for those who do not wait any more is given up.
void PoolHost::left() noexcept {
    --waiting;
    --pool->statistics.waiting;
    std::uint32_t surplus = connecting > waiting ? connecting - waiting : 0;
    for (ListNode* node = attempts.front(); node != nullptr && surplus != 0;
         node = attempts.after(*node)) {
        auto& attempt = static_cast<PoolAttempt&>(*node);
        // Null: it was given up before, as all are that stand in front of one that is.
        if (attempt.connector != nullptr) std::exchange(attempt.connector, nullptr)->cancel();
        --surplus;
    }
    pool->rest(*this);
}

}  // namespace

PoolHost* PoolState::find(std::string_view name, std::uint16_t port) noexcept {
    for (ListNode* node = hosts.front(); node != nullptr; node = hosts.after(*node)) {
        auto& host = static_cast<PoolHost&>(*node);
        if (host.is(name, port)) return &host;
    }
    return nullptr;
}

PoolHost* PoolState::make(std::string_view name, std::uint16_t port) noexcept {
    Buffer text = Buffer::copy_of(Bytes(name));
    if (!text) return nullptr;
    auto* host = new (std::nothrow) PoolHost(*this, port, std::move(text));
    if (host == nullptr) return nullptr;
    hosts.push_back(*host);
    return host;
}

// Serves those who wait for this host, as far as it goes.
void PoolState::pump(PoolHost& host) {
    while (host.waiting != 0) {
        if (StreamState* stream = take_idle(host)) {
            hand(host, *stream, true);
            continue;
        }
        if (host.connecting >= host.waiting || !has_room(host)) break;
        if (Error error = connect(host)) tell(host, error);
    }
    rest(host);
}

void PoolState::pump_blocked() {
    std::uint32_t left = 0;
    for (ListNode* node = blocked.front(); node != nullptr; node = blocked.after(*node)) ++left;
    for (; left != 0 && total < options.total_max; --left) {
        ListNode* const node = blocked.pop_front();
        if (node == nullptr) return;
        pump(*static_cast<PoolHost::Blocked*>(node)->host);
    }
}

// Whether one more may be made. If not, the host may come to wait for the total, and another's kept
// connection goes.
bool PoolState::has_room(PoolHost& host) noexcept {
    if (host.used() >= options.per_host_max) return false;
    if (total < options.total_max) return true;
    if (!List::is_linked(host.blocked)) blocked.push_back(host.blocked);
    if (ListNode* node = idle.front()) close_idle(stream_in(node));
    return false;
}

Error PoolState::connect(PoolHost& host) {
    std::unique_ptr<PoolAttempt> made(new (std::nothrow) PoolAttempt(host));
    if (!made) return Error::from_errno(ENOMEM);
    PoolAttempt& attempt = *made;
    ResolveQuery query{host.memory.text(), {}, host.port};
    query.resolver = options.resolver;
    const Result<Connector*> connector =
        connect_host(*loop, query, options.connect,
                     [made = std::move(made)](Loop& here, const Connected& result) mutable {
                         PoolHost* const to = made->host;
                         const bool given_up = made->connector == nullptr;
                         made.reset();
                         if (to != nullptr) return to->pool->connected(*to, result, given_up);
                         if (!result.error) static_cast<void>(here.close(result.socket));
                     });
    if (!connector) return connector.error();
    attempt.connector = *connector;
    return {};
}

void PoolState::connected(PoolHost& host, const Connected& result, bool given_up) {
    Error error = result.error;
    if (!error) {
        const Result<Stream*> made = attach(*loop, result.socket, Kept{}, options.stream);
        error = made.error();
        if (made) {
            auto& stream = static_cast<StreamState&>(**made);
            stream.owner = &host;
            stream.in_owner.stream = &stream;
            stream.in_bucket.stream = &stream;
            host.others.push_back(stream.in_owner);
            ++host.connections;
            ++total;
            ++statistics.made;
            ++statistics.lent;
            offer(host, stream);
        } else {
            static_cast<void>(loop->close(result.socket));
        }
    }
    // Who has come since an attempt was given up is not told of that: the next attempt is theirs.
    if (error && !given_up && host.waiting > host.connecting) tell(host, error);
    pump(host);
    pump_blocked();
}

// A stream that counts as lent is for the first who waits, or is kept.
void PoolState::offer(PoolHost& host, StreamState& stream) noexcept {
    if (host.waiting != 0) {
        --statistics.lent;
        const bool reused = stream.counts.bytes_received != 0 || stream.counts.bytes_sent != 0;
        return hand(host, stream, reused);
    }
    const bool wanted_elsewhere = !blocked.empty() && total >= options.total_max;
    if (options.idle_max == 0 || wanted_elsewhere) return stream.close();
    if (statistics.idle >= options.idle_max) close_idle(stream_in(idle.front()));
    StreamDeadlines deadlines;
    deadlines.idle = options.idle;
    stream.set_deadlines(deadlines);
    List::remove(stream.in_owner);
    host.idle.push_back(stream.in_owner);
    idle.push_back(stream.in_bucket);
    --statistics.lent;
    ++statistics.idle;
}

// To the first who waits.
void PoolState::hand(PoolHost& host, StreamState& stream, bool reused) noexcept {
    stream.set_deadlines(options.stream.deadlines);
    auto* ticket = static_cast<PoolTicket*>(host.queue.take_front());
    ticket->stream = &stream;
    ticket->reused = reused;
    handed.push_back(*ticket);
    ++statistics.lent;
    if (reused) ++statistics.reused;
    --host.waiting;
    --statistics.waiting;
    host.queue.end_front({}, ticket);
}

void PoolState::tell(PoolHost& host, Error error) noexcept {
    --host.waiting;
    --statistics.waiting;
    host.queue.end_front(error);
}

// The one that was used last, of those that do not close. It is then in `others`.
StreamState* PoolState::take_idle(PoolHost& host) noexcept {
    StreamState* last = nullptr;
    for (ListNode* node = host.idle.front(); node != nullptr; node = host.idle.after(*node)) {
        if (!stream_in(node).closing()) last = &stream_in(node);
    }
    if (last != nullptr) unkeep(host, *last);
    return last;
}

void PoolState::unkeep(PoolHost& host, StreamState& stream) noexcept {
    List::remove(stream.in_owner);
    List::remove(stream.in_bucket);
    host.others.push_back(stream.in_owner);
    --statistics.idle;
}

void PoolState::close_idle(StreamState& stream) noexcept {
    unkeep(*static_cast<PoolHost*>(stream.owner), stream);
    ++statistics.lent;  // until it has gone
    stream.close();
}

void PoolState::rest(PoolHost& host) noexcept {
    if (host.used() != 0 || host.waiting != 0) return;
    if (List::is_linked(host.blocked)) List::remove(host.blocked);
    List::remove(host);
    delete &host;
}

PoolState::~PoolState() {
    while (ListNode* node = handed.pop_front()) {
        auto& ticket = static_cast<PoolTicket&>(*node);
        if (ticket.stream != nullptr) ticket.stream->close();
        ticket.stream = nullptr;
        ticket.lost = Error::cancelled;
    }
    while (ListNode* node = hosts.pop_front()) {
        auto* host = static_cast<PoolHost*>(node);
        while (ListNode* attempt_node = host->attempts.pop_front()) {
            auto& attempt = static_cast<PoolAttempt&>(*attempt_node);
            attempt.host = nullptr;
            if (attempt.connector != nullptr) attempt.connector->cancel();
        }
        while (ListNode* kept = host->idle.pop_front()) {
            StreamState& stream = stream_in(kept);
            List::remove(stream.in_bucket);
            stream.owner = nullptr;
            stream.close();
        }
        while (ListNode* lent = host->others.pop_front()) stream_in(lent).owner = nullptr;
        if (List::is_linked(host->blocked)) List::remove(host->blocked);
        delete host;  // who waits is cancelled
    }
}

Error pool_take(Loop& loop, OpRecord& record, PoolState* pool, std::string_view host,
                std::uint16_t port) {
    WHORL_ASSERT(pool != nullptr && pool->loop == &loop);
    if (pool->statistics.waiting >= pool->options.waiting_max) return Error::queue_full;
    std::unique_ptr<PoolTicket> ticket(new (std::nothrow) PoolTicket);
    if (!ticket) return Error::from_errno(ENOMEM);
    PoolHost* to = pool->find(host, port);
    if (to == nullptr) to = pool->make(host, port);
    if (to == nullptr) return Error::from_errno(ENOMEM);
    ++to->waiting;
    ++pool->statistics.waiting;
    to->queue.join(loop, record, 0, ticket.release());
    pool->pump(*to);
    return {};
}

Stream* pool_finish(OpRecord& record, Delivery& delivery, bool& reused) noexcept {
    const std::unique_ptr<PoolTicket> ticket(static_cast<PoolTicket*>(WaitQueue::take(record)));
    if (ticket == nullptr || delivery.error) return nullptr;
    reused = ticket->reused;
    if (ticket->stream == nullptr) delivery.error = ticket->lost;
    else if (ticket->stream->closing()) delivery.error = Error::from_errno(ECONNRESET);
    return delivery.error ? nullptr : static_cast<Stream*>(ticket->stream);
}

}  // namespace whorl::detail

namespace whorl {

Result<ConnectionPool> ConnectionPool::create(Loop& loop, const PoolOptions& options) noexcept {
    const bool sane = options.per_host_max != 0 && options.total_max != 0 &&
                      options.waiting_max != 0 && options.idle >= Nanoseconds::zero();
    if (!sane) return Error::invalid_argument;
    auto* state = new (std::nothrow) detail::PoolState(loop, options);
    if (state == nullptr) return Error::from_errno(ENOMEM);
    return ConnectionPool(state);
}

ConnectionPool::~ConnectionPool() { delete state_; }

void ConnectionPool::give_back(Stream& stream) noexcept {
    auto& given = static_cast<detail::StreamState&>(stream);
    given.core->check_thread();
    auto* host = static_cast<detail::PoolHost*>(given.owner);
    WHORL_ASSERT(host != nullptr && host->pool == state_);
    WHORL_ASSERT(!List::is_linked(given.in_bucket));  // it is lent
    if (stream.closing()) return;
    if (stream.queued() != 0 || given.held_bytes != 0 || given.peer_ended ||
        stream.replace(detail::Kept{})) {
        return stream.close();
    }
    if (stream.paused()) stream.resume();
    state_->offer(*host, given);
}

void ConnectionPool::clear() noexcept {
    while (ListNode* node = state_->idle.front()) {
        state_->close_idle(detail::stream_in(node));
    }
}

PoolStatistics ConnectionPool::statistics() const noexcept { return state_->statistics; }

}  // namespace whorl
