// SPDX-License-Identifier: MIT
// Goal: however bytes are cut into pieces, a Framer finds the frames and the error that its framing says.
// Method: the first bytes choose a framing and the cuts; the rest is read by an oracle that has all of it
// before it and looks at one byte after the other. With WHORL_FUZZ_CANARY a cut loses a byte now and
// then, which the target must find.
#include "fuzz/fuzz.hpp"

#include <whorl/framing.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fuzz {

namespace {

using whorl::Endian;
using whorl::Error;
using whorl::Framing;
using whorl::LengthPrefix;

__extension__ using Number = unsigned __int128;  // nothing overflows here

struct Read {
    std::vector<std::string> frames;
    Error error;
    bool rest = false;
};

// One frame from `at` on: moves `at` behind it. False: the text ends first, or `error` is set.
using Oracle = bool (*)(const Framing&, std::string_view, std::size_t& at, std::string&, Error&);

bool by_size(const Framing& framing, std::string_view text, std::size_t& at, Number size,
             std::string& frame, Error& error) {
    if (size > framing.max()) {
        error = Error::frame_too_large;
        return false;
    }
    if (text.size() - at < static_cast<std::size_t>(size)) return false;
    frame = text.substr(at, static_cast<std::size_t>(size));
    at += frame.size();
    return true;
}

bool read_marked(const Framing& framing, std::string_view text, std::size_t& at, std::string& frame,
                 Error& error) {
    const bool lines = framing.kind() != Framing::Kind::delimiter;
    const std::string mark = lines ? "\n" : std::string(framing.mark());
    const std::size_t room = framing.max() + (lines ? 2 : mark.size());
    std::string all;
    while (at < text.size()) {
        all += text[at++];
        const bool ends = all.size() >= mark.size() && all.substr(all.size() - mark.size()) == mark;
        if (ends) {
            all.resize(all.size() - mark.size());
            const bool returned = lines && !all.empty() && all.back() == '\r';
            if (framing.kind() == Framing::Kind::crlf && !returned) {
                error = Error::frame_malformed;
                return false;
            }
            if (returned) all.pop_back();
            if (all.size() > framing.max()) error = Error::frame_too_large;
            frame = all;
            return !error;
        }
        if (all.size() == room) {
            error = Error::frame_too_large;
            return false;
        }
    }
    return false;
}

bool read_length(const Framing& framing, std::string_view text, std::size_t& at, std::string& frame,
                 Error& error) {
    const LengthPrefix prefix = framing.prefix();
    if (text.size() - at < prefix.bytes) return false;
    Number value = 0;
    for (int index = 0; index < prefix.bytes; ++index) {
        const auto byte = static_cast<unsigned char>(text[at++]);
        const int shift = prefix.endian == Endian::little ? index : prefix.bytes - 1 - index;
        value += static_cast<Number>(byte) << (8 * shift);
    }
    if (prefix.inclusive && value < prefix.bytes) {
        error = Error::frame_malformed;
        return false;
    }
    return by_size(framing, text, at, value - (prefix.inclusive ? prefix.bytes : 0), frame, error);
}

bool read_varint(const Framing& framing, std::string_view text, std::size_t& at, std::string& frame,
                 Error& error) {
    Number value = 0;
    for (int index = 0; at < text.size(); ++index) {
        const auto byte = static_cast<unsigned char>(text[at++]);
        value += static_cast<Number>(byte & 0x7F) << (7 * index);
        const bool last = byte < 0x80;
        if ((index == 9 && (!last || value > UINT64_MAX)) || (last && byte == 0 && index > 0)) {
            error = Error::frame_malformed;
            return false;
        }
        if (last) return by_size(framing, text, at, value, frame, error);
    }
    return false;
}

bool read_netstring(const Framing& framing, std::string_view text, std::size_t& at,
                    std::string& frame, Error& error) {
    Number value = 0;
    for (int index = 0; at < text.size(); ++index) {
        const char sign = text[at++];
        if (sign == ':' && index > 0) {
            if (!by_size(framing, text, at, value, frame, error) || at == text.size()) return false;
            if (text[at++] != ',') error = Error::frame_malformed;
            return !error;
        }
        if (sign < '0' || sign > '9' || (index == 1 && value == 0)) {
            error = Error::frame_malformed;
            return false;
        }
        value = value * 10 + static_cast<unsigned>(sign - '0');
        if (value > framing.max()) {
            error = Error::frame_too_large;
            return false;
        }
    }
    return false;
}

bool read_fixed(const Framing& framing, std::string_view text, std::size_t& at, std::string& frame,
                Error& error) {
    return by_size(framing, text, at, framing.max(), frame, error);
}

Oracle oracle_of(Framing::Kind kind) {
    switch (kind) {
        case Framing::Kind::length:
            return &read_length;
        case Framing::Kind::varint:
            return &read_varint;
        case Framing::Kind::netstring:
            return &read_netstring;
        case Framing::Kind::fixed:
            return &read_fixed;
        default:
            return &read_marked;
    }
}

Read expected(const Framing& framing, std::string_view text) {
    Read read;
    std::size_t at = 0;
    while (!read.error && at < text.size()) {
        std::string frame;
        if (oracle_of(framing.kind())(framing, text, at, frame, read.error)) {
            read.frames.push_back(frame);
        } else {
            read.rest = !read.error;
            break;
        }
    }
    return read;
}

Framing choose(model::Random& random) {
    const std::size_t max = random.below(40);
    switch (random.below(7)) {
        case 0:
            return Framing::line(max);
        case 1:
            return Framing::crlf(max);
        case 2: {
            static constexpr std::string_view marks[] = {";", "\r\n", "aab", "aaaaaaaa"};
            return Framing::delimiter(marks[random.below(4)], max);
        }
        case 3:
            return Framing::length(
                {static_cast<std::uint8_t>(1 + random.below(8)),
                 random.one_in(2) ? Endian::big : Endian::little, random.one_in(2)},
                max);
        case 4:
            return Framing::varint(max);
        case 5:
            return Framing::netstring(max);
        default:
            return Framing::fixed(1 + max);
    }
}

constexpr std::size_t head = 12;  // bytes that choose

}  // namespace

