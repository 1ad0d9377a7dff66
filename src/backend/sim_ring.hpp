// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/ring.hpp"

#include <memory>

namespace whorl::detail {

class SimKernel;

// The system calls of io_uring as `kernel` answers them: rings in plain memory, so that the production
// driver runs on the simulated kernel.
std::unique_ptr<RingCalls> make_sim_ring_calls(SimKernel& kernel);

}  // namespace whorl::detail
