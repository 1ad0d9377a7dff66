// SPDX-License-Identifier: MIT
// A TCP proxy (proxy.hpp).
//
//   tcp_proxy --to ADDRESS:PORT [--port N] [--bind ADDRESS] [--backend automatic|io_uring|libev]
#include "proxy.hpp"
#include "serve.hpp"

int main(int count, char** words) {
    ServeArguments arguments;
    if (!serve_parse(count, words, arguments) || arguments.to.empty()) {
        return serve_failed("usage",
                            "--to ADDRESS:PORT [--port N] [--bind ADDRESS] [--backend NAME]");
    }
    const auto target = whorl::Address::parse(arguments.to);
    if (!target) return serve_failed(arguments.to.c_str(), target.error().text());
    Proxy proxy({*target});
    return serve_until_signal(arguments, proxy);
}
