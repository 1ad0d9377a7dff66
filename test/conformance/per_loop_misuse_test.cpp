// SPDX-License-Identifier: MIT
// Goal: who reaches for a loop's object, or for what has its home there, from another thread ends the program
// with a message that says so. Method: death tests; each makes its loop in the dying child.
#include "conformance/support.hpp"

#include <whorl/home_ptr.hpp>
#include <whorl/per_loop.hpp>

#include <thread>

namespace whorl::conformance {
namespace {

class PerLoopDeathTest : public LoopTest {
  protected:
    // A loop with an object that belongs to this thread, and `call` made from another.
    template <class Call>
    static void from_elsewhere(Call call) {
        ::testing::FLAGS_gtest_death_test_style = "threadsafe";
        Result<Loop> loop = Loop::create(options_here());
        const PerLoop<int> numbers;
        static_cast<void>(numbers.make(*loop, [](Loop&) { return 1; }));
        Result<HomePtr<int>> owner = HomePtr<int>::make(*loop, 1);
        static_cast<void>(loop->poll());
        std::thread([&] { call(*loop, numbers, *owner); }).join();
    }
};
WHORL_CONFORMANCE_REAL(PerLoopDeathTest);

TEST_P(PerLoopDeathTest, another_thread_does_not_reach_the_object) {
    WHORL_SKIP_IF_REFUSED();
    const char* wrong_thread = "wrong thread: this loop belongs to thread";
    EXPECT_DEATH(from_elsewhere([](Loop& loop, const PerLoop<int>& numbers, HomePtr<int>&) {
                     numbers.at(loop) = 2;
                 }),
                 wrong_thread);
    EXPECT_DEATH(from_elsewhere([](Loop& loop, const PerLoop<int>&, HomePtr<int>& owner) {
                     owner.at(loop) = 2;
                 }),
                 wrong_thread);
    EXPECT_DEATH(from_elsewhere([](Loop&, const PerLoop<int>&, HomePtr<int>& owner) {
                     Result<Loop> own = Loop::create(options_here());
                     owner.at(*own) = 2;
                 }),
                 "home_is");
}

}  // namespace
}  // namespace whorl::conformance
