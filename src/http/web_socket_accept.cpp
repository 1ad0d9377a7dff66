// SPDX-License-Identifier: MIT
// Floor: 6
#include "http/web_socket_state.hpp"

#include <utility>

// A server's handshake: is it a request for a WebSocket, from where, and which subprotocol.
// Source: RFC 6455, 4.2.

namespace whorl::web_socket {

namespace {

constexpr std::string_view protocol_field = "Sec-WebSocket-Protocol";

// The first of ours that one of the request's lists names, exactly.
std::string_view choose(std::string_view ours, const http::Message& request) noexcept {
    for (std::string_view one; !(one = list_next(ours)).empty();) {
        for (std::uint16_t index = 0; index < request.fields; ++index) {
            const http::Field field = request.field(index);
            if (!http::equal_caseless(field.name, protocol_field)) continue;
            std::string_view offered = field.value;
            for (std::string_view other; !(other = list_next(offered)).empty();) {
                if (other == one) return one;
            }
        }
    }
    return {};
}

std::uint16_t count_of(const http::Message& request, std::string_view name) noexcept {
    std::uint16_t count = 0;
    for (std::uint16_t index = 0; index < request.fields; ++index) {
        if (http::equal_caseless(request.field(index).name, name)) ++count;
    }
    return count;
}

// The status with which a request is refused; 0: it is not.
std::uint16_t refusal(const http::Message& request, const AcceptOptions& options) {
    if (!asked(request) || !request.upgrade) return 426;
    if (request.method != http::Method::get || request.minor == 0 || request.has_body) return 400;
    if (request.find("Sec-WebSocket-Version") != "13") return 426;
    if (count_of(request, "Sec-WebSocket-Key") != 1) return 400;
    if (!key_valid(request.find("Sec-WebSocket-Key"))) return 400;
    const std::string_view origin = request.find("Origin");
    if (options.origin != nullptr && count_of(request, "Origin") != 0) {
        if (count_of(request, "Origin") != 1 || !options.origin(origin, request)) return 403;
    }
    return 0;
}

Error refuse(http::Exchange& exchange, std::uint16_t status) noexcept {
    const http::Field fields[] = {{"Upgrade", "websocket"}, {"Sec-WebSocket-Version", "13"}};
    http::Answer answer{status};
    answer.fields = fields;
    answer.fields_count = status == 426 ? 2 : 0;
    exchange.respond(answer);
    return Error::invalid_argument;
}

}  // namespace

bool asked(const http::Message& request) noexcept {
    return http::list_has(request.find("Upgrade"), "websocket");
}

bool same_origin(std::string_view origin, const http::Message& request) {
    const std::size_t at = origin.find("://");
    if (at == std::string_view::npos || request.host.empty()) return false;
    std::string_view place = origin.substr(at + 3);
    std::string_view host = request.host;
    // A port that is the scheme's own may be left out.
    const std::string_view own =
        http::equal_caseless(origin.substr(0, at), "https") ? ":443" : ":80";
    const auto strip = [own](std::string_view& text) {
        const bool named = text.size() > own.size() && text.substr(text.size() - own.size()) == own;
        if (named) text.remove_suffix(own.size());
    };
    strip(place);
    strip(host);
    return http::equal_caseless(place, host);
}

Error detail::accept(http::Exchange& exchange, Owner made, const AcceptOptions& options) noexcept {
    if (exchange.begun()) return Error::invalid_argument;
    const http::Message& request = exchange.request();
    if (const std::uint16_t status = refusal(request, options)) return refuse(exchange, status);
    const std::string_view protocol = choose(options.protocols, request);
    if (made && !protocol.empty()) made->protocol_ = Buffer::copy_of(Bytes(protocol));
    if (!made || (!protocol.empty() && !made->protocol_)) {
        exchange.respond({503});
        return Error::from_errno(ENOMEM);
    }
    made->loop_ = &exchange.loop();
    const AcceptText text = accept_of(request.find("Sec-WebSocket-Key"));
    const http::Field fields[] = {{"Upgrade", "websocket"},
                                  {"Sec-WebSocket-Accept", text.view()},
                                  {protocol_field, protocol}};
    return exchange.upgrade(fields, protocol.empty() ? 2 : 3, Talk{std::move(made)});
}

}  // namespace whorl::web_socket
