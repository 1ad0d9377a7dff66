// SPDX-License-Identifier: MIT
// Floor: 6
#include <whorl/handover.hpp>

#include "stream/stream_state.hpp"

#include <whorl/allocated.hpp>
#include <whorl/buffer_pool.hpp>
#include <whorl/socket.hpp>

#include <cerrno>
#include <new>
#include <utility>

// A stream leaves in three steps: what is with the kernel is cancelled (stop_transfers); when the last of
// it has come back, with what it had moved, all that matters is packed (pack), or nothing is and the stream
// goes on; and then nothing can fail any more (leave, and the handler). A buffer whose owner is bound to
// this thread is copied, never moved.

namespace whorl {

namespace detail {

// What a stream is between two loops.
struct DetachedState : Allocated<DetachedState> {
    System* system = nullptr;
    int number = -1;
    StreamOptions options;
    TokenBucket read_bucket;
    TokenBucket write_bucket;
    Instant read_at{};
    Instant write_at{};
    Instant attached_at{};
    Instant frame_at{};
    BufferQueue held;
    BufferQueue waiting;
    std::size_t held_bytes = 0;
    std::size_t queued_bytes = 0;
    Closed reason;
    bool fresh = false;  // no stream has had it
    bool frame_open = false;
    bool peer_ended = false;
    bool above_high = false;
    bool ending = false;
    bool shut_done = false;
    StreamCounters counts;
};

struct DetachedAccess {
    static DetachedState*& of(DetachedStream& stream) noexcept { return stream.state_; }
    static const DetachedState* of(const DetachedStream& stream) noexcept { return stream.state_; }
};

namespace {

// Whether a buffer may be dropped on another thread than it was filled on.
bool travels(const Buffer& buffer) noexcept {
    const BufferOwner* const owner = buffer.owner();
    if (owner == nullptr || owner->release == nullptr) return true;
    return owner->references == 1 && !BufferPool::pooled(buffer);
}

// Makes room for all of `from` in `into`, and copies what must not travel. False: no memory; `from` is
// as it was in either case.
bool copy_bound(BufferQueue& from, BufferQueue& into) noexcept {
    for (std::uint32_t index = 0; index < from.count(); ++index) {
        Buffer copy;
        if (!travels(from.at(index))) {
            copy = Buffer::copy_of(from.at(index).bytes());
            if (!copy) return false;
        }
        if (!into.push_back(std::move(copy))) return false;
    }
    return true;
}

// What was not copied is moved to the room that was made for it.
void move_free(BufferQueue& from, BufferQueue& into) noexcept {
    const std::uint32_t before = into.count() - from.count();
    for (std::uint32_t index = 0; index < from.count(); ++index) {
        Buffer& place = into.at(before + index);
        if (!place) place = std::move(from.at(index));
    }
    from.clear();
}

bool same(const Rate& one, const Rate& other) noexcept {
    return one.bytes_per_second == other.bytes_per_second && one.burst == other.burst;
}

}  // namespace

// Each comes back once, with what it has moved, and marks the stream.
void StreamState::stop_transfers() noexcept {
    Loop& loop = HubEntry::loop();
    if (reading && !stop_asked) {
        stop_asked = true;
        static_cast<void>(loop.cancel(reading));
    }
    if (sending && !send_stop_asked) {
        send_stop_asked = true;
        static_cast<void>(loop.cancel(send_operation));
    }
}

void StreamState::settle_detach() {
    if (closes) {
        mark();
        return detach_failed(reason.error);
    }
    if (pending != 0) return;
    DetachDone done;
    auto* const state = new (std::nothrow) DetachedState;
    done.error = state != nullptr ? pack(*state) : Error::from_errno(ENOMEM);
    if (done.error) {
        delete state;
        mark();  // it goes on
        return detach_failed(done.error);
    }
    DetachedAccess::of(done.stream) = state;
    leave();
    struct End {  // the handler may throw
        StreamState* stream;
        ~End() {
            if (stream->owner != nullptr) stream->owner->stream_gone(*stream);
            delete stream;
        }
    };
    const End end{this};
    detach.call(detach.object, HubEntry::loop(), std::move(done));
}

// The handler is told why not.
void StreamState::detach_failed(Error error) {
    struct Call {  // it may throw, and may detach again
        DetachCall taken;
        ~Call() { taken.destroy(taken.object); }
    };
    const Call call{std::exchange(detach, DetachCall())};
    DetachDone done;
    done.error = error ? error : Error(Error::cancelled);
    call.taken.call(call.taken.object, HubEntry::loop(), std::move(done));
}

// Either all of it is packed, or nothing has changed.
Error StreamState::pack(DetachedState& into) noexcept {
    const Bytes begun = table->begun != nullptr ? table->begun(object) : Bytes();
    if (!begun.empty()) {
        Buffer copy = Buffer::copy_of(begun);
        if (!copy || !into.held.push_back(std::move(copy))) return Error::from_errno(ENOMEM);
    }
    if (!copy_bound(held, into.held) || !copy_bound(waiting, into.waiting)) {
        return Error::from_errno(ENOMEM);
    }
    const Result<int> number = whorl::detach(HubEntry::loop(), descriptor);
    if (!number) return number.error();
    move_free(held, into.held);
    move_free(waiting, into.waiting);
    into.system = &core->system;
    into.number = *number;
    into.options = options;
    into.options.read_group = into.options.write_group = RateGroup();
    into.read_bucket = read_bucket;
    into.write_bucket = write_bucket;
    into.read_at = read_at;
    into.write_at = write_at;
    into.attached_at = attached_at;
    into.frame_at = frame_at;
    into.held_bytes = held_bytes + begun.size;
    into.queued_bytes = queued_bytes;
    into.reason = reason;
    into.frame_open = frame_open;
    into.peer_ended = peer_ended;
    into.above_high = above_high;
    into.ending = ending;
    into.shut_done = shut_done;
    into.counts = counts;
    return {};
}

// What the loop has noted of it, but for its place in memory: calls on it do nothing any more.
void StreamState::leave() noexcept {
    ended = true;
    descriptor = {};
    if (timer) static_cast<void>(HubEntry::loop().cancel(timer));
    timer = {};
    StreamHub& its_hub = hub();
    its_hub.let_go(queued_bytes + held_bytes);
    queued_bytes = held_bytes = 0;
    --its_hub.statistics.streams;
    ++its_hub.statistics.detached;
}

Error stream_detach(Stream& stream, const DetachCall& call) noexcept {
    auto& state = static_cast<StreamState&>(stream);
    state.core->check_thread();
    if (state.ended || state.closes) return Error::stale_handle;
    if (state.detaching()) return Error::from_errno(EALREADY);
    if (state.pipes || state.filter != nullptr) return Error::from_errno(EOPNOTSUPP);
    state.detach = call;
    state.stop_transfers();
    state.mark();
    return {};
}

Result<Stream*> stream_make(Loop& loop, const DetachedStream& from,
                            const StreamOptions& options) noexcept {
    LoopCore& core = loop.core();
    core.check_thread();
    const DetachedState* const state = DetachedAccess::of(from);
    if (state == nullptr || state->system != &core.system) return Error::invalid_argument;
    if (options.layer != nullptr && !state->fresh) return Error::invalid_argument;
    const Result<StreamHub*> hub = StreamHub::of(loop);
    if (!hub) return hub.error();
    if (!(*hub)->fits(state->held_bytes + state->queued_bytes)) return Error::over_budget;
    const Result<Socket> socket = adopt_socket(loop, state->number);
    if (!socket) return socket.error();
    Result<Stream*> stream = stream_make(loop, *socket, options);
    if (!stream) static_cast<void>(whorl::detach(loop, *socket));
    return stream;
}

void stream_unmake_adopted(Stream& stream) noexcept {
    Loop& loop = stream.loop();
    const Socket socket = stream.socket();
    stream_unmake(stream);
    static_cast<void>(whorl::detach(loop, socket));
}

void stream_take(Stream& stream, DetachedStream& from) noexcept {
    auto& into = static_cast<StreamState&>(stream);
    DetachedState* const state = std::exchange(DetachedAccess::of(from), nullptr);
    if (same(into.options.read_rate, state->options.read_rate)) {
        into.read_bucket = state->read_bucket;
        into.read_at = state->read_at;
    }
    if (same(into.options.write_rate, state->options.write_rate)) {
        into.write_bucket = state->write_bucket;
        into.write_at = state->write_at;
    }
    into.attached_at = state->attached_at;
    into.frame_at = state->frame_at;
    into.frame_open = state->frame_open && into.table->begun != nullptr;
    into.held.swap(state->held);
    into.waiting.swap(state->waiting);
    into.held_bytes = state->held_bytes;
    into.queued_bytes = state->queued_bytes;
    into.hub().hold(into.held_bytes + into.queued_bytes);
    into.above_high = state->above_high || into.queued_bytes >= into.options.high;
    into.reason = state->reason;
    into.peer_ended = state->peer_ended;
    into.ending = state->ending;
    into.shutting = into.shut_done = state->shut_done;
    into.counts = state->counts;
    delete state;
}

}  // namespace detail

// As Stream::abort(): what was not sent is lost, and the peer must not take it for an orderly end.
DetachedStream::~DetachedStream() {
    if (state_ == nullptr) return;
    Linger linger;
    linger.on = true;
    const detail::SystemFd fd{state_->system, state_->number};
    static_cast<void>(detail::option_set(fd, linger));
    static_cast<void>(state_->system->close(state_->number));
    delete state_;
}

Result<DetachedStream> DetachedStream::of(Loop& loop, Socket socket,
                                          const StreamOptions& options) noexcept {
    DetachedStream made;
    made.state_ = new (std::nothrow) detail::DetachedState;
    if (made.state_ == nullptr) return Error::from_errno(ENOMEM);
    const Result<int> number = detach(loop, socket);
    if (!number) {
        delete std::exchange(made.state_, nullptr);
        return number.error();
    }
    detail::DetachedState& state = *made.state_;
    state.system = &loop.core().system;
    state.number = *number;
    state.options = options;
    state.options.read_group = state.options.write_group = RateGroup();
    state.read_bucket = TokenBucket(options.read_rate);
    state.write_bucket = TokenBucket(options.write_rate);
    state.attached_at = loop.core().clock();
    state.fresh = true;
    return made;
}

std::size_t DetachedStream::held() const noexcept {
    WHORL_ASSERT(state_ != nullptr);
    return state_->held_bytes;
}
std::size_t DetachedStream::queued() const noexcept {
    WHORL_ASSERT(state_ != nullptr);
    return state_->queued_bytes;
}
bool DetachedStream::peer_ended() const noexcept {
    WHORL_ASSERT(state_ != nullptr);
    return state_->peer_ended;
}
const StreamCounters& DetachedStream::counters() const noexcept {
    WHORL_ASSERT(state_ != nullptr);
    return state_->counts;
}
const StreamOptions& DetachedStream::options() const noexcept {
    WHORL_ASSERT(state_ != nullptr);
    return state_->options;
}

}  // namespace whorl
