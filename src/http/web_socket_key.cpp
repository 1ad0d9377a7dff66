// SPDX-License-Identifier: MIT
// Floor: 6
#include "http/web_socket_state.hpp"

#include <whorl/assert.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

// The handshake's proof that a server knows of WebSocket: SHA-1 in base 64. It protects nothing.

namespace whorl::web_socket {

namespace {

constexpr char signs_64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// Writes 4 * ceil(count / 3) signs.
void base_64(const std::uint8_t* bytes, std::size_t count, char* text) noexcept {
    for (std::size_t at = 0; at < count; at += 3) {
        const std::size_t have = std::min<std::size_t>(3, count - at);
        std::uint32_t three = 0;
        for (std::size_t index = 0; index < 3; ++index) {
            three = three << 8 | (index < have ? bytes[at + index] : 0u);
        }
        for (std::size_t index = 0; index < 4; ++index) {
            *text++ = index <= have ? signs_64[three >> (18 - 6 * index) & 63] : '=';
        }
    }
}

std::uint32_t rotate(std::uint32_t word, unsigned count) noexcept {
    return word << count | word >> (32 - count);
}

using Digest = std::array<std::uint32_t, 5>;

void sha1_block(Digest& digest, const std::uint8_t* block) noexcept {
    std::uint32_t words[80];
    for (unsigned index = 0; index < 16; ++index) {
        const std::uint8_t* const four = block + std::size_t{4} * index;
        words[index] = std::uint32_t{four[0]} << 24 | std::uint32_t{four[1]} << 16 |
                       std::uint32_t{four[2]} << 8 | four[3];
    }
    for (unsigned index = 16; index < 80; ++index) {
        words[index] =
            rotate(words[index - 3] ^ words[index - 8] ^ words[index - 14] ^ words[index - 16], 1);
    }
    auto [a, b, c, d, e] = digest;
    for (unsigned index = 0; index < 80; ++index) {
        std::uint32_t mixed = 0;
        if (index < 20) mixed = ((b & c) | (~b & d)) + 0x5A82'7999;
        else if (index < 40) mixed = (b ^ c ^ d) + 0x6ED9'EBA1;
        else if (index < 60) mixed = ((b & c) | (b & d) | (c & d)) + 0x8F1B'BCDC;
        else mixed = (b ^ c ^ d) + 0xCA62'C1D6;
        const std::uint32_t next = rotate(a, 5) + mixed + e + words[index];
        e = d;
        d = c;
        c = rotate(b, 30);
        b = a;
        a = next;
    }
    digest[0] += a;
    digest[1] += b;
    digest[2] += c;
    digest[3] += d;
    digest[4] += e;
}

}  // namespace

AcceptText accept_of(std::string_view key) noexcept {
    constexpr std::string_view tail = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    WHORL_ASSERT(key.size() == key_size);
    // Two blocks: 60 bytes, a bit, and their number of bits at the end.
    std::uint8_t blocks[128] = {};
    std::memcpy(blocks, key.data(), key.size());
    std::memcpy(blocks + key.size(), tail.data(), tail.size());
    constexpr std::size_t size = key_size + tail.size();
    blocks[size] = 0x80;
    blocks[126] = static_cast<std::uint8_t>(size * 8 >> 8);
    blocks[127] = static_cast<std::uint8_t>(size * 8 & 0xFF);
    Digest digest = {0x6745'2301, 0xEFCD'AB89, 0x98BA'DCFE, 0x1032'5476, 0xC3D2'E1F0};
    sha1_block(digest, blocks);
    sha1_block(digest, blocks + 64);
    std::uint8_t bytes[20];
    for (unsigned index = 0; index < 20; ++index) {
        bytes[index] = static_cast<std::uint8_t>(digest[index / 4] >> (24 - 8 * (index % 4)));
    }
    AcceptText accept;
    base_64(bytes, sizeof(bytes), accept.text);
    return accept;
}

KeyText key_of(const std::byte (&random)[16]) noexcept {
    std::uint8_t bytes[16];
    std::memcpy(bytes, random, sizeof(bytes));
    KeyText key;
    base_64(bytes, sizeof(bytes), key.text);
    return key;
}

bool key_valid(std::string_view key) noexcept {
    const std::string_view digits(signs_64, 64);
    return key.size() == key_size && key.substr(22) == "==" &&
           key.substr(0, 22).find_first_not_of(digits) == std::string_view::npos;
}

std::string_view list_next(std::string_view& list) noexcept {
    const std::size_t first = list.find_first_not_of(", \t");
    if (first == std::string_view::npos) return list = {};
    list.remove_prefix(first);
    const std::string_view token = list.substr(0, list.find_first_of(", \t"));
    list.remove_prefix(token.size());
    return token;
}

}  // namespace whorl::web_socket
