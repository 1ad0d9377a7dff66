// SPDX-License-Identifier: MIT
// Floor: 6
#include <whorl/assert.hpp>
#include <whorl/web_socket_frame.hpp>

#include <algorithm>
#include <cstring>

// Frames. A head is taken byte by byte, so that every fault is found with its first byte; a payload in
// pieces, as it comes.

namespace whorl::web_socket {

namespace {
constexpr unsigned bit_final = 0x80, bits_reserved = 0x70, bits_opcode = 0x0F;
constexpr unsigned bit_masked = 0x80, bits_size = 0x7F, bit_control = 0x08;
constexpr unsigned size_16 = 126, size_64 = 127;

std::uint64_t number_of(const std::uint8_t* bytes, unsigned count) noexcept {
    std::uint64_t number = 0;
    for (unsigned index = 0; index < count; ++index) number = number << 8 | bytes[index];
    return number;
}
}  // namespace

void apply_mask(std::byte* data, std::size_t size, const std::byte* mask, std::size_t at) noexcept {
    std::byte turned[8];
    for (std::size_t index = 0; index < 8; ++index) turned[index] = mask[(at + index) & 3];
    std::uint64_t wide = 0;
    std::memcpy(&wide, turned, 8);
    std::size_t done = 0;
    for (; size - done >= 8; done += 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, data + done, 8);
        word ^= wide;
        std::memcpy(data + done, &word, 8);
    }
    for (; done < size; ++done) data[done] ^= turned[done & 7];
}

bool close_code_valid(std::uint16_t code) noexcept {
    if (code >= 3000) return code <= 4999;
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014);
}

FrameHead frame_head(Opcode opcode, bool last, std::uint64_t size, const std::byte* mask) noexcept {
    WHORL_ASSERT(size < std::uint64_t{1} << 63);
    FrameHead head;
    const auto put = [&head](std::uint64_t byte) {
        head.bytes[head.size++] = static_cast<std::byte>(byte & 0xFF);
    };
    const unsigned masked = mask != nullptr ? bit_masked : 0;
    put((last ? bit_final : 0) | static_cast<unsigned>(opcode));
    if (size < size_16) {
        put(masked | size);
    } else {
        const unsigned bytes = size <= 0xFFFF ? 2 : 8;
        put(masked | (bytes == 2 ? size_16 : size_64));
        for (unsigned index = bytes; index > 0; --index) put(size >> (8 * (index - 1)));
    }
    if (mask != nullptr) {
        for (unsigned index = 0; index < 4; ++index) put(static_cast<std::uint64_t>(mask[index]));
    }
    return head;
}

FrameStep FrameReader::fail(std::uint16_t code, const char* why) noexcept {
    fault_ = {code, why};
    part_ = Part::failed;
    return FrameStep::failed;
}

bool FrameReader::refuse(const char* why) noexcept {
    static_cast<void>(fail(1002, why));
    return false;
}

FrameStep FrameReader::next(FrameInput& input) noexcept {
    piece_ = {};
    last_ = false;
    for (;;) {
        if (part_ == Part::failed) return FrameStep::failed;
        if (part_ == Part::ended) input = {input.data + input.size, 0};
        if (part_ == Part::head) {
            if (input.size == 0) return FrameStep::more;
            const auto byte = static_cast<unsigned char>(*input.data);
            ++input.data;
            --input.size;
            if (!head_byte(byte)) return FrameStep::failed;
            if (head_size_ != head_want_) continue;
            if (!head_whole()) return FrameStep::failed;
        }
        // An empty frame is whole with its head.
        if (part_ != Part::payload || (input.size == 0 && left_ != 0)) return FrameStep::more;
        const FrameStep step = control_ ? take_control(input) : take_message(input);
        if (step != FrameStep::more || input.size == 0) return step;
    }
}

bool FrameReader::head_byte(unsigned char byte) noexcept {
    head_[head_size_++] = byte;
    if (head_size_ == 1) return first_byte(byte);
    if (head_size_ == 2) return second_byte(byte);
    const unsigned kind = head_[1] & bits_size;
    const unsigned wide = kind == size_16 ? 2 : kind == size_64 ? 8 : 0;
    if (wide == 8 && head_size_ == 3 && byte > 0x7F) return refuse("a length of 64 bits");
    if (wide == 0 || head_size_ != 2 + wide) return true;
    left_ = number_of(head_ + 2, wide);
    const std::uint64_t least = wide == 2 ? size_16 : 0x10000;
    if (left_ < least) return refuse("a length in more bytes than it needs");
    return true;
}

bool FrameReader::first_byte(unsigned char byte) noexcept {
    if ((byte & bits_reserved) != 0) return refuse("a reserved bit");
    final_ = (byte & bit_final) != 0;
    opcode_ = static_cast<Opcode>(byte & bits_opcode);
    control_ = (byte & bit_control) != 0;
    if (control_ ? opcode_ > Opcode::pong : opcode_ > Opcode::binary) {
        return refuse("a reserved opcode");
    }
    if (control_) return final_ || refuse("a control frame in fragments");
    if (opcode_ == Opcode::more) return open_ || refuse("a fragment of no message");
    return !open_ || refuse("a message inside of a message");
}

