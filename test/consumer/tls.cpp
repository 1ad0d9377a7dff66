// SPDX-License-Identifier: MIT
// Goal: a foreign project can use whorl::tls, without OpenSSL's headers. Method: as main.cpp; a context
// without a certificate is refused, with a reason, and one of a client is made.
#include <whorl/tls.hpp>
#include <whorl/version.hpp>

#include <cstdio>

int main() {
    whorl::tls::Report report;
    const auto server = whorl::tls::Context::server({}, &report);
    const auto client = whorl::tls::Context::client();
    if (server || report.text[0] == 0 || !client) return 1;
    if (!whorl::tls::Client::create(*client, "example.org")) return 1;
    std::printf("whorl %d.%d.%d, with TLS\n", WHORL_VERSION_MAJOR, WHORL_VERSION_MINOR,
                WHORL_VERSION_PATCH);
    return 0;
}
