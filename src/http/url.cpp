// SPDX-License-Identifier: MIT
// Floor: 6
#include "http/text.hpp"

#include <whorl/http_client.hpp>

#include <algorithm>
#include <charconv>

namespace whorl::http {

Result<Url> parse_url(std::string_view text) noexcept { return parse_url(text, "http://", 80); }

Result<Url> parse_url(std::string_view text, std::string_view scheme,
                      std::uint16_t port_default) noexcept {
    if (!equal_caseless(text.substr(0, scheme.size()), scheme)) return Error::invalid_argument;
    text.remove_prefix(scheme.size());
    text = text.substr(0, text.find('#'));
    Url url;
    url.port = port_default;
    url.authority = text.substr(0, std::min(text.find_first_of("/?"), text.size()));
    url.target = text.substr(url.authority.size());
    if (!all_are(is_host, url.authority) || !all_are(is_target, url.target)) {
        return Error::invalid_argument;
    }
    const std::size_t bracket = url.authority.find(']');
    const bool literal = !url.authority.empty() && url.authority.front() == '[';
    if (literal != (bracket != std::string_view::npos)) return Error::invalid_argument;
    const std::size_t colon = url.authority.find(':', literal ? bracket : 0);
    url.host = url.authority.substr(0, colon);
    if (literal) {
        if (url.host.size() != bracket + 1) return Error::invalid_argument;
        url.host = url.host.substr(1, bracket - 1);
    }
    if (url.host.empty()) return Error::invalid_argument;
    if (colon != std::string_view::npos && colon + 1 < url.authority.size()) {
        const std::string_view port = url.authority.substr(colon + 1);
        const auto read = std::from_chars(port.data(), port.data() + port.size(), url.port);
        const bool whole = read.ec == std::errc() && read.ptr == port.data() + port.size();
        if (!whole || url.port == 0) return Error::invalid_argument;
    }
    return url;
}

}  // namespace whorl::http
