// SPDX-License-Identifier: MIT
#pragma once

#include <map>
#include <string>
#include <vector>

namespace top {

// What the descriptors of a process are, for a person: a socket's addresses, a file's path. From
// /proc/PID/fd and /proc/PID/net, so of the process's own network; what cannot be told is left out.
// Cost: the kernel's tables of sockets are read whole, as ss(8) does without netlink.
std::map<int, std::string> names_of(int process, const std::vector<int>& fds);

// One line of /proc/net/tcp and its like, as "127.0.0.1:80 -> 10.0.0.1:5000". False: it is none. For tests.
bool socket_of(const std::string& line, bool ip6, unsigned long& inode, std::string& text);

}  // namespace top
