// SPDX-License-Identifier: MIT
// Where recorders are found: in dumps, in core files, in processes.
#pragma once

#include <string>

#include "dump.hpp"

namespace trace {

// Reads all recorders of a file, a dump (or several in a row) or a core file, into `dumps`.
// Returns what is wrong, for people; empty: nothing. What could be read is in `dumps` all the same.
std::string read_file(const std::string& path, Dumps& dumps);
// Those of a process, which goes on running.
std::string read_process(int process, Dumps& dumps);

}  // namespace trace
