// SPDX-License-Identifier: MIT
// Was: what was sent at the very moment at which something sent before was due to arrive, and before
// that had, never arrived in a simulated world: no event was made for it. And who sent to a peer that
// was gone could send without end while the clock stood still.
#include "backend/sim_kernel.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cerrno>
#include <string>
#include <utility>

namespace {

using namespace std::chrono_literals;

// Two connected sockets with ten microseconds between them.
std::pair<int, int> connect(whorl::detail::SimKernel& kernel) {
    const int listener = kernel.socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(kernel.listen(listener, 1), 0);
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    EXPECT_EQ(kernel.getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), 0);
    const int near = kernel.socket(AF_INET, SOCK_STREAM, 0);
    static_cast<void>(kernel.connect(near, reinterpret_cast<sockaddr*>(&address), size));
    kernel.advance(1ms);
    const int far = kernel.accept4(listener, nullptr, nullptr, 0);
    EXPECT_GE(far, 0);
    return {near, far};
}

whorl::testing::SimulationOptions ten_microseconds() {
    whorl::testing::SimulationOptions options;
    options.latency_min = options.latency_max = 10us;
    return options;
}

TEST(SimChannelRegress, sent_while_something_is_due) {
    whorl::detail::SimKernel kernel(ten_microseconds());
    const auto [near, far] = connect(kernel);
    // This event comes before the arrival of "a", at the same time.
    kernel.at(kernel.clock() + 10us,
              [&kernel, fd = near] { EXPECT_EQ(kernel.send(fd, "b", 1, 0), 1); });
    ASSERT_EQ(kernel.send(near, "a", 1, 0), 1);
    kernel.advance(1ms);
    char text[4] = {};
    EXPECT_EQ(kernel.recv(far, text, sizeof text, 0), 2);
}

TEST(SimChannelRegress, sent_to_a_peer_that_is_gone) {
    whorl::detail::SimKernel kernel(ten_microseconds());
    const auto [near, far] = connect(kernel);
    kernel.close(far);
    const std::string block(10000, 'x');
    ssize_t done = 0;
    for (int count = 0; count < 1000 && done >= 0; ++count) {
        done = kernel.send(near, block.data(), block.size(), MSG_NOSIGNAL);
    }
    EXPECT_EQ(done, -EAGAIN);
    kernel.advance(1ms);
    EXPECT_LT(kernel.send(near, block.data(), block.size(), MSG_NOSIGNAL), 0);
    EXPECT_NE(kernel.send(near, block.data(), block.size(), MSG_NOSIGNAL), -EAGAIN);
}

}  // namespace
