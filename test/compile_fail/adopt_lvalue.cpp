// SPDX-License-Identifier: MIT
// Goal: a container cannot be adopted without giving it away. Method: an lvalue, and the same moved.
// Expect: adopt takes over: std::move it in
#include <whorl/buffer.hpp>

#include <string>
#include <utility>

whorl::Buffer misuse(std::string& text) {
#ifdef WHORL_EXPECT_OK
    return whorl::adopt(std::move(text));
#else
    return whorl::adopt(text);
#endif
}
