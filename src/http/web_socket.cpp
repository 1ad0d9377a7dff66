// SPDX-License-Identifier: MIT
// Floor: 6
#include "http/web_socket_state.hpp"

#include <algorithm>
#include <utility>

// A connection after its handshake:
//
//   open ──close(), fail()──▶ closing ──its close frame──▶ done ──▶ closed
//     └──────its close frame, which is answered─────────────▲
//
// Invariants:
//   1. Callbacks of the handler run only inside those of the stream, and `closed` also inside that of
//      the connector.
//   2. From `closing` on no message is delivered and nothing is sent.
//   3. What is received is unmasked in place only as far as it is taken; the rest may be put back.

namespace whorl::web_socket {

namespace {
constexpr Nanoseconds none = Nanoseconds::zero();
constexpr std::size_t share_min = 4096;  // smaller messages do not hold a received buffer
constexpr std::size_t ahead_max = std::size_t{64} << 10;  // room made for what was only announced

// At most `most` bytes of UTF-8, whole signs.
std::string_view cut_text(std::string_view text, std::size_t most) noexcept {
    if (text.size() <= most) return text;
    while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xC0) == 0x80) --most;
    return text.substr(0, most);
}

Buffer room_of(Loop& loop, std::size_t size) noexcept {
    Buffer room = loop.buffer(size);
    return room ? std::move(room) : Buffer::allocate(size);
}

Opcode opcode_of(Kind kind) noexcept { return kind == Kind::text ? Opcode::text : Opcode::binary; }
}  // namespace

detail::Owner::~Owner() {
    if (connection_ != nullptr) connection_->table_->destroy(*connection_);
}

// A timer is left only when the loop is destroyed with it.
Connection::~Connection() { delete client_; }

void detail::Talk::opened(Stream& stream) {
    Connection& made = *connection;
    made.stream_ = &stream;
    if (made.role_ == Role::client) return made.begin_shaking();
    made.begin_checks();
    made.table_->opened(made);
}

void detail::Talk::writable(Stream&) {
    if (connection->open()) connection->table_->writable(*connection);
}

// --- receiving

void Connection::received(Buffer&& buffer) {
    Buffer taken = std::move(buffer);
    if (phase_ == Phase::shaking) return shake(std::move(taken));
    heard_at_ = loop_->now();
    pinged_ = false;
    if (!taken.writable()) taken = Buffer::copy_of(taken.bytes());
    if (!taken) return static_cast<void>(no_memory());
    FrameInput input{taken.data(), taken.size()};
    while (!stream_->closing() && !stream_->paused() && step(input, taken)) {
    }
    if (input.size == 0 || stream_->closing()) return;
    taken.trim_front(taken.size() - input.size);
    stream_->unread(std::move(taken));
}

// The next thing in `input`. False: there is none.
bool Connection::step(FrameInput& input, Buffer& buffer) {
    switch (reader_.next(input)) {
        case FrameStep::more:
            return false;
        case FrameStep::piece:
            return phase_ != Phase::open || take_piece(buffer);
        case FrameStep::control:
            take_control();
            return true;
        default:
            fail(reader_.fault());
            input.size = 0;
            return false;
    }
}

// A message that lies whole in a large buffer is a share of it; others are copied together.
bool Connection::take_piece(Buffer& buffer) {
    const Bytes piece = reader_.piece();
    const Kind kind = reader_.opcode() == Opcode::text ? Kind::text : Kind::binary;
    Buffer message;
    if (reader_.last() && gathered_.empty() && piece.size >= share_min) {
        message = buffer.share();
        message.trim_front(static_cast<std::size_t>(piece.data - message.data()));
        message.resize(piece.size);
    } else {
        if (!gather(piece)) return no_memory();
        if (!reader_.last()) return true;
        message = std::move(gathered_);
    }
    table_->message(*this, kind, std::move(message));
    return true;
}

