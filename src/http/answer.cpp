// SPDX-License-Identifier: MIT
// Floor: 6
#include "http/date.hpp"

#include <whorl/http_server.hpp>

#include <charconv>

// Answers. The head and a small body go into one buffer of the loop's pool.

namespace whorl::http {

namespace {
constexpr std::size_t head_room = 256;       // of what the server writes itself
constexpr std::size_t together_max = 16384;  // a body up to this size goes into the head's buffer

void put_text(Buffer& buffer, std::string_view text) noexcept {
    const bool fits = buffer.append(Bytes(text));
    WHORL_ASSERT(fits);
}

void put_number(Buffer& buffer, std::uint64_t number) noexcept {
    char digits[20];
    const auto end = std::to_chars(digits, digits + sizeof(digits), number).ptr;
    put_text(buffer, {digits, static_cast<std::size_t>(end - digits)});
}

void put_field(Buffer& buffer, std::string_view name, std::string_view value) noexcept {
    put_text(buffer, name);
    put_text(buffer, ": ");
    put_text(buffer, value);
    put_text(buffer, "\r\n");
}
}  // namespace

bool Exchange::well_formed(const Answer& answer) const noexcept {
    if (answer.status < 200 || answer.status > 599 || !valid_value(answer.type)) return false;
    for (std::size_t index = 0; index < answer.fields_count; ++index) {
        const Field& field = answer.fields[index];
        if (!valid_name(field.name) || !valid_value(field.value)) return false;
    }
    return true;
}

// Sends the head, and `body` with it; `after`: the body, or more of it, comes afterwards.
bool Exchange::start(const Answer& answer, Framed framed, std::uint64_t length,
                     std::string_view body, bool after) noexcept {
    if (!active_ || begun_ || stream_->closing()) return false;
    if (!well_formed(answer)) {
        static_cast<void>(start(Answer{500, {}, nullptr, 0, true}, Framed::counted, 0, {}, false));
        return false;
    }
    const Message& message = parser_.message();
    begun_ = true;
    bodiless_ = answer.status == 204 || answer.status == 304 || message.method == Method::head;
    framed_ = framed == Framed::chunked && message.minor == 0 ? Framed::until_close : framed;
    left_ = length;
    // Who asked for 100 Continue and gets an answer instead may send its body, or not.
    if (answer.close || expects_ || (framed_ == Framed::until_close && !bodiless_)) last_ = true;
    if (bodiless_) body = {};

    std::size_t room = head_room + answer.type.size() + body.size();
    for (std::size_t index = 0; index < answer.fields_count; ++index) {
        room += answer.fields[index].name.size() + answer.fields[index].value.size() + 4;
    }
    Buffer buffer = loop().buffer(room);
    if (!buffer) buffer = Buffer::allocate(room);
    if (!buffer) {
        stream_->abort(Error::from_errno(ENOMEM));
        return false;
    }
    put_head(buffer, answer, length);
    put_text(buffer, body);
    stream_->write(std::move(buffer));
    if (!after) done_ = true;
    return !stream_->closing();
}

void Exchange::put_head(Buffer& buffer, const Answer& answer, std::uint64_t length) noexcept {
    put_text(buffer, "HTTP/1.1 ");
    put_number(buffer, answer.status);
    put_text(buffer, " ");
    put_text(buffer, reason_of(answer.status));
    put_text(buffer, "\r\n");
    put_field(buffer, "Date", date_now(loop()));
    if (!answer.type.empty()) put_field(buffer, "Content-Type", answer.type);
    if (answer.status != 204 && answer.status != 304) {
        if (framed_ == Framed::chunked) put_field(buffer, "Transfer-Encoding", "chunked");
        if (framed_ == Framed::counted) {
            put_text(buffer, "Content-Length: ");
            put_number(buffer, length);
            put_text(buffer, "\r\n");
        }
    }
    if (last_) put_field(buffer, "Connection", "close");
    else if (parser_.message().minor == 0) put_field(buffer, "Connection", "keep-alive");
    for (std::size_t index = 0; index < answer.fields_count; ++index) {
        put_field(buffer, answer.fields[index].name, answer.fields[index].value);
    }
    put_text(buffer, "\r\n");
}

bool Exchange::respond(const Answer& answer, std::string_view body) noexcept {
    const bool started = start(answer, Framed::counted, body.size(), body, false);
    if (!calling_) settle();
    return started;
}

bool Exchange::respond(const Answer& answer, Buffer&& body) noexcept {
    Buffer taken = std::move(body);
    if (taken.size() <= together_max) return respond(answer, taken.text());
    if (!begin(answer, taken.size())) return false;
    static_cast<void>(put(std::move(taken)));
    end();
    return true;
}

bool Exchange::begin(const Answer& answer, std::uint64_t length) noexcept {
    const bool started = start(answer, Framed::counted, length, {}, true);
    if (!calling_) settle();
    return started;
}

bool Exchange::begin(const Answer& answer) noexcept {
    const bool started = start(answer, Framed::chunked, 0, {}, true);
    if (!calling_) settle();
    return started;
}

bool Exchange::put(Buffer&& buffer) noexcept {
    Buffer piece = std::move(buffer);
    if (!active_ || !begun_ || done_ || stream_->closing()) return false;
    if (bodiless_ || piece.empty()) return true;
    if (framed_ == Framed::counted) {
        if (piece.size() > left_) piece.resize(static_cast<std::size_t>(left_));
        left_ -= piece.size();
        return stream_->write(std::move(piece));
    }
    if (framed_ == Framed::until_close) return stream_->write(std::move(piece));
    char line[20];
    char* end = std::to_chars(line, line + 16, piece.size(), 16).ptr;
    *end++ = '\r';
    *end++ = '\n';
    stream_->write(std::string_view(line, static_cast<std::size_t>(end - line)));
    stream_->write(std::move(piece));
    return stream_->write("\r\n");
}

bool Exchange::write(Buffer&& piece) noexcept { return put(std::move(piece)); }

bool Exchange::write(std::string_view piece) noexcept {
    if (bodiless_ || piece.empty()) return put({});
    Buffer copy = loop().buffer(piece.size());
    if (!copy) copy = Buffer::allocate(piece.size());
    if (!copy || !copy.append(Bytes(piece))) {
        stream_->abort(Error::from_errno(ENOMEM));
        return false;
    }
    return put(std::move(copy));
}

Error Exchange::upgrade_begin(const Field* fields, std::size_t fields_count) noexcept {
    if (!active_ || stream_->closing() || peer_ended_) return Error::stale_handle;
    const Message& message = parser_.message();
    const Answer answer{200, {}, fields, fields_count};
    if (begun_ || message.has_body || message.minor == 0 || !message.upgrade ||
        !well_formed(answer)) {
        return Error::invalid_argument;
    }
    std::size_t room = head_room;
    for (std::size_t index = 0; index < fields_count; ++index) {
        room += fields[index].name.size() + fields[index].value.size() + 4;
    }
    Buffer buffer = loop().buffer(room);
    if (!buffer) buffer = Buffer::allocate(room);
    if (!buffer) {
        stream_->abort(Error::from_errno(ENOMEM));
        return Error::from_errno(ENOMEM);
    }
    put_text(buffer, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n");
    for (std::size_t index = 0; index < fields_count; ++index) {
        put_field(buffer, fields[index].name, fields[index].value);
    }
    put_text(buffer, "\r\n");
    stream_->write(std::move(buffer));
    if (stream_->closing()) return Error::stale_handle;
    // From here on nothing of the exchange is called any more, and it calls nothing.
    if (timer_) static_cast<void>(loop().cancel(timer_));
    timer_ = {};
    if (later_ != nullptr) later_->leave();
    begun_ = done_ = moved_ = true;
    active_ = false;
    if (held_) stream_->unread(std::move(held_));
    stream_->resume();
    return {};
}

void Exchange::end() noexcept {
    if (!active_ || !begun_ || done_ || stream_->closing()) return;
    if (!bodiless_) {
        if (framed_ == Framed::counted && left_ != 0) return stream_->abort(Error::frame_truncated);
        if (framed_ == Framed::chunked) stream_->write("0\r\n\r\n");
    }
    done_ = true;
    if (!calling_) settle();
}

}  // namespace whorl::http
