// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/hot_restart.hpp>

#include "io/restart_record.hpp"
#include "loop/core.hpp"

#include <whorl/allocated.hpp>
#include <whorl/socket.hpp>

#include <cerrno>
#include <memory>
#include <new>

// The side that takes over:
//
//   asking ──hello, offers──▶ holding ──ready()──▶ waiting ──released──▶ ended
//
// From `holding` on a receive is always under way: the predecessor's last word, or its end, may come before
// ready() is called, and is then kept for it. An end without a word is the predecessor's death: it refuses
// with a word and waits until that is read, so there cannot be two who think they serve alone.

namespace whorl {

namespace detail {

class SuccessionState : public Allocated<SuccessionState> {
  public:
    SuccessionState(LoopCore& core, Instant deadline, RestartListener<TakenOver>* handler) noexcept
        : core_(core), system_(core.system), deadline_(deadline), taken_(handler) {}
    SuccessionState(const SuccessionState&) = delete;
    SuccessionState& operator=(const SuccessionState&) = delete;
    ~SuccessionState() {  // the loop may end between two records
        if (restart_ >= 0) system_.close(restart_);
    }

    Error begin(Loop& loop, const UnixAddress& address);
    Error ready(Loop& loop, RestartListener<Released>* given);
    void close(Loop& loop) noexcept;
    static void drop(SuccessionState* state) noexcept {
        if (--state->references == 0) delete state;
    }

    std::uint32_t references = 0;

  private:
    using Ref = RestartRef<SuccessionState>;

    void connected(Loop& loop, const ConnectUnix::Done& done);
    Error ask(Loop& loop);
    Error receive(Loop& loop);
    void received(Loop& loop, ReceiveDescriptors::Done done);
    Error take(ReceiveDescriptors::Done& done, bool& complete);
    Error take_one(int number, std::string_view name);
    void finish(Loop& loop, Error error);
    Error listen_for_end(Loop& loop);
    void heard(Loop& loop, const Recv::Done& done);
    void tell(Loop& loop);