const char* const target_name = "fuzz_framing";

std::size_t draw(model::Random& random, std::uint8_t* data, std::size_t size_max) {
    std::size_t size = 0;
    while (size < head) data[size++] = static_cast<std::uint8_t>(random.next());
    static constexpr std::string_view pieces[] = {
        "\n", "\r\n", "\r", ";", "aab", "aaaa", "a", ",", ":", "3:", "abc,", "0:,", "12:", "hello"};
    for (std::uint64_t count = random.below(30); count > 0 && size + 16 < size_max; --count) {
        if (random.one_in(3)) {
            for (std::uint64_t zeros = random.below(8); zeros > 0; --zeros) data[size++] = 0;
            data[size++] = static_cast<std::uint8_t>(random.below(random.one_in(4) ? 256 : 12));
        } else {
            for (const char sign : pieces[random.below(14)]) {
                data[size++] = static_cast<std::uint8_t>(sign);
            }
        }
    }
    return size;
}

int target(const std::uint8_t* data, std::size_t size) {
    if (size < head) return 0;
    const model::Run run(target_name);
    model::Random choices(data, 8);
    const Framing framing = choose(choices);
    model::Random cuts(std::uint64_t{data[8]} << 8 | data[9]);
    const std::uint64_t step = 1 + data[10] % 32;
    const std::string_view text(reinterpret_cast<const char*>(data) + head, size - head);
    const Read right = expected(framing, text);

    whorl::Framer framer;
    std::vector<std::string> frames;
    for (std::size_t at = 0; at < text.size() && !framer.error();) {
        std::string piece(text.substr(at, 1 + cuts.below(step)));
        at += piece.size();
#ifdef WHORL_FUZZ_CANARY
        if (at != text.size() && cuts.one_in(16)) piece.pop_back();
#endif
        framer.feed(whorl::Bytes(piece));
        whorl::Bytes frame;
        while (framer.next(framing, frame)) {
            frames.emplace_back(frame.text());
            run.expect(frame.size <= framing.max(), "a frame is larger than its maximum");
        }
        run.expect(framer.held() <= framing.span_max(), "more is held than a frame");
    }
    run.expect(frames == right.frames, "other frames");
    run.expect(framer.error() == right.error, "another error");
    if (!right.error) {
        const Error end = right.rest ? Error(Error::frame_truncated) : Error();
        run.expect(framer.finish() == end, "another end");
    }
    return 0;
}

}  // namespace fuzz
