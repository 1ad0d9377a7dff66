// SPDX-License-Identifier: MIT
// Goal: an object that takes no bytes is no protocol. Method: only `opened`.
// Expect: a protocol has received\(Stream&, Buffer\) or frame\(Stream&, Bytes\)
#include <whorl/protocol.hpp>

struct Silent {
    void opened(whorl::Stream&) {}
#ifdef WHORL_EXPECT_OK
    void received(whorl::Stream&, whorl::Buffer) {}
#endif
};

bool misuse(whorl::Loop& loop, whorl::Socket socket) {
    return whorl::attach(loop, socket, Silent()).has_value();
}
