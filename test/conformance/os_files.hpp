// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

// Files of the operating system as the tests see it (os.hpp): the machine's, or those of the world in
// force.

namespace whorl::conformance::os {

// A directory of the test's own, empty.
std::string make_directory();
void remove_tree(const std::string& path);
int open_file(const std::string& path, int flags, unsigned mode = 0644);
void put_file(const std::string& path, std::string_view text);
std::string get_file(const std::string& path);
bool exists(const std::string& path);  // a symbolic link counts itself
std::vector<std::string> names_in(const std::string& path);

}  // namespace whorl::conformance::os