bool Connection::gather(Bytes piece) noexcept {
    if (piece.empty()) return true;
    const std::size_t size = gathered_.size() + piece.size;
    if (size > gathered_.capacity()) {
        const auto rest = static_cast<std::size_t>(std::min<std::uint64_t>(
            reader_.frame_left(), std::max(ahead_max, gathered_.capacity())));
        Buffer larger = room_of(*loop_, std::max(size + rest, gathered_.capacity() * 2));
        if (!larger || !larger.append(gathered_.bytes())) return false;
        gathered_ = std::move(larger);
    }
    return gathered_.append(piece);
}

void Connection::take_control() {
    const Opcode opcode = reader_.opcode();
    if (opcode == Opcode::close) return peer_closes();
    if (phase_ != Phase::open) return;
    const Bytes payload = reader_.piece();
    if (opcode == Opcode::pong) return table_->pong(*this, payload);
    put(Opcode::pong, payload);
    if (!stream_->closing()) table_->ping(*this, payload);
}

void Connection::peer_closes() noexcept {
    peer_closed_ = true;
    if (phase_ == Phase::open) {
        const std::uint16_t code = reader_.close_code();
        put_close(code == 1005 ? std::uint16_t{0} : code, {});
    }
    phase_ = Phase::done;
    gathered_.reset();
    // The server ends first, so that the port in TIME_WAIT is not the client's.
    if (role_ == Role::server) return stream_->close();
    arm(options_.close);
}

// What the peer has sent is wrong: it is told, and nothing more is read.
void Connection::fail(const Fault& fault) noexcept {
    why_ = fault.code == 1009 ? Error::frame_too_large : Error::frame_malformed;
    if (phase_ == Phase::open) put_close(fault.code, fault.why);
    phase_ = Phase::done;
    gathered_.reset();
    stream_->close(why_);
}

void Connection::peer_closed() noexcept {
    if (phase_ == Phase::done) return stream_->close();
    stream_->close(Error::frame_truncated);
}

// The stream has ended, or there never was one.
void Connection::closed(const Error& why) {
    disarm();
    stream_ = nullptr;
    gathered_.reset();
    Ended ended;
    ended.clean = peer_closed_ && sent_code_ != 0;
    ended.code = peer_closed_ ? reader_.close_code() : std::uint16_t{1006};
    if (peer_closed_) ended.reason = reader_.close_reason().text();
    ended.sent = sent_code_;
    ended.status = status_;
    if (!ended.clean) ended.error = why_ ? why_ : why;
    if (!ended.clean && !ended.error) ended.error = Error::frame_truncated;
    phase_ = Phase::done;
    table_->closed(*this, ended);
}

void Connection::pause() noexcept {
    if (phase_ == Phase::open && stream_ != nullptr) stream_->pause();
}
void Connection::resume() noexcept {
    if (stream_ == nullptr) return;
    // That nothing was heard meanwhile says nothing.
    if (stream_->paused()) heard_at_ = loop_->now();
    stream_->resume();
}

// --- sending

bool Connection::no_memory() noexcept {
    abort(Error::from_errno(ENOMEM));
    return false;
}

const std::byte* Connection::next_mask(std::byte (&mask)[4]) noexcept {
    if (role_ == Role::server) return nullptr;
    draw(mask, sizeof(mask));
    return mask;
}

// Sends a frame with a copy of its payload.
bool Connection::put(Opcode opcode, Bytes payload) noexcept {
    std::byte bytes[4];
    const std::byte* const mask = next_mask(bytes);
    const FrameHead head = frame_head(opcode, true, payload.size, mask);
    Buffer frame = room_of(*loop_, head.size + payload.size);
    if (!frame || !frame.append({head.bytes, head.size}) || !frame.append(payload)) {
        return no_memory();
    }
    if (mask != nullptr) apply_mask(frame.data() + head.size, payload.size, mask);
    return stream_->write(std::move(frame));
}

bool Connection::put_buffer(Opcode opcode, Buffer&& payload) noexcept {
    Buffer taken = std::move(payload);
    // One buffer is sent more cheaply than two.
    if (taken.size() < share_min || (role_ == Role::client && !taken.writable())) {
        return put(opcode, taken.bytes());
    }
    std::byte bytes[4];
    const std::byte* const mask = next_mask(bytes);
    const FrameHead head = frame_head(opcode, true, taken.size(), mask);
    if (mask != nullptr) apply_mask(taken.data(), taken.size(), mask);
    stream_->write(Bytes(head.bytes, head.size));
    return stream_->write(std::move(taken));
}

