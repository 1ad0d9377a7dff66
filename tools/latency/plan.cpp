// SPDX-License-Identifier: MIT
#include "plan.hpp"

#include <whorl/resolve.hpp>

#include <sys/socket.h>

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
    if (text == "pipe" || text == "timer") {
        target.kind = text == "pipe" ? Kind::pipe : Kind::timer;
        return true;
    }
    why =
        "expected tcp://HOST:PORT, udp://HOST:PORT, unix:PATH, unix:@NAME, pipe, timer or "
        "file:PATH";
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
    if (!plan.closed && plan.total() == 0) return "rate and duration: not one message";
    return {};
}

}  // namespace latency
