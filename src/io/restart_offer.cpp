// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/hot_restart.hpp>

#include "io/restart_record.hpp"
#include "loop/core.hpp"

#include <whorl/allocated.hpp>
#include <whorl/socket.hpp>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <new>

// The side that serves. Who connects is a visit, of which there are a few at once:
//
//   greeting ──hello──▶ offering ──all sent──▶ awaited ──ready──▶ leaving   (and the offer has ended)
//      │                   └────────┬────────────┘ error, end, deadline: the next successor may come
//      └──busy, version──▶ leaving ◀┘ deadline
//
// Leaving: the last word is sent, and the peer's end awaited: a socket that is closed with something unread
// would take the last word from the peer. At most one visit is offering or awaited (`candidate`).
// Invariant: a handler knows its visit by index and socket, since the visit may have been given to another.

namespace whorl {

namespace detail {

namespace {
constexpr std::size_t visits_max = 8;
constexpr int restart_backlog = 16;
constexpr Nanoseconds leaving_bound = std::chrono::seconds(5);
constexpr std::uint32_t nobody = visits_max;

struct Offered {
    std::uint64_t handle;
    std::uint8_t size;
    char name[InheritedDescriptors::name_max];
};
}  // namespace

class OfferState final : public RestartOffer, public Allocated<OfferState> {
  public:
    OfferState(LoopCore& core, Listener listener, Nanoseconds ready_within,
               RestartListener<Succeeded>* handler) noexcept
        : core_(core), listener_(listener), ready_within_(ready_within), handler_(handler) {}

    Error begin(Loop& loop);
    Error add(std::string_view name, std::uint64_t handle) noexcept;
    void give_up() noexcept;

    std::uint32_t references = 0;
    RestartOfferStatistics counted;

  private:
    enum class Phase : std::uint8_t { free, greeting, offering, awaited, leaving };
    struct Visit {
        Socket socket;
        Phase phase = Phase::free;
        Instant deadline;
        std::uint32_t sent = 0;  // descriptors
        PeerCredentials peer;
    };
    using Ref = RestartRef<OfferState>;

    void accepted(Loop& loop, AcceptStream::Done done);
    void visited(Loop& loop, Socket socket);
    void receive(Loop& loop, std::uint32_t index, Instant deadline);
    void received(Loop& loop, std::uint32_t index, const Recv::Done& done);
    void greeted(Loop& loop, std::uint32_t index, Bytes bytes);
    void offer(Loop& loop, std::uint32_t index);
    Error gather(Loop& loop, std::uint32_t from, int* numbers, std::uint32_t& count,
                 Buffer& record);
    void offered(Loop& loop, std::uint32_t index, Error error);
    void release(Loop& loop, std::uint32_t index);
    void refuse(Loop& loop, std::uint32_t index, RestartRefusal reason);
    void leave(Loop& loop, std::uint32_t index, Buffer word);
    void fail(Loop& loop, std::uint32_t index, Error error);
    void end(Loop& loop, std::uint32_t index);
    bool is(std::uint32_t index, Socket socket) const noexcept {
        return visits_[index].phase != Phase::free && visits_[index].socket == socket;
    }
    std::uint32_t total() const noexcept { return offers_count_ + 1; }

