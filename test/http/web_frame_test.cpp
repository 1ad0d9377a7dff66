// SPDX-License-Identifier: MIT
// Goal: frames are read as RFC 6455 says, whatever the cut, and faults are found with the byte that has them.
// Method: the cases of the Autobahn test suite (1 to 7, 9 and 10) as a table, each whole, byte by byte, in
// two pieces with every cut, and by a client's reader without masks; random frames, against a plain reader.
#include "http/web_frames.hpp"

#include "model/random.hpp"

#include <gtest/gtest.h>

#include <utility>

namespace {

using namespace web_tests;
using namespace std::string_literals;
using namespace std::string_view_literals;
using whorl::web_socket::apply_mask;
using whorl::web_socket::close_code_valid;
using whorl::web_socket::frame_head;
using whorl::web_socket::FrameHead;
using whorl::web_socket::Utf8;

struct Case {
    std::string name;
    std::string bytes;
    std::string said;
};

// The same frames as a server would send them.
std::string unmasked(std::string_view bytes) {
    std::string out;
    while (!bytes.empty()) {
        const auto first = static_cast<unsigned char>(bytes[0]);
        const unsigned kind = static_cast<unsigned char>(bytes[1]) & 127;
        const unsigned wide = kind == 126 ? 2 : kind == 127 ? 8 : 0;
        std::uint64_t size = wide == 0 ? kind : 0;
        for (unsigned index = 0; index < wide; ++index) {
            size = size << 8 | static_cast<unsigned char>(bytes[2 + index]);
        }
        std::string payload(bytes.substr(6 + wide, size));
        for (std::size_t at = 0; at < payload.size(); ++at) payload[at] ^= bytes[2 + wide + at % 4];
        out += static_cast<char>(first);
        out += static_cast<char>(kind);
        out += bytes.substr(2, wide);
        out += payload;
        bytes.remove_prefix(6 + wide + size);
    }
    return out;
}

std::vector<std::string_view> chopped(std::string_view bytes, std::size_t size) {
    std::vector<std::string_view> pieces;
    for (std::size_t at = 0; at < bytes.size(); at += size)
        pieces.push_back(bytes.substr(at, size));
    return pieces;
}

void check(const Case& one) {
    for (const bool server : {true, false}) {
        const Role role = server ? Role::server : Role::client;
        const std::string bytes = server ? one.bytes : unmasked(one.bytes);
        ASSERT_EQ(read_frames(role, {}, {bytes}), one.said) << one.name;
        ASSERT_EQ(plain_read(role, {}, bytes), one.said) << one.name << ", the plain reader";
        if (bytes.size() > 70'000) {
            ASSERT_EQ(read_frames(role, {}, chopped(bytes, 997)), one.said) << one.name;
            continue;
        }
        ASSERT_EQ(read_frames(role, {}, chopped(bytes, 1)), one.said) << one.name;
        if (bytes.size() > 400) continue;
        for (std::size_t cut = 0; cut <= bytes.size(); ++cut) {
            const std::string_view all = bytes;
            ASSERT_EQ(read_frames(role, {}, {all.substr(0, cut), all.substr(cut)}), one.said)
                << one.name << " cut at " << cut;
        }
    }
}

void run(const std::vector<Case>& cases, std::size_t count) {
    EXPECT_EQ(cases.size(), count);
    for (const Case& one : cases) check(one);
}

std::string times(const std::string& text, int count) {
    std::string all;
    for (int index = 0; index < count; ++index) all += text;
    return all;
}

TEST(WebFrame, autobahn_1_messages) {
    std::vector<Case> cases;
    for (const std::size_t size : {0, 125, 126, 127, 128, 65535, 65536}) {
        const std::string payload(size, '*'), noise(size, '\xfe');
        cases.push_back(
            {"1.1 " + std::to_string(size), frame(text, payload), quoted("T", payload)});
        cases.push_back({"1.2 " + std::to_string(size), frame(binary, noise), quoted("B", noise)});
    }
    run(cases, 14);
}

TEST(WebFrame, autobahn_2_pings_and_pongs) {
    const std::string odd = "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"s;
    const std::string most(125, '\xfe'), much(126, '\xfe');
    std::string ten, ten_said;
    for (int index = 0; index < 10; ++index) {
        const std::string payload = "payload-" + std::to_string(index);
        ten += frame(ping, payload);
        ten_said += quoted("P", payload);
    }
    run({{"2.1", frame(ping, ""), "P()"},
         {"2.2", frame(ping, "Hello, world!"), "P(Hello, world!)"},
         {"2.3", frame(ping, odd), quoted("P", odd)},
         {"2.4", frame(ping, most), quoted("P", most)},
         {"2.5", frame(ping, much), "F1002"},
         {"2.7", frame(pong, ""), "O()"},
         {"2.8", frame(pong, "unsolicited"), "O(unsolicited)"},
         {"2.9", frame(pong, "unsolicited") + frame(ping, "p"), "O(unsolicited)P(p)"},
         {"2.10", ten, ten_said}},
        9);
}

TEST(WebFrame, autobahn_3_and_4_reserved_bits_and_opcodes) {
    const std::string hello = frame(text, "Hello");
    const auto reserved = [](unsigned opcode, unsigned bits) {
        return frame(opcode, "Hello", {true, bits});
    };
    std::vector<Case> cases = {
        {"3.1", reserved(text, 1), "F1002"},
        {"3.2", hello + reserved(text, 2) + frame(ping, ""), "T(Hello)F1002"},
        {"3.3", hello + reserved(text, 3) + frame(ping, ""), "T(Hello)F1002"},
        {"3.4", hello + reserved(text, 4) + frame(ping, ""), "T(Hello)F1002"},
        {"3.5", reserved(binary, 5), "F1002"},
        {"3.6", reserved(ping, 6), "F1002"},
        {"3.7", reserved(closing, 7), "F1002"},
    };
    for (const unsigned opcode : {3, 4, 5, 6, 7, 11, 12, 13, 14, 15}) {
        const std::string name = "4 " + std::to_string(opcode);
        cases.push_back({name, frame(opcode, ""), "F1002"});
        cases.push_back({name, hello + frame(opcode, "x") + frame(ping, ""), "T(Hello)F1002"});
    }
    run(cases, 27);
}

TEST(WebFrame, autobahn_5_fragments) {
    const std::string one = part(text, "one"), two = frame(more, "two");
    run({{"5.1", part(ping, "a") + frame(more, "b"), "F1002"},
         {"5.2", part(pong, "a") + frame(more, "b"), "F1002"},
         {"5.3", one + two, "T(onetwo)"},
         {"5.6", one + frame(ping, "p") + two, "P(p)T(onetwo)"},
         {"5.9", frame(more, "non-continuation") + frame(text, "x"), "F1002"},
         {"5.12", part(more, "non-continuation") + frame(text, "x"), "F1002"},
         {"5.15", one + two + part(more, "x") + frame(text, "y"), "T(onetwo)F1002"},
         {"5.18", one + frame(text, "two"), "F1002"},
         {"5.19",
          one + part(more, "2") + frame(ping, "a") + part(more, "3") + part(more, "4") +
              frame(ping, "b") + frame(more, "5"),
          "P(a)P(b)T(one2345)"},
         {"empty parts", part(text, "") + part(more, "") + frame(more, ""), "T()"},
         {"empty ends", part(binary, "") + part(more, "x") + frame(more, ""), "B(x)"},
         {"a binary in parts", part(binary, "a") + frame(pong, "") + frame(more, "b"), "O()B(ab)"},
         {"a close inside", one + close_frame(1000) + two, "C(1000 )"}},
        13);
}

TEST(WebFrame, autobahn_6_text_is_utf_8) {
    const std::string greek = "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5";
    std::vector<Case> cases = {
        {"6.1.1", frame(text, ""), "T()"},
        {"6.1.3", part(text, "") + part(more, "middle") + frame(more, ""), "T(middle)"},
        {"6.2.1", frame(text, "Hello-\xc2\xb5@\xc3\x9f" + greek),
         "T(Hello-\xc2\xb5@\xc3\x9f" + greek + ")"},
        {"6.3.1", frame(text, greek + "\xed\xa0\x80" + "edited"), "F1007"},
        {"6.4.1", part(text, greek) + part(more, "\xf4\x90\x80\x80") + frame(more, "edited"),
         "F1007"},
        {"6.4.2", part(text, greek + "\xf4") + part(more, "\x90") + frame(more, ""), "F1007"},
    };
    std::string bytewise;
    for (std::size_t at = 0; at < greek.size(); ++at) {
        bytewise += part(at == 0 ? text : more, greek.substr(at, 1));
    }
    cases.push_back({"6.2.4", bytewise + frame(more, ""), quoted("T", greek)});
    const std::pair<const char*, std::string_view> valid[] = {{"6.5", greek},
                                                              {"6.6.2", "\xce\xba"},
                                                              {"6.7.1", "\x00"sv},
                                                              {"6.7.2", "\xc2\x80"},
                                                              {"6.7.3", "\xe0\xa0\x80"},
                                                              {"6.7.4", "\xf0\x90\x80\x80"},
                                                              {"6.9.1", "\x7f"},
                                                              {"6.9.2", "\xdf\xbf"},
                                                              {"6.9.3", "\xef\xbf\xbf"},
                                                              {"6.9.4", "\xf4\x8f\xbf\xbf"},
                                                              {"6.11.1", "\xed\x9f\xbf"},
                                                              {"6.11.2", "\xee\x80\x80"},
                                                              {"6.11.3", "\xef\xbf\xbd"},
                                                              {"6.22", "\xef\xbf\xbe"},
                                                              {"6.22", "\xf0\x9f\xbf\xbe"},
                                                              {"6.22", "\xf4\x8f\xbf\xbe"},
                                                              {"6.23", "\xef\xbf\xb9"}};
    for (const auto& [name, bytes] : valid) {
        cases.push_back({name, frame(text, bytes), quoted("T", bytes)});
    }
    const std::pair<const char*, std::string_view> invalid[] = {
        {"6.6.1", "\xce"},  // ends inside of a sign
        {"6.6.4", "\xe1\xbd"},
        {"6.8.1", "\xf8\x88\x80\x80\x80"},
        {"6.8.2", "\xfc\x84\x80\x80\x80\x80"},
        {"6.10.1", "\xf7\xbf\xbf\xbf"},
        {"6.10.2", "\xfb\xbf\xbf\xbf\xbf"},
        {"6.10.3", "\xfd\xbf\xbf\xbf\xbf\xbf"},
        {"6.11.5", "\xf4\x90\x80\x80"},
        {"6.12.1", "\x80"},
        {"6.12.2", "\xbf"},
        {"6.12.3", "\x80\xbf"},
        {"6.12.8", "\x80\xbf\x80\xbf\x80\xbf\xbf"},
        {"6.13.1", "\xc0 \xc1 \xc2 "},
        {"6.13.2", "\xe0 \xe1 "},
        {"6.13.3", "\xf0 \xf1 "},
        {"6.13.4", "\xf8 "},
        {"6.13.5", "\xfc "},
        {"6.14.1", "\xc0"},
        {"6.14.2", "\xe0\x80"},
        {"6.14.3", "\xf0\x80\x80"},
        {"6.14.6", "\xdf"},
        {"6.14.7", "\xef\xbf"},
        {"6.14.8", "\xf7\xbf\xbf"},
        {"6.15", "\xc0\xe0\x80\xf0\x80\x80"},
        {"6.16.1", "\xfe"},
        {"6.16.2", "\xff"},
        {"6.16.3", "\xfe\xfe\xff\xff"},
        {"6.17.1", "\xc0\xaf"},
        {"6.17.2", "\xe0\x80\xaf"},
        {"6.17.3", "\xf0\x80\x80\xaf"},
        {"6.18.1", "\xc1\xbf"},
        {"6.18.2", "\xe0\x9f\xbf"},
        {"6.18.3", "\xf0\x8f\xbf\xbf"},
        {"6.19.1", "\xc0\x80"},
        {"6.19.2", "\xe0\x80\x80"},
        {"6.20.1", "\xed\xa0\x80"},
        {"6.20.2", "\xed\xad\xbf"},
        {"6.20.7", "\xed\xbf\xbf"},
        {"6.21.1", "\xed\xa0\x80\xed\xb0\x80"}};
    for (const auto& [name, bytes] : invalid) {
        cases.push_back({name, frame(text, bytes) + frame(ping, ""), "F1007"});
        cases.push_back({name, frame(binary, bytes), quoted("B", bytes)});
    }
    run(cases, 7 + 17 + 2 * 39);
}

// 6.4: a frame that is not whole yet is refused with the first byte that cannot be.
TEST(WebFrame, a_fault_is_found_with_its_byte) {
    const auto found_at = [](const std::string& bytes) {
        std::size_t count = 0;
        while (count <= bytes.size() &&
               read_frames(Role::server, {}, chopped({bytes.data(), count}, 1)).find('F') ==
                   std::string::npos) {
            ++count;
        }
        return count;
    };
    EXPECT_EQ(found_at(frame(text, "abc\xf4\x90zzzz")), 6u + 5u);
    EXPECT_EQ(found_at(frame(text, "abc\xffzzzz")), 6u + 4u);
    EXPECT_EQ(found_at(frame(text, "\xed\xa0\x80zzzz")), 6u + 2u);
    EXPECT_EQ(found_at(frame(text, "x", {true, 4})), 1u);
    EXPECT_EQ(found_at(frame(3, "x")), 1u);
    EXPECT_EQ(found_at(frame(more, "x")), 1u);
    EXPECT_EQ(found_at(part(ping, "x")), 1u);
    EXPECT_EQ(found_at(frame(text, "x", {true, 0, false})), 2u);
    EXPECT_EQ(found_at(frame(ping, std::string(126, 'x'))), 2u);
    EXPECT_EQ(found_at(frame(text, "x", {true, 0, true, 2})), 4u);
    EXPECT_EQ(found_at(frame(text, std::string(65535, 'x'), {true, 0, true, 8})), 10u);
    EXPECT_EQ(found_at("\x81\xff\x80"s + std::string(20, 'x')), 3u);
    EXPECT_EQ(read_frames(Role::client, {}, {frame(text, "x")}), "F1002") << "a mask by a server";
}

TEST(WebFrame, autobahn_7_closing) {
    std::vector<Case> cases = {
        {"7.1.1", frame(text, "hi") + close_frame(1000), "T(hi)C(1000 )"},
        {"7.1.2", close_frame(1000) + close_frame(1000), "C(1000 )"},
        {"7.1.3", close_frame(1000) + frame(ping, ""), "C(1000 )"},
        {"7.1.4", close_frame(1000) + frame(text, "late"), "C(1000 )"},
        {"7.3.1", frame(closing, ""), "C(1005 )"},
        {"7.3.2", frame(closing, "a"), "F1002"},
        {"7.3.4", close_frame(1000, "Hello World!"), "C(1000 Hello World!)"},
        {"7.3.5", close_frame(1000, std::string(123, '*')),
         quoted("C", "1000 " + std::string(123, '*'))},
        {"7.3.6", close_frame(1000, std::string(124, '*')), "F1002"},
        {"7.5.1", close_frame(1000, "\xce\xba\xed\xa0\x80"), "F1007"},
    };
    for (const unsigned code : {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013,
                                1014, 3000, 3999, 4000, 4999}) {
        EXPECT_TRUE(close_code_valid(static_cast<std::uint16_t>(code)));
        cases.push_back({"7.7", close_frame(code), "C(" + std::to_string(code) + " )"});
    }
    for (const unsigned code :
         {0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535}) {
        EXPECT_FALSE(close_code_valid(static_cast<std::uint16_t>(code)));
        cases.push_back({"7.9", close_frame(code), "F1002"});
    }
    run(cases, 38);
}

TEST(WebFrame, autobahn_9_and_10_large_and_many) {
    std::vector<Case> cases;
    for (const std::size_t size :
         {std::size_t{64} << 10, std::size_t{1} << 20, std::size_t{4} << 20}) {
        const std::string payload(size, '*');
        cases.push_back({"9.1", frame(text, payload), quoted("T", payload)});
        cases.push_back({"9.2", frame(binary, payload), quoted("B", payload)});
    }
    for (const std::size_t size : {64, 1024, 65536, 1 << 20}) {  // 9.3 and 9.4: 2 MiB in fragments
        const std::string payload(std::size_t{2} << 20, '*');
        std::string all;
        for (std::size_t at = 0; at < payload.size(); at += size) {
            const bool last = at + size == payload.size();
            const std::string_view piece = std::string_view(payload).substr(at, size);
            all += frame(at == 0 ? binary : more, piece, {last});
        }
        cases.push_back({"9.4", all, quoted("B", payload)});
    }
    cases.push_back({"9.7", times(frame(text, std::string(16, '*')), 1000),
                     times(quoted("T", std::string(16, '*')), 1000)});
    std::string fragments;
    for (int index = 0; index < 50; ++index) {
        fragments += frame(index == 0 ? text : more, std::string(1300, '*'), {index == 49});
    }
    cases.push_back({"10.1.1", fragments, quoted("T", std::string(65000, '*'))});
    run(cases, 12);
}

TEST(WebFrame, limits) {
    const FrameLimits limits{10, 20};
    const auto says = [&](const std::string& bytes) {
        EXPECT_EQ(plain_read(Role::server, limits, bytes),
                  read_frames(Role::server, limits, {bytes}));
        return read_frames(Role::server, limits, {bytes});
    };
    const std::string ten(10, 'x');
    EXPECT_EQ(says(frame(text, ten)), quoted("T", ten));
    EXPECT_EQ(says(frame(text, ten + "x")), "F1009");
    EXPECT_EQ(says(part(text, ten) + frame(more, ten)), quoted("T", ten + ten));
    EXPECT_EQ(says(part(text, ten) + part(more, ten) + frame(more, "x")), "F1009");
    EXPECT_EQ(says(frame(ping, std::string(125, 'x'))), quoted("P", std::string(125, 'x')));
    // Refused by what it announces, before a byte of it.
    EXPECT_EQ(says("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff"s + "mask"), "F1009");
}

TEST(WebFrame, what_is_written_is_read) {
    constexpr std::byte mask[] = {std::byte{0x37}, std::byte{0xfa}, std::byte{0x21},
                                  std::byte{0x3d}};
    for (const std::size_t size : {0, 1, 125, 126, 65535, 65536, 70000}) {
        for (const bool masked : {true, false}) {
            const FrameHead head = frame_head(Opcode::binary, true, size, masked ? mask : nullptr);
            std::string payload(size, 'x');
            const std::string expected = frame(binary, payload, {true, 0, masked});
            auto* const data = reinterpret_cast<std::byte*>(payload.data());
            if (masked) apply_mask(data, size, mask);
            ASSERT_EQ(std::string(reinterpret_cast<const char*>(head.bytes), head.size) + payload,
                      expected);
        }
    }
}

TEST(WebFrame, masks_by_words_as_by_bytes) {
    model::Random random(1);
    for (int round = 0; round < 2000; ++round) {
        std::vector<std::byte> bytes(random.below(100)), plain;
        for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next() & 0xFF);
        std::byte mask[4];
        for (std::byte& byte : mask) byte = static_cast<std::byte>(random.next() & 0xFF);
        plain = bytes;
        const std::size_t at = random.below(9),
                          from = bytes.empty() ? 0 : random.below(bytes.size());
        for (std::size_t index = from; index < plain.size(); ++index) {
            plain[index] ^= mask[(at + index - from) % 4];
        }
        apply_mask(bytes.data() + from, bytes.size() - from, mask, at);
        ASSERT_EQ(bytes, plain);
    }
}

// Every two bytes, and more of those that matter.
TEST(WebFrame, utf_8_beside_the_plain_reader) {
    const auto same = [](const std::string& bytes) {
        Utf8 utf8;
        const bool taken = utf8.take(Bytes(std::string_view(bytes)));
        return taken == begins_utf8(bytes) && (taken && utf8.whole()) == is_utf8(bytes);
    };
    constexpr unsigned char edges[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff};
    for (unsigned first = 0; first < 256; ++first) {
        for (unsigned second = 0; second < 256; ++second) {
            ASSERT_TRUE(same({static_cast<char>(first), static_cast<char>(second)}));
        }
        for (const unsigned char second : edges) {
            for (const unsigned char third : edges) {
                std::string bytes = {static_cast<char>(first), static_cast<char>(second)};
                bytes += static_cast<char>(third);
                ASSERT_TRUE(same(bytes)) << first << ' ' << int{second} << ' ' << int{third};
                for (const unsigned char fourth : {0x7f, 0x80, 0xbf}) {
                    ASSERT_TRUE(same(bytes + static_cast<char>(fourth)));
                }
            }
        }
    }
}

}  // namespace
