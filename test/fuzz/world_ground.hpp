// SPDX-License-Identifier: MIT
#pragma once

#include "fuzz/ground.hpp"

#include <whorl/testing.hpp>

// A simulated world: what fails there fails again, with the same bytes.

namespace fuzz {

class WorldGround final : public Ground {
  public:
    WorldGround(const whorl::testing::SimulationOptions& options, whorl::Backend backend)
        : world(options), backend_(backend) {}

    whorl::Result<whorl::Loop> make_loop(const whorl::LoopOptions& options) override;
    whorl::Instant now() override { return world.now(); }
    whorl::Error pass(whorl::Loop& loop, whorl::Nanoseconds time) override {
        return loop.run_for(time);
    }
    whorl::Address listen_address() override { return whorl::Address::loopback_v4(0); }
    bool faulty() const override { return true; }
    bool socket_pair(int type, int (&ends)[2]) override;
    void close(int fd) override;
    void send(int fd, const void* data, std::size_t size) override;
    void receive(int fd, void* data, std::size_t size) override;
    void shut_down(int fd) override;

    whorl::testing::World world;

  private:
    whorl::Backend backend_;
};

}  // namespace fuzz
