// SPDX-License-Identifier: MIT
// Goal: whatever bytes come, a PROXY header is read within them, says the same for every longer text, and
// agrees with a plain second reading. With WHORL_FUZZ_CANARY the size is one too large now and then.
#include "fuzz/fuzz.hpp"

#include <whorl/proxy_header.hpp>

#include <arpa/inet.h>

#include <cstring>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace fuzz {

namespace {

using whorl::ProxyHeader;
using State = ProxyHeader::State;

ProxyHeader parse(const std::string& text) {
    ProxyHeader header = whorl::parse_proxy_header(whorl::Bytes(text.data(), text.size()));
#ifdef WHORL_FUZZ_CANARY
    if (header.state == State::complete && text.size() % 3 == 0) ++header.size;
#endif
    return header;
}

bool port_ok(const std::string& text) {
    if (text.empty() || text.size() > 5 || (text[0] == '0' && text.size() > 1)) return false;
    if (text.find_first_not_of("0123456789") != std::string::npos) return false;
    return std::stoi(text) <= 65535;
}

// Whether a line without its CR LF is a version 1 header, by inet_pton.
bool line_ok(const std::string& line) {
    if (line == "PROXY UNKNOWN" || line.compare(0, 14, "PROXY UNKNOWN ") == 0) return true;
    std::vector<std::string> words(1);
    for (const char sign : line) {
        if (sign == ' ') words.emplace_back();
        else words.back() += sign;
    }
    if (words.size() != 6 || words[0] != "PROXY") return false;
    const int family = words[1] == "TCP4" ? AF_INET : words[1] == "TCP6" ? AF_INET6 : 0;
    char room[16];
    if (family == 0 || line.find('\0') != std::string::npos) return false;
    for (int index : {2, 3}) {
        if (inet_pton(family, words[static_cast<std::size_t>(index)].c_str(), room) != 1)
            return false;
    }
    return port_ok(words[4]) && port_ok(words[5]);
}

constexpr std::string_view pieces[] = {
    "PROXY ", "TCP4 ", "TCP6 ", "UNKNOWN", "1.2.3.4 ", "::1 ", "2001:db8::1 ", "80 ",
    "80",     "65536", "\r\n",  "\n",      " ",        "0",    "%lo",          "255.255.255.255 "};

}  // namespace

const char* const target_name = "fuzz_proxy_header";

std::size_t draw(model::Random& random, std::uint8_t* data, std::size_t size_max) {
    std::string text;
    if (random.one_in(2)) {
        text = random.one_in(4) ? "" : "PROXY TCP4 1.2.3.4 ";
        for (std::uint64_t count = random.below(8); count > 0; --count) {
            text += pieces[random.below(16)];
        }
        if (random.one_in(2)) text += "\r\n";
    } else {
        text.assign("\r\n\r\n\0\r\nQUIT\n", 12);
        text += static_cast<char>(0x20 + random.below(random.one_in(8) ? 3 : 2));
        text += static_cast<char>(random.below(4) << 4 | random.below(3));
        const std::size_t length = random.below(random.one_in(8) ? 3000 : 250);
        text += static_cast<char>(length >> 8);
        text += static_cast<char>(length & 0xFF);
        text.append(random.one_in(2) ? length : random.below(length + 1), 'x');
    }
    if (random.one_in(4) && !text.empty()) {
        text[random.below(text.size())] = static_cast<char>(random.next());
    }
    if (random.one_in(4)) text += "more";
    return text.copy(reinterpret_cast<char*>(data), size_max);
}

int target(const std::uint8_t* data, std::size_t size) {
    const model::Run run(target_name);
    const std::string text(reinterpret_cast<const char*>(data), size);
    const ProxyHeader all = parse(text);
    // What is decided early is decided for good.
    for (std::size_t cut = 0; cut <= size && cut < 300; ++cut) {
        const ProxyHeader part = parse(text.substr(0, cut));
        if (part.state == State::more) continue;
        run.expect(part.state == all.state && part.size == all.size,
                   "more bytes changed the answer");
        run.expect(part.size <= cut, "the header is longer than the bytes");
    }
    if (all.state == State::complete) {
        run.expect(all.size <= size && all.size <= whorl::proxy_header_max, "its size");
        run.expect(parse(text.substr(0, all.size)).state == State::complete, "its size is wrong");
        run.expect(parse(text.substr(0, all.size - 1)).state == State::more, "it ended before");
    }
    if (text.compare(0, 6, "PROXY ") == 0) {
        const std::size_t end = text.substr(0, 107).find('\n');
        const bool line = end != std::string::npos && text[end - 1] == '\r';
        const bool right = line && line_ok(text.substr(0, end - 1));
        run.expect(right == (all.state == State::complete), "another reading of the line");
    }
    return 0;
}

}  // namespace fuzz
