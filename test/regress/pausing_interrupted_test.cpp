// SPDX-License-Identifier: MIT
// Goal: a received stream that pauses because it has its share of buffers goes on when they come home,
// although the withdrawal interrupted the kernel's receive. It ended with EINTR, which nobody had asked
// for. Found by random schedules on the simulated ring.
// Method: a simulated ring whose cancellations come too late, and EINTR scripted for the receive.
#include "backend/sim_kernel.hpp"

#include <gtest/gtest.h>
#include <whorl/whorl.hpp>

#include <cerrno>
#include <string>
#include <vector>

namespace whorl {
namespace {

using namespace std::chrono_literals;
using detail::OpKind;
using detail::SimKernel;

testing::SimulationOptions late_cancels() {
    testing::SimulationOptions options;
    options.cancel_loses = 1;
    return options;
}

TEST(PausingInterrupted, stream_goes_on) {
    SimKernel kernel(late_cancels());
    LoopOptions options;
    options.world = &kernel;
    options.backend = Backend::io_uring;
    options.recv_buffers_per_stream = 1;
    Result<Loop> made = Loop::create(options);
    ASSERT_TRUE(made);
    Loop& loop = *made;
    int fds[2];
    ASSERT_EQ(kernel.socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    const Result<Socket> socket = adopt_socket(loop, fds[0]);
    ASSERT_TRUE(socket);

    std::string received;
    std::vector<Buffer> held;
    std::vector<Error> ends;
    ASSERT_TRUE(loop.submit(RecvStream{*socket}, [&](Loop&, RecvStream::Done done) {
        received += done.buffer.text();
        if (!done.more) return ends.push_back(done.error);
        if (held.empty()) kernel.script_fault(OpKind::recv_stream, EINTR, 1);
        held.push_back(std::move(done.buffer));
    }));
    EXPECT_EQ(kernel.send(fds[1], "a", 1, 0), 1);
    ASSERT_FALSE(loop.run_for(10ms));
    EXPECT_EQ(received, "a");
    EXPECT_EQ(kernel.take_scripted_fault(OpKind::recv_stream), 0)
        << "the receive was not interrupted";
    EXPECT_TRUE(ends.empty());

    held.clear();
    EXPECT_EQ(kernel.send(fds[1], "b", 1, 0), 1);
    ASSERT_FALSE(loop.run_for(10ms));
    held.clear();
    EXPECT_EQ(kernel.close(fds[1]), 0);
    ASSERT_FALSE(loop.run());
    EXPECT_EQ(received, "ab");
    ASSERT_EQ(ends.size(), 1u);
    EXPECT_FALSE(ends[0]);
    EXPECT_FALSE(loop.close(*socket));
    ASSERT_FALSE(loop.run());
}

}  // namespace
}  // namespace whorl
