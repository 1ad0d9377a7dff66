// SPDX-License-Identifier: MIT
// Goal: each framing takes what its comment says, refuses the rest with the named error, and gives the
// same frames however the bytes are cut.
// Method: fixed texts, fed whole, in two pieces cut at every byte, and byte by byte.
#include <whorl/framing.hpp>

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace whorl {
namespace {

struct Outcome {
    std::vector<std::string> frames;
    Error error;
    Error finish;
    friend bool operator==(const Outcome& a, const Outcome& b) {
        return a.frames == b.frames && a.error == b.error && a.finish == b.finish;
    }
};

void feed(Framer& framer, const Framing& framing, std::string_view piece, Outcome& outcome) {
    // A copy of exactly this size: who reads beyond it is caught by the sanitizer.
    const std::vector<char> exact(piece.begin(), piece.end());
    framer.feed(Bytes(exact.data(), exact.size()));
    Bytes frame;
    while (framer.next(framing, frame)) outcome.frames.emplace_back(frame.text());
}

Outcome finish(const Framer& framer, Outcome outcome) {
    outcome.error = framer.error();
    outcome.finish = framer.finish();
    return outcome;
}

Outcome cut_whole(const Framing& framing, std::string_view text) {
    Framer framer;
    Outcome outcome;
    feed(framer, framing, text, outcome);
    return finish(framer, outcome);
}

// The outcome, which must be the same for all cuts.
Outcome cut(const Framing& framing, std::string_view text) {
    Outcome whole = cut_whole(framing, text);
    for (std::size_t at = 0; at <= text.size(); ++at) {
        Framer framer;
        Outcome outcome;
        feed(framer, framing, text.substr(0, at), outcome);
        if (!framer.error()) feed(framer, framing, text.substr(at), outcome);
        EXPECT_TRUE(finish(framer, outcome) == whole) << "cut at " << at;
    }
    Framer framer;
    Outcome outcome;
    for (std::size_t at = 0; at < text.size() && !framer.error(); ++at) {
        feed(framer, framing, text.substr(at, 1), outcome);
        EXPECT_LE(framer.held(), framing.span_max());
    }
    EXPECT_TRUE(finish(framer, outcome) == whole) << "byte by byte";
    return whole;
}

using Texts = std::vector<std::string>;

TEST(Framing, lines_end_with_lf_and_lose_a_cr) {
    const Outcome outcome = cut(Framing::line(5), "one\n\r\n\ntwo\r\nt\rhr\nhello\r\n");
    EXPECT_EQ(outcome.frames, (Texts{"one", "", "", "two", "t\rhr", "hello"}));
    EXPECT_FALSE(outcome.finish);
    EXPECT_EQ(cut(Framing::line(5), "one\ntw").finish, Error::frame_truncated);
    const Outcome large = cut(Framing::line(5), "one\nlonger\n");
    EXPECT_EQ(large.frames, Texts{"one"});
    EXPECT_EQ(large.error, Error::frame_too_large);
    EXPECT_EQ(cut(Framing::line(5), "endless endless").error, Error::frame_too_large);
    EXPECT_EQ(cut(Framing::line(0), "\n\r\n").frames, (Texts{"", ""}));
}

TEST(Framing, crlf_is_strict) {
    EXPECT_EQ(cut(Framing::crlf(4), "ab\r\n\r\nab\r\r\n").frames, (Texts{"ab", "", "ab\r"}));
    for (const char* text : {"ab\n", "\n", "ab\r\ncd\n"}) {
        EXPECT_EQ(cut(Framing::crlf(4), text).error, Error::frame_malformed) << text;
    }
    EXPECT_EQ(cut(Framing::crlf(4), "abcde\r\n").error, Error::frame_too_large);
    EXPECT_EQ(cut(Framing::crlf(4), "abcd\r\n").frames, Texts{"abcd"});
}

TEST(Framing, delimiters_may_overlap_themselves) {
    EXPECT_EQ(cut(Framing::delimiter("aab", 9), "aaabxaab").frames, (Texts{"a", "x"}));
    EXPECT_EQ(cut(Framing::delimiter("\r\n\r\n", 9), "a\r\nb\r\n\r\n\r\n\r\n").frames,
              (Texts{"a\r\nb", ""}));
    EXPECT_EQ(cut(Framing::delimiter(";", 3), "abc;abcd;").error, Error::frame_too_large);
}

TEST(Framing, lengths_of_every_size_and_order) {
    for (std::uint8_t bytes = 1; bytes <= 8; ++bytes) {
        for (const Endian endian : {Endian::big, Endian::little}) {
            for (const bool inclusive : {false, true}) {
                const Framing framing = Framing::length({bytes, endian, inclusive}, 20);
                std::string text;
                for (const char* frame : {"hello", "", "world, and so on"}) {
                    const Result<FrameEdges> edges = framing.edges(std::string_view(frame).size());
                    ASSERT_TRUE(edges);
                    text.append(edges->before()).append(frame).append(edges->after());
                }
                EXPECT_EQ(cut(framing, text).frames, (Texts{"hello", "", "world, and so on"}));
                EXPECT_EQ(cut(framing, text.substr(0, text.size() - 1)).finish,
                          Error::frame_truncated);
                EXPECT_EQ(framing.edges(21).error(), Error::frame_too_large);
                std::string huge(bytes, '\x7F');
                EXPECT_EQ(cut(framing, huge).error, Error::frame_too_large);
            }
        }
    }
    EXPECT_EQ(cut(Framing::length({2, Endian::big, false}, 20), std::string("\0\3abc", 5)).frames,
              Texts{"abc"});
    EXPECT_EQ(cut(Framing::length({2, Endian::little, true}, 20), std::string("\5\0abc", 5)).frames,
              Texts{"abc"});
    EXPECT_EQ(cut(Framing::length({4, Endian::big, true}, 20), std::string(4, '\0')).error,
              Error::frame_malformed);
    EXPECT_EQ(Framing::length({1, Endian::big, false}, 1000).edges(256).error(),
              Error::frame_too_large);
    EXPECT_EQ(Framing::length({1, Endian::big, true}, 1000).edges(255).error(),
              Error::frame_too_large);
}

TEST(Framing, varints_are_as_short_as_they_can) {
    const Framing framing = Framing::varint(300);
    EXPECT_EQ(cut(framing, std::string("\x03"
                                       "abc\x00\x80\x02",
                                       7) +
                               std::string(256, 'x'))
                  .frames,
              (Texts{"abc", "", std::string(256, 'x')}));
    EXPECT_EQ(cut(framing, "\xAD\x02").error, Error::frame_too_large);
    EXPECT_EQ(cut(framing, std::string("\x81\x00", 2)).error, Error::frame_malformed);
    EXPECT_EQ(cut(framing, std::string(12, '\xFF')).error, Error::frame_malformed);
    EXPECT_EQ(cut(framing, std::string(9, '\xFF') + '\x01').error, Error::frame_too_large);
    EXPECT_EQ(framing.edges(300)->before(), "\xAC\x02");
}

TEST(Framing, netstrings) {
    const Framing framing = Framing::netstring(12);
    EXPECT_EQ(cut(framing, "5:hello,0:,12:hello world!,").frames,
              (Texts{"hello", "", "hello world!"}));
    for (const char* text : {"5:hello;", "05:hello,", ":", "x", "5 :hello,", "-1:", "00:,"}) {
        EXPECT_EQ(cut(framing, text).error, Error::frame_malformed) << text;
    }
    EXPECT_EQ(cut(framing, "13:").error, Error::frame_too_large);
    EXPECT_EQ(cut(framing, "99999999999999999999999").error, Error::frame_too_large);
    EXPECT_EQ(framing.edges(12)->before(), "12:");
    EXPECT_EQ(framing.edges(12)->after(), ",");
}

TEST(Framing, fixed_sizes) {
    const Outcome outcome = cut(Framing::fixed(3), "abcdefg");
    EXPECT_EQ(outcome.frames, (Texts{"abc", "def"}));
    EXPECT_EQ(outcome.finish, Error::frame_truncated);
    EXPECT_EQ(Framing::fixed(3).edges(2).error(), Error::frame_too_large);
}

// What is written with its edges is read as it was, by the same framing.
TEST(Framing, edges_of_every_kind) {
    const auto written = [](const Framing& framing, const std::string& frame) {
        const Result<FrameEdges> edges = framing.edges(frame.size());
        if (!edges) return std::string(edges.error().name());
        const std::string text = std::string(edges->before()).append(frame).append(edges->after());
        Framer framer;
        Outcome outcome;
        feed(framer, framing, text, outcome);
        EXPECT_EQ(outcome.frames, std::vector<std::string>{frame});
        EXPECT_FALSE(framer.error());
        return text;
    };
    const std::string too_large = Error(Error::frame_too_large).name();
    EXPECT_EQ(written(Framing::line(3), "abc"), "abc\n");
    EXPECT_EQ(written(Framing::line(3), ""), "\n");
    EXPECT_EQ(written(Framing::line(3), "abcd"), too_large);
    EXPECT_EQ(written(Framing::crlf(3), "abc"), "abc\r\n");
    EXPECT_EQ(written(Framing::crlf(3), "abcd"), too_large);
    EXPECT_EQ(written(Framing::delimiter("--", 3), "abc"), "abc--");
    EXPECT_EQ(written(Framing::delimiter("12345678", 3), ""), "12345678");
    EXPECT_EQ(written(Framing::delimiter("-", 3), "abcd"), too_large);
    EXPECT_EQ(written(Framing::netstring(3), "abc"), "3:abc,");
    EXPECT_EQ(written(Framing::varint(3), "abc"),
              "\x03"
              "abc");
    EXPECT_EQ(written(Framing::fixed(3), "abc"), "abc");
    EXPECT_EQ(written(Framing::fixed(3), "ab"), too_large);
    EXPECT_EQ(written(Framing::length({8, Endian::big, true}, 3), "abc"),
              std::string("\0\0\0\0\0\0\0\x0b", 8) + "abc");
}

TEST(Framing, a_number_of_more_than_64_bits_is_too_large) {
    const Framing framing = Framing::netstring(SIZE_MAX);
    EXPECT_EQ(cut(framing, "99999999999999999999:x").error, Error::frame_too_large);
    EXPECT_EQ(cut(framing, "18446744073709551616:x").error, Error::frame_too_large);
}

TEST(Framing, a_whole_frame_is_not_copied) {
    Framer framer;
    const std::string text = "first\nsecond\nth";
    framer.feed(Bytes(text));
    Bytes frame;
    ASSERT_TRUE(framer.next(Framing::line(10), frame));
    EXPECT_EQ(frame.text().data(), text.data());
    EXPECT_EQ(framer.unread().text(), "second\nth");
    ASSERT_TRUE(framer.next(Framing::line(10), frame));
    EXPECT_EQ(frame.text().data(), text.data() + 6);
    EXPECT_EQ(framer.held(), 0u);
    EXPECT_FALSE(framer.next(Framing::line(10), frame));
    EXPECT_EQ(framer.held(), 2u);
    EXPECT_TRUE(framer.unread().empty());
}

// "3\nabc" as in many protocols: a line says how many bytes follow.
TEST(Framing, may_change_after_every_frame) {
    const std::string text = "3\nabc1\nx10\n0123456789";
    for (std::size_t at = 0; at <= text.size(); ++at) {
        Framer framer;
        Framing framing = Framing::line(8);
        Texts bodies;
        for (const std::string& piece : {text.substr(0, at), text.substr(at)}) {
            framer.feed(Bytes(piece));
            Bytes frame;
            while (framer.next(framing, frame)) {
                if (framing.kind() == Framing::Kind::line) {
                    framing = Framing::fixed(std::stoul(std::string(frame.text())));
                } else {
                    bodies.emplace_back(frame.text());
                    framing = Framing::line(8);
                }
            }
        }
        EXPECT_EQ(bodies, (Texts{"abc", "x", "0123456789"})) << at;
        EXPECT_FALSE(framer.finish());
    }
}

}  // namespace
}  // namespace whorl
