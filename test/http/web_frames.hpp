// SPDX-License-Identifier: MIT
// Frames for the tests of WebSocket: written by hand, and read in two ways, by the library's reader and by
// one that is slow and plain.
#pragma once

#include <whorl/web_socket_frame.hpp>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace web_tests {

using whorl::Bytes;
using whorl::web_socket::FrameInput;
using whorl::web_socket::FrameLimits;
using whorl::web_socket::FrameReader;
using whorl::web_socket::FrameStep;
using whorl::web_socket::Opcode;
using whorl::web_socket::Role;

inline constexpr unsigned more = 0, text = 1, binary = 2, closing = 8, ping = 9, pong = 10;

struct Shape {
    bool last = true;
    unsigned reserved = 0;
    bool masked = true;
    unsigned size_bytes = 0;  // 0: as few as it takes
};

// A frame, one byte after the other.
inline std::string frame(unsigned opcode, std::string_view payload, const Shape& shape = {}) {
    std::string bytes;
    const auto put = [&bytes](std::uint64_t byte) { bytes += static_cast<char>(byte & 0xFF); };
    put((shape.last ? 0x80u : 0u) | shape.reserved << 4 | opcode);
    unsigned wide = shape.size_bytes;
    if (wide == 0) wide = payload.size() < 126 ? 1 : payload.size() < 65536 ? 2 : 8;
    const unsigned mask_bit = shape.masked ? 0x80 : 0;
    put(mask_bit | (wide == 1 ? payload.size() : wide == 2 ? 126u : 127u));
    for (unsigned index = wide == 1 ? 0 : wide; index > 0; --index) {
        put(std::uint64_t{payload.size()} >> (8 * (index - 1)));
    }
    constexpr std::string_view mask = "\x37\xfa\x21\x3d";
    if (shape.masked) bytes += mask;
    std::size_t at = 0;
    for (const char sign : payload) {
        bytes += shape.masked ? static_cast<char>(sign ^ mask[at++ % 4]) : sign;
    }
    return bytes;
}
// Not the last fragment.
inline std::string part(unsigned opcode, std::string_view payload) {
    return frame(opcode, payload, {false});
}
inline std::string close_frame(unsigned code, std::string_view reason = {}) {
    std::string payload = {static_cast<char>(code >> 8), static_cast<char>(code & 0xFF)};
    return frame(closing, payload.append(reason));
}

inline std::string quoted(const char* kind, std::string_view bytes) {
    return std::string(kind) + '(' + std::string(bytes) + ')';
}

// What the library's reader says to bytes that come in these pieces: messages as T() and B(), control
// frames as P(), O() and C(), and the code of a fault.
inline std::string read_frames(Role role, const FrameLimits& limits,
                               const std::vector<std::string_view>& pieces) {
    FrameReader reader(role, limits);
    std::string said, message;
    for (const std::string_view piece : pieces) {
        // Of exactly that size, so that AddressSanitizer sees what is read behind it.
        std::vector<std::byte> own(piece.size());
        if (!piece.empty()) std::memcpy(own.data(), piece.data(), piece.size());
        FrameInput input{own.data(), own.size()};
        for (FrameStep step; (step = reader.next(input)) != FrameStep::more;) {
            if (step == FrameStep::failed) {
                return said + "F" + std::to_string(reader.fault().code);
            }
            if (step == FrameStep::piece) {
                message += reader.piece().text();
                if (!reader.last()) continue;
                said += quoted(reader.opcode() == Opcode::text ? "T" : "B", message);
                message.clear();
            } else if (reader.opcode() == Opcode::close) {
                said += quoted("C", std::to_string(reader.close_code()) + ' ' +
                                        std::string(reader.close_reason().text()));
            } else {
                said += quoted(reader.opcode() == Opcode::ping ? "P" : "O", reader.piece().text());
            }
        }
        if (input.size != 0) return said + "(a rest)";
    }
    return said;
}

// --- The slow and plain one, of bytes that are all there.

// Whether it is UTF-8: by its code points.
inline bool is_utf8(std::string_view bytes) {
    std::size_t at = 0;
    while (at < bytes.size()) {
        const auto first = static_cast<unsigned char>(bytes[at]);
        const unsigned size = first < 0x80             ? 1
                              : (first & 0xE0) == 0xC0 ? 2
                              : (first & 0xF0) == 0xE0 ? 3
                              : (first & 0xF8) == 0xF0 ? 4
                                                       : 0;
        if (size == 0 || bytes.size() - at < size) return false;
        std::uint32_t point = size == 1 ? first : first & (0x7Fu >> size);
        for (unsigned index = 1; index < size; ++index) {
            const auto next = static_cast<unsigned char>(bytes[at + index]);
            if ((next & 0xC0) != 0x80) return false;
            point = point << 6 | (next & 0x3F);
        }
        constexpr std::uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
        if (point < least[size] || point > 0x10FFFF) return false;
        if (point >= 0xD800 && point <= 0xDFFF) return false;
        at += size;
    }
    return true;
}
// Whether it is, or something may follow that makes it so.
inline bool begins_utf8(std::string_view bytes) {
    std::string tail(bytes);
    // All that stands before the last sign that has begun must be whole.
    std::size_t start = tail.size();
    for (std::size_t back = 1; back <= 3 && back <= tail.size(); ++back) {
        if ((static_cast<unsigned char>(tail[tail.size() - back]) & 0xC0) == 0xC0) {
            start = tail.size() - back;
            break;
        }
    }
    if (is_utf8(tail)) return true;
    if (!is_utf8(std::string_view(tail).substr(0, start))) return false;
    tail.erase(0, start);
    std::vector<std::string> tries = {tail};
    for (unsigned count = 0; count < 3; ++count) {
        std::vector<std::string> longer;
        for (const std::string& one : tries) {
            for (const char next : {'\x80', '\x8f', '\x90', '\x9f', '\xa0', '\xbf'}) {
                longer.push_back(one + next);
                if (is_utf8(longer.back())) return true;
            }
        }
        tries.swap(longer);
    }
    return false;
}

