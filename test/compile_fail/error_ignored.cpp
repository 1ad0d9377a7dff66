// SPDX-License-Identifier: MIT
// Goal: an error cannot be overlooked (with -Werror). Method: [[nodiscard]] on Error and on Result.
// Expect: nodiscard|unused-result
#include <whorl/address.hpp>

void misuse() {
#ifdef WHORL_EXPECT_OK
    static_cast<void>(whorl::Address::parse("1.2.3.4:80"));
#else
    whorl::Address::parse("1.2.3.4:80");
#endif
}
