// SPDX-License-Identifier: MIT
// Floor: 6
#include "http/text.hpp"

#include <whorl/http_server.hpp>

#include <algorithm>

// Requests. A connection has one exchange at a time:
//
//   idle ──first byte──▶ head ──begin_request()──▶ active ──finish()──▶ idle, or closed
//
// While it is active and all of its request is there, what else arrives (pipelining) is kept, until
// finish(). fail() answers what no handler may see, and closes.
//
// Invariants:
//   1. Callbacks of the handler run only inside received(), writable() and closed().
//   2. `gone` is called, once, for an exchange that was active when the stream was closed.
//   3. later_ is null unless active.

namespace whorl::http {

Exchange::Exchange(const ServerOptions& options) noexcept
    : options_(options), parser_(options.limits) {}

Exchange::Exchange(Exchange&& other) noexcept
    : options_(other.options_), parser_(other.options_.limits) {
    WHORL_ASSERT(other.stream_ == nullptr);
}

Exchange::~Exchange() {
    if (later_ != nullptr) later_->leave();
}

void Later::leave() noexcept {
    if (exchange_ != nullptr) exchange_->later_ = nullptr;
    exchange_ = nullptr;
}

void Later::take(Later& other) noexcept {
    exchange_ = std::exchange(other.exchange_, nullptr);
    if (exchange_ != nullptr) exchange_->later_ = this;
}

Later Exchange::later() noexcept {
    Later made;
    if (!active_ || done_) return made;
    if (later_ != nullptr) later_->leave();
    made.exchange_ = this;
    later_ = &made;
    return made;
}

void Exchange::opened(Stream& stream, const detail::HandlerTable& table, void* handler) noexcept {
    stream_ = &stream;
    table_ = &table;
    handler_ = handler;
    arm(options_.idle);
}

// Whether what arrives has to wait.
bool Exchange::waits() const noexcept {
    return active_ && (whole_ || (held_back_ && !parser_.at_end()));
}

void Exchange::received(Buffer&& buffer) {
    Bytes input = buffer.bytes();
    reading_ = true;
    while (!stream_->closing() && !moved_ && !waits() && step(input, buffer)) {
    }
    reading_ = false;
    if (stream_->closing()) return;
    buffer.trim_front(buffer.size() - input.size);
    if (moved_) return stream_->unread(std::move(buffer));
    if (!buffer.empty()) return keep(std::move(buffer));
    if (peer_ended_ && !waits()) peer_closed();
}

// What has to wait. One buffer is kept here, so that the stream goes on reading and notices when the peer
// goes away; what comes behind it is held by the stream, which pauses.
void Exchange::keep(Buffer&& buffer) noexcept {
    if (!held_) {
        held_ = std::move(buffer);
        return;
    }
    stream_->unread(std::move(buffer));
    stream_->pause();
}

// What was kept may be delivered.
void Exchange::go_on() noexcept {
    if (reading_) return;
    if (held_) stream_->unread(std::move(held_));
    else if (peer_ended_ && !active_) return peer_closed();
    stream_->resume();
}

// The next thing in `input`. False: there is none.
bool Exchange::step(Bytes& input, Buffer& buffer) {
    switch (parser_.next(input)) {
        case Step::more:
            if (!active_ && parser_.inside() && !head_due_) {
                head_due_ = true;
                arm(options_.head);
            }
            return false;
        case Step::head:
            if (!parser_.joined()) head_ = buffer.share();
            return begin_request();
        case Step::body:
            expects_ = false;
            if (done_) {
                discarded_ += parser_.piece().size;
                if (discarded_ > options_.discard_max) stream_->close();
                return true;
            }
            expect_body();
            calling_ = true;
            table_->body(handler_, *this, parser_.piece());
            calling_ = false;
            settle();
            return true;
        case Step::end:
            whole_ = true;
            if (!done_) {
                if (!begun_) arm(options_.answer);
                calling_ = true;
                table_->complete(handler_, *this);
                calling_ = false;
            }
            settle();
            return true;
        default:
            fail(parser_.fault().status, error_of(parser_.fault()));
            return false;
    }
}

bool Exchange::begin_request() {
    const Message& message = parser_.message();
    WHORL_ASSERT(!active_);
    whole_ = begun_ = done_ = bodiless_ = held_back_ = head_due_ = false;
    discarded_ = left_ = 0;
    expects_ = message.expect_continue && message.has_body;
    last_ = !message.keep_alive || ++requests_ == options_.requests_max;
    if ((options_.methods & bit_of(message.method)) == 0) {
        fail(message.method == Method::other ? 501 : 405, Error::frame_malformed);
        return false;
    }
    const bool sends = message.method == Method::post || message.method == Method::put ||
                       message.method == Method::patch;
    if (options_.length_required && sends && !message.chunked && !message.has_length) {
        fail(411, Error::frame_malformed);
        return false;
    }
    active_ = true;
    due_ = instant_never;
    calling_ = true;
    table_->request(handler_, *this);
    calling_ = false;
    if (!stream_->closing()) begin_body();
    settle();
    return true;
}

// The body is wanted: a peer that asked before it sends is told so.
void Exchange::begin_body() {
    const bool wanted = parser_.message().has_body && !done_ && !held_back_;
    if (!wanted) return;
    if (expects_ && !begun_) stream_->write("HTTP/1.1 100 Continue\r\n\r\n");
    expects_ = false;
    body_since_ = loop().now();
    body_before_ = parser_.body_bytes();
    arm(options_.body);
}

// A piece of the body has come: so much more time for the next.
void Exchange::expect_body() noexcept {
    if (options_.body == Nanoseconds::zero()) return;
    const std::uint64_t bytes = parser_.body_bytes() - body_before_;
    const std::uint64_t rate = std::max<std::uint32_t>(options_.body_rate_min, 1);
    const auto earned = std::chrono::seconds(std::min<std::uint64_t>(bytes / rate, 1'000'000));
    due_ = add_saturating(body_since_, options_.body + earned);
}

void Exchange::pause() noexcept {
    if (!active_ || whole_) return;
    held_back_ = true;
    due_ = instant_never;
}

void Exchange::resume() noexcept {
    if (!active_ || !held_back_) return;
    held_back_ = false;
    begin_body();
    go_on();
}

// Something has happened to the exchange: it may have ended.
void Exchange::settle() noexcept {
    if (!active_ || stream_->closing()) return;
    if (begun_ && whole_) due_ = instant_never;
    if (!done_) return;
    if (later_ != nullptr) later_->leave();
    if (whole_) return finish();
    // The rest of the request is not wanted any more.
    const Message& message = parser_.message();
    const std::uint64_t rest = message.has_length ? message.length - parser_.body_bytes() : 0;
    if (last_ || rest > options_.discard_max) return stream_->close();
    held_back_ = false;
    arm(options_.body);
    go_on();
}

void Exchange::finish() noexcept {
    active_ = false;
    if (last_) return stream_->close();
    head_.reset();
    parser_.restart();
    arm(options_.idle);
    go_on();
}

void Exchange::writable() {
    if (!active_ || !begun_ || done_) return;
    calling_ = true;
    table_->writable(handler_, *this);
    calling_ = false;
    settle();
}

// A client may end its side after its last request: what has arrived is still answered.
void Exchange::peer_closed() noexcept {
    peer_ended_ = true;
    if (held_ || (active_ && whole_)) return;
    stream_->close(parser_.inside() ? Error(Error::frame_truncated) : Error());
}

void Exchange::closed() {
    if (timer_) static_cast<void>(loop().cancel(timer_));
    timer_ = {};
    if (later_ != nullptr) later_->leave();
    // An answer that has ended is not gone, though the rest of its request may be.
    if (!active_ || done_) return;
    done_ = begun_ = true;
    active_ = false;
    table_->gone(handler_, *this);
}

// Answers by itself, and closes. What has begun already can only be broken off.
void Exchange::fail(std::uint16_t status, Error reason) noexcept {
    due_ = instant_never;
    // An answer that has ended is flushed; one that has not must not look as if it had.
    if (active_ && done_) return stream_->close(reason);
    if (active_ && begun_) return stream_->abort(reason);
    const bool gone = active_;
    active_ = true;
    last_ = true;
    done_ = begun_ = false;
    char allow[96] = "";
    Field field{"Allow", {}};
    if (status == 405) {
        std::size_t size = 0;
        for (unsigned index = 0; index < static_cast<unsigned>(Method::other); ++index) {
            const auto method = static_cast<Method>(index);
            if ((options_.methods & bit_of(method)) == 0) continue;
            if (size != 0) allow[size++] = ',';
            size += name_of(method).copy(allow + size, sizeof(allow) - size - 1);
        }
        field.value = {allow, size};
    }
    Answer answer{status};
    answer.fields = &field;
    answer.fields_count = status == 405 ? 1 : 0;
    if (start(answer, Framed::counted, 0, {}, false)) stream_->close(reason);
    // The handler, which knows of the request, is told that it is gone.
    active_ = gone;
    done_ = false;
    begun_ = true;
    if (later_ != nullptr) later_->leave();
}

// From now on the deadline is `bound` away. The timer is moved only to come earlier.
void Exchange::arm(Nanoseconds bound) noexcept {
    if (bound == Nanoseconds::zero()) {
        due_ = instant_never;
        return;
    }
    due_ = add_saturating(loop().now(), bound);
    if (timer_ && timer_at_ <= due_) return;
    timer_at_ = due_;
    if (timer_ && !loop().move(timer_, bound)) return;
    const Result<Timer> made = loop().after(bound, [this](Loop&, Expired) { expired(); });
    if (!made) return stream_->abort(made.error());
    timer_ = *made;
}

void Exchange::expired() noexcept {
    timer_ = {};
    if (stream_->closing() || due_ == instant_never) return;
    const Instant now = loop().now();
    if (now >= due_) return timed_out();
    timer_at_ = due_;
    const Result<Timer> made = loop().at(due_, [this](Loop&, Expired) { expired(); });
    if (!made) return stream_->abort(made.error());
    timer_ = *made;
}

void Exchange::timed_out() noexcept {
    if (!active_) {
        if (parser_.inside()) return fail(408, Error::timed_out);
        return stream_->close(Error::timed_out);
    }
    if (done_) return stream_->close(Error::timed_out);  // the rest of a request that was answered
    fail(whole_ ? 503 : 408, Error::timed_out);
}

}  // namespace whorl::http
