// SPDX-License-Identifier: MIT
// Goal: parse() takes exactly what its header says, and print() gives it back.
// Method: tables of good and bad texts, every prefix of the good ones, a seeded fuzz loop.
#include <whorl/address.hpp>

#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>
#include <random>
#include <set>
#include <string>
#include <unordered_set>
#include <vector>

namespace {

using whorl::Address;
using whorl::Error;

struct Good {
    const char* text;
    const char* printed;
};

const Good good_with_port[] = {
    {"1.2.3.4:80", "1.2.3.4:80"},
    {"0.0.0.0:0", "0.0.0.0:0"},
    {"255.255.255.255:65535", "255.255.255.255:65535"},
    {":80", "0.0.0.0:80"},
    {":0", "0.0.0.0:0"},
    {"[::]:80", "[::]:80"},
    {"[::1]:80", "[::1]:80"},
    {"[2001:DB8::A]:443", "[2001:db8::a]:443"},
    {"[2001:0db8:0000:0000:0000:0000:0000:0001]:1", "[2001:db8::1]:1"},
    // RFC 5952 4.2.2 and 4.2.3: one group is not shortened; the longest run is, and of two the first.
    {"[2001:db8:0:1:1:1:1:1]:1", "[2001:db8:0:1:1:1:1:1]:1"},
    {"[2001:0:0:1:0:0:0:1]:1", "[2001:0:0:1::1]:1"},
    {"[2001:db8:0:0:1:0:0:1]:1", "[2001:db8::1:0:0:1]:1"},
    {"[::ffff:1.2.3.4]:80", "[::ffff:1.2.3.4]:80"},
    {"[::ffff:102:304]:80", "[::ffff:1.2.3.4]:80"},
    {"[fe80::1%7]:80", "[fe80::1%7]:80"},
    {"[fe80::1%4294967295]:80", "[fe80::1%4294967295]:80"},
    {"[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535",
     "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535"},
};

const Good good_without_port[] = {
    {"1.2.3.4", "1.2.3.4:99"},
    {"[::1]", "[::1]:99"},
    {"::1", "[::1]:99"},
    {"::", "[::]:99"},
    {"1::1:80", "[1::1:80]:99"},
    {"fe80::1%3", "[fe80::1%3]:99"},
    {"[fe80::1%3]", "[fe80::1%3]:99"},
    {"::ffff:1.2.3.4", "[::ffff:1.2.3.4]:99"},
};

// Bad with and without a default port.
// clang-format off
const char* const bad[] = {
    "", ":", "::::", "[", "]", "[]", "[]:80", "[:]:80", "localhost", "localhost:80", "1.2.3.4:",
    "1.2.3.4:65536", "1.2.3.4:99999999999999999999", "1.2.3.4:-1", "1.2.3.4:+1", "1.2.3.4: 1",
    "1.2.3.4:1 ", "1.2.3.4:080", "1.2.3.4:00", "1.2.3.4:0x50", "1.2.3.4:80x", " 1.2.3.4:80",
    "1.2.3.4 :80", "01.2.3.4:80", "1.2.3.04:80", "1.2.3:80", "1.2.3.4.5:80", "256.2.3.4:80",
    "1.2.3.4%1:80", "1..3.4:80", "0x1.2.3.4:80", "[1.2.3.4]:80", "[::1", "[::1]80", "[::1]]:80",
    "[::1]:", "[::1]:65536", "[::1]: 80", "[::1] :80", " [::1]:80", "[[::1]]:80", "[::g]:80",
    "[1:2:3:4:5:6:7]:80", "[1:2:3:4:5:6:7:8:9]:80", "[::1::]:80", "[12345::]:80", "[::1%]:80",
    "[::1%0]:80", "[::1%01]:80", "[::1%4294967296]:80", "[::1%-1]:80", "[::1%1%1]:80",
    "[::1%no-such-if]:80", "[::1%no-such-interface-name]:80", "[%lo]:80", "[::1%lo:1]:80",
    "[::1%lo ]:80", "1.2.3.4:80\n", "http://1.2.3.4:80", "1.2.3.4:80/",
};
// clang-format on

// Bad only where a port must be written.
const char* const bad_without_default[] = {"1.2.3.4", "[::1]", "::1", "::1:80", "fe80::1%3"};

void expect_bad(std::string_view text, Error error) {
    EXPECT_EQ(error, Error::address_invalid) << "'" << text << "' gives " << error.name();
}

// What every parsed address must hold, whatever its text was.
void expect_consistent(const Address& address) {
    const whorl::AddressText printed = address.print();
    ASSERT_EQ(printed.view().size(), std::strlen(printed.c_str()));
    auto again = Address::parse(printed);
    ASSERT_TRUE(again) << printed.c_str();
    EXPECT_EQ(*again, address) << printed.c_str();
    EXPECT_EQ(again->hash(), address.hash());
    EXPECT_EQ(again->print().view(), printed.view());
    auto copy = Address::from_sockaddr(address.data(), address.length());
    ASSERT_TRUE(copy);
    EXPECT_EQ(*copy, address);
    EXPECT_NE(address.is_v4(), address.is_v6());
}

TEST(Address, default_is_no_address) {
    const Address address;
    EXPECT_FALSE(address);
    EXPECT_EQ(address.family(), AF_UNSPEC);
    EXPECT_EQ(address.length(), 0u);
    EXPECT_EQ(address.port(), 0);
    EXPECT_EQ(address.scope_id(), 0u);
    EXPECT_FALSE(address.is_v4() || address.is_v6() || address.is_any() || address.is_loopback());
    EXPECT_EQ(address.print().view(), "");
    EXPECT_EQ(address, Address());
    EXPECT_NE(address, Address::any_v4(0));
}

TEST(Address, good_texts_are_read_and_printed) {
    for (const Good& good : good_with_port) {
        auto address = Address::parse(good.text);
        ASSERT_TRUE(address) << good.text;
        EXPECT_EQ(address->print().view(), good.printed) << good.text;
        expect_consistent(*address);
        auto same = Address::parse(good.text, 99);
        ASSERT_TRUE(same) << good.text;
        EXPECT_EQ(*same, *address) << good.text << ": a written port beats the default";
    }
}

TEST(Address, default_port_is_used_when_none_is_written) {
    for (const Good& good : good_without_port) {
        auto address = Address::parse(good.text, 99);
        ASSERT_TRUE(address) << good.text;
        EXPECT_EQ(address->port(), 99) << good.text;
        expect_consistent(*address);
    }
}

TEST(Address, bad_texts_are_refused) {
    for (const char* text : bad) {
        expect_bad(text, Address::parse(text).error());
        expect_bad(text, Address::parse(text, 99).error());
    }
    for (const char* text : bad_without_default) expect_bad(text, Address::parse(text).error());
    for (const char* number : {"80", ":1:2", "1.2.3.4:5:6"}) {
        expect_bad(number, Address::parse(number).error());
        expect_bad(number, Address::parse(number, 99).error());
    }
}

TEST(Address, zero_bytes_and_long_texts_are_refused) {
    using namespace std::string_view_literals;
    for (std::string_view text : {"1.2.3.4\0:80"sv, "1.2.3.4:80\0"sv, "\0:80"sv, "[::1\0]:80"sv,
                                  "[::1%lo\0]:80"sv, "[::1]\0:80"sv, "\0"sv}) {
        expect_bad(text, Address::parse(text).error());
        expect_bad(text, Address::parse(text, 99).error());
    }
    for (char c : {'1', ':', '[', '%', '.', '0', 'a'}) {
        const std::string text(100'000, c);
        expect_bad("long", Address::parse(text).error());
        expect_bad("long", Address::parse("[" + text + "]:80").error());
        expect_bad("long", Address::parse("[::1%" + text + "]:80").error());
        expect_bad("long", Address::parse("1.2.3.4:" + text).error());
    }
}

TEST(Address, text_need_not_end_in_zero) {
    const std::string_view longer = "1.2.3.4:8080";
    auto address = Address::parse(longer.substr(0, 10));
    ASSERT_TRUE(address);
    EXPECT_EQ(address->port(), 80);
}

TEST(Address, every_prefix_parses_or_is_refused) {
    for (const Good& good : good_with_port) {
        const std::string text = good.text;
        for (std::size_t size = 0; size < text.size(); ++size) {
            // A copy of exactly this size, so that AddressSanitizer sees a read beyond the end.
            const std::vector<char> exact(text.begin(), text.begin() + static_cast<long>(size));
            const std::string_view prefix(exact.data(), size);
            auto address = Address::parse(prefix);
            if (address) expect_consistent(*address);
            else expect_bad(prefix, address.error());
            auto with_default = Address::parse(prefix, 7);
            if (address) {
                EXPECT_EQ(*with_default, *address) << prefix;
            }
        }
    }
}

TEST(Address, random_texts_never_confuse_it) {
    const unsigned seed = 20240229;
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    static const char alphabet[] = "0123456789abcdefF:::[]%..lo \0x";
    unsigned parsed = 0;
    for (int round = 0; round < 100'000; ++round) {
        std::string text;
        if (round % 2 == 0) {  // a good one with a few bytes changed, dropped or doubled
            text = good_with_port[random() % std::size(good_with_port)].text;
            for (unsigned edits = random() % 3; edits > 0 && !text.empty(); --edits) {
                const std::size_t at = random() % text.size();
                const unsigned kind = random() % 3;
                if (kind == 0) text[at] = alphabet[random() % (sizeof alphabet - 1)];
                if (kind == 1) text.erase(at, 1);
                if (kind == 2) text.insert(at, 1, text[at]);
            }
        } else {
            for (unsigned size = random() % 24; size > 0; --size) {
                text += random() % 8 == 0 ? static_cast<char>(random())
                                          : alphabet[random() % (sizeof alphabet - 1)];
            }
        }
        const std::vector<char> exact(text.begin(), text.end());
        const std::string_view view(exact.data(), exact.size());
        auto address = Address::parse(view);
        auto with_default = Address::parse(view, 7);
        if (with_default) expect_consistent(*with_default);
        if (address) {
            ++parsed;
            expect_consistent(*address);
            // Only IPv6 without brackets means something else there, and that has no port of its own.
            ASSERT_TRUE(with_default) << text;
            EXPECT_EQ(*with_default, *address) << text;
        }
        if (HasFailure()) FAIL() << "round " << round << ", text '" << text << "'";
    }
    EXPECT_GT(parsed, 10'000u) << "the fuzz loop must also find good texts";
}

TEST(Address, scope_by_name_is_the_interface_number) {
    const unsigned number = if_nametoindex("lo");
    if (number == 0) GTEST_SKIP() << "no interface named lo here";
    auto address = Address::parse("[fe80::1%lo]:80");
    ASSERT_TRUE(address);
    EXPECT_EQ(address->scope_id(), number);
    EXPECT_EQ(address->print().view(), "[fe80::1%" + std::to_string(number) + "]:80");
    EXPECT_NE(*address, *Address::parse("[fe80::1]:80"));
}

TEST(Address, builders_agree_with_parse) {
    EXPECT_EQ(Address::loopback_v4(80), *Address::parse("127.0.0.1:80"));
    EXPECT_EQ(Address::loopback_v6(80), *Address::parse("[::1]:80"));
    EXPECT_EQ(Address::any_v4(80), *Address::parse("0.0.0.0:80"));
    EXPECT_EQ(Address::any_v4(80), *Address::parse(":80"));
    EXPECT_EQ(Address::any_v6(80), *Address::parse("[::]:80"));
    EXPECT_EQ(Address::ipv4(1, 2, 3, 4, 80), *Address::parse("1.2.3.4:80"));
    const std::uint8_t bytes[16] = {0xFE, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
    EXPECT_EQ(Address::ipv6(bytes, 80, 5), *Address::parse("[fe80::1%5]:80"));
}

TEST(Address, data_is_what_the_kernel_wants) {
    const Address v4 = *Address::parse("1.2.3.4:258");
    sockaddr_in in{};
    ASSERT_EQ(v4.length(), sizeof in);
    std::memcpy(&in, v4.data(), sizeof in);
    EXPECT_EQ(in.sin_family, AF_INET);
    EXPECT_EQ(ntohs(in.sin_port), 258);
    EXPECT_EQ(ntohl(in.sin_addr.s_addr), 0x0102'0304u);

    const Address v6 = *Address::parse("[fe80::1%9]:258");
    sockaddr_in6 in6{};
    ASSERT_EQ(v6.length(), sizeof in6);
    std::memcpy(&in6, v6.data(), sizeof in6);
    EXPECT_EQ(in6.sin6_family, AF_INET6);
    EXPECT_EQ(ntohs(in6.sin6_port), 258);
    EXPECT_EQ(in6.sin6_scope_id, 9u);
    EXPECT_EQ(in6.sin6_addr.s6_addr[0], 0xFE);
    EXPECT_EQ(in6.sin6_addr.s6_addr[15], 1);
}

TEST(Address, from_sockaddr_drops_what_is_no_address) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(80);
    in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    std::memset(in.sin_zero, 0xFF, sizeof in.sin_zero);
    EXPECT_EQ(*Address::from_sockaddr(&in, sizeof in), Address::loopback_v4(80));

    sockaddr_storage storage{};
    auto& in6 = reinterpret_cast<sockaddr_in6&>(storage);
    in6.sin6_family = AF_INET6;
    in6.sin6_port = htons(80);
    in6.sin6_flowinfo = 0xFFFF;
    in6.sin6_addr = in6addr_loopback;
    EXPECT_EQ(*Address::from_sockaddr(&storage, sizeof storage), Address::loopback_v6(80));
}

TEST(Address, from_sockaddr_refuses_other_families_and_short_lengths) {
    sockaddr_storage storage{};
    for (int family : {AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, 0xFFFF}) {
        storage.ss_family = static_cast<sa_family_t>(family);
        for (std::size_t length = 0; length <= sizeof storage; ++length) {
            const std::size_t wanted = family == AF_INET    ? sizeof(sockaddr_in)
                                       : family == AF_INET6 ? sizeof(sockaddr_in6)
                                                            : SIZE_MAX;
            auto address = Address::from_sockaddr(&storage, length);
            EXPECT_EQ(static_cast<bool>(address), length >= wanted) << family << ' ' << length;
        }
    }
    expect_bad("null", Address::from_sockaddr(nullptr, sizeof storage).error());
}

TEST(Address, predicates) {
    struct Row {
        const char* text;
        bool loopback, any, mapped;
    };
    const Row rows[] = {
        {"127.0.0.1:1", true, false, false},
        {"127.255.0.9:1", true, false, false},
        {"128.0.0.1:1", false, false, false},
        {"0.0.0.0:1", false, true, false},
        {"0.0.0.1:1", false, false, false},
        {"[::1]:1", true, false, false},
        {"[::2]:1", false, false, false},
        {"[::]:1", false, true, false},
        {"[::ffff:127.0.0.1]:1", true, false, true},
        {"[::ffff:0.0.0.0]:1", false, true, true},
        {"[::ffff:1.2.3.4]:1", false, false, true},
        {"[::fffe:1.2.3.4]:1", false, false, false},
        {"[::127.0.0.1]:1", false, false, false},
    };
    for (const Row& row : rows) {
        auto address = Address::parse(row.text);
        ASSERT_TRUE(address) << row.text;
        EXPECT_EQ(address->is_loopback(), row.loopback) << row.text;
        EXPECT_EQ(address->is_any(), row.any) << row.text;
        EXPECT_EQ(address->is_v4_mapped(), row.mapped) << row.text;
    }
}

TEST(Address, set_port_changes_the_port_only) {
    Address v4 = Address::loopback_v4(1);
    v4.set_port(65535);
    EXPECT_EQ(v4.print().view(), "127.0.0.1:65535");
    Address v6 = *Address::parse("[fe80::1%3]:1");
    v6.set_port(0);
    EXPECT_EQ(v6.print().view(), "[fe80::1%3]:0");
}

TEST(Address, compares_and_hashes_by_value) {
    std::set<Address> ordered;
    std::unordered_set<Address> hashed;
    for (int round = 0; round < 2; ++round) {
        for (std::uint16_t port = 0; port < 100; ++port) {
            for (const Address& address : {Address::loopback_v4(port), Address::loopback_v6(port),
                                           Address::any_v4(port), Address::any_v6(port)}) {
                EXPECT_EQ(ordered.insert(address).second, round == 0);
                EXPECT_EQ(hashed.insert(address).second, round == 0);
            }
        }
    }
    EXPECT_EQ(ordered.size(), 400u);
    EXPECT_EQ(hashed.size(), 400u);
    for (auto it = ordered.begin(); std::next(it) != ordered.end(); ++it) {
        EXPECT_TRUE(*it < *std::next(it));
        EXPECT_FALSE(*std::next(it) < *it);
    }
}

TEST(AddressDeathTest, port_of_no_address_cannot_be_set) {
    Address address;
    EXPECT_DEATH(address.set_port(80), "assertion failed");
}

}  // namespace
