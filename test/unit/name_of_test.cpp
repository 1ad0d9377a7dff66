// SPDX-License-Identifier: MIT
// Goal: each value of an enumeration that programs print has a name of its own, and a number that is none is
// "unknown". Method: all numbers from the first on.
#include <whorl/operation_latency.hpp>
#include <whorl/process_info.hpp>
#include <whorl/run_log.hpp>

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

namespace whorl {
namespace {

// The names of the first `count` numbers; those behind them have none.
template <class Enum>
std::vector<std::string> names(unsigned count) {
    std::vector<std::string> all;
    for (unsigned number = 0; number < 256; ++number) {
        const std::string name = name_of(static_cast<Enum>(number));
        EXPECT_EQ(name == "unknown", number >= count) << number;
        if (number < count) all.push_back(name);
    }
    EXPECT_EQ(std::set<std::string>(all.begin(), all.end()).size(), count) << "one of its own";
    return all;
}

TEST(NameOf, steps_of_a_spawn) {
    const std::vector<std::string> all = {"none",    "prepare",     "process",   "session", "group",
                                          "streams", "credentials", "directory", "program"};
    EXPECT_EQ(names<SpawnStep>(9), all);
}

TEST(NameOf, ends_of_a_recording) {
    const std::vector<std::string> all = {"complete",      "size_limit", "no_space",
                                          "out_of_memory", "guest",      "unfinished"};
    EXPECT_EQ(names<RunEnd>(6), all);
}

TEST(NameOf, phases_of_an_operation) {
    const std::vector<std::string> all = {"queued", "kernel", "waiting", "handler"};
    EXPECT_EQ(names<LatencyPhase>(latency_phases), all);
}

}  // namespace
}  // namespace whorl
