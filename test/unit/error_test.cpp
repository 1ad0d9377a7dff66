// SPDX-License-Identifier: MIT
// Goal: every error has a name and a text that say something, and travels through an integer.
// Method: the one list, expanded again; all errno values.
#include <whorl/error.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <climits>
#include <set>
#include <string>
#include <string_view>
#include <type_traits>

namespace {

using whorl::Error;

TEST(Error, default_is_success) {
    constexpr Error error;
    static_assert(!error);
    EXPECT_EQ(error, Error::ok);
    EXPECT_EQ(error.value(), 0);
    EXPECT_FALSE(error.is_errno());
    EXPECT_STREQ(error.name(), "ok");
    EXPECT_STREQ(error.text(), "success");
}

TEST(Error, is_four_trivial_bytes) {
    EXPECT_EQ(sizeof(Error), 4u);
    EXPECT_TRUE(std::is_trivially_copyable<Error>::value);
}

TEST(Error, every_own_code_has_name_and_text) {
    std::set<std::string> names, texts;
    std::set<int> numbers;
    unsigned count = 0;
#define WHORL_TEST_CODE(name_, number, text_)               \
    {                                                       \
        const Error error = Error::name_;                   \
        EXPECT_TRUE(error);                                 \
        EXPECT_EQ(error.value(), number);                   \
        EXPECT_GE(error.value(), 4096);                     \
        EXPECT_FALSE(error.is_errno());                     \
        EXPECT_STREQ(error.name(), #name_);                 \
        EXPECT_STREQ(error.text(), text_);                  \
        EXPECT_EQ(Error::from_value(number), Error::name_); \
        names.insert(error.name());                         \
        texts.insert(error.text());                         \
        numbers.insert(error.value());                      \
        ++count;                                            \
    }
    WHORL_ERROR_LIST(WHORL_TEST_CODE)
#undef WHORL_TEST_CODE
    EXPECT_EQ(names.size(), count);
    EXPECT_EQ(texts.size(), count);
    EXPECT_EQ(numbers.size(), count);
}

TEST(Error, errno_passes_unchanged) {
    const Error error = Error::from_errno(ECONNRESET);
    EXPECT_TRUE(error);
    EXPECT_TRUE(error.is_errno());
    EXPECT_EQ(error.value(), ECONNRESET);
    EXPECT_STREQ(error.name(), "ECONNRESET");
    EXPECT_EQ(std::string_view(error.text()), "Connection reset by peer");
    EXPECT_EQ(Error::from_errno(-ECONNRESET), error);
    EXPECT_NE(Error::from_errno(EPIPE), error);
    EXPECT_NE(error, Error::cancelled);
    EXPECT_EQ(Error::from_errno(0), Error::ok);
}

TEST(Error, no_value_is_without_words) {
    for (int value : {INT_MIN, -1, 0, 1, 41, 133, 134, 4095, 4096, 5000, INT_MAX}) {
        const Error error = Error::from_value(value);
        ASSERT_NE(error.name(), nullptr);
        ASSERT_NE(error.text(), nullptr);
        EXPECT_STRNE(error.name(), "") << value;
        EXPECT_STRNE(error.text(), "") << value;
        EXPECT_EQ(error.value(), value);
    }
    for (int value = 1; value < 4096; ++value) {
        EXPECT_STRNE(Error::from_errno(value).name(), "") << value;
        EXPECT_STRNE(Error::from_errno(value).text(), "") << value;
    }
}

}  // namespace
