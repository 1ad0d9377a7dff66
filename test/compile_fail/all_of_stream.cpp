// SPDX-License-Identifier: MIT
// Goal: what ends many times is no part of all_of. Method: a ReceiveMail, and a wait instead.
// Expect: operations that end once
#include <whorl/all_of.hpp>
#include <whorl/event.hpp>
#include <whorl/mailbox.hpp>

namespace {
template <class Operation>
bool started(whorl::Loop& loop, Operation operation) {
    return static_cast<bool>(
        loop.submit(whorl::all_of(std::move(operation)), [](whorl::Loop&, auto) {}));
}
}  // namespace

int main() {
    whorl::Result<whorl::Loop> loop = whorl::Loop::create();
    if (!loop) return 77;
    whorl::Event event;
    whorl::Result<whorl::Mailbox<int>> mailbox = whorl::Mailbox<int>::create(*loop, 4);
    static_cast<void>(event);
    static_cast<void>(mailbox);
#ifdef WHORL_EXPECT_OK
    return started(*loop, whorl::AwaitEvent{event}) ? 0 : 1;
#else
    return started(*loop, whorl::ReceiveMail{*mailbox}) ? 0 : 1;
#endif
}
