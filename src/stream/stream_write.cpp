// SPDX-License-Identifier: MIT
// Floor: 6
#include "stream/stream_state.hpp"

#include <algorithm>

// Sending. One operation at a time; what is written meanwhile waits and goes together with the next.
// Several small buffers are gathered, up to write_chunk; a single one goes alone and comes back with
// what the kernel did not take, so that progress is seen and a slow peer is not taken for a dead one.

namespace whorl::detail {

bool StreamState::below_high() noexcept { return queued_bytes < options.high; }

// Whether `bytes` more may be queued. They count from then on.
bool StreamState::admit(std::size_t bytes) noexcept {
    ++counts.writes;
    if (ended || ending) return false;
    if (queued_bytes > options.queue_max || bytes > options.queue_max - queued_bytes) {
        fail(ClosedBy::limit, Error::write_overflow);
        return false;
    }
    if (!hub().fits(bytes)) {
        ++hub().statistics.shed;
        fail(ClosedBy::limit, Error::over_budget);
        return false;
    }
    queued_bytes += bytes;
    hub().hold(bytes);
    counts.queued_high = std::max(counts.queued_high, queued_bytes);
    if (queued_bytes >= options.high) above_high = true;
    mark();
    return true;
}

bool StreamState::queue(Buffer&& buffer) noexcept {
    const std::size_t size = buffer.size();
    if (!admit(size)) return false;
    if (size == 0) return below_high();
    // What waits is joined when it is small: it would hold a whole block of the pool otherwise.
    const bool waits = sending || !waiting.empty();
    if (waits && size <= copy_max) return put_copy(buffer.bytes());
    if (!waiting.push_back(std::move(buffer))) return no_memory();
    back_is_ours = false;
    return below_high();
}

bool StreamState::queue_copy(Bytes bytes) noexcept {
    if (!admit(bytes.size)) return false;
    return bytes.empty() ? below_high() : put_copy(bytes);
}

bool StreamState::put_copy(Bytes bytes) noexcept {
    if (!waiting.empty() && back_is_ours && waiting.back().append(bytes)) return below_high();
    const std::size_t room = std::max(bytes.size, copy_room);
    Buffer buffer = HubEntry::loop().buffer(room);
    if (!buffer) buffer = Buffer::allocate(room);  // the pool is at its limit
    if (!buffer || !buffer.append(bytes) || !waiting.push_back(std::move(buffer))) {
        return no_memory();
    }
    back_is_ours = true;
    return below_high();
}

bool StreamState::no_memory() noexcept {
    fail(ClosedBy::error, Error::from_errno(ENOMEM));
    return false;
}

void StreamState::send() noexcept {
    BufferQueue& queue = to_send();
    if (sending || queue.empty()) return;
    const bool limited = write_bucket || options.write_group;
    if (limited && core->clock() < write_at) return;
    const bool alone = queue.count() == 1 || queue.front().size() > write_chunk;
    if (pipes || limited || alone) send_single();
    else send_gathered();
    if (ended) return;
    sending = true;
    ++pending;
    send_began = core->clock();
}

void StreamState::send_single() noexcept {
    Buffer buffer = to_send().pop_front();
    flying_bytes = buffer.size();
    std::size_t most = SIZE_MAX;
    if (write_bucket) most = std::min<std::size_t>(write_chunk, write_bucket.burst());
    if (TokenBucket* group = options.write_group.bucket()) {
        most = std::min<std::size_t>({most, write_chunk, group->burst()});
    }
    if (buffer.size() > most) buffer.resize(most);
    Loop& loop = HubEntry::loop();
    Result<Operation> made = Error::stale_handle;
    if (pipes) {
        made = loop.submit(Write{out, std::move(buffer)}, [this](Loop&, Write::Done done) {
            on_send(done.error, done.bytes, std::move(done.buffer));
        });
    } else {
        made = loop.submit(Send{descriptor, std::move(buffer)}, [this](Loop&, Send::Done done) {
            on_send(done.error, done.bytes, std::move(done.buffer));
        });
    }
    if (!made) return fail(ClosedBy::error, made.error());
    send_operation = *made;
}

void StreamState::send_gathered() noexcept {
    BufferQueue& queue = to_send();
    std::size_t bytes = 0;
    while (!queue.empty() && flying.count() < write_parts &&
           bytes + queue.front().size() <= write_chunk) {
        bytes += queue.front().size();
        if (!flying.push_back(queue.pop_front())) {
            return fail(ClosedBy::error, Error::from_errno(ENOMEM));
        }
    }
    const Result<Operation> made =
        HubEntry::loop().submit(SendChain{descriptor, std::move(flying)},
                                [this](Loop&, SendChain::Done done) { on_chain(std::move(done)); });
    if (!made) return fail(ClosedBy::error, made.error());
    send_operation = *made;
}

// What was not taken goes first again.
void StreamState::on_send(Error error, std::uint64_t bytes, Buffer&& buffer) {
    if (send_stop_asked && error == Error::cancelled) error = {};
    if (!ended && !error) {
        buffer.resize(flying_bytes);
        buffer.trim_front(static_cast<std::size_t>(bytes));
        if (!buffer.empty()) {
            BufferQueue& queue = to_send();
            if (queue.empty()) (filter != nullptr ? filter->back_is_ours : back_is_ours) = false;
            if (!queue.push_front(std::move(buffer))) error = Error::from_errno(ENOMEM);
        }
    }
    sent(error, bytes);
}

void StreamState::on_chain(SendChain::Done done) {
    flying = std::move(done.chain);
    Error error = done.error;
    if (send_stop_asked && error == Error::cancelled) {
        error = ended ? Error() : put_back(static_cast<std::size_t>(done.bytes));
    }
    flying.clear();
    sent(error, done.bytes);
}

// The rest of a chain that was stopped, from `bytes` on, goes first again.
Error StreamState::put_back(std::size_t bytes) noexcept {
    BufferQueue& queue = to_send();
    if (queue.empty()) (filter != nullptr ? filter->back_is_ours : back_is_ours) = false;
    std::uint32_t first = 0;
    for (; first < flying.count() && bytes >= flying[first].size(); ++first) {
        bytes -= flying[first].size();
    }
    if (first < flying.count()) flying[first].trim_front(bytes);
    for (std::uint32_t index = flying.count(); index != first; --index) {
        if (!queue.push_front(std::move(flying[index - 1]))) return Error::from_errno(ENOMEM);
    }
    return {};
}

void StreamState::sent(Error error, std::uint64_t bytes) {
    --pending;
    sending = false;
    send_stop_asked = false;
    ++counts.sends;
    counts.bytes_sent += bytes;
    if (!ended) {
        const Instant now = core->clock();
        const auto moved = static_cast<std::size_t>(bytes);
        queued_bytes -= moved;
        hub().let_go(moved);
        if (bytes != 0) sent_at = now;
        if (write_bucket) write_at = std::max(write_at, write_bucket.pay(bytes, now));
        if (TokenBucket* group = options.write_group.bucket()) {
            write_at = std::max(write_at, group->pay(bytes, now));
        }
        if (error) fail(ClosedBy::error, error);
    }
    handler_ended();
}

void StreamState::tell_writable() {
    if (!above_high || queued_bytes > options.low || owes_opened) return;
    above_high = false;
    if (table->writable != nullptr && !closes) call([this] { table->writable(object, *this); });
}

// Our end, once everything before it has been sent.
void StreamState::shut() noexcept {
    if (!ending || shutting || sending || !waiting.empty() || !to_send().empty()) return;
    shutting = true;
    if (!pipes && peer_ended) {
        shut_done = true;  // closing says it as well
        return;
    }
    const auto done = [this] {
        --pending;
        shut_done = true;
        handler_ended();
    };
    Error error;
    if (pipes) {
        error = HubEntry::loop().close(out, [done](Loop&) { done(); });
    } else {
        // It is refused when the peer has reset the connection, which the reading side tells.
        error = HubEntry::loop()
                    .submit(Shutdown{descriptor}, [done](Loop&, Shutdown::Done) { done(); })
                    .error();
    }
    if (error) return fail(ClosedBy::error, error);
    ++pending;
}

}  // namespace whorl::detail
