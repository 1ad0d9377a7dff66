// SPDX-License-Identifier: MIT
#pragma once

#include "program.hpp"

namespace world_test {

// A small program, the same in every run: what it does next depends on nothing but what has happened.
struct Scenario {
    const char* name;
    void (*run)(Program& program);
};

extern const Scenario scenarios[];
extern const std::size_t scenario_count;

}  // namespace world_test
