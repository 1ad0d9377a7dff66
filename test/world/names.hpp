// SPDX-License-Identifier: MIT
#pragma once

#include <whorl/testing.hpp>
#include <whorl/whorl.hpp>

#include <gtest/gtest.h>

#include <string>

// What the tests of simulated worlds name all the time. They are users of the library: each program takes
// its names from here and no more.

namespace world_names {

using namespace std::chrono_literals;
using whorl::Address;
using whorl::Error;
using whorl::Loop;
using whorl::testing::Exploration;
using whorl::testing::explore;
using whorl::testing::Found;
using whorl::testing::Peer;
using whorl::testing::SimulationOptions;
using whorl::testing::World;

}  // namespace world_names