    LoopCore& core_;
    Listener listener_;
    Nanoseconds ready_within_;
    std::unique_ptr<RestartListener<Succeeded>> handler_;
    std::unique_ptr<Offered[], ArrayDrop> offers_;
    std::uint32_t offers_count_ = 0;
    std::uint32_t offers_room_ = 0;
    Visit visits_[visits_max];
    std::uint32_t candidate_ = nobody;
    bool over_ = false;  // a successor serves, or the offer was closed
};

Error OfferState::begin(Loop& loop) {
    Ref self(this);
    return loop
        .submit(AcceptStream{listener_},
                [self = std::move(self)](Loop& here, AcceptStream::Done done) {
                    self->accepted(here, std::move(done));
                })
        .error();
}

Error OfferState::add(std::string_view name, std::uint64_t handle) noexcept {
    core_.check_thread();
    const bool named = !name.empty() && name.size() <= InheritedDescriptors::name_max;
    if (!named || offers_count_ >= InheritedDescriptors::count_max) return Error::invalid_argument;
    if (offers_count_ == offers_room_) {
        const std::uint32_t room = offers_room_ == 0 ? 4 : offers_room_ * 2;
        std::unique_ptr<Offered[], ArrayDrop> grown(make_array<Offered>(room));
        if (!grown) return Error::from_errno(ENOMEM);
        std::copy_n(offers_.get(), offers_count_, grown.get());
        offers_ = std::move(grown);
        offers_room_ = room;
    }
    Offered& made = offers_[offers_count_++];
    made.handle = handle;
    made.size = static_cast<std::uint8_t>(name.size());
    std::memcpy(made.name, name.data(), name.size());
    return {};
}

// --- visits

void OfferState::accepted(Loop& loop, AcceptStream::Done done) {
    if (done.socket) {
        if (over_) static_cast<void>(loop.close(done.socket));
        else visited(loop, done.socket);
        return;
    }
    if (done.error) counted.last_error = done.error;
    if (done.more || over_) return;
    over_ = true;
    const auto handler = std::move(handler_);
    handler->ended(loop, {done.error, {}});
}

void OfferState::visited(Loop& loop, Socket socket) {
    const Result<PeerCredentials> peer = peer_credentials(loop, socket);
    if (!peer || !restart_same_user(*peer)) {
        ++counted.other_user;
        static_cast<void>(loop.close(socket));
        return;
    }
    for (std::uint32_t index = 0; index < visits_max; ++index) {
        Visit& visit = visits_[index];
        if (visit.phase != Phase::free) continue;
        visit = Visit();
        visit.socket = socket;
        visit.phase = Phase::greeting;
        visit.peer = *peer;
        visit.deadline = add_saturating(core_.system.now(), ready_within_);
        return receive(loop, index, visit.deadline);
    }
    ++counted.busy;
    static_cast<void>(loop.close(socket));
}

void OfferState::receive(Loop& loop, std::uint32_t index, Instant deadline) {
    Ref self(this);
    const Socket socket = visits_[index].socket;
    const Result<Operation> made =
        loop.submit(Recv{socket, Buffer::allocate(64)}, until(deadline),
                    [self = std::move(self), index, socket](Loop& here, Recv::Done done) {
                        if (self->is(index, socket)) self->received(here, index, done);
                    });
    if (!made) fail(loop, index, made.error());
}

void OfferState::received(Loop& loop, std::uint32_t index, const Recv::Done& done) {
    Visit& visit = visits_[index];
    if (visit.phase == Phase::leaving) return end(loop, index);
    if (done.error == Error::timed_out && visit.phase == Phase::awaited) {
        ++counted.failed;
        counted.last_error = done.error;
        return refuse(loop, index, RestartRefusal::timed_out);
    }
    if (done.error) return fail(loop, index, done.error);
    if (done.buffer.empty()) return fail(loop, index, Error::from_errno(ECONNRESET));
    if (visit.phase == Phase::greeting) return greeted(loop, index, done.buffer.bytes());
    RestartWord word;
    if (!restart_parse(done.buffer.bytes(), word) || word.kind != RestartKind::ready) {
        ++counted.malformed;
        return fail(loop, index, Error::frame_malformed);
    }
    release(loop, index);
}

void OfferState::greeted(Loop& loop, std::uint32_t index, Bytes bytes) {
    RestartWord word;
    if (!restart_parse(bytes, word)) {
        ++counted.malformed;
        return fail(loop, index, Error::frame_malformed);
    }
    if (word.version != RestartWord().version) {
        ++counted.other_version;
        return refuse(loop, index, RestartRefusal::version);
    }
    if (word.kind != RestartKind::hello) {
        ++counted.malformed;
        return fail(loop, index, Error::frame_malformed);
    }
    if (candidate_ != nobody || over_) {
        ++counted.busy;
        return refuse(loop, index, RestartRefusal::busy);
    }
    ++counted.offered;
    candidate_ = index;
    visits_[index].phase = Phase::offering;
    offer(loop, index);
}

// --- the offer

// As many of the descriptors as one record holds, with their names.
Error OfferState::gather(Loop& loop, std::uint32_t from, int* numbers, std::uint32_t& count,
                         Buffer& record) {
    record = Buffer::allocate(restart_record_max);
    if (!record) return Error::from_errno(ENOMEM);
    const Buffer word = restart_word(RestartKind::offer, total());
    if (!word || !record.append(word.bytes())) return Error::from_errno(ENOMEM);
    count = 0;
    while (from + count < total() && count < descriptors_per_message_max) {
        const Offered restart{listener_.value(), 0, {}};
        const std::uint32_t index = from + count;
        const Offered& next = index == 0 ? restart : offers_[index - 1];
        if (record.capacity() - record.size() < next.size + 1u) break;
        const Result<SystemFd> fd = descriptor_number(loop, next.handle);
        if (!fd) return fd.error();
        numbers[count++] = fd->number;
        const char size = static_cast<char>(next.size);
        static_cast<void>(record.append({&size, 1}));
        static_cast<void>(record.append({next.name, next.size}));
    }
    return {};
}

void OfferState::offer(Loop& loop, std::uint32_t index) {
    Visit& visit = visits_[index];
    int numbers[descriptors_per_message_max];
    std::uint32_t count = 0;
    Buffer record;
    if (Error error = gather(loop, visit.sent, numbers, count, record)) {
        ++counted.failed;
        counted.last_error = error;
        return refuse(loop, index, RestartRefusal::failed);
    }
    visit.sent += count;
    Ref self(this);
    const Socket socket = visit.socket;
    const Result<Operation> made = loop.submit(
        SendDescriptors{socket, std::move(record), numbers, count}, until(visit.deadline),
        [self = std::move(self), index, socket](Loop& here, SendDescriptors::Done done) {
            if (self->is(index, socket)) self->offered(here, index, done.error);
        });
    if (!made) fail(loop, index, made.error());
}

void OfferState::offered(Loop& loop, std::uint32_t index, Error error) {
    Visit& visit = visits_[index];
    if (error) return fail(loop, index, error);
    if (visit.sent < total()) return offer(loop, index);
    visit.phase = Phase::awaited;
    receive(loop, index, visit.deadline);
}

// It serves. The handler stops accepting here before the successor is told so, whether it throws or not.
void OfferState::release(Loop& loop, std::uint32_t index) {
    struct Tell {
        OfferState& state;
        Loop& loop;
        std::uint32_t index;
        ~Tell() { state.leave(loop, index, restart_word(RestartKind::released)); }
    };
    over_ = true;
    candidate_ = nobody;
    static_cast<void>(loop.close(listener_));
    const auto handler = std::move(handler_);
    const Tell tell{*this, loop, index};
    handler->ended(loop, {Error(), visits_[index].peer});
}

// --- the end of a visit

void OfferState::refuse(Loop& loop, std::uint32_t index, RestartRefusal reason) {
    leave(loop, index, restart_word(RestartKind::refused, static_cast<std::uint32_t>(reason)));
}

void OfferState::leave(Loop& loop, std::uint32_t index, Buffer word) {
    Visit& visit = visits_[index];
    visit.phase = Phase::leaving;
    if (candidate_ == index) candidate_ = nobody;
    const Instant deadline = add_saturating(core_.system.now(), leaving_bound);
    Ref self(this);
    const Result<Operation> made =
        loop.submit(SendAll{visit.socket, std::move(word)}, until(deadline),
                    [self = std::move(self)](Loop&, SendAll::Done) {});
    if (made) receive(loop, index, deadline);
    else end(loop, index);
}

void OfferState::fail(Loop& loop, std::uint32_t index, Error error) {
    if (candidate_ == index) ++counted.failed;
    counted.last_error = error;
    end(loop, index);
}

void OfferState::end(Loop& loop, std::uint32_t index) {
    Visit& visit = visits_[index];
    visit.phase = Phase::free;
    if (candidate_ == index) candidate_ = nobody;
    static_cast<void>(loop.close(visit.socket));
}

void OfferState::give_up() noexcept {
    core_.check_thread();
    if (over_) return;
    over_ = true;
    Loop& loop = *core_.loop;
    if (const Result<UnixAddress> address = local_unix_address(loop, listener_)) {
        if (!address->is_abstract()) static_cast<void>(remove_socket_file(loop, *address));
    }
    static_cast<void>(loop.close(listener_));
    for (std::uint32_t index = 0; index < visits_max; ++index) {
        if (visits_[index].phase != Phase::free) end(loop, index);
    }
    handler_.reset();
}

Result<RestartOffer*> offer_begin(Loop& loop, Listener listener, const RestartOfferOptions& options,
                                  RestartListener<Succeeded>* given) noexcept {
    std::unique_ptr<RestartListener<Succeeded>> handler(given);
    loop.core().check_thread();
    if (options.ready_within.count() < 1) return Error::invalid_argument;
    if (!handler) return Error::from_errno(ENOMEM);
    const Result<SystemFd> fd = descriptor_number(loop, listener.value());
    if (!fd) return fd.error();
    // Whoever connects is told the process that called listen(2) last: a socket that was taken over still
    // names a predecessor.
    const int listened = fd->system->listen(fd->number, restart_backlog);
    if (listened < 0) return Error::from_errno(listened);
    auto* const state = new (std::nothrow)
        OfferState(loop.core(), listener, options.ready_within, handler.release());
    if (state == nullptr) return Error::from_errno(ENOMEM);
    const RestartRef<OfferState> until_begun(state);
    if (Error error = state->begin(loop)) return error;
    return static_cast<RestartOffer*>(state);
}

}  // namespace detail

Error RestartOffer::add_handle(std::string_view name, std::uint64_t handle) noexcept {
    return static_cast<detail::OfferState*>(this)->add(name, handle);
}
void RestartOffer::close() noexcept { static_cast<detail::OfferState*>(this)->give_up(); }
const RestartOfferStatistics& RestartOffer::statistics() const noexcept {
    return static_cast<const detail::OfferState*>(this)->counted;
}

Result<Listener> listen_restart(Loop& loop, const UnixAddress& address) noexcept {
    UnixListenOptions options;
    options.kind = UnixKind::seqpacket;
    options.backlog = detail::restart_backlog;
    options.replace_stale = true;
    options.private_file = true;
    return listen_unix(loop, address, options);
}

}  // namespace whorl
