// SPDX-License-Identifier: MIT
// Goal: whatever the bytes and however they are cut, WebSocket frames are read as a slow and plain reader
// reads them, to the same fault. Method: the first bytes choose the side, the limits and the cuts. With
// WHORL_FUZZ_CANARY a cut loses a byte now and then, which the target must find.
#include "fuzz/fuzz.hpp"
#include "http/web_frames.hpp"

#include <string>
#include <string_view>
#include <vector>

namespace fuzz {

namespace {

using namespace web_tests;

constexpr std::size_t head = 4;  // bytes that choose

constexpr std::string_view payloads[] = {"",         "a",        "hello",       "\xc3\xa4",
                                         "\xe2\x82", "\xac",     "\xf0",        "\x9f\x98\x80",
                                         "\xed\xa0", "\x03\xe8", "\x03\xe8why", "\x03"};

// Mostly a frame that may stand here: `open` is whether a message has begun.
std::string draw_frame(model::Random& random, bool masked, bool& open) {
    constexpr unsigned controls[] = {ping, pong, ping, pong, closing};
    Shape shape;
    shape.last = !random.one_in(2);
    shape.masked = masked != random.one_in(60);
    shape.reserved = random.one_in(60) ? 1 + static_cast<unsigned>(random.below(7)) : 0;
    if (random.one_in(30)) shape.size_bytes = random.one_in(2) ? 2 : 8;
    std::string payload(payloads[random.below(std::size(payloads))]);
    if (random.one_in(10)) payload.append(random.below(300), 'x');
    unsigned opcode = open ? more : random.one_in(2) ? text : binary;
    if (random.one_in(60)) opcode = static_cast<unsigned>(random.below(16));
    if (random.one_in(4)) {
        opcode = controls[random.below(std::size(controls))];
        shape.last = true;
    }
    if (opcode < closing) open = !shape.last;
    return frame(opcode, payload, shape);
}

}  // namespace

const char* const target_name = "fuzz_web_frame";

std::size_t draw(model::Random& random, std::uint8_t* data, std::size_t size_max) {
    std::string bytes;
    while (bytes.size() < head) bytes += static_cast<char>(random.next());
    const bool server = (bytes[0] & 1) != 0;
    bool open = false;
    for (std::uint64_t count = 1 + random.below(20); count > 0; --count) {
        bytes += draw_frame(random, server, open);
    }
    for (std::uint64_t count = random.one_in(3) ? random.below(3) : 0; count > 0; --count) {
        const std::size_t at = head + random.below(bytes.size() - head);
        if (random.one_in(2)) bytes[at] = static_cast<char>(random.next());
        else bytes.resize(at + 1);
    }
    if (bytes.size() > size_max) bytes.resize(size_max);
    bytes.copy(reinterpret_cast<char*>(data), bytes.size());
    return bytes.size();
}

int target(const std::uint8_t* data, std::size_t size) {
    if (size < head) return 0;
    const model::Run run(target_name);
    const std::string_view bytes(reinterpret_cast<const char*>(data) + head, size - head);
    const Role role = (data[0] & 1) != 0 ? Role::server : Role::client;
    FrameLimits limits;
    if ((data[0] & 2) != 0) limits = {data[1], std::uint64_t{data[2]} + 5};

    const std::string plain = plain_read(role, limits, bytes);
    model::Random cuts(std::uint64_t{data[3]} << 8 | data[0]);
    std::vector<std::string_view> pieces;
    for (std::size_t at = 0; at < bytes.size(); at += pieces.back().size()) {
        pieces.push_back(bytes.substr(at, 1 + cuts.below(1 + data[3] % 32)));
    }
#ifdef WHORL_FUZZ_CANARY
    for (std::string_view& piece : pieces) {
        if (piece.size() > 1 && cuts.one_in(4)) piece.remove_suffix(1);
    }
#endif
    run.expect(read_frames(role, limits, {bytes}) == plain, "another reading than the plain one");
    run.expect(read_frames(role, limits, pieces) == plain, "another reading in pieces");
    return 0;
}

}  // namespace fuzz
