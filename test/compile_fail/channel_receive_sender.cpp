// SPDX-License-Identifier: MIT
// Goal: a loop does not receive from a sender. Method: a Receive made of either end.
// Expect: no matching function|could not convert|no viable conversion|no matching constructor
#include <whorl/channel.hpp>

void receive(whorl::Loop& loop, whorl::Channel<int> channel) {
#ifdef WHORL_EXPECT_OK
    whorl::Receive<int> operation{std::move(channel.receiver)};
#else
    whorl::Receive<int> operation{std::move(channel.sender)};
#endif
    (void)loop.submit(std::move(operation), [](whorl::Loop&, whorl::Receive<int>::Done) {});
}
