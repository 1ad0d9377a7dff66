// SPDX-License-Identifier: MIT
// Goal: a handler of one byte more than a slot holds is refused, with the way out in the message.
// Method: 48 bytes compile and 49 do not.
// Expect: captures are larger than 48 bytes; capture a pointer to your state, or wrap the handler in whorl::boxed
#include <whorl/tcp.hpp>

#ifdef WHORL_EXPECT_OK
constexpr unsigned size = whorl::handler_size_max;
#else
constexpr unsigned size = whorl::handler_size_max + 1;
#endif

struct Handler {
    unsigned char state[size] = {};
    void operator()(whorl::Loop&, whorl::Recv::Done) {}
};

bool misuse(whorl::Loop& loop, whorl::Socket socket) {
    return loop.submit(whorl::Recv{socket, loop.buffer(64)}, Handler()).has_value();
}
