// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/export.hpp>
#include <whorl/result.hpp>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

struct sockaddr;  // <sys/socket.h> stays out of the header

namespace whorl {

// The text of an address, by value: ends with a zero byte, at most 63 bytes before it.
struct AddressText {
    char data[64] = {};      // the text, then zeros
    std::uint32_t size = 0;  // bytes before the first zero

    // Ends with a zero byte. This, view() and the conversion are valid as long as this object is.
    const char* c_str() const noexcept { return data; }
    // Without the zero byte.
    std::string_view view() const noexcept { return {data, size}; }
    // As view(): for what takes a std::string_view.
    operator std::string_view() const noexcept { return view(); }
};

// Where a socket is or goes: an IPv4 or IPv6 address and a port, in the kernel's own form. Names are
// not looked up here; resolve them first.
// Lifetime: a value of 32 bytes, copy it freely. Thread: as any value.
class Address {
  public:
    // The size of a sockaddr_in6, the larger of the two.
    static constexpr std::size_t size_max = 28;

    // No address: false in a condition, length 0, prints as nothing.
    Address() noexcept = default;

    // Reads "1.2.3.4:80", "[::1]:80", "[fe80::1%eth0]:80", "[fe80::1%2]:80" or ":80". The last means
    // every IPv4 address of this host (0.0.0.0); write "[::]:80" for IPv6.
    // Errors: address_invalid for all else: a name, a missing port, anything before or behind, a zero
    // byte, leading zeros in a number of an IPv4 address or in a port, a port above 65535, a scope
    // that is neither a number from 1 to 2^32-1 nor the name of an interface of this host.
    // Cost: no allocation; one system call or a few when the scope is a name.
    // Source: inet_pton(3), if_nametoindex(3), RFC 4007 section 11.
    WHORL_EXPORT static Result<Address> parse(std::string_view text) noexcept;

    // As above, and a host may stand without a port: "1.2.3.4", "[::1]", and also "::1". A text with
    // two colons or more and no bracket is an IPv6 address as a whole, so "::1:80" has no port in it.
    WHORL_EXPORT static Result<Address> parse(std::string_view text,
                                              std::uint16_t default_port) noexcept;

    // Copies a sockaddr_in or sockaddr_in6. What is not part of the address (padding, flow label) is
    // dropped, so that equal addresses are equal bytes.
    // Errors: address_invalid for another family, or a length that is too small for the family.
    WHORL_EXPORT static Result<Address> from_sockaddr(const void* address,
                                                      std::size_t length) noexcept;

    // The numbers as they are written: ipv4(127, 0, 0, 1, 80).
    WHORL_EXPORT static Address ipv4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d,
                                     std::uint16_t port) noexcept;
    // The bytes in network order, as in in6_addr. A scope of 0 is none.
    WHORL_EXPORT static Address ipv6(const std::uint8_t (&bytes)[16], std::uint16_t port,
                                     std::uint32_t scope_id = 0) noexcept;

    // This host, for itself: 127.0.0.1 and ::1. Port 0 lets bind() choose one.
    WHORL_EXPORT static Address loopback_v4(std::uint16_t port) noexcept;
    // ::1.
    WHORL_EXPORT static Address loopback_v6(std::uint16_t port) noexcept;
    // This host, for everyone: 0.0.0.0 and ::.
    WHORL_EXPORT static Address any_v4(std::uint16_t port) noexcept;
    // ::.
    WHORL_EXPORT static Address any_v6(std::uint16_t port) noexcept;

    // Whether there is an address.
    explicit operator bool() const noexcept { return length_ != 0; }
    // AF_INET, AF_INET6 or AF_UNSPEC (0).
    WHORL_EXPORT int family() const noexcept;
    // Whether its family is AF_INET; false for no address.
    WHORL_EXPORT bool is_v4() const noexcept;
    // Whether its family is AF_INET6, a v4-mapped address included; false for no address.
    WHORL_EXPORT bool is_v6() const noexcept;
    // In host order. No address has port 0.
    WHORL_EXPORT std::uint16_t port() const noexcept;
    // Limits: there must be an address, asserted.
    WHORL_EXPORT void set_port(std::uint16_t port) noexcept;
    // The interface number of an IPv6 address; 0 is none.
    WHORL_EXPORT std::uint32_t scope_id() const noexcept;

    // 127.0.0.0/8 and ::1. A v4-mapped address answers these two as the IPv4 address in it does.
    WHORL_EXPORT bool is_loopback() const noexcept;
    // 0.0.0.0 and ::.
    WHORL_EXPORT bool is_any() const noexcept;
    // ::ffff:0.0.0.0/96, as an IPv6 listener reports its IPv4 peers.
    WHORL_EXPORT bool is_v4_mapped() const noexcept;

    // The kernel's form, for bind(2) and its kin; valid while this object is.
    const sockaddr* data() const noexcept { return reinterpret_cast<const sockaddr*>(storage_); }
    // Bytes behind data(): 16 for IPv4, 28 for IPv6, 0 for no address.
    std::uint32_t length() const noexcept { return length_; }

    // The canonical text, which parse() reads back to an equal address: "1.2.3.4:80",
    // "[fe80::1%2]:80". A scope is printed as its number, which needs no system call and means the
    // same after an interface was renamed. No address is the empty text.
    // Cost: no allocation. Source: inet_ntop(3), RFC 5952.
    WHORL_EXPORT AddressText print() const noexcept;

    // A hash of all that operator== compares. Limits: do not store it, the next version may compute
    // another; it does not resist an attacker who chooses the addresses.
    WHORL_EXPORT std::size_t hash() const noexcept;

    // Below zero, zero or above: a total order for sorted containers, without further meaning.
    WHORL_EXPORT int compare(const Address& other) const noexcept;

    friend bool operator==(const Address& a, const Address& b) noexcept {
        return a.compare(b) == 0;
    }
    friend bool operator!=(const Address& a, const Address& b) noexcept {
        return a.compare(b) != 0;
    }
    friend bool operator<(const Address& a, const Address& b) noexcept { return a.compare(b) < 0; }

  private:
    // Bytes, not a sockaddr: they are read and written with memcpy only, and bytes that belong to no
    // field are zero, so comparing and hashing them all is right.
    alignas(4) unsigned char storage_[size_max] = {};
    std::uint32_t length_ = 0;
};

static_assert(sizeof(Address) == 32, "an address fits an operation's payload");
static_assert(std::is_trivially_copyable<Address>::value, "an address is a value");

}  // namespace whorl

template <>
struct std::hash<whorl::Address> {
    std::size_t operator()(const whorl::Address& address) const noexcept { return address.hash(); }
};
