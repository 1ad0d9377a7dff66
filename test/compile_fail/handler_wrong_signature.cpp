// SPDX-License-Identifier: MIT
// Goal: a handler for another operation's outcome is refused, with a message that says what to do.
// Method: a Recv with a handler for Connect.
// Expect: this handler cannot be called with \(Loop&, Done\) of the operation
#include <whorl/tcp.hpp>

#ifdef WHORL_EXPECT_OK
using Done = whorl::Recv::Done;
#else
using Done = whorl::Connect::Done;
#endif

bool misuse(whorl::Loop& loop, whorl::Socket socket) {
    return loop.submit(whorl::Recv{socket, loop.buffer(64)}, [](whorl::Loop&, Done) {}).has_value();
}
