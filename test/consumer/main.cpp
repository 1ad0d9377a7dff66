// SPDX-License-Identifier: MIT
// Goal: a foreign project can use an installed or included whorl. Method: every consumer builds this
// file against the public headers and nothing else, and runs it.
#include <whorl/error.hpp>
#include <whorl/time.hpp>
#include <whorl/version.hpp>

#include <cstdio>
#include <cstring>

int main() {
    const whorl::Instant start = whorl::clock_now();
    if (whorl::clock_now() < start) return 1;
    if (std::strcmp(whorl::Error(whorl::Error::cancelled).name(), "cancelled") != 0) return 2;
    std::puts("whorl " WHORL_VERSION_STRING);
    return 0;
}
