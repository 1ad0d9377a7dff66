// SPDX-License-Identifier: MIT
// Floor: 6
#include <whorl/framing.hpp>

#include <algorithm>
#include <cstring>

// Every framing is one function that looks at the bytes from a frame's beginning on. What it answers
// depends on these bytes alone and not on how many follow, which is why all cuts give the same frames:
// a mark is looked for in the first span_max() bytes only, and a number is read digit by digit.

namespace whorl {

namespace {

constexpr std::size_t varint_max = 10;
constexpr std::size_t digits_max = 20;

enum class Found : std::uint8_t { frame, more, failed };

struct Scan {
    Found found = Found::more;
    Error error;
    std::size_t at = 0;     // where the frame's bytes begin
    std::size_t size = 0;   // how many there are
    std::size_t total = 0;  // with marks; or, with `more`, how many must be there to get on
};

Scan failed(Error::Code code) noexcept {
    Scan scan;
    scan.found = Found::failed;
    scan.error = code;
    return scan;
}
Scan more(std::size_t total) noexcept {
    Scan scan;
    scan.total = total;
    return scan;
}
Scan whole(std::size_t at, std::size_t size, std::size_t total) noexcept {
    Scan scan;
    scan.found = Found::frame;
    scan.at = at;
    scan.size = size;
    scan.total = total;
    return scan;
}

std::uint8_t byte_at(Bytes bytes, std::size_t index) noexcept {
    return static_cast<std::uint8_t>(bytes.data[index]);
}

// The frame whose bytes begin behind a prefix of `at` bytes, and have `tail` bytes behind them.
Scan sized(Bytes bytes, std::size_t at, std::uint64_t size, std::size_t tail,
           std::size_t max) noexcept {
    if (size > max) return failed(Error::frame_too_large);
    const std::size_t total = at + static_cast<std::size_t>(size) + tail;
    if (bytes.size < total) return more(total);
    return whole(at, static_cast<std::size_t>(size), total);
}

// `from`: no mark ends before it.
Scan scan_line(const Framing& framing, Bytes bytes, std::size_t from) noexcept {
    const std::size_t window = std::min(bytes.size, framing.span_max());
    const void* found =
        window > from ? std::memchr(bytes.data + from, '\n', window - from) : nullptr;
    if (found == nullptr) {
        return window == framing.span_max() ? failed(Error::frame_too_large) : more(bytes.size + 1);
    }
    const auto end = static_cast<std::size_t>(static_cast<const std::byte*>(found) - bytes.data);
    const bool returned = end > 0 && byte_at(bytes, end - 1) == '\r';
    if (framing.kind() == Framing::Kind::crlf && !returned) return failed(Error::frame_malformed);
    const std::size_t size = returned ? end - 1 : end;
    if (size > framing.max()) return failed(Error::frame_too_large);
    return whole(0, size, end + 1);
}

Scan scan_delimiter(const Framing& framing, Bytes bytes, std::size_t from) noexcept {
    const std::string_view mark = framing.mark();
    const std::size_t window = std::min(bytes.size, framing.span_max());
    const std::string_view text = bytes.text().substr(0, window);
    const std::size_t begin = from < mark.size() ? 0 : from - mark.size() + 1;
    const std::size_t end = text.find(mark, begin);
    if (end != std::string_view::npos) return whole(0, end, end + mark.size());
    if (window == framing.span_max()) return failed(Error::frame_too_large);
    return more(bytes.size + 1);
}

Scan scan_length(const Framing& framing, Bytes bytes) noexcept {
    const LengthPrefix prefix = framing.prefix();
    if (bytes.size < prefix.bytes) return more(prefix.bytes);
    std::uint64_t value = 0;
    for (std::size_t index = 0; index < prefix.bytes; ++index) {
        const std::size_t at = prefix.endian == Endian::big ? index : prefix.bytes - 1u - index;
        value = value << 8 | byte_at(bytes, at);
    }
    if (prefix.inclusive) {
        if (value < prefix.bytes) return failed(Error::frame_malformed);
        value -= prefix.bytes;
    }
    return sized(bytes, prefix.bytes, value, 0, framing.max());
}

Scan scan_varint(const Framing& framing, Bytes bytes) noexcept {
    std::uint64_t value = 0;
    for (std::size_t index = 0; index < bytes.size; ++index) {
        const std::uint64_t bits = byte_at(bytes, index) & 0x7Fu;
        // The tenth byte has room for one bit.
        if (index + 1 == varint_max && byte_at(bytes, index) > 1)
            return failed(Error::frame_malformed);
        value |= bits << (7 * index);
        if ((byte_at(bytes, index) & 0x80u) != 0) continue;
        if (bits == 0 && index != 0) return failed(Error::frame_malformed);
        return sized(bytes, index + 1, value, 0, framing.max());
    }
    return more(bytes.size + 1);
}

Scan scan_netstring(const Framing& framing, Bytes bytes) noexcept {
    std::uint64_t value = 0;
    for (std::size_t index = 0; index < bytes.size; ++index) {
        const std::uint8_t sign = byte_at(bytes, index);
        if (sign == ':' && index != 0) {
            const Scan scan = sized(bytes, index + 1, value, 1, framing.max());
            if (scan.found != Found::frame || byte_at(bytes, scan.total - 1) == ',') return scan;
            return failed(Error::frame_malformed);
        }
        const bool zero_before = index == 1 && byte_at(bytes, 0) == '0';
        if (sign < '0' || sign > '9' || zero_before) return failed(Error::frame_malformed);
        if (value > (UINT64_MAX - 9) / 10) return failed(Error::frame_too_large);
        value = value * 10 + (sign - std::uint64_t{'0'});
        if (value > framing.max()) return failed(Error::frame_too_large);
    }
    return more(bytes.size + 1);
}

Scan scan(const Framing& framing, Bytes bytes, std::size_t from) noexcept {
    switch (framing.kind()) {
        case Framing::Kind::line:
        case Framing::Kind::crlf:
            return scan_line(framing, bytes, from);
        case Framing::Kind::delimiter:
            return scan_delimiter(framing, bytes, from);
        case Framing::Kind::length:
            return scan_length(framing, bytes);
        case Framing::Kind::varint:
            return scan_varint(framing, bytes);
        case Framing::Kind::netstring:
            return scan_netstring(framing, bytes);
        case Framing::Kind::fixed:
            return sized(bytes, 0, framing.max(), 0, framing.max());
    }
    return failed(Error::frame_malformed);
}

// How many of `rest` belong to the frame that has begun, or may: up to where its mark may end.
std::size_t share_of(const Framing& framing, Bytes rest, std::size_t wanted) noexcept {
    char last = '\n';
    switch (framing.kind()) {
        case Framing::Kind::delimiter:
            last = framing.mark().back();
            break;
        case Framing::Kind::line:
        case Framing::Kind::crlf:
            break;
        default:
            return std::min(wanted, rest.size);
    }
    const void* found = std::memchr(rest.data, last, rest.size);
    if (found == nullptr) return rest.size;
    return static_cast<std::size_t>(static_cast<const std::byte*>(found) - rest.data) + 1;
}

void put_number(FrameEdges& edges, const LengthPrefix& prefix, std::uint64_t value) noexcept {
    for (std::size_t index = 0; index < prefix.bytes; ++index) {
        const std::size_t at = prefix.endian == Endian::little ? index : prefix.bytes - 1u - index;
        edges.head[at] = static_cast<char>(value & 0xFF);
        value >>= 8;
    }
    edges.head_size = prefix.bytes;
}

void put_varint(FrameEdges& edges, std::uint64_t value) noexcept {
    for (; value > 0x7F; value >>= 7) {
        edges.head[edges.head_size++] = static_cast<char>(0x80 | (value & 0x7F));
    }
    edges.head[edges.head_size++] = static_cast<char>(value);
}

void put_decimal(FrameEdges& edges, std::uint64_t value) noexcept {
    char digits[digits_max];
    std::size_t count = 0;
    do {
        digits[count++] = static_cast<char>('0' + value % 10);
        value /= 10;
    } while (value != 0);
    while (count != 0) edges.head[edges.head_size++] = digits[--count];
    edges.head[edges.head_size++] = ':';
}

void put_tail(FrameEdges& edges, std::string_view tail) noexcept {
    std::memcpy(edges.tail, tail.data(), tail.size());
    edges.tail_size = static_cast<std::uint8_t>(tail.size());
}

}  // namespace

Framing Framing::delimiter(std::string_view mark, std::size_t max) noexcept {
    WHORL_ASSERT(!mark.empty() && mark.size() <= sizeof mark_);
    Framing framing(Kind::delimiter, max);
    std::memcpy(framing.mark_, mark.data(), mark.size());
    framing.mark_size_ = static_cast<std::uint8_t>(mark.size());
    return framing;
}

Framing Framing::length(LengthPrefix prefix, std::size_t max) noexcept {
    WHORL_ASSERT(prefix.bytes >= 1 && prefix.bytes <= 8);
    Framing framing(Kind::length, max);
    framing.prefix_ = prefix;
    return framing;
}

Framing Framing::fixed(std::size_t size) noexcept {
    WHORL_ASSERT(size >= 1);
    return {Kind::fixed, size};
}

std::size_t Framing::span_max() const noexcept {
    std::size_t marks = 0;
    switch (kind_) {
        case Kind::line:
        case Kind::crlf:
            marks = 2;
            break;
        case Kind::delimiter:
            marks = mark_size_;
            break;
        case Kind::length:
            marks = prefix_.bytes;
            break;
        case Kind::varint:
            marks = varint_max;
            break;
        case Kind::netstring:
            marks = digits_max + 2;
            break;
        case Kind::fixed:
            break;
    }
    return max_ > SIZE_MAX - marks ? SIZE_MAX : max_ + marks;
}

Result<FrameEdges> Framing::edges(std::size_t size) const noexcept {
    if (size > max_ || (kind_ == Kind::fixed && size != max_)) return Error::frame_too_large;
    FrameEdges edges;
    switch (kind_) {
        case Kind::line:
            put_tail(edges, "\n");
            break;
        case Kind::crlf:
            put_tail(edges, "\r\n");
            break;
        case Kind::delimiter:
            put_tail(edges, mark());
            break;
        case Kind::length: {
            const std::uint64_t most =
                prefix_.bytes == 8 ? UINT64_MAX : (std::uint64_t{1} << (8 * prefix_.bytes)) - 1;
            const std::uint64_t own = prefix_.inclusive ? prefix_.bytes : 0;
            if (own > most || size > most - own) return Error::frame_too_large;
            put_number(edges, prefix_, size + own);
            break;
        }
        case Kind::varint:
            put_varint(edges, size);
            break;
        case Kind::netstring:
            put_decimal(edges, size);
            put_tail(edges, ",");
            break;
        case Kind::fixed:
            break;
    }
    return edges;
}

void Framer::feed(Bytes bytes) noexcept {
    WHORL_ASSERT(input_.empty() || error_);
    input_ = bytes;
}

bool Framer::next(const Framing& framing, Bytes& frame) noexcept {
    if (joined_) {
        own_.resize(0);
        joined_ = false;
    }
    if (error_ || input_.empty()) return false;
    if (!own_.empty()) return next_joined(framing, frame);
    const Scan scanned = scan(framing, input_, 0);
    switch (scanned.found) {
        case Found::frame:
            frame = {input_.data + scanned.at, scanned.size};
            input_ = {input_.data + scanned.total, input_.size - scanned.total};
            return true;
        case Found::failed:
            error_ = scanned.error;
            return false;
        case Found::more:
            break;
    }
    static_cast<void>(hold(framing, input_.size));
    return false;
}

// The frame has begun in bytes that were fed before: take what is missing, and no more.
bool Framer::next_joined(const Framing& framing, Bytes& frame) noexcept {
    std::size_t from = own_.size();  // no mark ends before it
    for (;;) {
        const Scan scanned = scan(framing, own_.bytes(), from);
        if (scanned.found == Found::failed) error_ = scanned.error;
        if (scanned.found == Found::frame) {
            frame = {own_.data() + scanned.at, scanned.size};
            joined_ = true;
            return true;
        }
        if (error_ || input_.empty()) return false;
        from = own_.size();
        if (!hold(framing, share_of(framing, input_, scanned.total - from))) return false;
    }
}

// Moves bytes from the input to the own buffer.
bool Framer::hold(const Framing& framing, std::size_t count) noexcept {
    // What lies beyond the largest frame decides nothing.
    count = std::min(count, framing.span_max() - own_.size());
    const std::size_t size = own_.size() + count;
    if (size > own_.capacity()) {
        constexpr std::size_t room_first = 256;
        const std::size_t room =
            std::min(framing.span_max(), std::max({size, own_.capacity() * 2, room_first}));
        Buffer larger = Buffer::allocate(room);
        if (!larger || !larger.append(own_.bytes())) {
            error_ = Error::from_errno(ENOMEM);
            return false;
        }
        own_ = std::move(larger);
    }
    const bool held = own_.append({input_.data, count});
    WHORL_ASSERT(held);
    input_ = {input_.data + count, input_.size - count};
    return true;
}

Error Framer::finish() const noexcept {
    if (error_) return error_;
    return held() != 0 || !input_.empty() ? Error(Error::frame_truncated) : Error();
}

}  // namespace whorl
