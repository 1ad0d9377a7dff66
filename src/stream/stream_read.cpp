// SPDX-License-Identifier: MIT
// Floor: 6
#include "stream/stream_state.hpp"

#include <algorithm>

// Receiving. Without a rate a RecvStream brings what arrives; with one, and from pipes, single receives of
// at most read_chunk bytes do, so that no more is taken than is paid for.
//
// Pausing is lazy: the RecvStream goes on until something arrives that is not wanted; that is held, and
// only then it is cancelled. So a short pause costs nothing, a paused stream still notices a reset, and
// what is held is what the kernel had delivered by then.

namespace whorl::detail {

bool StreamState::wants_reading() const noexcept {
    if (peer_ended) return false;
    if (closes || handshaking()) return true;  // to see the peer's end; what comes is dropped
    if (user_paused || budget_paused || !held.empty()) return false;
    return !(above_high && options.pause_at_high);
}

// The high watermark does not hold back what has arrived already: it is bounded, and a protocol that
// answers it may need it to get on.
bool StreamState::may_deliver() const noexcept {
    return !user_paused && !budget_paused && !closes && !ended && !owes_opened && !detaching() &&
           !(above_high && options.pause_at_high) && (filter == nullptr || filter->begun);
}

// What was held goes to the protocol, as long as that does not pause.
void StreamState::deliver() {
    if (budget_paused && !hub().statistics.overloaded) budget_paused = false;
    // What is put back with unread() waits for the next round: else this might never end.
    for (std::uint32_t left = held.count(); left != 0 && !held.empty() && may_deliver(); --left) {
        Buffer buffer = held.pop_front();
        held_bytes -= buffer.size();
        hub().let_go(buffer.size());
        call([&] { table->received(object, *this, std::move(buffer)); });
    }
    if (ended) return;
    if (closes && !held.empty()) {
        held.clear();
        hub().let_go(held_bytes);
        held_bytes = 0;
    }
    tell_peer_end();
}

void StreamState::tell_peer_end() {
    if (!peer_ended || peer_told || !held.empty() || owes_opened || detaching()) return;
    if (closes) {
        peer_told = true;
        return;
    }
    if (user_paused) return;
    peer_told = true;
    call([this] { table->peer_closed(object, *this); });
}

void StreamState::hold(Buffer&& buffer, bool first) noexcept {
    const std::size_t size = buffer.size();
    const bool kept =
        first ? held.push_front(std::move(buffer)) : held.push_back(std::move(buffer));
    if (!kept) return fail(ClosedBy::error, Error::from_errno(ENOMEM));
    held_bytes += size;
    hub().hold(size);
}

// Bytes from the kernel.
void StreamState::take_received(Buffer&& buffer) {
    const std::size_t size = buffer.size();
    const Instant now = core->clock();
    received_at = now;
    counts.bytes_received += size;
    ++counts.receives;
    if (read_bucket) read_at = std::max(read_at, read_bucket.pay(size, now));
    if (TokenBucket* group = options.read_group.bucket()) {
        read_at = std::max(read_at, group->pay(size, now));
    }
    if (filter != nullptr) return unseal(buffer.bytes());
    take_plain(std::move(buffer));
}

// Bytes for the protocol.
void StreamState::take_plain(Buffer&& buffer) {
    if (closes || ended) return;
    if (hub().statistics.overloaded) {
        budget_paused = true;
        hub().wait_for_room(*this);
    } else if (held.empty() && may_deliver()) {
        call([&] { table->received(object, *this, std::move(buffer)); });
        return;
    }
    hold(std::move(buffer), false);
}

void StreamState::on_stream(RecvStream::Done done) {
    if (done.more && !ended) {
        if (!done.error) take_received(std::move(done.buffer));
        if (ended) return;
        if (!wants_reading() && !stop_asked && (peer_ended || !held.empty())) {
            stop_asked = true;
            ++counts.pauses;
            static_cast<void>(HubEntry::loop().cancel(reading));
        }
        mark();
        return;
    }
    if (done.more) return;
    --pending;
    reading = {};
    read_ended(done.error, !done.error);
}

// One receive has ended, and may be the last.
template <class Done>
void StreamState::on_single(Done done) {
    --pending;
    reading = {};
    const bool at_end = !done.error && done.buffer.empty();
    if (!done.buffer.empty() && !ended) take_received(std::move(done.buffer));
    read_ended(done.error, at_end);
}

void StreamState::read_ended(Error error, bool at_end) {
    const bool asked = stop_asked && error == Error::cancelled;
    stop_asked = false;
    if (at_end && !peer_ended) {
        if (filter != nullptr && !closes) {
            fail(ClosedBy::error, Error::tls_truncated);
        } else {
            peer_ended = true;
            if (!ending && !ended) reason.by = ClosedBy::peer;
        }
    } else if (error && !asked && !(filter != nullptr && peer_ended)) {
        fail(ClosedBy::error, error);  // after a layer's end the connection's is of no interest
    }
    handler_ended();
}

// Starts to read, if it is wanted and nothing reads.
void StreamState::read() noexcept {
    if (reading || !wants_reading()) return;
    Loop& loop = HubEntry::loop();
    const bool limited = read_bucket || options.read_group;
    if (limited && core->clock() < read_at) return;
    Result<Operation> made = Error::stale_handle;
    streaming = !pipes && !limited;
    if (streaming) {
        made = loop.submit(RecvStream{descriptor},
                           [this](Loop&, RecvStream::Done done) { on_stream(std::move(done)); });
    } else {
        std::size_t room = read_chunk;
        if (read_bucket) room = std::min<std::size_t>(room, read_bucket.burst());
        if (TokenBucket* group = options.read_group.bucket()) {
            room = std::min<std::size_t>(room, group->burst());
        }
        Buffer buffer = loop.buffer(room);
        if (!buffer) return fail(ClosedBy::error, Error::from_errno(ENOMEM));
        if (pipes) {
            made = loop.submit(Read{in, std::move(buffer)},
                               [this](Loop&, Read::Done done) { on_single(std::move(done)); });
        } else {
            made = loop.submit(Recv{descriptor, std::move(buffer)},
                               [this](Loop&, Recv::Done done) { on_single(std::move(done)); });
        }
    }
    if (!made) return fail(ClosedBy::error, made.error());
    reading = *made;
    ++pending;
    received_at = std::max(received_at, core->clock());
}

}  // namespace whorl::detail
