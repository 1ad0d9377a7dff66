// SPDX-License-Identifier: MIT
// Goal: a callback with a slip in its signature is refused, and not taken for another function of the
// protocol that is then never called. Method: `closed` without its reason.
// Expect: whorl: closed\(Stream&, Closed\)
#include <whorl/protocol.hpp>

struct Echo {
    void received(whorl::Stream& stream, whorl::Buffer buffer) { stream.write(std::move(buffer)); }
#ifdef WHORL_EXPECT_OK
    void closed(whorl::Stream&, whorl::Closed) {}
#else
    void closed(whorl::Stream&) {}
#endif
};

bool misuse(whorl::Loop& loop, whorl::Socket socket) {
    return whorl::attach(loop, socket, Echo()).has_value();
}
