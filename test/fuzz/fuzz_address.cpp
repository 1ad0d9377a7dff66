// SPDX-License-Identifier: MIT
// Goal: Address::parse takes what its comment says and nothing else, and print() is read back equal.
// Method: a second reading of the text, written with inet_pton and if_nametoindex in the plainest way,
// must agree on what is an address and on every field; inet_ntop must agree on what is printed.
#include "fuzz/fuzz.hpp"

#include <whorl/address.hpp>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <iterator>
#include <string>
#include <string_view>

namespace fuzz {

namespace {

constexpr std::uint16_t port_default = 4711;

struct Expected {
    bool valid = false;
    int family = 0;
    std::string bytes;
    std::uint16_t port = 0;
    std::uint32_t scope = 0;
};

// Decimal, no sign, no leading zero, at most `most`; -1 for all else.
long long number(const std::string& text, long long most) {
    if (text.empty() || text.size() > 10 || (text[0] == '0' && text.size() > 1)) return -1;
    if (text.find_first_not_of("0123456789") != std::string::npos) return -1;
    const long long value = std::stoll(text);
    return value <= most ? value : -1;
}

bool read_v4(const std::string& host, Expected& expected) {
    in_addr address;
    if (inet_pton(AF_INET, host.c_str(), &address) != 1) return false;
    expected.family = AF_INET;
    expected.bytes.assign(reinterpret_cast<const char*>(&address), sizeof address);
    return true;
}

bool read_v6(std::string host, Expected& expected) {
    if (const std::size_t percent = host.find('%'); percent != std::string::npos) {
        const std::string scope = host.substr(percent + 1);
        host.resize(percent);
        if (scope.empty() || scope.find(':') != std::string::npos) return false;
        if (scope.find_first_not_of("0123456789") == std::string::npos) {
            const long long value = number(scope, 0xFFFF'FFFF);
            if (value <= 0) return false;
            expected.scope = static_cast<std::uint32_t>(value);
        } else {
            expected.scope = scope.size() < IF_NAMESIZE ? if_nametoindex(scope.c_str()) : 0;
            if (expected.scope == 0) return false;
        }
    }
    in6_addr address;
    if (inet_pton(AF_INET6, host.c_str(), &address) != 1) return false;
    expected.family = AF_INET6;
    expected.bytes.assign(reinterpret_cast<const char*>(&address), sizeof address);
    return true;
}

Expected read(const std::string& text, bool port_needed) {
    Expected expected;
    if (text.empty() || text.find('\0') != std::string::npos) return expected;
    std::string host;
    std::string rest;  // ":port" or nothing
    bool six = false;
    if (text[0] == '[') {
        const std::size_t end = text.find(']');
        if (end == std::string::npos) return expected;
        host = text.substr(1, end - 1);
        rest = text.substr(end + 1);
        six = true;
        if (host.empty()) return expected;
    } else if (!port_needed && std::count(text.begin(), text.end(), ':') >= 2) {
        host = text;
        six = true;
    } else {
        host = text.substr(0, text.find(':'));
        rest = text.substr(host.size());
        if (host.empty()) host = "0.0.0.0";
    }
    if (rest.empty()) {
        if (port_needed) return expected;
        expected.port = port_default;
    } else {
        const long long port = rest[0] == ':' ? number(rest.substr(1), 65535) : -1;
        if (port < 0) return expected;
        expected.port = static_cast<std::uint16_t>(port);
    }
    expected.valid = six ? read_v6(host, expected) : read_v4(host, expected);
    return expected;
}

std::string printed(const Expected& expected) {
    char text[INET6_ADDRSTRLEN] = {};
    if (inet_ntop(expected.family, expected.bytes.data(), text, sizeof text) == nullptr) return {};
    std::string all = text;
    if (expected.scope != 0) all += '%' + std::to_string(expected.scope);
    if (expected.family == AF_INET6) all = '[' + all + ']';
    return all + ':' + std::to_string(expected.port);
}

void compare(const model::Run& run, const whorl::Result<whorl::Address>& parsed,
             const Expected& expected) {
    run.expect(parsed.has_value() == expected.valid, "parse() and inet_pton do not agree");
    if (!expected.valid) {
        run.expect(parsed.error() == whorl::Error::address_invalid, "another error");
        return;
    }
    const whorl::Address& address = *parsed;
    run.expect(address.family() == expected.family, "the family");
    run.expect(address.port() == expected.port, "the port");
    run.expect(address.scope_id() == expected.scope, "the scope");
    const std::size_t offset = expected.family == AF_INET ? offsetof(sockaddr_in, sin_addr)
                                                          : offsetof(sockaddr_in6, sin6_addr);
    const char* bytes = reinterpret_cast<const char*>(address.data()) + offset;
    run.expect(expected.bytes == std::string_view(bytes, expected.bytes.size()), "the bytes");

    const whorl::AddressText text = address.print();
    run.expect(text.view() == printed(expected), "print() and inet_ntop do not agree");
    const whorl::Result<whorl::Address> again = whorl::Address::parse(text);
    run.expect(again.has_value() && *again == address, "what is printed is not read back equal");
    run.expect(again->hash() == address.hash(), "equal addresses hash differently");
    const whorl::Result<whorl::Address> copied =
        whorl::Address::from_sockaddr(address.data(), address.length());
    run.expect(copied.has_value() && *copied == address, "from_sockaddr()");
}

constexpr const char* pieces[] = {":",    "::",  "[",     "]",   "%",  ".",         "0",
                                  "1",    "127", "255",   "256", "80", "65535",     "65536",
                                  "fe80", "ff",  "lo",    "%lo", "]:", "127.0.0.1", "::1",
                                  "ffff", "01",  "1.2.3", "abc", "[::"};

}  // namespace

const char* const target_name = "fuzz_address";

std::size_t draw(model::Random& random, std::uint8_t* data, std::size_t size_max) {
    if (random.one_in(8)) return draw_any(random, data, 60);
    std::string text;
    for (std::uint64_t count = 1 + random.below(10); count > 0; --count) {
        text += pieces[random.below(std::size(pieces))];
        if (random.one_in(30)) text += static_cast<char>(random.next());
    }
    if (random.one_in(2)) text += ":80";
    const std::size_t size = text.copy(reinterpret_cast<char*>(data), size_max);
    return size;
}

int target(const std::uint8_t* data, std::size_t size) {
    const model::Run run(target_name);
    const std::string text(reinterpret_cast<const char*>(data), size);
    compare(run, whorl::Address::parse(text), read(text, true));
    compare(run, whorl::Address::parse(text, port_default), read(text, false));
    return 0;
}

}  // namespace fuzz
