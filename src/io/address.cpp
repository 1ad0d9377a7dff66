// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/address.hpp>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <charconv>
#include <cstddef>
#include <cstring>

namespace whorl {

namespace {

static_assert(Address::size_max == sizeof(sockaddr_in6));
static_assert(sizeof(sockaddr_in) <= sizeof(sockaddr_in6));
static_assert(offsetof(sockaddr_in, sin_port) == offsetof(sockaddr_in6, sin6_port));
static_assert(AF_UNSPEC == 0, "all bytes zero is no address");

// Longer than every valid host, interface name included: bounds the work on hostile text.
constexpr std::size_t host_size_max = INET6_ADDRSTRLEN + IF_NAMESIZE;

struct AddressParts {
    std::string_view host;  // without brackets; empty: any
    std::uint16_t port = 0;
    bool bracketed = false;
};

// A decimal number without sign or leading zeros, from the whole of `text`.
template <class Number>
bool read_number(std::string_view text, Number& number) noexcept {
    if (text.empty() || (text[0] == '0' && text.size() > 1)) return false;
    const char* end = text.data() + text.size();
    const auto result = std::from_chars(text.data(), end, number, 10);
    return result.ec == std::errc() && result.ptr == end;
}

// inet_pton and if_nametoindex read up to a zero byte, so `text` is copied and must not hold one.
template <std::size_t Size>
bool copy_terminated(char (&into)[Size], std::string_view text) noexcept {
    if (text.size() >= Size || text.find('\0') != std::string_view::npos) return false;
    text.copy(into, text.size());
    into[text.size()] = '\0';
    return true;
}

// Splits off ":port". `default_port` is null where a port must be written.
bool split_port(std::string_view text, const std::uint16_t* default_port,
                AddressParts& parts) noexcept {
    if (text.empty()) {
        if (default_port == nullptr) return false;
        parts.port = *default_port;
        return true;
    }
    if (text[0] != ':') return false;
    return read_number(text.substr(1), parts.port);
}

bool split(std::string_view text, const std::uint16_t* default_port, AddressParts& parts) noexcept {
    if (text.empty()) return false;
    if (text[0] == '[') {
        const std::size_t end = text.find(']');
        if (end == std::string_view::npos || end == 1) return false;
        parts.host = text.substr(1, end - 1);
        parts.bracketed = true;
        return split_port(text.substr(end + 1), default_port, parts);
    }
    const std::size_t colon = text.find(':');
    if (colon == std::string_view::npos) {
        parts.host = text;
        return split_port({}, default_port, parts);
    }
    if (default_port != nullptr && text.find(':', colon + 1) != std::string_view::npos) {
        parts.host = text;
        parts.bracketed = true;  // as if: two colons without brackets can only be IPv6
        return split_port({}, default_port, parts);
    }
    parts.host = text.substr(0, colon);
    return split_port(text.substr(colon), default_port, parts);
}

bool read_scope(std::string_view text, std::uint32_t& scope_id) noexcept {
    if (text.empty()) return false;
    // A number stands for itself, whether such an interface is here or not. An interface whose name
    // is a number can only be reached by its own number.
    if (text.find_first_not_of("0123456789") == std::string_view::npos) {
        return read_number(text, scope_id) && scope_id != 0;
    }
    // No interface has a colon in its name, but the kernel ignores what follows one in the question.
    if (text.find(':') != std::string_view::npos) return false;
    char name[IF_NAMESIZE];
    if (!copy_terminated(name, text)) return false;
    scope_id = if_nametoindex(name);
    return scope_id != 0;
}

Result<Address> parse_text(std::string_view text, const std::uint16_t* default_port) noexcept {
    AddressParts parts;
    if (!split(text, default_port, parts)) return Error::address_invalid;
    if (parts.host.size() > host_size_max) return Error::address_invalid;
    if (parts.host.empty()) return Address::any_v4(parts.port);

    char host[INET6_ADDRSTRLEN];
    if (!parts.bracketed) {
        in_addr address;
        if (!copy_terminated(host, parts.host)) return Error::address_invalid;
        if (inet_pton(AF_INET, host, &address) != 1) return Error::address_invalid;
        std::uint8_t bytes[4];
        std::memcpy(bytes, &address, sizeof bytes);
        return Address::ipv4(bytes[0], bytes[1], bytes[2], bytes[3], parts.port);
    }

    const std::size_t percent = parts.host.find('%');
    std::uint32_t scope_id = 0;
    if (percent != std::string_view::npos) {
        if (!read_scope(parts.host.substr(percent + 1), scope_id)) return Error::address_invalid;
    }
    if (!copy_terminated(host, parts.host.substr(0, percent))) return Error::address_invalid;
    std::uint8_t bytes[16];
    if (inet_pton(AF_INET6, host, bytes) != 1) return Error::address_invalid;
    return Address::ipv6(bytes, parts.port, scope_id);
}

}  // namespace

Result<Address> Address::parse(std::string_view text) noexcept { return parse_text(text, nullptr); }

Result<Address> Address::parse(std::string_view text, std::uint16_t default_port) noexcept {
    return parse_text(text, &default_port);
}

Result<Address> Address::from_sockaddr(const void* address, std::size_t length) noexcept {
    sa_family_t family = AF_UNSPEC;
    if (address == nullptr || length < sizeof family) return Error::address_invalid;
    std::memcpy(&family, address, sizeof family);
    if (family == AF_INET && length >= sizeof(sockaddr_in)) {
        sockaddr_in in;
        std::memcpy(&in, address, sizeof in);
        std::uint8_t bytes[4];
        std::memcpy(bytes, &in.sin_addr, sizeof bytes);
        return ipv4(bytes[0], bytes[1], bytes[2], bytes[3], ntohs(in.sin_port));
    }
    if (family == AF_INET6 && length >= sizeof(sockaddr_in6)) {
        sockaddr_in6 in;
        std::memcpy(&in, address, sizeof in);
        return ipv6(in.sin6_addr.s6_addr, ntohs(in.sin6_port), in.sin6_scope_id);
    }
    return Error::address_invalid;
}

Address Address::ipv4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d,
                      std::uint16_t port) noexcept {
    const std::uint8_t bytes[4] = {a, b, c, d};
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    std::memcpy(&in.sin_addr, bytes, sizeof bytes);
    Address address;
    std::memcpy(address.storage_, &in, sizeof in);
    address.length_ = sizeof in;
    return address;
}

