// SPDX-License-Identifier: MIT
// Goal: a Result holds a value or an error, constructs and destroys each value once, and asserts on
// the wrong question. Method: a value that counts its lives.
#include <whorl/result.hpp>

#include <gtest/gtest.h>

#include <cerrno>
#include <memory>
#include <string>
#include <utility>

namespace {

using whorl::Error;
using whorl::Result;

struct Counted {
    static int alive;
    int number = 0;
    explicit Counted(int n) : number(n) { ++alive; }
    Counted(Counted&& other) noexcept : number(std::exchange(other.number, -1)) { ++alive; }
    Counted& operator=(Counted&&) = delete;
    ~Counted() { --alive; }
};
int Counted::alive = 0;

class ResultTest : public ::testing::Test {
  protected:
    void SetUp() override { Counted::alive = 0; }
    void TearDown() override { EXPECT_EQ(Counted::alive, 0); }
};

TEST_F(ResultTest, holds_a_value) {
    Result<int> result = 7;
    EXPECT_TRUE(result);
    EXPECT_TRUE(result.has_value());
    EXPECT_EQ(result.error(), Error::ok);
    EXPECT_EQ(result.value(), 7);
    *result = 8;
    EXPECT_EQ(std::as_const(result).value(), 8);
    EXPECT_EQ(*std::as_const(result), 8);
}

TEST_F(ResultTest, holds_an_error) {
    Result<Counted> own = Error::cancelled;
    EXPECT_FALSE(own);
    EXPECT_FALSE(own.has_value());
    EXPECT_EQ(own.error(), Error::cancelled);
    Result<Counted> system = Error::from_errno(ENOMEM);
    EXPECT_EQ(system.error(), Error::from_errno(ENOMEM));
}

TEST_F(ResultTest, moves_its_value) {
    Result<std::unique_ptr<int>> result = std::make_unique<int>(7);
    EXPECT_EQ(**result, 7);
    Result<std::unique_ptr<int>> moved = std::move(result);
    ASSERT_TRUE(moved);
    std::unique_ptr<int> out = *std::move(moved);
    ASSERT_NE(out, nullptr);
    EXPECT_EQ(*out, 7);
    Result<std::string> text = std::string("text");
    EXPECT_EQ(text->size(), 4u);
    EXPECT_EQ(std::as_const(text)->size(), 4u);
    const std::string taken = std::move(text).value();
    EXPECT_EQ(taken, "text");
}

TEST_F(ResultTest, assigns_in_all_four_ways) {
    for (int from = 0; from < 2; ++from) {
        for (int to = 0; to < 2; ++to) {
            Result<Counted> source = from != 0 ? Result<Counted>(Counted(1)) : Error::timed_out;
            Result<Counted> target = to != 0 ? Result<Counted>(Counted(2)) : Error::cancelled;
            target = std::move(source);
            EXPECT_EQ(target.has_value(), from != 0);
            if (from != 0) {
                EXPECT_EQ(target->number, 1);
            } else {
                EXPECT_EQ(target.error(), Error::timed_out);
            }
        }
    }
}

TEST_F(ResultTest, self_assignment_changes_nothing) {
    Result<Counted> result = Counted(5);
    Result<Counted>& same = result;
    result = std::move(same);
    EXPECT_EQ(result->number, 5);
    EXPECT_EQ(Counted::alive, 1);
}

TEST_F(ResultTest, value_or_falls_back) {
    EXPECT_EQ(Result<int>(3).value_or(4), 3);
    EXPECT_EQ(Result<int>(Error::cancelled).value_or(4), 4);
    EXPECT_EQ(Result<std::string>(Error::cancelled).value_or("none"), "none");
    EXPECT_EQ(Result<Counted>(Counted(6)).value_or(Counted(7)).number, 6);
}

TEST_F(ResultTest, keeps_alignment) {
    struct alignas(16) Wide {
        char byte = 1;
    };
    Result<Wide> result = Wide();
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(&*result) % 16, 0u);
}

TEST(ResultDeathTest, wrong_questions) {
    Result<int> result = Error::cancelled;
    EXPECT_DEATH(static_cast<void>(result.value()), "assertion failed: !error_");
    EXPECT_DEATH(static_cast<void>(*result), "assertion failed: !error_");
    EXPECT_DEATH(static_cast<void>(std::move(result).value()), "assertion failed: !error_");
    EXPECT_DEATH(static_cast<void>(Result<int>(Error::ok)), "assertion failed: error");
}

}  // namespace
