// SPDX-License-Identifier: MIT
// Goal: only descriptors are closed; timers are cancelled. Method: close() with a Timer.
// Expect: close takes a Socket, Listener or File; use cancel
#include <whorl/loop.hpp>

bool misuse(whorl::Loop& loop, whorl::Timer timer, whorl::Socket socket) {
    static_cast<void>(timer);
    static_cast<void>(socket);
#ifdef WHORL_EXPECT_OK
    return static_cast<bool>(loop.close(socket));
#else
    return static_cast<bool>(loop.close(timer));
#endif
}
