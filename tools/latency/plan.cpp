// SPDX-License-Identifier: MIT
#include "plan.hpp"

#include <whorl/http_client.hpp>
#include <whorl/resolve.hpp>

#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <cmath>

namespace latency {

namespace {

bool take_prefix(std::string_view& text, std::string_view prefix) {
    if (text.substr(0, prefix.size()) != prefix) return false;
    text.remove_prefix(prefix.size());
    return true;
}

bool parse_host(std::string_view text, Target& target, std::string& why) {
    if (whorl::Result<whorl::Address> address = whorl::Address::parse(text)) {
        target.address = *address;
        return true;
    }
    const std::size_t colon = text.rfind(':');
    if (colon == std::string_view::npos || colon == 0 || text.find(':') != colon) {
        why = "expected HOST:PORT, as in 127.0.0.1:7007 or [::1]:7007";
        return false;
    }
    const std::string_view port = text.substr(colon + 1);
    const auto read = std::from_chars(port.data(), port.data() + port.size(), target.port);
    if (read.ec != std::errc() || read.ptr != port.data() + port.size() || target.port == 0) {
        why = "the port is no number from 1 to 65535";
        return false;
    }
    target.host = text.substr(0, colon);
    return true;
}

bool parse_unix(std::string_view name, Target& target, std::string& why) {
    const bool abstract = take_prefix(name, "@");
    whorl::Result<whorl::UnixAddress> address =
        abstract ? whorl::UnixAddress::abstract(name) : whorl::UnixAddress::file(name);
    if (!address) {
        why = address.error().text();
        return false;
    }
    target.unix_address = *address;
    return true;
}

#ifdef WHORL_LATENCY_HTTP
bool parse_http(std::string_view text, Target& target, std::string& why) {
    const std::string_view rest = text.substr(std::string_view("http://").size());
    const std::size_t end = std::min(rest.find_first_of("/?#"), rest.size());
    target.authority = rest.substr(0, end);
    // Port 0 has a server choose one; a URL may not have it.
    const bool chosen = end > 2 && target.authority.substr(end - 2) == ":0";
    const std::string url_text = "http://" + target.authority.substr(0, chosen ? end - 2 : end) +
                                 std::string(rest.substr(end));
    const whorl::Result<whorl::http::Url> url = whorl::http::parse_url(url_text);
    if (!url) {
        why = "expected http://HOST[:PORT][/PATH][?QUERY]";
        return false;
    }
    target.path = url->target;
    if (target.path.empty() || target.path.front() == '?') target.path.insert(0, "/");
    target.port = chosen ? std::uint16_t{0} : url->port;
    const std::string host(url->host);
    const bool is_v6 = host.find(':') != std::string::npos;
    const std::string number =
        (is_v6 ? "[" + host + "]:" : host + ":") + std::to_string(target.port);
    if (const whorl::Result<whorl::Address> address = whorl::Address::parse(number)) {
        target.address = *address;
    } else {
        target.host = host;
    }
    return true;
}
// A method or a field that would end the line, or the head, would be another request than was asked for.
std::string ask_problem(const HttpAsk& ask) {
    if (!whorl::http::valid_name(ask.method)) return "--method " + ask.method + ": not a method";
    if (ask.method == "CONNECT") return "--method CONNECT: a tunnel answers nothing";
    for (const std::string& field : ask.fields) {
        const std::size_t colon = field.find(':');
        if (colon == std::string::npos || !whorl::http::valid_name(field.substr(0, colon)) ||
            !whorl::http::valid_value(field.substr(colon + 1))) {
            return "--header " + field + ": expected 'Name: value'";
        }
    }
    return {};
}
#else
bool parse_http(std::string_view, Target&, std::string& why) {
    why = "this whorl-latency was built without HTTP (WHORL_BUILD_HTTP)";
    return false;
}
std::string ask_problem(const HttpAsk&) { return {}; }
#endif

}  // namespace

bool parse_target(std::string_view text, Target& target, std::string& why) {
    target = {};
    target.text = text;
    if (take_prefix(text, "tcp://")) {
        target.kind = Kind::tcp;
        return parse_host(text, target, why);
    }
    if (take_prefix(text, "udp://")) {
        target.kind = Kind::udp;
        return parse_host(text, target, why);
    }
    if (take_prefix(text, "unix:")) {
        target.kind = Kind::unix_stream;
        return parse_unix(text, target, why);
    }
    if (take_prefix(text, "file:")) {
        target.kind = Kind::file;
        target.path = text;
        if (text.empty()) why = "expected file:PATH";
        return !text.empty();
    }
    if (text.substr(0, 7) == "http://") {
        target.kind = Kind::http;
        return parse_http(text, target, why);
    }
    if (text.substr(0, 8) == "https://") {
        why = "TLS is not spoken here; put http:// before the server's plain port";
        return false;
    }
    if (text == "pipe" || text == "timer" || text == "channel") {
        target.kind = text == "pipe" ? Kind::pipe : text == "timer" ? Kind::timer : Kind::channel;
        return true;
    }
    why =
        "expected tcp://HOST:PORT, udp://HOST:PORT, unix:PATH, unix:@NAME, pipe, timer, "
        "file:PATH, channel or http://HOST:PORT/PATH";
    return false;
}

bool resolve_target(whorl::Loop& loop, Target& target, std::string& why) {
    if (target.host.empty()) return true;
    bool answered = false;
    whorl::ResolveQuery query;
    query.host = target.host;
    query.port = target.port;
    query.type = target.kind == Kind::udp ? SOCK_DGRAM : SOCK_STREAM;
    query.submit = whorl::within(std::chrono::seconds(10));
    const auto asked =
        whorl::resolve(loop, query, [&](whorl::Loop&, const whorl::ResolveDone& done) {
            answered = true;
            if (done.error) why = done.error.text();
            else target.address = done.addresses[0];
        });
    if (!asked) why = asked.error().text();
    while (asked && !answered) {
        if (whorl::Error error = loop.run_once()) {
            why = error.text();
            return false;
        }
    }
    return why.empty();
}

whorl::Nanoseconds Plan::due(std::uint64_t message) const noexcept {
    return whorl::Nanoseconds(std::llround(static_cast<double>(message) * 1e9 / rate));
}

std::uint64_t Plan::total() const noexcept {
    const double seconds = static_cast<double>((warmup + duration).count()) * 1e-9;
    return static_cast<std::uint64_t>(std::llround(seconds * rate));
}

std::string plan_problem(const Plan& plan) {
    if (plan.connections == 0 || plan.connections > 100'000) return "connections: 1 to 100000";
    if (plan.depth == 0 || plan.depth > (1u << 20)) return "depth: 1 to 1048576";
    if (plan.size == 0 || plan.size > Plan::size_max) return "size: 1 to 1048576 bytes";
    if (!(plan.rate >= 0.001) || plan.rate > 1e8) return "rate: 0.001 to 100000000 a second";
    if (plan.duration < std::chrono::milliseconds(1)) return "duration: 1 ms or more";
    if (plan.target.kind == Kind::udp && (plan.size < 8 || plan.size > Plan::datagram_max)) {
        return "size: 8 to 65507 bytes in a datagram, whose number it carries";
    }
    if (plan.target.kind == Kind::pipe && plan.command.empty()) return "pipe: no command";
    if (plan.target.kind == Kind::http) {
        const std::string problem = ask_problem(plan.ask);
        if (!problem.empty()) return problem;
    }
    if (!plan.closed && plan.total() == 0) return "rate and duration: not one message";
    return {};
}

}  // namespace latency
