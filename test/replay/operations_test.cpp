// SPDX-License-Identifier: MIT
// Goal: whatever an operation brings with it is in the log: bytes, addresses, descriptors, names, ends of
// children, signals, results of work, and times.
// Method: one program that uses each family of operations and writes what its handlers are told to a trace is
// recorded on a real backend and repeated; what it made outside (a file, a child) is not there any more then.
#include "every_operation.hpp"

#include <sys/stat.h>

#include <string>

namespace {

using namespace replay_test;
using whorl::testing::Replay;

class ReplayOperations : public ::testing::TestWithParam<Backend> {};
INSTANTIATE_TEST_SUITE_P(Backends, ReplayOperations,
                         ::testing::Values(Backend::io_uring, Backend::libev),
                         [](const auto& info) { return name_of(info.param); });

TEST_P(ReplayOperations, each_brings_what_it_brought) {
    LoopOptions options;
    options.backend = GetParam();
    BackendReport report;
    WHORL_REPLAY_NEEDS(Loop::create(options, report), report.text);
    const TemporaryFile file;
    const TemporaryFile place;
    const std::string folder = std::string(place.path()) + ".d";
    ASSERT_EQ(::mkdir(folder.c_str(), 0700), 0);
    std::string trace;
    record(options, file, [&](Loop& loop) {
        Program program(loop, folder, true);
        program.run();
        trace = program.trace;
    });
    ASSERT_EQ(::rmdir(folder.c_str()), 0) << "and nothing in it in a replay";
    ASSERT_NE(trace.find("end\n"), std::string::npos) << trace;

    Replay replay(file.path());
    ASSERT_FALSE(replay.error()) << replay.text();
    {
        auto loop = replay.make_loop();
        ASSERT_TRUE(loop);
        Program program(*loop, folder, false);
        program.run();
        EXPECT_EQ(program.trace, trace) << replay.text();
        EXPECT_FALSE(replay.error()) << replay.text();
    }
    EXPECT_TRUE(replay.finished()) << replay.text();
}

}  // namespace
