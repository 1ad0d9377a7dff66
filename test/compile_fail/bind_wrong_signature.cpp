// SPDX-License-Identifier: MIT
// Goal: a bound member function with the wrong parameters gets the message about handlers, not one
// from inside bind. Method: a timer's handler that expects something else.
// Expect: this handler cannot be called with \(Loop&, Done\) of the operation
#include <whorl/loop.hpp>

struct Client {
#ifdef WHORL_EXPECT_OK
    void fired(whorl::Loop&, whorl::Expired) {}
#else
    void fired(whorl::Loop&, whorl::Watched) {}
#endif
};

bool misuse(whorl::Loop& loop, Client& client) {
    return loop.after(whorl::Nanoseconds(1), whorl::bind<&Client::fired>(&client)).has_value();
}
