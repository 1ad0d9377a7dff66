// SPDX-License-Identifier: MIT
// Floor: 6
#include "stream/stream_state.hpp"

#include <algorithm>
#include <utility>

// A layer, such as TLS, between the stream and its socket. What arrives is unsealed at once, and what
// that gives is delivered or held as other bytes are: it is never more than what arrived. What is
// written is sealed only when it is about to be sent, a few blocks ahead, so that little is held twice.

namespace whorl::detail {

namespace {
constexpr std::size_t seal_chunk = StreamFilter::block_large - 256;  // with its overhead, one block
constexpr std::uint32_t sealed_ahead = 4;                            // blocks
}  // namespace

Error StreamState::set_filter(StreamLayer& layer) noexcept {
    Result<StreamFilter*> made = layer.make(HubEntry::loop());
    if (!made) return made.error();
    (*made)->began = core->clock();
    // What was written before is sent as it is.
    while (!waiting.empty()) {
        if ((*made)->sealed.push_back(waiting.pop_front())) continue;
        delete *made;
        fail(ClosedBy::error, Error::from_errno(ENOMEM));
        return Error::from_errno(ENOMEM);
    }
    back_is_ours = false;
    filter = *made;
    mark();
    return {};
}

// The first words, and what had arrived before.
void StreamState::begin_filter() {
    filter->begun = true;
    if (peer_ended) return fail(ClosedBy::error, Error::tls_truncated);
    hub().let_go(held_bytes);
    held_bytes = 0;
    const std::uint32_t count = held.count();
    unseal({});
    // What it gives is held behind what it is made of, and so comes to stand alone.
    for (std::uint32_t left = count; left != 0 && !ended; --left) {
        const Buffer buffer = held.pop_front();
        unseal(buffer.bytes());
    }
}

// Bytes from the peer.
void StreamState::unseal(Bytes bytes) {
    if (!filter->begun) begin_filter();
    // After our end there is no way to answer, and nothing to be heard but the peer's.
    const bool deaf = filter->failed || peer_ended || (shutting && !filter->ready);
    while (!ended && !deaf && unseal_some(bytes)) {
    }
}

// One buffer's worth; false: that was all.
bool StreamState::unseal_some(Bytes& bytes) {
    Buffer buffer = HubEntry::loop().buffer(read_chunk);
    if (!buffer) buffer = Buffer::allocate(read_chunk);
    if (!buffer) {
        fail(ClosedBy::error, Error::from_errno(ENOMEM));
        return false;
    }
    const bool was_ready = filter->ready;
    const StreamFilter::Unsealed result = filter->unseal(bytes, buffer);
    count_sealed();
    if (filter->ready != was_ready || filter->sealed.count() != 0) mark();
    if (!buffer.empty()) {
        take_plain(std::move(buffer));
        if (ended) return false;
    }
    if (result.error) {
        filter_failed(result.error);
    } else if (result.at_end) {
        peer_ended = true;
        if (!ending) reason.by = ClosedBy::peer;
        mark();
    }
    return result.full && !result.error && !result.at_end;
}

// What is written next, and our end.
void StreamState::seal() noexcept {
    if (filter->failed) return;
    while (filter->ready && !waiting.empty() && filter->sealed.count() < sealed_ahead) {
        Buffer& front = waiting.front();
        const std::size_t part = std::min(front.size(), seal_chunk);
        const Error error = filter->seal({front.data(), part});
        if (error) return fail(ClosedBy::error, error);
        front.trim_front(part);
        queued_bytes -= part;
        hub().let_go(part);
        if (front.empty()) static_cast<void>(waiting.pop_front());
    }
    if (waiting.empty()) back_is_ours = false;
    if (ending && waiting.empty() && !filter->ended && (filter->ready || closes)) {
        filter->ended = true;
        filter->end();
    }
    count_sealed();
}

// What was sealed waits to be sent like what was written.
void StreamState::count_sealed() noexcept {
    const std::size_t bytes = std::exchange(filter->sealed_new, 0);
    if (bytes == 0) return;
    if (shutting) return filter->sealed.clear();  // an answer that comes too late
    queued_bytes += bytes;
    hub().hold(bytes);
    counts.queued_high = std::max(counts.queued_high, queued_bytes);
    if (filter->ready && queued_bytes >= options.high) above_high = true;
}

// Nothing more can be read or sealed, but the peer is to learn why: what was sealed for it is flushed,
// as close() does.
void StreamState::filter_failed(Error error) noexcept {
    filter->failed = true;
    if (ended) return;
    while (!waiting.empty()) {
        const std::size_t size = waiting.pop_front().size();
        queued_bytes -= size;
        hub().let_go(size);
    }
    if (!(closes && reason.error)) reason = {ClosedBy::error, error};
    closes = ending = filter->ended = true;
    const Nanoseconds bound = options.deadlines.close;
    if (bound > Nanoseconds::zero()) close_at = add_saturating(core->clock(), bound);
    mark();
}

}  // namespace whorl::detail
