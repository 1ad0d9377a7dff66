// SPDX-License-Identifier: MIT
#pragma once

#include <whorl/whorl.hpp>

#include <cstdint>
#include <string_view>
#include <vector>

// What a soak is asked for.

namespace soak {

// Both ends of every connection are in one process when it may have so many descriptors; otherwise the
// visitors have a process of their own.
enum class Role : std::uint8_t { both, servers, visitors };

struct Settings {
    unsigned seconds = 10;
    unsigned connections = 100;  // in all
    unsigned loops = 2;          // in all; a server and its visitors are a pair
    unsigned seed = 1;
    double slope_max = 1.0;  // MiB/h; looked at from ten minutes on, before that it is noise
    whorl::Backend backend = whorl::Backend::automatic;
    std::string_view leave;  // what is left behind on purpose, so that the balance is tested
    Role role = Role::both;
    std::vector<std::uint16_t> ports;  // of the servers, for visitors in a process of their own
};

// Ends the process when the words make no sense.
Settings read_settings(int argc, char** argv);

// Raises the limit of descriptors to what the role needs. When the hard limit is too low for both ends, the
// role becomes `servers`; when it is too low for one, the process ends.
void allow_descriptors(Settings& settings);

}  // namespace soak
