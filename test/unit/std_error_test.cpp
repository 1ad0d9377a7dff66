// SPDX-License-Identifier: MIT
// Goal: errors keep their meaning as std::error_code. Method: one of each kind, compared.
#include <gtest/gtest.h>
#include <whorl/std_error.hpp>

namespace whorl {
namespace {

TEST(StdError, success_is_no_error) { EXPECT_FALSE(to_error_code(Error())); }

TEST(StdError, errno_values_are_the_systems) {
    const std::error_code code = to_error_code(Error::from_errno(-ECONNRESET));
    EXPECT_EQ(code, std::errc::connection_reset);
    EXPECT_EQ(code.value(), ECONNRESET);
    EXPECT_EQ(code.category(), std::system_category());
}

TEST(StdError, own_errors_have_a_category_and_their_text) {
    const std::error_code code = to_error_code(Error::stale_handle);
    EXPECT_EQ(code.category(), error_category());
    EXPECT_STREQ(code.category().name(), "whorl");
    EXPECT_EQ(code.message(), Error(Error::stale_handle).text());
    EXPECT_NE(code, to_error_code(Error::loop_closed));
}

TEST(StdError, own_errors_compare_with_the_standards_conditions) {
    EXPECT_EQ(to_error_code(Error::cancelled), std::errc::operation_canceled);
    EXPECT_EQ(to_error_code(Error::timed_out), std::errc::timed_out);
    EXPECT_EQ(to_error_code(Error::invalid_argument), std::errc::invalid_argument);
    EXPECT_NE(to_error_code(Error::queue_full), std::errc::timed_out);
}

}  // namespace
}  // namespace whorl
