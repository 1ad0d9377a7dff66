// SPDX-License-Identifier: MIT
// Goal: PROXY headers of both versions are read as the specification says, and nothing else is.
// Method: fixed headers, and each of them cut at every byte: only the whole is complete.
#include <whorl/proxy_header.hpp>

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace whorl {
namespace {

using State = ProxyHeader::State;

ProxyHeader parse(const std::string& text) {
    const std::vector<char> exact(text.begin(), text.end());
    ProxyHeader header = parse_proxy_header(Bytes(exact.data(), exact.size()));
    header.extensions.data = nullptr;  // went with the copy
    return header;
}

ProxyHeader complete(const std::string& text) {
    for (std::size_t size = 0; size < text.size(); ++size) {
        EXPECT_EQ(parse(text.substr(0, size)).state, State::more) << size;
    }
    const ProxyHeader header = parse(text + "and what follows");
    EXPECT_EQ(header.state, State::complete);
    EXPECT_EQ(header.size, text.size());
    return header;
}

const std::string signature("\r\n\r\n\0\r\nQUIT\n", 12);

std::string v2(int command, int family, const std::string& body) {
    return signature + static_cast<char>(command) + static_cast<char>(family) +
           static_cast<char>(body.size() >> 8) + static_cast<char>(body.size() & 0xFF) + body;
}

TEST(ProxyHeader, lines) {
    const ProxyHeader four = complete("PROXY TCP4 192.0.2.1 198.51.100.2 4711 80\r\n");
    EXPECT_EQ(four.version, 1);
    EXPECT_EQ(four.source.print().view(), "192.0.2.1:4711");
    EXPECT_EQ(four.destination.print().view(), "198.51.100.2:80");
    const ProxyHeader six = complete("PROXY TCP6 2001:db8::1 ::1 1 65535\r\n");
    EXPECT_EQ(six.source.print().view(), "[2001:db8::1]:1");
    EXPECT_EQ(six.destination.print().view(), "[::1]:65535");
    EXPECT_TRUE(complete("PROXY UNKNOWN\r\n").local);
    EXPECT_TRUE(complete("PROXY UNKNOWN whatever is here\r\n").local);
    for (const char* text :
         {"PROXY TCP4 192.0.2.1 198.51.100.2 4711 80\n", "PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
          "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
          "PROXY TCP4 ::1 ::1 1 2\r\n", "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
          "PROXY TCP6 fe80::1%lo ::1 1 2\r\n", "PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n",
          "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", "PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
          "PROXY UNKNOWNS\r\n", "proxy TCP4", "GET / HTTP/1.1\r\n", "PROXI"}) {
        EXPECT_EQ(parse(text).state, State::invalid) << text;
    }
    EXPECT_EQ(parse("PROXY " + std::string(101, 'x')).state, State::invalid);
    EXPECT_EQ(parse("PROXY " + std::string(100, 'x')).state, State::more);
}

TEST(ProxyHeader, binary) {
    const std::string four = std::string("\xC0\x00\x02\x01\xC6\x33\x64\x02\x12\x67\x00\x50", 12);
    const ProxyHeader header = complete(v2(0x21, 0x11, four));
    EXPECT_EQ(header.version, 2);
    EXPECT_EQ(header.source.print().view(), "192.0.2.1:4711");
    EXPECT_EQ(header.destination.print().view(), "198.51.100.2:80");
    EXPECT_EQ(complete(v2(0x21, 0x11, four + "tlv")).extensions.size, 3u);
    std::string six(36, '\0');
    six[15] = six[31] = 1;
    six[33] = 7;
    EXPECT_EQ(complete(v2(0x21, 0x21, six)).source.print().view(), "[::1]:7");
    const ProxyHeader local = complete(v2(0x20, 0x00, ""));
    EXPECT_TRUE(local.local);
    EXPECT_FALSE(local.source);
    EXPECT_FALSE(complete(v2(0x21, 0x31, std::string(216, 'u'))).source) << "a Unix socket";
    EXPECT_EQ(parse(v2(0x11, 0x11, four)).state, State::invalid) << "version 1";
    EXPECT_EQ(parse(v2(0x22, 0x11, four)).state, State::invalid) << "command 2";
    EXPECT_EQ(parse(v2(0x21, 0x41, four)).state, State::invalid) << "family 4";
    EXPECT_EQ(parse(v2(0x21, 0x13, four)).state, State::invalid) << "transport 3";
    EXPECT_EQ(parse(v2(0x21, 0x10, four)).state, State::invalid) << "half unspecified";
    EXPECT_EQ(parse(v2(0x21, 0x11, four.substr(1))).state, State::invalid) << "too short";
    EXPECT_EQ(parse(v2(0x21, 0x11, std::string(2049, 'x'))).state, State::invalid) << "too long";
}

}  // namespace
}  // namespace whorl
