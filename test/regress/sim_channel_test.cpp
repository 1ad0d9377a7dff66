// SPDX-License-Identifier: MIT
// Was: what was sent at the very moment at which something sent before was due to arrive, and before
// that had, never arrived in a simulated world: no event was made for it.
#include "backend/sim_kernel.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>

namespace {

using namespace std::chrono_literals;

TEST(SimChannelRegress, sent_while_something_is_due) {
    whorl::testing::SimulationOptions options;
    options.latency_min = options.latency_max = 10us;
    whorl::detail::SimKernel kernel(options);
    const int listener = kernel.socket(AF_INET, SOCK_STREAM, 0);
    ASSERT_EQ(kernel.listen(listener, 1), 0);
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    ASSERT_EQ(kernel.getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), 0);
    const int near = kernel.socket(AF_INET, SOCK_STREAM, 0);
    static_cast<void>(kernel.connect(near, reinterpret_cast<sockaddr*>(&address), size));
    kernel.sleep(1ms);
    const int far = kernel.accept4(listener, nullptr, nullptr, 0);
    ASSERT_GE(far, 0);

    // This event comes before the arrival of "a", at the same time.
    kernel.at(kernel.clock() + 10us, [&] { EXPECT_EQ(kernel.send(near, "b", 1, 0), 1); });
    ASSERT_EQ(kernel.send(near, "a", 1, 0), 1);
    kernel.sleep(1ms);
    char text[4] = {};
    EXPECT_EQ(kernel.recv(far, text, sizeof text, 0), 2);
}

}  // namespace
