// SPDX-License-Identifier: MIT
// Goal: an operation cannot be submitted without giving it away. Method: an lvalue, and the same moved.
// Expect: submit takes over: std::move it in
#include <whorl/tcp.hpp>

#include <utility>

bool misuse(whorl::Loop& loop, whorl::Recv& operation) {
    const auto handler = [](whorl::Loop&, whorl::Recv::Done) {};
#ifdef WHORL_EXPECT_OK
    return loop.submit(std::move(operation), handler).has_value();
#else
    return loop.submit(operation, handler).has_value();
#endif
}
