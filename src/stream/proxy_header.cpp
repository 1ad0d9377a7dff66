// SPDX-License-Identifier: MIT
// Floor: 6
#include <whorl/proxy_header.hpp>

#include <netinet/in.h>

#include <algorithm>
#include <cstring>
#include <string_view>

namespace whorl {

namespace {

using State = ProxyHeader::State;

constexpr std::string_view signature_v1 = "PROXY ";
constexpr std::string_view signature_v2("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr std::size_t line_max = 107;  // with CR LF
constexpr std::size_t fixed_v2 = 16;

ProxyHeader answer(State state) noexcept {
    ProxyHeader header;
    header.state = state;
    return header;
}

// The word up to the next blank; `rest` goes on behind it. No blank: nothing.
std::string_view word(std::string_view& rest) noexcept {
    const std::size_t end = rest.find(' ');
    if (end == std::string_view::npos) return {};
    const std::string_view found = rest.substr(0, end);
    rest.remove_prefix(end + 1);
    return found;
}

// Address::parse reads what is written here strictly, scopes excepted.
Address address_of(std::string_view host, std::string_view port, bool six) noexcept {
    char text[80];
    const bool fits = !host.empty() && !port.empty() && host.size() + port.size() + 4 < sizeof text;
    if (!fits || host.find_first_of("%[]") != std::string_view::npos) return {};
    if (six != (host.find(':') != std::string_view::npos)) return {};
    std::size_t size = 0;
    const auto put = [&](std::string_view piece) { size += piece.copy(text + size, piece.size()); };
    if (six) put("[");
    put(host);
    put(six ? "]:" : ":");
    put(port);
    return Address::parse(std::string_view(text, size)).value_or(Address());
}

ProxyHeader parse_line(std::string_view text) noexcept {
    const std::string_view window = text.substr(0, line_max);
    const std::size_t end = window.find('\n');
    if (end == std::string_view::npos) {
        return answer(window.size() == line_max ? State::invalid : State::more);
    }
    if (end == 0 || window[end - 1] != '\r') return answer(State::invalid);
    std::string_view rest = window.substr(0, end - 1);
    rest.remove_prefix(signature_v1.size());
    ProxyHeader header = answer(State::complete);
    header.version = 1;
    header.size = end + 1;
    if (rest == "UNKNOWN" || rest.substr(0, 8) == "UNKNOWN ") {
        header.local = true;
        return header;
    }
    const std::string_view family = word(rest);
    if (family != "TCP4" && family != "TCP6") return answer(State::invalid);
    const std::string_view source = word(rest);
    const std::string_view destination = word(rest);
    const std::string_view source_port = word(rest);
    header.source = address_of(source, source_port, family == "TCP6");
    header.destination = address_of(destination, rest, family == "TCP6");
    return header.source && header.destination ? header : answer(State::invalid);
}

std::uint16_t number_at(const unsigned char* bytes) noexcept {
    return static_cast<std::uint16_t>(bytes[0] << 8 | bytes[1]);
}

Address address_v4(const unsigned char* bytes, std::uint16_t port) noexcept {
    return Address::ipv4(bytes[0], bytes[1], bytes[2], bytes[3], port);
}
Address address_v6(const unsigned char* bytes, std::uint16_t port) noexcept {
    std::uint8_t copy[16];
    std::memcpy(copy, bytes, sizeof copy);
    return Address::ipv6(copy, port);
}

ProxyHeader parse_binary(Bytes all) noexcept {
    const auto* bytes = reinterpret_cast<const unsigned char*>(all.data);
    if (all.size > 12) {
        const unsigned version_command = bytes[12];
        if (version_command != 0x20 && version_command != 0x21) return answer(State::invalid);
    }
    // The families that there are, with what their addresses take.
    std::size_t addresses = 0;
    if (all.size > 13) {
        const unsigned family = bytes[13] >> 4, transport = bytes[13] & 0x0Fu;
        if (family > 3 || transport > 2) return answer(State::invalid);
        if ((family == 0) != (transport == 0)) return answer(State::invalid);
        constexpr std::size_t sizes[] = {0, 12, 36, 216};
        addresses = sizes[family];
    }
    if (all.size < fixed_v2) return answer(State::more);
    const std::size_t length = number_at(bytes + 14);
    const bool local = bytes[12] == 0x20;
    if (fixed_v2 + length > proxy_header_max) return answer(State::invalid);
    if (!local && length < addresses) return answer(State::invalid);
    if (all.size < fixed_v2 + length) return answer(State::more);
    ProxyHeader header = answer(State::complete);
    header.version = 2;
    header.size = fixed_v2 + length;
    header.local = local;
    if (local) return header;  // what it says of addresses is to be ignored
    const unsigned char* at = bytes + fixed_v2;
    if (bytes[13] >> 4 == 1) {
        header.source = address_v4(at, number_at(at + 8));
        header.destination = address_v4(at + 4, number_at(at + 10));
    } else if (bytes[13] >> 4 == 2) {
        header.source = address_v6(at, number_at(at + 32));
        header.destination = address_v6(at + 16, number_at(at + 34));
    }
    header.extensions = {all.data + fixed_v2 + addresses, length - addresses};
    return header;
}

bool begins(std::string_view text, std::string_view signature) noexcept {
    const std::size_t size = std::min(text.size(), signature.size());
    return text.substr(0, size) == signature.substr(0, size);
}

}  // namespace

ProxyHeader parse_proxy_header(Bytes bytes) noexcept {
    const std::string_view text = bytes.text();
    const bool one = begins(text, signature_v1), two = begins(text, signature_v2);
    if (!one && !two) return answer(State::invalid);
    if (one && text.size() >= signature_v1.size()) return parse_line(text);
    if (two && text.size() >= signature_v2.size()) return parse_binary(bytes);
    return answer(State::more);
}

}  // namespace whorl
