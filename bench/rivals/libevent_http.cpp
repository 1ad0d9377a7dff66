// SPDX-License-Identifier: MIT
// An HTTP server on libevent's evhttp, as its manual has it: one small answer to every request, over TLS
// (bufferevent_openssl) when it is given a certificate. No lock in the base.
#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/http.h>
#include <openssl/ssl.h>

#include <cstdlib>

#include "echo.hpp"

namespace {

SSL_CTX* tls_context() {
    const char* certificate = std::getenv("WHORL_BENCH_CERTIFICATE");
    const char* key = std::getenv("WHORL_BENCH_KEY");
    if (certificate == nullptr || key == nullptr) return nullptr;
    SSL_CTX* context = SSL_CTX_new(TLS_server_method());
    if (context == nullptr || SSL_CTX_use_certificate_chain_file(context, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1) {
        bench::fail("certificate", EINVAL);
    }
    (void)SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    return context;
}

bufferevent* tls_stream(event_base* base, void* context) {
    SSL* session = SSL_new(static_cast<SSL_CTX*>(context));
    return bufferevent_openssl_socket_new(base, -1, session, BUFFEREVENT_SSL_ACCEPTING,
                                          BEV_OPT_CLOSE_ON_FREE);
}

void answer(evhttp_request* request, void*) {
    static const char text[] = "Hello, world!";
    evbuffer* body = evbuffer_new();
    if (body == nullptr) bench::fail("evbuffer_new", ENOMEM);
    (void)evbuffer_add_reference(body, text, sizeof text - 1, nullptr, nullptr);
    (void)evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type",
                            "text/plain");
    evhttp_send_reply(request, 200, "OK", body);
    evbuffer_free(body);
}

}  // namespace

int main(int argc, char** argv) {
    const bench::Options options = bench::parse_options(argc, argv, {});
    SSL_CTX* context = tls_context();
    event_config* config = event_config_new();
    if (config == nullptr) bench::fail("event_config_new", ENOMEM);
    (void)event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    event_base* base = event_base_new_with_config(config);
    event_config_free(config);
    evhttp* http = base == nullptr ? nullptr : evhttp_new(base);
    if (http == nullptr) bench::fail("evhttp_new", ENOMEM);
    evhttp_set_gencb(http, &answer, nullptr);
    if (context != nullptr) evhttp_set_bevcb(http, &tls_stream, context);
    const int listener = bench::listen_on(options, SOCK_NONBLOCK);
    if (evhttp_accept_socket(http, listener) != 0) bench::fail("evhttp_accept_socket", errno);
    const int stop_fd = bench::stop_descriptor();
    event* stop = event_new(
        base, stop_fd, EV_READ,
        [](evutil_socket_t, short, void* user) {
            (void)event_base_loopbreak(static_cast<event_base*>(user));
        },
        base);
    if (stop == nullptr || event_add(stop, nullptr) != 0) bench::fail("event_new", ENOMEM);
    bench::announce(listener);
    if (event_base_dispatch(base) < 0) bench::fail("event_base_dispatch", errno);
    event_free(stop);
    evhttp_free(http);
    event_base_free(base);
    SSL_CTX_free(context);
    (void)close(stop_fd);
    bench::print_report("evhttp");
    return 0;
}
