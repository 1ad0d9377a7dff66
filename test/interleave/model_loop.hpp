// SPDX-License-Identifier: MIT
#pragma once

#include "interleave/atomic.hpp"

#include <whorl/loop.hpp>

#include <cstdint>

// A real Loop for the explorer, on a system that has one event descriptor and a driver that can do nothing
// but wait for it.

namespace interleave {

// A small loop. One at a time, as there is one event descriptor.
whorl::Loop make_loop();
// In each execution: fails when there are more wake calls than so many for each sleep.
void watch_sleeps(std::uint32_t wakes_per_sleep);

}  // namespace interleave