Address Address::ipv6(const std::uint8_t (&bytes)[16], std::uint16_t port,
                      std::uint32_t scope_id) noexcept {
    sockaddr_in6 in{};
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(port);
    in.sin6_scope_id = scope_id;
    std::memcpy(&in.sin6_addr, bytes, sizeof bytes);
    Address address;
    std::memcpy(address.storage_, &in, sizeof in);
    address.length_ = sizeof in;
    return address;
}

Address Address::loopback_v4(std::uint16_t port) noexcept { return ipv4(127, 0, 0, 1, port); }
Address Address::loopback_v6(std::uint16_t port) noexcept {
    return ipv6({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, port);
}
Address Address::any_v4(std::uint16_t port) noexcept { return ipv4(0, 0, 0, 0, port); }
Address Address::any_v6(std::uint16_t port) noexcept {
    return ipv6({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, port);
}

int Address::family() const noexcept {
    sa_family_t family = AF_UNSPEC;
    std::memcpy(&family, storage_, sizeof family);
    WHORL_ASSERT((family == AF_UNSPEC) == (length_ == 0));
    return family;
}

bool Address::is_v4() const noexcept { return family() == AF_INET; }
bool Address::is_v6() const noexcept { return family() == AF_INET6; }

std::uint16_t Address::port() const noexcept {
    in_port_t port = 0;
    std::memcpy(&port, storage_ + offsetof(sockaddr_in, sin_port), sizeof port);
    return ntohs(port);
}

void Address::set_port(std::uint16_t port) noexcept {
    WHORL_ASSERT(length_ != 0);
    const in_port_t network = htons(port);
    std::memcpy(storage_ + offsetof(sockaddr_in, sin_port), &network, sizeof network);
}

std::uint32_t Address::scope_id() const noexcept {
    std::uint32_t scope_id = 0;
    if (is_v6()) {
        std::memcpy(&scope_id, storage_ + offsetof(sockaddr_in6, sin6_scope_id), sizeof scope_id);
    }
    return scope_id;
}

bool Address::is_loopback() const noexcept {
    if (is_v4()) return storage_[offsetof(sockaddr_in, sin_addr)] == 127;
    if (!is_v6()) return false;
    const unsigned char* bytes = storage_ + offsetof(sockaddr_in6, sin6_addr);
    if (is_v4_mapped()) return bytes[12] == 127;
    return std::memcmp(bytes, &in6addr_loopback, sizeof in6addr_loopback) == 0;
}

bool Address::is_any() const noexcept {
    static constexpr unsigned char zeros[4] = {};
    if (is_v4()) {
        return std::memcmp(storage_ + offsetof(sockaddr_in, sin_addr), zeros, sizeof zeros) == 0;
    }
    if (!is_v6()) return false;
    const unsigned char* bytes = storage_ + offsetof(sockaddr_in6, sin6_addr);
    if (is_v4_mapped()) return std::memcmp(bytes + 12, zeros, sizeof zeros) == 0;
    return std::memcmp(bytes, &in6addr_any, sizeof in6addr_any) == 0;
}

bool Address::is_v4_mapped() const noexcept {
    static constexpr unsigned char prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
    return is_v6() &&
           std::memcmp(storage_ + offsetof(sockaddr_in6, sin6_addr), prefix, sizeof prefix) == 0;
}

AddressText Address::print() const noexcept {
    // The longest text: brackets, 39 of address, % and 10 of scope, colon and 5 of port.
    static_assert(2 + 39 + 11 + 6 < sizeof(AddressText::data));
    AddressText text;
    if (length_ == 0) return text;
    char* at = text.data;
    char* const end = text.data + sizeof text.data - 1;
    const bool v6 = is_v6();
    if (v6) *at++ = '[';
    const std::size_t offset =
        v6 ? offsetof(sockaddr_in6, sin6_addr) : offsetof(sockaddr_in, sin_addr);
    const char* printed =
        inet_ntop(family(), storage_ + offset, at, static_cast<socklen_t>(end - at));
    WHORL_ASSERT(printed != nullptr);
    at += std::strlen(at);
    if (scope_id() != 0) {
        *at++ = '%';
        at = std::to_chars(at, end, scope_id()).ptr;
    }
    if (v6) *at++ = ']';
    *at++ = ':';
    at = std::to_chars(at, end, port()).ptr;
    WHORL_ASSERT(at < end);
    *at = '\0';
    text.size = static_cast<std::uint32_t>(at - text.data);
    return text;
}

std::size_t Address::hash() const noexcept {
    // Multiply and fold over the seven words. The length follows from the family.
    std::uint64_t hash = 0x9E37'79B9'7F4A'7C15;
    for (std::size_t offset = 0; offset < size_max; offset += sizeof(std::uint32_t)) {
        std::uint32_t word = 0;
        std::memcpy(&word, storage_ + offset, sizeof word);
        hash = (hash ^ word) * 0xFF51'AFD7'ED55'8CCD;
        hash ^= hash >> 32;
    }
    return static_cast<std::size_t>(hash);
}

int Address::compare(const Address& other) const noexcept {
    return std::memcmp(storage_, other.storage_, size_max);
}

}  // namespace whorl
