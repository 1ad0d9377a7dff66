// SPDX-License-Identifier: MIT
// Floor: 6
#include "http/text.hpp"

#include <whorl/http_parser.hpp>

// The fields, and what they say about the body. Where RFC 9112 leaves a choice between repairing and
// refusing, it is refused: two lengths, even equal ones; a length beside a coding; lines that go on.

namespace whorl::http {

Field Message::field(std::uint16_t index) const noexcept {
    if (index >= fields) return {};
    const Span& span = spans[index];
    return {{base + span.name_at, span.name_size}, {base + span.value_at, span.value_size}};
}

std::string_view Message::find(std::string_view name) const noexcept {
    for (std::uint16_t index = 0; index < fields; ++index) {
        const Span& span = spans[index];
        if (span.name_size != name.size()) continue;
        if (equal_caseless({base + span.name_at, span.name_size}, name)) return field(index).value;
    }
    return {};
}

// `line` without its end, which begins at `at`.
bool Parser::read_field(std::string_view line, std::size_t at) noexcept {
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return refuse(400, "a field without a colon");
    // A line that begins with a space is one that goes on: obs-fold.
    if (colon == 0 || !all_are(is_token, line.substr(0, colon)))
        return refuse(400, "no field name");
    const std::string_view value = trimmed(line.substr(colon + 1));
    if (!all_are(is_value, line.substr(colon + 1))) {
        return refuse(400, "control characters in a field");
    }
    const std::size_t begins = value.empty() ? colon + 1 : line.find(value.front(), colon + 1);
    message_.spans[message_.fields++] = {
        static_cast<std::uint16_t>(at), static_cast<std::uint16_t>(colon),
        static_cast<std::uint16_t>(at + begins), static_cast<std::uint16_t>(value.size())};
    return read_known({line.substr(0, colon), value});
}

bool Parser::read_known(Field field) noexcept {
    switch (field.name.size()) {
        case 4:
            if (equal_caseless(field.name, "host")) return read_host(field.value);
            break;
        case 6:
            if (role_ == Role::request && equal_caseless(field.name, "expect")) {
                message_.expect_continue = true;
                return equal_caseless(field.value, "100-continue") ||
                       refuse(417, "an unknown expectation");
            }
            break;
        case 10:
            if (equal_caseless(field.name, "connection")) return read_connection(field.value);
            break;
        case 14:
            if (equal_caseless(field.name, "content-length")) return read_length(field.value);
            break;
        case 17:
            if (equal_caseless(field.name, "transfer-encoding")) return read_coding(field.value);
            break;
        default:
            break;
    }
    return true;
}

bool Parser::read_host(std::string_view value) noexcept {
    if (role_ == Role::response) return true;
    if (has_host_) return refuse(400, "two hosts");
    has_host_ = true;
    message_.host = value;
    const std::size_t bracket = value.rfind(']');
    const std::size_t colon = value.find(':', bracket == std::string_view::npos ? 0 : bracket);
    const bool port = colon == std::string_view::npos || colon + 1 == value.size() ||
                      all_digits(value.substr(colon + 1));
    const bool literal =
        bracket == std::string_view::npos ? value.find('[') == bracket : value.front() == '[';
    const bool good = (value.empty() || all_are(is_host, value)) && port && literal;
    return good || refuse(400, "a malformed host");
}

bool Parser::read_length(std::string_view value) noexcept {
    if (message_.has_length) return refuse(400, "two lengths");
    if (!all_digits(value)) return refuse(400, "a malformed length");
    message_.has_length = true;
    for (const char digit : value) {
        if (message_.length > (UINT64_MAX - 9) / 10) return refuse(413, "the body is too large");
        message_.length = message_.length * 10 + static_cast<unsigned>(digit - '0');
    }
    return true;
}

bool Parser::read_coding(std::string_view value) noexcept {
    if (message_.chunked) return refuse(400, "two codings");
    message_.chunked = true;
    if (equal_caseless(value, "chunked")) return true;
    // It may be a good one that is not known here, as long as chunks are the last.
    const std::size_t comma = value.rfind(',');
    const bool last = comma != std::string_view::npos &&
                      equal_caseless(trimmed(value.substr(comma + 1)), "chunked") &&
                      !list_has(value.substr(0, comma), "chunked");
    return last ? refuse(501, "an unknown coding") : refuse(400, "a coding without an end");
}

bool Parser::read_connection(std::string_view value) noexcept {
    if (list_has(value, "close")) close_ = true;
    if (list_has(value, "keep-alive")) keep_ = true;
    if (list_has(value, "upgrade")) message_.upgrade = true;
    return true;
}

// All fields are read.
bool Parser::settle() noexcept {
    message_.keep_alive = !close_ && (message_.minor == 1 || keep_);
    if (message_.chunked && message_.has_length) {
        return refuse(400, "a length beside a coding");
    }
    if (message_.chunked && message_.minor == 0) return refuse(400, "a coding in HTTP/1.0");
    if (role_ == Role::request && !settle_request()) return false;
    if (message_.has_length && message_.length > limits_.body_max) {
        const bool bodiless = role_ == Role::response && body_of() == Part::ended;
        if (!bodiless) return refuse(413, "the body is too large");
    }
    part_ = body_of();
    message_.has_body = part_ != Part::ended;
    left_ = part_ == Part::counted ? message_.length : 0;
    chunk_ = Chunk::size_first;
    extra_ = 0;
    return true;
}

bool Parser::settle_request() noexcept {
    if (!has_host_ && message_.minor == 1) return refuse(400, "no host");
    if (message_.minor == 0) message_.expect_continue = false;
    // Two hosts in one request are two opinions about whom it is for.
    if (!authority_.empty() && has_host_ && !equal_caseless(authority_, message_.host)) {
        return refuse(400, "the target names another host");
    }
    if (!authority_.empty()) message_.host = authority_;
    return true;
}

// How the body's end is found. Source: RFC 9112, 6.3.
Parser::Part Parser::body_of() noexcept {
    if (role_ == Role::response) {
        const std::uint16_t status = message_.status;
        if (to_head_ || status < 200 || status == 204 || status == 304) return Part::ended;
    }
    if (message_.chunked) return Part::chunked;
    if (message_.has_length) return message_.length == 0 ? Part::ended : Part::counted;
    return role_ == Role::request ? Part::ended : Part::until_close;
}

bool equal_caseless(std::string_view a, std::string_view b) noexcept {
    if (a.size() != b.size()) return false;
    for (std::size_t index = 0; index < a.size(); ++index) {
        if (lower(a[index]) != lower(b[index])) return false;
    }
    return true;
}

bool list_has(std::string_view list, std::string_view token) noexcept {
    while (!list.empty()) {
        const std::size_t comma = list.find(',');
        if (equal_caseless(trimmed(list.substr(0, comma)), token)) return true;
        if (comma == std::string_view::npos) return false;
        list.remove_prefix(comma + 1);
    }
    return false;
}

bool valid_name(std::string_view name) noexcept { return !name.empty() && all_are(is_token, name); }
bool valid_value(std::string_view value) noexcept { return all_are(is_value, value); }

namespace {
constexpr std::string_view method_names[] = {"GET",    "HEAD",    "POST",  "PUT",    "PATCH",
                                             "DELETE", "OPTIONS", "TRACE", "CONNECT"};
}

Method method_of(std::string_view name) noexcept {
    for (std::size_t index = 0; index < std::size(method_names); ++index) {
        if (method_names[index] == name) return static_cast<Method>(index);
    }
    return Method::other;
}

std::string_view name_of(Method method) noexcept {
    const auto index = static_cast<std::size_t>(method);
    return index < std::size(method_names) ? method_names[index] : "?";
}

}  // namespace whorl::http
