// SPDX-License-Identifier: MIT
// Floor: 6
#include "http/text.hpp"

#include <whorl/http_parser.hpp>

#include <algorithm>
#include <cstring>

// The head. First its end is looked for, line by line, with nothing but sizes and line ends checked; what
// the lines say is read when all of it is there. So the verdict cannot depend on how it was cut.

namespace whorl::http {

namespace {
constexpr std::uint32_t head_room = 65535;  // offsets have 16 bits
constexpr std::size_t own_first = 1024;     // of the buffer in which a head is joined
constexpr std::size_t method_max = 32;      // longer names are nobody's
}  // namespace

Parser::Parser(Role role, const Limits& limits) noexcept : limits_(limits), role_(role) {
    limits_.head_max = std::min(limits_.head_max, head_room);
    limits_.line_max = std::min(limits_.line_max, limits_.head_max);
    limits_.fields_max = std::min(limits_.fields_max, Message::fields_room);
}

Step Parser::fail(std::uint16_t status, const char* why) noexcept {
    part_ = Part::failed;
    fault_ = {status, why};
    piece_ = {};
    return Step::failed;
}
bool Parser::refuse(std::uint16_t status, const char* why) noexcept {
    static_cast<void>(fail(status, why));
    return false;
}

Step Parser::next(Bytes& input) noexcept {
    piece_ = {};
    switch (part_) {
        case Part::head:
            return next_head(input);
        case Part::counted:
            return next_counted(input);
        case Part::chunked:
            return next_chunked(input);
        case Part::until_close:
            return input.empty() ? Step::more : give(input, input.size);
        case Part::ended:
            return Step::end;
        default:
            return Step::failed;
    }
}

Step Parser::finish() noexcept {
    if (part_ == Part::failed) return Step::failed;
    if (part_ == Part::until_close) part_ = Part::ended;
    if (part_ == Part::ended) return Step::end;
    return inside() ? fail(400, "the connection ended inside a message") : Step::more;
}

void Parser::restart() noexcept {
    part_ = Part::head;
    blank_ = returned_ = has_host_ = close_ = keep_ = false;
    lines_ = 0;
    head_size_ = line_size_ = extra_ = 0;
    body_bytes_ = left_ = 0;
    piece_ = {};
    authority_ = {};
    // A buffer that had to grow is not kept for the next message.
    if (own_.capacity() > own_first) own_.reset();
    if (own_) own_.resize(0);
}

// Whether the sizes so far are within their limits, with `line` bytes of the present line.
bool Parser::within(std::size_t line) noexcept {
    if (lines_ == 0 && line > limits_.line_max) return refuse(414, "the first line is too long");
    if (head_size_ + line > limits_.head_max) return refuse(431, "the head is too large");
    return true;
}

// A line of `size` bytes with its end.
bool Parser::line_ends(std::size_t size, bool returned) noexcept {
    if (!within(size)) return false;
    if (!returned) return refuse(400, "a line ends without CR");
    head_size_ += static_cast<std::uint32_t>(size);
    if (++lines_ > limits_.fields_max + 1u) return refuse(431, "too many fields");
    return true;
}

// Looks for the end of the head in `text`; `used` bytes of it belong to it.
Parser::Scan Parser::scan(std::string_view text, std::size_t& used) noexcept {
    used = 0;
    while (used < text.size()) {
        const char* const from = text.data() + used;
        const void* const found = std::memchr(from, '\n', text.size() - used);
        if (found == nullptr) {
            line_size_ +=
                static_cast<std::uint32_t>(std::min<std::size_t>(text.size() - used, head_room));
            returned_ = text.back() == '\r';
            used = text.size();
            return within(line_size_) ? Scan::more : Scan::failed;
        }
        const auto part = static_cast<std::size_t>(static_cast<const char*>(found) - from) + 1;
        const bool returned = part > 1 ? from[part - 2] == '\r' : returned_;
        const std::size_t size = line_size_ + part;
        used += part;
        returned_ = false;
        line_size_ = 0;
        if (size != 2 || !returned) {
            if (!line_ends(size, returned)) return Scan::failed;
            continue;
        }
        if (!within(size)) return Scan::failed;
        head_size_ += 2;
        if (lines_ != 0) return Scan::whole;
        // Before a message one empty line is forgiven. Source: RFC 9112, 2.2.
        if (blank_ || role_ == Role::response) {
            static_cast<void>(refuse(400, "an empty line instead of a message"));
            return Scan::failed;
        }
        blank_ = true;
    }
    return Scan::more;
}

bool Parser::join(Bytes bytes) noexcept {
    const std::size_t size = own_.size() + bytes.size;
    if (size > own_.capacity()) {
        Buffer larger = Buffer::allocate(std::max({own_first, size, own_.capacity() * 2}));
        if (!larger || !larger.append(own_.bytes())) return refuse(500, "no memory");
        own_ = std::move(larger);
    }
    return own_.append(bytes);
}

Step Parser::next_head(Bytes& input) noexcept {
    if (input.empty()) return Step::more;
    std::size_t used = 0;
    const Scan scanned = scan(input.text(), used);
    if (scanned == Scan::failed) return Step::failed;
    const Bytes part(input.data, used);
    input = Bytes(input.data + used, input.size - used);
    if (scanned == Scan::more || !own_.empty()) {
        if (!join(part)) return Step::failed;
        if (scanned == Scan::more) return Step::more;
    }
    if (!read_head(own_.empty() ? part.text() : own_.text())) return Step::failed;
    return Step::head;
}

bool Parser::read_head(std::string_view head) noexcept {
    message_.base = head.data();
    message_.fields = 0;
    message_.upgrade = message_.expect_continue = message_.chunked = message_.has_length = false;
    message_.length = 0;
    message_.host = message_.query = message_.path = {};
    std::size_t at = blank_ ? 2 : 0;
    for (bool first = true;; first = false) {
        const std::size_t end = head.find('\n', at);
        const std::string_view line = head.substr(at, end - at - 1);
        if (!first && line.empty()) return settle();
        const bool good = !first                   ? read_field(line, at)
                          : role_ == Role::request ? read_request_line(line)
                                                   : read_status_line(line);
        if (!good) return false;
        at = end + 1;
    }
}

bool Parser::read_version(std::string_view version) noexcept {
    const bool shaped = version.size() == 8 && version.substr(0, 5) == "HTTP/" &&
                        all_digits(version.substr(5, 1)) && version[6] == '.' &&
                        all_digits(version.substr(7));
    if (!shaped) return refuse(400, "no version");
    if (version[5] != '1' || version[7] > '1') return refuse(505, "another version of HTTP");
    message_.minor = static_cast<std::uint8_t>(version[7] - '0');
    return true;
}

// "GET /path HTTP/1.1", with one space each.
bool Parser::read_request_line(std::string_view line) noexcept {
    const std::size_t first = line.find(' ');
    const std::size_t last = line.rfind(' ');
    if (first == std::string_view::npos || first == last) {
        return refuse(400, "the request line has not three words");
    }
    message_.method_text = line.substr(0, first);
    message_.target = line.substr(first + 1, last - first - 1);
    if (first == 0 || !all_are(is_token, message_.method_text)) return refuse(400, "no method");
    if (message_.target.empty() || !all_are(is_target, message_.target)) {
        return refuse(400, "no target");
    }
    if (!read_version(line.substr(last + 1))) return false;
    if (first > method_max) return refuse(501, "the method is too long");
    message_.method = method_of(message_.method_text);
    return read_target();
}

// The four forms of RFC 9112, 3.2.
bool Parser::read_target() noexcept {
    std::string_view rest = message_.target;
    if (message_.method == Method::connect) {
        const std::size_t colon = rest.rfind(':');
        const bool good = colon != std::string_view::npos && colon != 0 &&
                          all_digits(rest.substr(colon + 1)) && all_are(is_host, rest);
        if (!good) return refuse(400, "CONNECT without host and port");
        message_.path = authority_ = rest;
        return true;
    }
    if (rest == "*" && message_.method == Method::options) {
        message_.path = rest;
        return true;
    }
    if (rest.front() != '/') {
        const std::size_t colon = rest.find("://");
        const std::string_view scheme =
            colon == std::string_view::npos ? std::string_view() : rest.substr(0, colon);
        if (!equal_caseless(scheme, "http") && !equal_caseless(scheme, "https")) {
            return refuse(400, "a target that is no path");
        }
        rest.remove_prefix(colon + 3);
        authority_ = rest.substr(0, std::min(rest.find_first_of("/?"), rest.size()));
        rest.remove_prefix(authority_.size());
        // A name and password before the host are for people to be deceived with.
        if (authority_.empty() || !all_are(is_host, authority_)) {
            return refuse(400, "a target without a host");
        }
    }
    const std::size_t mark = std::min(rest.find('?'), rest.size());
    message_.path = rest.substr(0, mark);
    if (message_.path.empty()) message_.path = "/";
    if (mark < rest.size()) message_.query = rest.substr(mark + 1);
    return true;
}

// "HTTP/1.1 200 OK"; the reason may be missing, and with it the space.
bool Parser::read_status_line(std::string_view line) noexcept {
    if (!read_version(line.substr(0, 8))) return false;
    const bool shaped = line.size() >= 12 && line[8] == ' ' && all_digits(line.substr(9, 3)) &&
                        line[9] >= '1' && line[9] <= '5' && (line.size() == 12 || line[12] == ' ');
    if (!shaped) return refuse(400, "no status");
    message_.status = static_cast<std::uint16_t>((line[9] - '0') * 100 + (line[10] - '0') * 10 +
                                                 (line[11] - '0'));
    message_.reason = line.size() > 13 ? line.substr(13) : std::string_view();
    return all_are(is_value, message_.reason) || refuse(400, "control characters in the reason");
}

}  // namespace whorl::http
