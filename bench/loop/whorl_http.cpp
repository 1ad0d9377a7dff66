// SPDX-License-Identifier: MIT
// whorl's HTTP server for comparisons: one small answer to every request, over TLS when it is given a
// certificate. The rivals are libevent's evhttp and nginx.
#include "whorl_server.hpp"

#include <whorl/http_server.hpp>

#if defined(WHORL_BENCH_TLS)
#include <whorl/tls.hpp>
#endif

#include <cstdlib>
#include <optional>

namespace {

struct Hello {
    void request(whorl::http::Exchange& exchange) {
        exchange.respond({200, "text/plain"}, "Hello, world!");
    }
};

#if defined(WHORL_BENCH_TLS)
// WHORL_BENCH_CERTIFICATE and WHORL_BENCH_KEY name files, as the rivals take them.
std::optional<whorl::tls::Server> tls_server() {
    const char* certificate = std::getenv("WHORL_BENCH_CERTIFICATE");
    const char* key = std::getenv("WHORL_BENCH_KEY");
    if (certificate == nullptr || key == nullptr) return std::nullopt;
    whorl::tls::ServerOptions options;
    options.certificates.file = certificate;
    options.key.file = key;
    const whorl::Result<whorl::tls::Context> context = whorl::tls::Context::server(options);
    bench::check(context.error(), "certificate");
    whorl::Result<whorl::tls::Server> made = whorl::tls::Server::create(*context);
    bench::check(made.error(), "tls");
    return std::move(*made);
}
#endif

}  // namespace

int main(int count, char** arguments) {
#if defined(WHORL_BENCH_TLS)
    std::optional<whorl::tls::Server> tls = tls_server();
#endif
    bench::WhorlServer server(count, arguments);
    whorl::Loop& loop = server.loop();
    const int listening = bench::listen_on(server.options(), 0);
    const whorl::Result<whorl::Listener> listener = whorl::adopt_listener(loop, listening);
    bench::check(listener.error(), "adopt_listener");
    whorl::AcceptorOptions options;
    options.stream.deadlines.write = std::chrono::seconds(30);
#if defined(WHORL_BENCH_TLS)
    if (tls) options.stream.layer = tls->layer();
#endif
    const auto make = [](const whorl::Accepted&) { return whorl::http::Serving(Hello(), {}); };
    bench::check(whorl::serve(loop, *listener, make, options).error(), "serve");
    bench::announce(listening);
    server.run();
    return 0;
}
