// SPDX-License-Identifier: MIT
// Floor: 6
#include <whorl/acceptor.hpp>

#include <whorl/allocated.hpp>

#include "stream/stream_state.hpp"

#include <new>

// The acceptor's machine: settle() starts and stops the AcceptStream as the limits want it. What it
// still delivers after it was stopped waits in a list, and goes first when there is room.
//
// Invariants:
//   1. It is destroyed when it is closing, nothing of its own is under way, and it has no stream.
//   2. The streams of one address are in one bucket.

namespace whorl {

namespace detail {

namespace {
constexpr std::uint32_t buckets_first = 16;

// The address without its port; an IPv4 address that comes mapped is another key than the same bare.
Address host_of(Address address) noexcept {
    if (address) address.set_port(0);
    return address;
}
}  // namespace

struct AcceptorState final : Acceptor, HubEntry, StreamOwner {
    struct Waiting : Allocated<Waiting> {
        Waiting* next;
        Socket socket;
    };

    AcceptorState(LoopCore& loop_core, Listener on, const AcceptorOptions& given,
                  const AcceptorMake& made) noexcept
        : HubEntry(loop_core), listening(on), options(given), make(made) {}
    ~AcceptorState() override;
    void settle() override;
    void drain() override;
    void stream_gone(StreamState& stream) noexcept override;
    void stream_refused() noexcept override { ++statistics.refused; }

    bool full() const noexcept {
        return options.connections_max != 0 && statistics.open >= options.connections_max;
    }
    void on_accept(AcceptStream::Done event);
    void wait(Socket socket) noexcept;
    void take_waiting();
    void admit(Socket socket);
    bool peer_may(const Address& host) noexcept;
    void file(StreamState& stream) noexcept;
    void grow() noexcept;
    void shut() noexcept;
    void expire() noexcept;
    Error end_within(Nanoseconds bound, const AcceptorDone& handler) noexcept;
    bool finish();