bool FrameReader::second_byte(unsigned char byte) noexcept {
    const bool masked = (byte & bit_masked) != 0;
    if (masked != (role_ == Role::server)) {
        return refuse(masked ? "a mask by a server" : "no mask by a client");
    }
    const unsigned kind = byte & bits_size;
    if (control_ && kind > control_max) return refuse("a long control frame");
    left_ = kind;
    const unsigned wide = kind == size_16 ? 2 : kind == size_64 ? 8 : 0;
    head_want_ = static_cast<std::uint8_t>(2 + wide + (masked ? 4 : 0));
    return true;
}

bool FrameReader::head_whole() noexcept {
    if (role_ == Role::server) std::memcpy(mask_, head_ + head_size_ - 4, 4);
    head_size_ = 0;
    head_want_ = 2;
    mask_at_ = 0;
    kept_size_ = 0;
    part_ = Part::payload;
    if (control_) return true;
    if (!open_) {
        open_ = true;
        message_ = opcode_;
        message_size_ = 0;
        utf8_.restart();
    }
    if (left_ > limits_.frame_max || left_ > limits_.message_max - message_size_) {
        static_cast<void>(fail(1009, "a larger message than is taken"));
        return false;
    }
    message_size_ += left_;
    return true;
}

FrameStep FrameReader::take_message(FrameInput& input) noexcept {
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left_, input.size));
    if (role_ == Role::server) apply_mask(input.data, size, mask_, mask_at_);
    mask_at_ = static_cast<std::uint8_t>((mask_at_ + size) & 3);
    piece_ = {input.data, size};
    input = {input.data + size, input.size - size};
    left_ -= size;
    if (left_ == 0) part_ = Part::head;
    last_ = left_ == 0 && final_;
    if (last_) open_ = false;
    if (message_ == Opcode::text) {
        if (!utf8_.take(piece_)) return fail(1007, "text that is not UTF-8");
        if (last_ && !utf8_.whole()) return fail(1007, "text that ends inside of a sign");
    }
    // Of a fragment without bytes there is nothing to tell.
    return size == 0 && !last_ ? FrameStep::more : FrameStep::piece;
}

FrameStep FrameReader::take_control(FrameInput& input) noexcept {
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(left_, input.size));
    WHORL_ASSERT(kept_size_ + size <= control_max);
    if (size != 0) std::memcpy(kept_ + kept_size_, input.data, size);
    if (role_ == Role::server) apply_mask(kept_ + kept_size_, size, mask_, mask_at_);
    mask_at_ = static_cast<std::uint8_t>((mask_at_ + size) & 3);
    kept_size_ = static_cast<std::uint8_t>(kept_size_ + size);
    input = {input.data + size, input.size - size};
    left_ -= size;
    return left_ == 0 ? control_whole() : FrameStep::more;
}

FrameStep FrameReader::control_whole() noexcept {
    part_ = Part::head;
    piece_ = {kept_, kept_size_};
    if (opcode_ != Opcode::close) return FrameStep::control;
    if (kept_size_ == 1) return fail(1002, "half a close code");
    if (kept_size_ != 0 && !close_code_valid(close_code()))
        return fail(1002, "a close code of none");
    Utf8 reason;
    if (!reason.take(close_reason()) || !reason.whole()) {
        return fail(1007, "a close reason that is not UTF-8");
    }
    part_ = Part::ended;
    return FrameStep::control;
}

std::uint16_t FrameReader::close_code() const noexcept {
    if (kept_size_ < 2) return 1005;
    const auto high = static_cast<unsigned>(kept_[0]), low = static_cast<unsigned>(kept_[1]);
    return static_cast<std::uint16_t>(high << 8 | low);
}

Bytes FrameReader::close_reason() const noexcept {
    if (kept_size_ < 2) return {};
    return {kept_ + 2, static_cast<std::size_t>(kept_size_ - 2)};
}

bool Utf8::begin(unsigned char byte) noexcept {
    low_ = 0x80;
    high_ = 0xBF;
    if (byte < 0xC2 || byte > 0xF4) return false;
    if (byte < 0xE0) {
        left_ = 1;
    } else if (byte < 0xF0) {
        left_ = 2;
        if (byte == 0xE0) low_ = 0xA0;   // shorter forms exist
        if (byte == 0xED) high_ = 0x9F;  // surrogates
    } else {
        left_ = 3;
        if (byte == 0xF0) low_ = 0x90;
        if (byte == 0xF4) high_ = 0x8F;  // above U+10FFFF
    }
    return true;
}

bool Utf8::take(Bytes bytes) noexcept {
    const auto* at = reinterpret_cast<const unsigned char*>(bytes.data);
    const auto* const end = at + bytes.size;
    while (at != end) {
        if (left_ == 0) {
            std::uint64_t word = 0;
            while (end - at >= 8) {
                std::memcpy(&word, at, 8);
                if ((word & 0x8080'8080'8080'8080) != 0) break;
                at += 8;
            }
            while (at != end && *at < 0x80) ++at;
            if (at == end) return true;
            if (!begin(*at++)) return false;
            continue;
        }
        const unsigned char byte = *at++;
        if (byte < low_ || byte > high_) return false;
        low_ = 0x80;
        high_ = 0xBF;
        --left_;
    }
    return true;
}

}  // namespace whorl::web_socket
