// SPDX-License-Identifier: MIT
// Floor: 6
#include "stream/stream_state.hpp"

#include <whorl/socket.hpp>

#include <algorithm>

// How a stream ends, and time. All deadlines share one timer, which is only moved to come earlier: when
// it fires, what is due is looked up, and it is set again. So a deadline that is pushed back by every
// message costs nothing for the message.

namespace whorl::detail {

namespace {
constexpr Nanoseconds none = Nanoseconds::zero();

void earlier(Instant& next, Instant since, Nanoseconds bound) noexcept {
    if (bound > none) next = std::min(next, add_saturating(since, bound));
}
}  // namespace

// The end without order. What comes first counts: a reason given to close() is not replaced by what
// happens while it is carried out.
void StreamState::fail(ClosedBy by, Error error, bool reset) noexcept {
    if (ended) return;
    if (!(closes && reason.error)) reason = {by, error};
    if (reset && !pipes) reset_on_close();
    release_all();
}

void StreamState::reset_on_close() noexcept {
    Linger linger;
    linger.on = true;
    static_cast<void>(set_option(HubEntry::loop(), descriptor, linger));
}

// Both sides have ended, and everything was delivered or is not wanted.
void StreamState::end_orderly() noexcept {
    if (!shut_done || !peer_ended) return;
    if (closes || (peer_told && held.empty())) release_all();
}

// Nothing is called any more but `closed`, when the last handler has come back.
void StreamState::release_all() noexcept {
    ended = true;
    Loop& loop = HubEntry::loop();
    if (timer) static_cast<void>(loop.cancel(timer));
    timer = {};
    const auto closed = [this](Loop&) {
        --pending;
        handler_ended();
    };
    const auto close = [&](auto handle) {
        if (!handle) return;
        const Error error = loop.close(handle, closed);
        if (!error) ++pending;
        // Without a slot for the handler it is closed all the same.
        else if (error != Error::stale_handle) static_cast<void>(loop.close(handle));
    };
    close(descriptor);
    close(in);
    close(out);
    hub().let_go(queued_bytes + held_bytes);
    queued_bytes = held_bytes = 0;
    waiting.clear();
    held.clear();
    if (filter != nullptr) filter->sealed.clear();
    if (pending == 0) mark();
}

// Every handler of an operation ends here.
void StreamState::handler_ended() {
    if (!ended) mark();
    else if (pending == 0) finish();
}

void StreamState::finish() {
    struct End {  // `closed` may throw
        StreamState* stream;
        ~End() {
            StreamStatistics& statistics = stream->hub().statistics;
            --statistics.streams;
            ++statistics.closed;
            if (stream->owner != nullptr) stream->owner->stream_gone(*stream);
            delete stream;
        }
    };
    WHORL_ASSERT(ended && pending == 0 && !calling);
    if (detaching()) {
        mark();  // should the handler throw: `closed` comes with the next round
        detach_failed(reason.error);
    }
    const End end{this};
    if (table->closed != nullptr) table->closed(object, *this, reason);
}

// When the next deadline may be, or a rate allows more.
Instant StreamState::next_due() const noexcept {
    const StreamDeadlines& bounds = options.deadlines;
    Instant next = instant_never;
    earlier(next, attached_at, bounds.total);
    if (handshaking()) earlier(next, filter->began, filter->handshake);
    earlier(next, std::max(received_at, sent_at), bounds.idle);
    if (reading && !closes && !peer_ended) earlier(next, received_at, bounds.read);
    if (sending) earlier(next, send_began, bounds.write);
    if (frame_open) earlier(next, frame_at, bounds.frame);
    if (closes && bounds.close > none) next = std::min(next, close_at);
    const Instant now = core->clock();
    if (!reading && read_at > now && wants_reading()) next = std::min(next, read_at);
    const bool wants_sending = !waiting.empty() || (filter != nullptr && !filter->sealed.empty());
    if (!sending && write_at > now && wants_sending) next = std::min(next, write_at);
    return next;
}

void StreamState::arm() noexcept {
    const Instant next = next_due();
    Loop& loop = HubEntry::loop();
    if (next == instant_never) {
        if (timer) static_cast<void>(loop.cancel(timer));
        timer = {};
        return;
    }
    if (timer && timer_at <= next) return;
    timer_at = next;
    if (timer) {
        if (!loop.move(timer, next - core->clock())) return;
    }
    const Result<Timer> made = loop.at(next, [this](Loop&, Expired) {
        timer = {};
        expired();
    });
    if (!made) return fail(ClosedBy::error, made.error());
    timer = *made;
}

void StreamState::expired() {
    const StreamDeadlines& bounds = options.deadlines;
    const Instant now = core->clock();
    const auto passed = [now](Instant since, Nanoseconds bound) {
        return bound > none && now >= add_saturating(since, bound);
    };
    const bool late = passed(attached_at, bounds.total) ||
                      (handshaking() && passed(filter->began, filter->handshake)) ||
                      passed(std::max(received_at, sent_at), bounds.idle) ||
                      (reading && !closes && !peer_ended && passed(received_at, bounds.read)) ||
                      (sending && passed(send_began, bounds.write)) ||
                      (frame_open && passed(frame_at, bounds.frame)) ||
                      (closes && bounds.close > none && now >= close_at);
    if (late) fail(ClosedBy::deadline, Error::timed_out);
    else mark();
}

}  // namespace whorl::detail
