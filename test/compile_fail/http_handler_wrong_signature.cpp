// SPDX-License-Identifier: MIT
// Goal: a callback of an HTTP handler with a slip in its signature is refused, and not taken for another
// function that is then never called. Method: `body` without its piece.
// Expect: whorl: body\(Exchange&, Bytes\)
#include <whorl/http_server.hpp>

struct Shop {
    void request(whorl::http::Exchange& exchange) { exchange.respond({200}); }
#ifdef WHORL_EXPECT_OK
    void body(whorl::http::Exchange&, whorl::Bytes) {}
#else
    void body(whorl::http::Exchange&) {}
#endif
};

bool misuse(whorl::Loop& loop, whorl::Socket socket) {
    return whorl::attach(loop, socket, whorl::http::Serving<Shop>(Shop(), {})).has_value();
}