    LoopCore& core_;
    System& system_;
    Instant deadline_;
    std::unique_ptr<RestartListener<TakenOver>> taken_;
    std::unique_ptr<RestartListener<Released>> released_;
    Socket socket_;
    TakenOver got_;
    std::uint32_t expected_ = 0;  // descriptors in all; 0: not yet known
    std::uint32_t arrived_ = 0;
    int restart_ = -1;    // the restart socket's number, until it is adopted
    bool asked_ = false;  // ready() was called
    bool over_ = false;
    Released end_;
};

namespace {
// What a refusal means to who is refused.
Error error_of(const RestartWord& word) noexcept {
    switch (static_cast<RestartRefusal>(word.value)) {
        case RestartRefusal::busy:
            return Error::from_errno(EBUSY);
        case RestartRefusal::version:
            return Error::from_errno(EPROTONOSUPPORT);
        case RestartRefusal::timed_out:
            return Error::timed_out;
        case RestartRefusal::failed:
            return Error::from_errno(ECONNABORTED);
    }
    return Error::frame_malformed;
}
}  // namespace

// --- asking

Error SuccessionState::begin(Loop& loop, const UnixAddress& address) {
    Ref self(this);
    ConnectUnix connect{address, UnixKind::seqpacket};
    return loop
        .submit(std::move(connect), until(deadline_),
                [self = std::move(self)](Loop& here, ConnectUnix::Done done) {
                    self->connected(here, done);
                })
        .error();
}

void SuccessionState::connected(Loop& loop, const ConnectUnix::Done& done) {
    if (done.error) return finish(loop, done.error);
    socket_ = done.socket;
    const Result<PeerCredentials> peer = peer_credentials(loop, socket_);
    if (!peer) return finish(loop, peer.error());
    if (!restart_same_user(*peer)) return finish(loop, Error::from_errno(EPERM));
    got_.predecessor = *peer;
    if (Error error = ask(loop)) finish(loop, error);
}

Error SuccessionState::ask(Loop& loop) {
    Ref self(this);
    const Result<Operation> made =
        loop.submit(SendAll{socket_, restart_word(RestartKind::hello)}, until(deadline_),
                    [self = std::move(self)](Loop&, SendAll::Done) {});  // the answer tells
    return made ? receive(loop) : made.error();
}

Error SuccessionState::receive(Loop& loop) {
    Ref self(this);
    ReceiveDescriptors next{socket_, Buffer::allocate(restart_record_max)};
    return loop
        .submit(std::move(next), until(deadline_),
                [self = std::move(self)](Loop& here, ReceiveDescriptors::Done done) {
                    self->received(here, std::move(done));
                })
        .error();
}

void SuccessionState::received(Loop& loop, ReceiveDescriptors::Done done) {
    bool complete = false;
    Error error = done.error;
    if (!error && done.buffer.empty()) error = Error::from_errno(ECONNRESET);
    if (!error) error = take(done, complete);
    if (!error && !complete) error = receive(loop);
    if (error || complete) finish(loop, error);
}

// One record: as many names as descriptors.
Error SuccessionState::take(ReceiveDescriptors::Done& done, bool& complete) {
    RestartWord word;
    if (!restart_parse(done.buffer.bytes(), word)) return Error::frame_malformed;
    if (word.version != RestartWord().version) return Error::from_errno(EPROTONOSUPPORT);
    if (word.kind == RestartKind::refused) return error_of(word);
    if (word.kind != RestartKind::offer) return Error::frame_malformed;
    if (done.truncated) return Error::from_errno(EMFILE);
    if (expected_ == 0) {
        if (word.value == 0 || word.value > InheritedDescriptors::count_max + 1) {
            return Error::frame_malformed;
        }
        expected_ = word.value;
        if (Error error = got_.descriptors.reserve(expected_ - 1, system_)) return error;
    }
    const std::uint32_t count = done.descriptors.count();
    const bool fits = count != 0 && count <= expected_ - arrived_ && word.value == expected_;
    if (!fits) return Error::frame_malformed;
    std::string_view rest = done.buffer.text().substr(sizeof word);
    for (std::uint32_t index = 0; index < count; ++index) {
        const std::size_t size = rest.empty() ? 0 : static_cast<unsigned char>(rest[0]);
        if (rest.size() < size + 1) return Error::frame_malformed;
        const bool nameless = arrived_ == 0;
        if (nameless != (size == 0)) return Error::frame_malformed;
        if (nameless) restart_ = done.descriptors.take(index);
        else got_.descriptors.add(done.descriptors.take(index), rest.substr(1, size));
        ++arrived_;
        rest.remove_prefix(size + 1);
    }
    if (!rest.empty()) return Error::frame_malformed;
    complete = arrived_ == expected_;
    return {};
}

// Everything has come, or an error.
void SuccessionState::finish(Loop& loop, Error error) {
    if (!error) {
        const Result<Listener> restart = adopt_listener(loop, restart_);
        if (restart) {
            got_.restart = *restart;
            restart_ = -1;
        } else {
            error = restart.error() == Error::invalid_argument ? Error(Error::frame_malformed)
                                                               : restart.error();
        }
    }
    if (!error) error = listen_for_end(loop);
    TakenOver given = std::move(got_);
    given.error = error;
    if (!error) {
        ++references;
        given.succession.state_ = this;
    } else {
        if (restart_ >= 0) system_.close(std::exchange(restart_, -1));
        if (given.restart) static_cast<void>(loop.close(given.restart));
        if (socket_) static_cast<void>(loop.close(socket_));
        over_ = true;
        given.descriptors = InheritedDescriptors();
        given.restart = Listener();
        given.predecessor = PeerCredentials();
    }
    const auto handler = std::move(taken_);
    handler->ended(loop, std::move(given));
}

// --- what the predecessor says last

Error SuccessionState::listen_for_end(Loop& loop) {
    Ref self(this);
    return loop
        .submit(Recv{socket_, Buffer::allocate(64)},
                [self = std::move(self)](Loop& here, Recv::Done done) { self->heard(here, done); })
        .error();
}

void SuccessionState::heard(Loop& loop, const Recv::Done& done) {
    if (over_) return;
    over_ = true;
    static_cast<void>(loop.close(socket_));
    RestartWord word;
    if (done.error || done.buffer.empty()) {
        end_.predecessor_died = true;
    } else {
        const bool known = restart_parse(done.buffer.bytes(), word);
        const bool released = known && word.kind == RestartKind::released && asked_;
        const bool refused = known && word.kind == RestartKind::refused;
        if (!released) end_.error = refused ? error_of(word) : Error(Error::frame_malformed);
    }
    if (released_) tell(loop);
}

void SuccessionState::tell(Loop& loop) {
    const auto handler = std::move(released_);
    handler->ended(loop, end_);
}

Error SuccessionState::ready(Loop& loop, RestartListener<Released>* given) {
    std::unique_ptr<RestartListener<Released>> handler(given);
    core_.check_thread();
    if (!handler) return Error::from_errno(ENOMEM);
    if (asked_) return Error::invalid_argument;
    Ref self(this);
    if (over_) {
        if (Error error = loop.post([self = std::move(self)](Loop& here) { self->tell(here); })) {
            return error;
        }
    } else {
        // That it cannot be sent is heard as the predecessor's end.
        const Result<Operation> made =
            loop.submit(SendAll{socket_, restart_word(RestartKind::ready)},
                        [self = std::move(self)](Loop&, SendAll::Done) {});
        if (!made) return made.error();
    }
    asked_ = true;
    released_ = std::move(handler);
    return {};
}

void SuccessionState::close(Loop& loop) noexcept {
    core_.check_thread();
    if (over_ || asked_) return;
    over_ = true;
    static_cast<void>(loop.close(socket_));
}

Error take_over_begin(Loop& loop, const UnixAddress& address, const TakeOverOptions& options,
                      RestartListener<TakenOver>* given) noexcept {
    std::unique_ptr<RestartListener<TakenOver>> handler(given);
    LoopCore& core = loop.core();
    core.check_thread();
    if (options.within.count() < 1) return Error::invalid_argument;
    if (!handler) return Error::from_errno(ENOMEM);
    const Instant deadline = add_saturating(core.system.now(), options.within);
    auto* const state = new (std::nothrow) SuccessionState(core, deadline, handler.get());
    if (state == nullptr) return Error::from_errno(ENOMEM);
    static_cast<void>(handler.release());
    const RestartRef<SuccessionState> until_begun(state);
    return state->begin(loop, address);
}

}  // namespace detail

Succession::~Succession() {
    if (state_ != nullptr) detail::SuccessionState::drop(state_);
}
void Succession::close(Loop& loop) noexcept {
    if (state_ != nullptr) state_->close(loop);
}
Error Succession::say_ready(Loop& loop, detail::RestartListener<Released>* handler) noexcept {
    if (state_ != nullptr) return state_->ready(loop, handler);
    delete handler;
    return Error::invalid_argument;
}

}  // namespace whorl
