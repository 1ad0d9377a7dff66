// SPDX-License-Identifier: MIT
// What the programs of the guide hold to be true: otherwise they say so and end with status 1, and the
// test that runs them fails.
#pragma once

#include <whorl/error.hpp>

#include <cstdio>
#include <cstdlib>

inline void expect(bool truth, const char* what) {
    if (truth) return;
    std::fprintf(stderr, "not so: %s\n", what);
    std::exit(1);
}

inline void expect(whorl::Error error) {
    if (!error) return;
    std::fprintf(stderr, "failed: %s: %s\n", error.name(), error.text());
    std::exit(1);
}
