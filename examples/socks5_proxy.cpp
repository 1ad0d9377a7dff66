// SPDX-License-Identifier: MIT
// A SOCKS5 proxy (socks5.hpp).
//
//   socks5_proxy [--port N] [--bind ADDRESS] [--login USER:PASSWORD] [--backend automatic|io_uring|libev]
#include "serve.hpp"
#include "socks5.hpp"

int main(int count, char** words) {
    ServeArguments arguments;
    const bool usable = serve_parse(count, words, arguments) && arguments.to.empty();
    const std::size_t colon = arguments.login.find(':');
    if (!usable || (!arguments.login.empty() && (colon == 0 || colon == std::string::npos))) {
        return serve_failed("usage",
                            "[--port N] [--bind ADDRESS] [--login USER:PASSWORD] [--backend NAME]");
    }
    Socks5Options options;
    if (!arguments.login.empty()) {
        options.user = arguments.login.substr(0, colon);
        options.password = arguments.login.substr(colon + 1);
    }
    Socks5Proxy proxy(options);
    return serve_until_signal(arguments, proxy);
}
