// SPDX-License-Identifier: MIT
// Floor: 6
#include "http/text.hpp"

#include <whorl/http_parser.hpp>

#include <algorithm>

// The body: counted, in chunks, or until the connection ends. The trailer behind the last chunk is
// checked and dropped: what is in it came too late to be believed.

namespace whorl::http {

namespace {
constexpr std::uint32_t chunk_line_max = 256;  // with extensions, which nobody uses

int hex_of(unsigned char sign) noexcept {
    if (sign >= '0' && sign <= '9') return sign - '0';
    const int letter = sign | 0x20;
    return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}
}  // namespace

// A piece of at most `most` bytes.
Step Parser::give(Bytes& input, std::uint64_t most) noexcept {
    const std::uint64_t allowed = limits_.body_max - body_bytes_;
    if (allowed == 0) return fail(413, "the body is too large");
    const auto size =
        static_cast<std::size_t>(std::min<std::uint64_t>(input.size, std::min(most, allowed)));
    piece_ = Bytes(input.data, size);
    input = Bytes(input.data + size, input.size - size);
    body_bytes_ += size;
    return Step::body;
}

Step Parser::next_counted(Bytes& input) noexcept {
    if (input.empty()) return Step::more;
    const Step step = give(input, left_);
    left_ -= piece_.size;
    if (left_ == 0 && step == Step::body) part_ = Part::ended;
    return step;
}

Step Parser::next_chunked(Bytes& input) noexcept {
    while (!input.empty()) {
        if (chunk_ == Chunk::data) {
            const Step step = give(input, left_);
            left_ -= piece_.size;
            if (left_ == 0) chunk_ = Chunk::data_cr;
            return step;
        }
        const auto byte = static_cast<unsigned char>(*input.data);
        input = Bytes(input.data + 1, input.size - 1);
        const bool good = chunk_ < Chunk::line ? chunk_line(byte) : chunk_trailer(byte);
        if (!good) return Step::failed;
        if (part_ == Part::ended) return Step::end;
    }
    return Step::more;
}

// A byte of "1a;name=value" CR LF before a chunk, or of CR LF behind it.
bool Parser::chunk_line(unsigned char byte) noexcept {
    if (++extra_ > chunk_line_max) return refuse(400, "the line of a chunk is too long");
    switch (chunk_) {
        case Chunk::size_first:
        case Chunk::size:
            if (const int digit = hex_of(byte); digit >= 0) {
                if (left_ >> 60 != 0) return refuse(400, "the size of a chunk is too large");
                left_ = left_ * 16 + static_cast<unsigned>(digit);
                chunk_ = Chunk::size;
                return true;
            }
            if (chunk_ == Chunk::size_first) return refuse(400, "a chunk without a size");
            if (byte == '\r') chunk_ = Chunk::size_lf;
            else if (byte == ';') chunk_ = Chunk::extension;
            else return refuse(400, "the size of a chunk is malformed");
            return true;
        case Chunk::extension:
            if (byte == '\r') chunk_ = Chunk::size_lf;
            else if (!has(is_value, static_cast<char>(byte))) {
                return refuse(400, "control characters in a chunk's line");
            }
            return true;
        case Chunk::size_lf:
            return byte == '\n' ? chunk_begins()
                                : refuse(400, "the line of a chunk ends without LF");
        case Chunk::data_cr:
            chunk_ = Chunk::data_lf;
            return byte == '\r' || refuse(400, "a chunk is longer than its size");
        default:  // data_lf
            chunk_ = Chunk::size_first;
            extra_ = 0;
            return byte == '\n' || refuse(400, "a chunk is longer than its size");
    }
}

bool Parser::chunk_begins() noexcept {
    extra_ = 0;
    chunk_ = left_ == 0 ? Chunk::line : Chunk::data;
    return left_ <= limits_.body_max - body_bytes_ || refuse(413, "the body is too large");
}

// A byte of the trailer: fields, and an empty line.
bool Parser::chunk_trailer(unsigned char byte) noexcept {
    const char sign = static_cast<char>(byte);
    if (++extra_ > limits_.trailer_max) return refuse(431, "the trailer is too large");
    switch (chunk_) {
        case Chunk::line:
            if (byte == '\r') {
                chunk_ = Chunk::last_lf;
                return true;
            }
            chunk_ = Chunk::name;
            return has(is_token, sign) || refuse(400, "a malformed trailer");
        case Chunk::name:
            if (byte == ':') chunk_ = Chunk::value;
            else if (!has(is_token, sign)) return refuse(400, "a malformed trailer");
            return true;
        case Chunk::value:
            if (byte == '\r') chunk_ = Chunk::value_lf;
            else if (!has(is_value, sign)) return refuse(400, "a malformed trailer");
            return true;
        case Chunk::value_lf:
            chunk_ = Chunk::line;
            return byte == '\n' || refuse(400, "a malformed trailer");
        default:  // last_lf
            part_ = Part::ended;
            return byte == '\n' || refuse(400, "a malformed trailer");
    }
}

}  // namespace whorl::http
