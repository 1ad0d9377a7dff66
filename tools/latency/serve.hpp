// SPDX-License-Identifier: MIT
// The other end: what comes is sent back.
#pragma once

#include <whorl/loop.hpp>

#include <string>

#include "plan.hpp"

namespace latency {

// Begins to serve `target` on the loop; a pipe's are standard input and output, and `ended` is set with
// them. `where` becomes what it listens on. False: `why`. `ended` outlives the loop's runs.
bool serve(whorl::Loop& loop, const Target& target, bool& ended, std::string& where,
           std::string& why);

}  // namespace latency
