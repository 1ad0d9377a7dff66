// SPDX-License-Identifier: MIT
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "findings.hpp"

namespace doctor {

namespace {

// The first line of a file, empty when it cannot be read.
std::string line_of(const char* path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

std::string text_of(rlim_t limit) {
    return limit == RLIM_INFINITY ? "unlimited" : std::to_string(limit);
}

void examine_limits(Report& report) {
    rlimit files{}, memlock{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    ::getrlimit(RLIMIT_MEMLOCK, &memlock);
    const std::string found = text_of(files.rlim_cur) + ", at most " + text_of(files.rlim_max);
    if (files.rlim_cur < 4096) {
        report.add(
            "limit.descriptors", Level::poor, found + ": beyond it connections wait to be accepted",
            files.rlim_max > files.rlim_cur ? "raise the soft limit (ulimit -n)"
                                            : "raise the hard limit (LimitNOFILE=, limits.conf)");
    } else {
        report.add("limit.descriptors", Level::good, found);
    }
    report.add("limit.memlock", Level::note,
               text_of(memlock.rlim_cur) + " bytes; rings count against it before Linux 5.12 only");
    const std::string backlog = line_of("/proc/sys/net/core/somaxconn");
    if (backlog.empty()) return;
    const bool is_short = std::atoi(backlog.c_str()) < 1024;
    report.add("limit.backlog", is_short ? Level::poor : Level::good,
               backlog + " connections wait at most to be accepted",
               is_short ? "raise net.core.somaxconn" : "");
}

void examine_clock(Report& report) {
    const std::string source =
        line_of("/sys/devices/system/clocksource/clocksource0/current_clocksource");
    if (source.empty()) return;
    // What the vDSO can read without a system call on x86-64.
    const bool fast = source == "tsc" || source == "kvm-clock" || source.rfind("hyperv", 0) == 0 ||
                      source == "arch_sys_counter";
    report.add("clock", fast ? Level::good : Level::poor,
               source + (fast ? "" : ": every reading of the clock is a system call"),
               fast ? "" : "look in the kernel's log why tsc was given up");
}

void examine_processors(Report& report) {
    const long online = ::sysconf(_SC_NPROCESSORS_ONLN);
    cpu_set_t mine;
    CPU_ZERO(&mine);
    const int allowed = ::sched_getaffinity(0, sizeof mine, &mine) == 0 ? CPU_COUNT(&mine) : 0;
    report.add("cpu.count", Level::note,
               std::to_string(allowed) + " of " + std::to_string(online) + " may be used");
    const std::string quota = line_of("/sys/fs/cgroup/cpu.max");
    if (!quota.empty() && quota.rfind("max", 0) != 0) {
        report.add("cpu.quota", Level::poor,
                   "cpu.max is \"" + quota +
                       "\": a loop that has used it up stands still for the rest "
                       "of the period",
                   "raise the limit of the control group, or use fewer loops");
    }
    const std::string governor = line_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    if (!governor.empty()) {
        const bool slow =
            governor == "powersave" || governor == "ondemand" || governor == "conservative";
        report.add("cpu.governor", slow ? Level::note : Level::good, governor,
                   slow ? "the first operations after a pause are slower; `performance` for steady "
                          "latencies"
                        : "");
    }
    const std::string isolated = line_of("/sys/devices/system/cpu/isolated");
    report.add("cpu.isolated", Level::note, isolated.empty() ? "none" : isolated);
}

}  // namespace

void examine_machine(Report& report) {
    examine_limits(report);
    examine_clock(report);
    examine_processors(report);
}

}  // namespace doctor
