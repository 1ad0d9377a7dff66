// SPDX-License-Identifier: MIT
// Goal: a receiver does not send. Method: send() on either end.
// Expect: no member named|has no member
#include <whorl/channel.hpp>

int main() {
    whorl::Result<whorl::Channel<int>> channel = whorl::Channel<int>::create(4);
#ifdef WHORL_EXPECT_OK
    return channel->sender.send(1) ? 1 : 0;
#else
    return channel->receiver.send(1) ? 1 : 0;
#endif
}
