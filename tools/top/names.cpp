// SPDX-License-Identifier: MIT
#include "names.hpp"

#include <arpa/inet.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

namespace top {

namespace {

// "0100007F:1F90": words of four bytes as this machine has them, and the port.
bool address_of(const char* text, bool ip6, std::string& out) {
    constexpr std::size_t digits = 8;
    const std::size_t words = ip6 ? 4 : 1;
    if (std::strlen(text) != words * digits + 5 || text[words * digits] != ':') return false;
    std::uint32_t address[4] = {};
    for (std::size_t word = 0; word < words; ++word) {
        const std::string part(text + word * digits, digits);
        address[word] = static_cast<std::uint32_t>(std::strtoul(part.c_str(), nullptr, 16));
    }
    char name[INET6_ADDRSTRLEN] = "";
    if (::inet_ntop(ip6 ? AF_INET6 : AF_INET, address, name, sizeof name) == nullptr) return false;
    const unsigned long port = std::strtoul(text + words * digits + 1, nullptr, 16);
    out = (ip6 ? "[" + std::string(name) + "]" : std::string(name)) + ":" + std::to_string(port);
    return true;
}

using Inodes = std::map<unsigned long, std::vector<int>>;

// Gives those sockets of a table that are looked for their names, and looks for them no longer.
void take_sockets(const std::string& folder, const char* table, Inodes& wanted,
                  std::map<int, std::string>& names) {
    std::ifstream lines(folder + table);
    const bool ip6 = table[std::strlen(table) - 1] == '6';
    std::string line, text;
    unsigned long inode = 0;
    while (!wanted.empty() && std::getline(lines, line)) {
        if (!socket_of(line, ip6, inode, text)) continue;
        const auto found = wanted.find(inode);
        if (found == wanted.end()) continue;
        const std::string protocol(table, 3);
        for (const int fd : found->second) names[fd] = protocol + " " + text;
        wanted.erase(found);
    }
}

// Num RefCount Protocol Flags Type St Inode Path
void take_unix(const std::string& folder, Inodes& wanted, std::map<int, std::string>& names) {
    std::ifstream lines(folder + "unix");
    std::string line;
    while (!wanted.empty() && std::getline(lines, line)) {
        unsigned long inode = 0;
        int path = 0;
        if (std::sscanf(line.c_str(), "%*s %*s %*s %*s %*s %*s %lu%n", &inode, &path) != 1)
            continue;
        const auto found = wanted.find(inode);
        if (found == wanted.end()) continue;
        for (const int fd : found->second) {
            names[fd] = "unix" + line.substr(static_cast<std::size_t>(path));
        }
        wanted.erase(found);
    }
}

}  // namespace

bool socket_of(const std::string& line, bool ip6, unsigned long& inode, std::string& text) {
    char local[64], remote[64];
    unsigned state = 0;
    const int got = std::sscanf(line.c_str(), " %*[0-9]: %63s %63s %x %*s %*s %*s %*s %*s %lu",
                                local, remote, &state, &inode);
    std::string from, to;
    if (got != 4 || !address_of(local, ip6, from) || !address_of(remote, ip6, to)) return false;
    const bool peer = to.compare(to.size() - 2, 2, ":0") != 0;  // a listener's is port 0
    text = peer ? from + " -> " + to : from;
    return true;
}

std::map<int, std::string> names_of(int process, const std::vector<int>& fds) {
    std::map<int, std::string> names;
    Inodes wanted;
    const std::string folder = "/proc/" + std::to_string(process) + "/";
    for (const int fd : fds) {
        char target[512];
        const std::string link = folder + "fd/" + std::to_string(fd);
        const ssize_t size = ::readlink(link.c_str(), target, sizeof target);
        if (size <= 0) continue;
        names[fd] = std::string(target, static_cast<std::size_t>(size));
        unsigned long inode = 0;
        if (std::sscanf(names[fd].c_str(), "socket:[%lu]", &inode) == 1)
            wanted[inode].push_back(fd);
    }
    for (const char* table : {"tcp", "tcp6", "udp", "udp6"}) {
        take_sockets(folder + "net/", table, wanted, names);
    }
    take_unix(folder + "net/", wanted, names);
    return names;
}

}  // namespace top
