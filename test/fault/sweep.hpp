// SPDX-License-Identifier: MIT
#pragma once

#include "fault/calls.hpp"
#include "fault/world.hpp"

namespace fault {

// What one sweep is about, and where it goes on.
struct Sweep {
    const Scenario* scenario;
    Kind kind;
    int call;
    int error;         // 0: all that the call has
    std::uint32_t at;  // 0: all, from the first
    Canary canary;
    bool verbose;
};

struct Tally {
    std::uint32_t runs = 0;
    std::uint32_t faults = 0;
    std::uint32_t failures = 0;
};

// How often the scenario makes each call when nothing fails, by the call's index. Empty for a backend
// or a filter that this machine refuses: `refusal` says why.
struct Census {
    std::uint32_t counts[64] = {};
    const char* refusal = nullptr;
    bool sound = false;  // the scenario ended as it should
};
Census census(const Scenario& scenario, Kind kind) noexcept;

// Whether faults of this call can be tried in this build.
bool can_fail(const Call& call) noexcept;

// Every fault of one call, one after the other until a run passes without; failures are printed.
Tally sweep(const Sweep& what) noexcept;

}  // namespace fault