bool Connection::send(Kind kind, Buffer&& message) noexcept {
    Buffer taken = std::move(message);
    return phase_ == Phase::open && put_buffer(opcode_of(kind), std::move(taken));
}
bool Connection::send_text(std::string_view text) noexcept {
    return phase_ == Phase::open && put(Opcode::text, Bytes(text));
}
bool Connection::send_binary(Bytes bytes) noexcept {
    return phase_ == Phase::open && put(Opcode::binary, bytes);
}
bool Connection::ping(Bytes payload) noexcept {
    WHORL_ASSERT(payload.size <= control_max);
    return phase_ == Phase::open && put(Opcode::ping, payload);
}

// Code 0: a close frame without one.
void Connection::put_close(std::uint16_t code, std::string_view reason) noexcept {
    std::byte payload[control_max];
    std::size_t size = 0;
    if (code != 0) {
        payload[0] = static_cast<std::byte>(code >> 8);
        payload[1] = static_cast<std::byte>(code & 0xFF);
        reason = cut_text(reason, reason_max);
        std::transform(reason.begin(), reason.end(), payload + 2,
                       [](char sign) { return static_cast<std::byte>(sign); });
        size = 2 + reason.size();
    }
    sent_code_ = code != 0 ? code : std::uint16_t{1005};
    put(Opcode::close, {payload, size});
}

void Connection::close(std::uint16_t code, std::string_view reason) noexcept {
    WHORL_ASSERT(close_code_valid(code));
    if (phase_ == Phase::connecting || phase_ == Phase::shaking) return abort();
    if (phase_ != Phase::open) return;
    phase_ = Phase::closing;
    put_close(code, reason);
    gathered_.reset();
    if (stream_->closing()) return;
    stream_->resume();  // the peer's close frame may be behind what waits
    arm(options_.close);
}

void Connection::abort(Error reason) noexcept {
    if (!why_) why_ = reason;
    if (stream_ != nullptr) {
        stream_->abort(reason);
        phase_ = Phase::done;
    } else if (client_ != nullptr && client_->connector != nullptr) {
        client_->connector->cancel();
    }
}

// --- time

void Connection::disarm() noexcept {
    if (timer_) static_cast<void>(loop_->cancel(timer_));
    timer_ = {};
}

void Connection::arm(Nanoseconds bound) noexcept {
    if (bound == none) return disarm();
    if (timer_ && !loop_->move(timer_, bound)) return;
    const Result<Timer> made = loop_->after(bound, [this](Loop&, Expired) {
        timer_ = {};
        expired();
    });
    if (!made) return abort(made.error());
    timer_ = *made;
}

void Connection::expired() noexcept {
    if (stream_ == nullptr || stream_->closing()) return;
    if (phase_ == Phase::open) return check_peer();
    if (phase_ == Phase::done) return stream_->close();
    abort(Error::timed_out);
}

// The timer costs nothing for what is received: it looks back.
void Connection::check_peer() noexcept {
    const std::uint64_t sent = stream_->counters().bytes_sent;
    const bool takes = stream_->queued() != 0 && sent != sent_before_;
    sent_before_ = sent;
    if (takes || stream_->paused()) {
        heard_at_ = loop_->now();
        pinged_ = false;
    }
    const Nanoseconds quiet = loop_->now() - heard_at_;
    if (!pinged_ && quiet < options_.ping_every) return arm(options_.ping_every - quiet);
    if (pinged_) return abort(Error::timed_out);
    pinged_ = true;
    put(Opcode::ping, {});
    arm(options_.ping_timeout == none ? options_.ping_every : options_.ping_timeout);
}

// From now on the peer is to be heard of.
void Connection::begin_checks() noexcept {
    phase_ = Phase::open;
    heard_at_ = loop_->now();
    arm(options_.ping_every);
}

}  // namespace whorl::web_socket