    Listener listening;
    AcceptorOptions options;
    AcceptorMake make;
    AcceptorDone done;
    AcceptorStatistics statistics;
    List streams;
    List* buckets = nullptr;
    std::uint32_t bucket_count = 0;
    Waiting* first = nullptr;
    Waiting** last = &first;
    Operation accepting;
    Timer timer;
    bool stop_asked = false;
    bool user_paused = false;
    bool closing = false;
    bool retiring = false;      // accepts no more; what was accepted is still admitted
    std::uint32_t aborted = 0;  // by the bound
    bool owned =
        false;  // the listener is ours: what is refused in starting leaves it to the caller
};

AcceptorState::~AcceptorState() {
    while (first != nullptr) {
        Waiting* const gone = first;
        first = gone->next;
        delete gone;
    }
    while (ListNode* node = streams.pop_front()) {  // the loop ends: they are destroyed beside it
        static_cast<StreamState::OwnerLink*>(node)->stream->owner = nullptr;
    }
    for (std::uint32_t index = 0; index < bucket_count; ++index) {
        while (buckets[index].pop_front() != nullptr) {
        }
    }
    drop_array(buckets);
    if (done.object != nullptr) done.destroy(done.object);
    if (make.object != nullptr && owned) make.destroy(make.object);
}

void AcceptorState::settle() {
    if (closing) {
        static_cast<void>(finish());
        return;
    }
    take_waiting();
    const bool overloaded = hub().statistics.overloaded;
    const bool wanted = !user_paused && !overloaded && !full() && first == nullptr && !retiring;
    if (overloaded) hub().wait_for_room(*this);
    if (wanted && !accepting) {
        const Result<Operation> made =
            loop().submit(AcceptStream{listening},
                          [this](Loop&, AcceptStream::Done event) { on_accept(std::move(event)); });
        if (made) accepting = *made;
        else statistics.last_error = made.error();
    } else if (!wanted && accepting && !stop_asked) {
        stop_asked = true;
        ++statistics.pauses;
        static_cast<void>(loop().cancel(accepting));
    }
    if (retiring && !accepting && first == nullptr) shut();
}

void AcceptorState::on_accept(AcceptStream::Done event) {
    if (!event.more) {
        accepting = {};
        if (event.error && !(stop_asked && event.error == Error::cancelled)) {
            statistics.last_error = event.error;
            closing = closing || event.error != Error::cancelled;
        }
        stop_asked = false;
        mark();
    } else if (event.error) {
        ++statistics.shortages;
        statistics.last_error = event.error;
    }
    if (!event.socket) return;
    ++statistics.accepted;
    if (closing) static_cast<void>(loop().close(event.socket));
    else if (full() || user_paused || first != nullptr) wait(event.socket);
    else admit(event.socket);
    if (full()) mark();
}

void AcceptorState::wait(Socket socket) noexcept {
    auto* waiting = new (std::nothrow) Waiting{{}, nullptr, socket};
    if (waiting == nullptr) {
        ++statistics.refused;
        static_cast<void>(loop().close(socket));
        return;
    }
    *last = waiting;
    last = &waiting->next;
}

void AcceptorState::take_waiting() {
    while (first != nullptr && !full() && !user_paused) {
        Waiting* const taken = first;
        first = taken->next;
        if (first == nullptr) last = &first;
        const Socket socket = taken->socket;
        delete taken;
        admit(socket);
    }
}

void AcceptorState::admit(Socket socket) {
    const Address peer = peer_address(loop(), socket).value_or(Address());
    if (!peer_may(host_of(peer))) {
        ++statistics.refused_peer;
        Linger linger;
        linger.on = true;
        static_cast<void>(set_option(loop(), socket, linger));
        static_cast<void>(loop().close(socket));
        return;
    }
    struct Unless {  // `make` may throw
        AcceptorState& acceptor;
        Socket socket;
        bool attached = false;
        ~Unless() {
            if (attached) return;
            ++acceptor.statistics.refused;
            static_cast<void>(acceptor.loop().close(socket));
        }
    };
    Unless guard{*this, socket};
    const Accepted accepted{loop(), socket, peer, {}, {}};
    Result<Stream*> stream = make.attach(make.object, accepted, options);
    if (!stream) {
        statistics.last_error = stream.error();
        return;
    }
    guard.attached = true;
    auto& state = static_cast<StreamState&>(**stream);
    state.peer = host_of(peer);
    file(state);
}

// --- the streams, and how many a peer has

void AcceptorState::file(StreamState& stream) noexcept {
    stream.owner = this;
    stream.in_owner.stream = &stream;
    stream.in_bucket.stream = &stream;
    streams.push_back(stream.in_owner);
    if (++statistics.open > statistics.open_high) statistics.open_high = statistics.open;
    if (options.per_peer_max == 0) return;
    if (statistics.open > bucket_count) grow();
    if (bucket_count == 0) return;
    buckets[stream.peer.hash() & (bucket_count - 1)].push_back(stream.in_bucket);
}

bool AcceptorState::peer_may(const Address& host) noexcept {
    if (options.per_peer_max == 0 || bucket_count == 0) return true;
    const List& bucket = buckets[host.hash() & (bucket_count - 1)];
    std::uint32_t count = 0;
    for (ListNode* node = bucket.front(); node != nullptr; node = bucket.after(*node)) {
        if (static_cast<StreamState::OwnerLink*>(node)->stream->peer == host) ++count;
    }
    return count < options.per_peer_max;
}

// Twice as many buckets. Without memory there are fewer than streams, and a look-up takes longer.
void AcceptorState::grow() noexcept {
    const std::uint32_t count = bucket_count == 0 ? buckets_first : bucket_count * 2;
    List* const grown = make_array<List>(count);
    if (grown == nullptr) return;
    for (std::uint32_t index = 0; index < bucket_count; ++index) {
        while (ListNode* node = buckets[index].pop_front()) {
            const Address& peer = static_cast<StreamState::OwnerLink*>(node)->stream->peer;
            grown[peer.hash() & (count - 1)].push_back(*node);
        }
    }
    drop_array(buckets);
    buckets = grown;
    bucket_count = count;
}

void AcceptorState::stream_gone(StreamState& stream) noexcept {
    List::remove(stream.in_owner);
    if (List::is_linked(stream.in_bucket)) List::remove(stream.in_bucket);
    --statistics.open;
    mark();
}

// --- the end

void AcceptorState::shut() noexcept {
    if (closing) return;
    closing = true;
    while (first != nullptr) {
        Waiting* const gone = first;
        first = gone->next;
        static_cast<void>(loop().close(gone->socket));
        delete gone;
    }
    last = &first;
    static_cast<void>(loop().close(listening));
    mark();
}

void AcceptorState::drain() {
    shut();
    static_cast<void>(finish());
}

void AcceptorState::expire() noexcept {
    timer = {};
    aborted = statistics.open;
    for (const Waiting* each = first; each != nullptr; each = each->next) ++aborted;
    shut();
    for (ListNode* node = streams.front(); node != nullptr; node = streams.after(*node)) {
        static_cast<StreamState::OwnerLink*>(node)->stream->fail(ClosedBy::deadline,
                                                                 Error::timed_out);
    }
}

// From now on it ends, and `handler` hears of it.
Error AcceptorState::end_within(Nanoseconds bound, const AcceptorDone& handler) noexcept {
    if (closing || done.object != nullptr) return Error::invalid_argument;
    const Result<Timer> made = loop().after(bound, [this](Loop&, Expired) { expire(); });
    if (!made) return made.error();
    timer = *made;
    done = handler;
    return {};
}

// True: it is gone.
bool AcceptorState::finish() {
    if (!closing || accepting || !streams.empty()) return false;
    if (timer) static_cast<void>(loop().cancel(timer));
    struct End {  // the handler may throw
        AcceptorState* acceptor;
        ~End() { delete acceptor; }
    };
    const End end{this};
    if (done.object != nullptr) done.call(done.object, loop(), aborted);
    return true;
}

Result<Acceptor*> acceptor_start(Loop& loop, Listener listener, const AcceptorOptions& options,
                                 const AcceptorMake& make) noexcept {
    const Result<StreamHub*> hub = StreamHub::of(loop);
    if (!hub) return hub.error();
    if (loop.core().descriptor_find(listener.value()) == nullptr) return Error::stale_handle;
    auto* state = new (std::nothrow) AcceptorState(loop.core(), listener, options, make);
    if (state == nullptr) return Error::from_errno(ENOMEM);
    (*hub)->add(*state);
    state->settle();
    if (!state->accepting && !(*hub)->statistics.overloaded) {
        const Error error = state->statistics.last_error;
        delete state;
        return error;
    }
    state->owned = true;
    return static_cast<Acceptor*>(state);
}

void acceptor_refused(Stream& stream) noexcept {
    auto& state = static_cast<StreamState&>(stream);
    if (state.owner != nullptr) state.owner->stream_refused();
}

namespace {
AcceptorState& state_of(Acceptor* acceptor) noexcept {
    auto& state = *static_cast<AcceptorState*>(acceptor);
    state.core->check_thread();
    return state;
}
}  // namespace

}  // namespace detail

Listener Acceptor::listener() const noexcept {
    return static_cast<const detail::AcceptorState*>(this)->listening;
}
const AcceptorStatistics& Acceptor::statistics() const noexcept {
    return static_cast<const detail::AcceptorState*>(this)->statistics;
}
void Acceptor::pause() noexcept {
    detail::AcceptorState& state = detail::state_of(this);
    state.user_paused = true;
    state.mark();
}
void Acceptor::resume() noexcept {
    detail::AcceptorState& state = detail::state_of(this);
    state.user_paused = false;
    state.mark();
}
void Acceptor::close() noexcept { detail::state_of(this).shut(); }

Error Acceptor::drain_to(Nanoseconds bound, const detail::AcceptorDone& done) noexcept {
    detail::AcceptorState& state = detail::state_of(this);
    if (Error error = state.end_within(bound, done)) return error;
    state.shut();
    for (ListNode* node = state.streams.front(); node != nullptr;
         node = state.streams.after(*node)) {
        static_cast<detail::StreamState::OwnerLink*>(node)->stream->close();
    }
    return {};
}

Error Acceptor::retire_to(Nanoseconds bound, const detail::AcceptorDone& done) noexcept {
    detail::AcceptorState& state = detail::state_of(this);
    if (Error error = state.end_within(bound, done)) return error;
    state.user_paused = false;
    state.retiring = true;
    state.mark();
    return {};
}

}  // namespace whorl
