// SPDX-License-Identifier: MIT
// Goal: a buffer has one owner. Method: it cannot be copied, only moved or shared on purpose.
// Expect: (deleted function|deleted constructor)
#include <whorl/buffer.hpp>

whorl::Buffer misuse(whorl::Buffer& buffer) {
#ifdef WHORL_EXPECT_OK
    return buffer.share();
#else
    return buffer;
#endif
}
