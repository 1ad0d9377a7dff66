// SPDX-License-Identifier: MIT
#include "soak/settings.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace soak {

namespace {

constexpr rlim_t descriptors_besides = 200;

[[noreturn]] void usage(const char* word) {
    std::fprintf(stderr,
                 "soak: %s\nusage: soak [--seconds N] [--connections N] [--loops N, even] "
                 "[--backend automatic|io_uring|libev] [--seed N] [--slope-max MIB_PER_HOUR]\n"
                 "            [--role both|servers|visitors] [--ports N,N...] "
                 "[--leave descriptor|memory|thread]\n",
                 word);
    std::exit(2);
}

std::vector<std::uint16_t> read_ports(const char* text) {
    std::vector<std::uint16_t> ports;
    while (*text != 0) {
        char* end = nullptr;
        ports.push_back(static_cast<std::uint16_t>(std::strtoul(text, &end, 10)));
        if (end == text || (*end != 0 && *end != ',')) usage(text);
        text = *end == ',' ? end + 1 : end;
    }
    return ports;
}

whorl::Backend read_backend(const char* word) {
    if (std::strcmp(word, "automatic") == 0) return whorl::Backend::automatic;
    if (std::strcmp(word, "io_uring") == 0) return whorl::Backend::io_uring;
    if (std::strcmp(word, "libev") == 0) return whorl::Backend::libev;
    usage(word);
}

Role read_role(const char* word) {
    if (std::strcmp(word, "both") == 0) return Role::both;
    if (std::strcmp(word, "servers") == 0) return Role::servers;
    if (std::strcmp(word, "visitors") == 0) return Role::visitors;
    usage(word);
}

}  // namespace

Settings read_settings(int argc, char** argv) {
    Settings settings;
    for (int index = 1; index < argc; index += 2) {
        const std::string_view name = argv[index];
        if (index + 1 == argc) usage(argv[index]);
        const char* value = argv[index + 1];
        const auto number = static_cast<unsigned>(std::strtoul(value, nullptr, 10));
        if (name == "--seconds") settings.seconds = number;
        else if (name == "--connections") settings.connections = number;
        else if (name == "--loops") settings.loops = number;
        else if (name == "--seed") settings.seed = number;
        else if (name == "--slope-max") settings.slope_max = std::atof(value);
        else if (name == "--leave") settings.leave = value;
        else if (name == "--backend") settings.backend = read_backend(value);
        else if (name == "--role") settings.role = read_role(value);
        else if (name == "--ports") settings.ports = read_ports(value);
        else usage(argv[index]);
    }
    if (settings.loops < 2 || settings.loops % 2 != 0) usage("--loops must be even");
    const bool visits = settings.role == Role::visitors;
    if (visits && settings.ports.size() != settings.loops / 2) usage("--ports: one for each pair");
    return settings;
}

void allow_descriptors(Settings& settings) {
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    const rlim_t one = settings.connections + descriptors_besides;
    rlim_t wanted = settings.role == Role::both ? one + settings.connections : one;
    if (wanted > files.rlim_max && settings.role == Role::both) {
        settings.role = Role::servers;
        wanted = one;
    }
    if (files.rlim_cur >= wanted) return;
    files.rlim_cur = wanted;
    files.rlim_max = std::max(files.rlim_max, wanted);
    if (setrlimit(RLIMIT_NOFILE, &files) == 0) return;
    std::fprintf(stderr, "soak: needs %llu descriptors: raise the limit (ulimit -Hn)\n",
                 static_cast<unsigned long long>(wanted));
    std::exit(2);
}

}  // namespace soak