struct PlainFrame {
    unsigned opcode = 0;
    bool last = false;
    std::string payload;  // as far as it is there
    bool whole = false;
    std::string fault;
};

// The frame at the start of `bytes`, which it is taken off; a fault of its head alone.
inline PlainFrame plain_frame(std::string_view& bytes, bool server) {
    const auto byte = [&bytes](std::size_t at) { return static_cast<unsigned char>(bytes[at]); };
    PlainFrame got;
    got.opcode = byte(0) & 15;
    got.last = byte(0) >= 128;
    const bool control = got.opcode >= 8;
    const bool known = got.opcode <= 2 || (got.opcode >= 8 && got.opcode <= 10);
    if ((byte(0) & 0x70) != 0 || !known || (control && !got.last)) got.fault = "F1002";
    if (bytes.size() < 2 || !got.fault.empty()) return got;
    const unsigned kind = byte(1) & 127;
    if ((byte(1) >= 128) != server || (control && kind > 125)) got.fault = "F1002";
    const std::size_t wide = kind == 126 ? 2 : kind == 127 ? 8 : 0;
    if (wide == 8 && bytes.size() > 2 && byte(2) >= 128) got.fault = "F1002";
    if (bytes.size() < 2 + wide || !got.fault.empty()) return got;
    std::uint64_t size = kind;
    if (wide != 0) size = 0;
    for (std::size_t index = 0; index < wide; ++index) size = size * 256 + byte(2 + index);
    if ((wide == 2 && size < 126) || (wide == 8 && size < 65536)) got.fault = "F1002";
    const std::size_t head = 2 + wide + (server ? 4 : 0);
    if (bytes.size() < head || !got.fault.empty()) return got;
    const std::uint64_t there = bytes.size() - head;
    got.whole = there >= size;
    got.payload = bytes.substr(head, got.whole ? size : there);
    for (std::size_t at = 0; server && at < got.payload.size(); ++at) {
        got.payload[at] = static_cast<char>(got.payload[at] ^ bytes[head - 4 + at % 4]);
    }
    // With this much announced it is too large, wherever it ends.
    if (size > SIZE_MAX / 2) size = SIZE_MAX / 2;
    got.fault = "size " + std::to_string(size);
    bytes.remove_prefix(head + got.payload.size());
    return got;
}

inline std::string plain_close(std::string_view payload, std::string& fault) {
    if (payload.empty()) return "C(1005 )";
    fault = "F1002";
    if (payload.size() == 1) return {};
    const unsigned code =
        static_cast<unsigned char>(payload[0]) * 256u + static_cast<unsigned char>(payload[1]);
    for (const unsigned bad : {1004u, 1005u, 1006u}) {
        if (code == bad) return {};
    }
    if (code < 1000 || code > 4999 || (code > 1014 && code < 3000)) return {};
    fault = "F1007";
    if (!is_utf8(payload.substr(2))) return {};
    fault.clear();
    return quoted("C", std::to_string(code) + ' ' + std::string(payload.substr(2)));
}

inline std::string plain_read(Role role, const FrameLimits& limits, std::string_view bytes) {
    std::string said, message;
    bool open = false, is_text = false;
    while (!bytes.empty()) {
        const std::size_t before = bytes.size();
        const unsigned char first = static_cast<unsigned char>(bytes[0]);
        const PlainFrame got = plain_frame(bytes, role == Role::server);
        const bool control = got.opcode >= 8;
        // A fault of the first byte comes before those of the others.
        const bool misplaced = !control && (got.opcode == 0) != open;
        if ((first & 0x70) == 0 && misplaced) return said + "F1002";
        if (got.fault.substr(0, 1) == "F") return said + got.fault;
        if (before == bytes.size()) return said;  // the head is not whole
        const std::uint64_t size = std::stoull(got.fault.substr(5));
        if (control) {
            if (!got.whole) return said;
            if (got.opcode == closing) {
                std::string fault;
                said += plain_close(got.payload, fault);
                return said + fault;
            }
            said += quoted(got.opcode == ping ? "P" : "O", got.payload);
            continue;
        }
        if (!open) is_text = got.opcode == text;
        open = true;
        if (size > limits.frame_max || size > limits.message_max - message.size()) {
            return said + "F1009";
        }
        message += got.payload;
        const bool ends = got.whole && got.last;
        if (is_text && !(ends ? is_utf8(message) : begins_utf8(message))) return said + "F1007";
        if (!ends) continue;
        said += quoted(is_text ? "T" : "B", message);
        message.clear();
        open = false;
    }
    return said;
}

}  // namespace web_tests
