// SPDX-License-Identifier: MIT
// Goal: a Timer cannot be passed for an Operation. Method: each handle is a type of its own.
// Expect: (cannot|could not) convert|no known conversion|no viable conversion
#include <whorl/loop.hpp>

bool misuse(whorl::Loop& loop, whorl::Timer timer, whorl::Operation operation) {
    static_cast<void>(timer);
    static_cast<void>(operation);
#ifdef WHORL_EXPECT_OK
    return loop.alive(operation);
#else
    return loop.alive(timer);
#endif
}
