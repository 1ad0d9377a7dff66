// SPDX-License-Identifier: MIT
// Floor: 6
#include <whorl/relay.hpp>

#include <whorl/allocated.hpp>
#include <whorl/assert.hpp>
#include <whorl/protocol.hpp>

#include <cerrno>
#include <new>
#include <utility>

namespace whorl::detail {

namespace {

// What the two sides share; it goes with the second of them.
struct RelayState : Allocated<RelayState> {
    Stream* streams[2] = {nullptr, nullptr};  // null: closed
    Relayed result;
    RelayDone done;
    int sides = 2;
};

// One side's protocol.
class RelaySide {
  public:
    RelaySide(RelayState& state, int index) noexcept : state_(&state), index_(index) {}
    RelaySide(RelaySide&& other) noexcept
        : state_(std::exchange(other.state_, nullptr)), index_(other.index_) {}
    RelaySide& operator=(RelaySide&&) = delete;
    RelaySide(const RelaySide&) = delete;
    RelaySide& operator=(const RelaySide&) = delete;
    ~RelaySide() {
        if (state_ == nullptr || --state_->sides != 0) return;
        if (state_->done.object != nullptr) state_->done.destroy(state_->done.object);
        delete state_;
    }

    void received(Stream& stream, Buffer buffer) {
        if (other() == nullptr) return;
        if (!other()->write(std::move(buffer))) stream.pause();
    }
    void writable(Stream&) {
        if (other() != nullptr) other()->resume();
    }
    void peer_closed(Stream&) {
        if (other() != nullptr) other()->end();
    }
    void closed(Stream& stream, Closed reason) {
        Relayed& result = state_->result;
        (index_ == 0 ? result.first : result.second) = reason;
        (index_ == 0 ? result.second_to_first : result.first_to_second) =
            stream.counters().bytes_sent;
        state_->streams[index_] = nullptr;
        if (other() != nullptr) {
            if (reason.error) other()->abort(reason.error);
            return;
        }
        const RelayDone done = state_->done;
        done.call(done.object, stream.loop(), result);
    }

  private:
    Stream* other() const noexcept { return state_->streams[1 - index_]; }

    RelayState* state_;
    int index_;
};

using Box = ProtocolBox<RelaySide>;

}  // namespace

namespace {

// Gives both streams their new protocols, or neither.
Error join(Stream& one, Stream& other, const RelayDone& done) noexcept {
    auto* state = new (std::nothrow) RelayState;
    void* const room_one = object_take(sizeof(Box), alignof(Box));
    void* const room_other = object_take(sizeof(Box), alignof(Box));
    if (state == nullptr || room_one == nullptr || room_other == nullptr) {
        delete state;
        object_give(room_one, sizeof(Box), alignof(Box));
        object_give(room_other, sizeof(Box), alignof(Box));
        return Error::from_errno(ENOMEM);
    }
    state->streams[0] = &one;
    state->streams[1] = &other;
    state->done = done;
    stream_start(one, Box::table, ::new (room_one) Box(RelaySide(*state, 0)));
    stream_start(other, Box::table, ::new (room_other) Box(RelaySide(*state, 1)));
    return {};
}

}  // namespace

Error relay_start(Loop& loop, Socket first, Socket second, const RelayOptions& options,
                  const RelayDone& done) noexcept {
    StreamOptions each = options.stream;
    each.pause_at_high = false;  // the other side's queue decides
    Result<Stream*> one = stream_make(loop, first, each);
    if (!one) return one.error();
    Result<Stream*> other = stream_make(loop, second, each);
    Error error = other.error();
    if (!error) error = join(**one, **other, done);
    if (!error) return {};
    if (other) stream_unmake(**other);
    stream_unmake(**one);
    return error;
}

Error relay_start(Stream& first, Socket second, const RelayOptions& options,
                  const RelayDone& done) noexcept {
    if (Error error = stream_replaceable(first)) return error;
    StreamOptions each = options.stream;
    each.pause_at_high = false;
    Result<Stream*> other = stream_make(first.loop(), second, each);
    if (!other) return other.error();
    if (Error error = join(first, **other, done)) {
        stream_unmake(**other);
        return error;
    }
    stream_pause_at_high(first, false);
    first.resume();
    return {};
}

}  // namespace whorl::detail
