// SPDX-License-Identifier: MIT
#include <sched.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "findings.hpp"

namespace doctor {

namespace {

// The first line of a file, empty when it cannot be read.
std::string line_of(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

std::string text_of(rlim_t limit) {
    return limit == RLIM_INFINITY ? "unlimited" : std::to_string(limit);
}

// Rings of kernels before 5.12, and the buffers that a loop may register on any, are locked memory.
void examine_memlock(Report& report) {
    constexpr rlim_t enough = 1 << 20;
    rlimit memlock{};
    utsname system{};
    ::getrlimit(RLIMIT_MEMLOCK, &memlock);
    ::uname(&system);
    const std::string found = text_of(memlock.rlim_cur) + " bytes";
    const bool counts = kernel_of(system.release).before(5, 12);
    if (counts && memlock.rlim_cur < enough) {
        report.add("limit.memlock", Level::poor,
                   found + ": this kernel's rings count against it, and few loops fit",
                   "raise it (ulimit -l, LimitMEMLOCK=)");
        return;
    }
    report.add("limit.memlock", Level::note,
               found + (counts ? "; this kernel's rings count against it"
                               : "; rings count against it before Linux 5.12 only, registered "
                                 "buffers always"));
}

void examine_limits(Report& report, const std::string& root) {
    rlimit files{};
    ::getrlimit(RLIMIT_NOFILE, &files);
    const std::string found = text_of(files.rlim_cur) + ", at most " + text_of(files.rlim_max);
    if (files.rlim_cur < 4096) {
        report.add(
            "limit.descriptors", Level::poor, found + ": beyond it connections wait to be accepted",
            files.rlim_max > files.rlim_cur ? "raise the soft limit (ulimit -n)"
                                            : "raise the hard limit (LimitNOFILE=, limits.conf)");
    } else {
        report.add("limit.descriptors", Level::good, found);
    }
    examine_memlock(report);
    const std::string backlog = line_of(root + "/proc/sys/net/core/somaxconn");
    if (backlog.empty()) return;
    const bool is_short = std::atoi(backlog.c_str()) < 1024;
    report.add("limit.backlog", is_short ? Level::poor : Level::good,
               backlog + " connections wait at most to be accepted",
               is_short ? "raise net.core.somaxconn" : "");
}

void examine_clock(Report& report, const std::string& root) {
    const std::string source =
        line_of(root + "/sys/devices/system/clocksource/clocksource0/current_clocksource");
    if (source.empty()) return;
    // What the vDSO can read without a system call on x86-64.
    const bool fast = source == "tsc" || source == "kvm-clock" || source.rfind("hyperv", 0) == 0 ||
                      source == "arch_sys_counter";
    report.add("clock", fast ? Level::good : Level::poor,
               source + (fast ? "" : ": every reading of the clock is a system call"),
               fast ? "" : "look in the kernel's log why tsc was given up");
}

// The slowest governor of all processors, since a loop may run on any.
void examine_governor(Report& report, const std::string& root) {
    std::string found;
    bool slow = false;
    for (int cpu = 0;; ++cpu) {
        const std::string folder = root + "/sys/devices/system/cpu/cpu" + std::to_string(cpu);
        if (::access(folder.c_str(), F_OK) != 0) break;
        const std::string governor = line_of(folder + "/cpufreq/scaling_governor");
        const bool lazy =
            governor == "powersave" || governor == "ondemand" || governor == "conservative";
        if (found.empty() || (lazy && !slow)) found = governor;
        slow = slow || lazy;
    }
    if (found.empty()) return;
    report.add("cpu.governor", slow ? Level::note : Level::good, found,
               slow ? "the first operations after a pause are slower; `performance` for steady "
                      "latencies"
                    : "");
}

void examine_processors(Report& report, const std::string& root) {
    const long online = ::sysconf(_SC_NPROCESSORS_ONLN);
    cpu_set_t mine;
    CPU_ZERO(&mine);
    const int allowed = ::sched_getaffinity(0, sizeof mine, &mine) == 0 ? CPU_COUNT(&mine) : 0;
    report.add("cpu.count", Level::note,
               std::to_string(allowed) + " of " + std::to_string(online) + " may be used");
    const std::string quota = line_of(root + "/sys/fs/cgroup/cpu.max");
    if (!quota.empty() && quota.rfind("max", 0) != 0) {
        report.add("cpu.quota", Level::poor,
                   "cpu.max is \"" + quota +
                       "\": a loop that has used it up stands still for the rest "
                       "of the period",
                   "raise the limit of the control group, or use fewer loops");
    }
    examine_governor(report, root);
    const std::string isolated = line_of(root + "/sys/devices/system/cpu/isolated");
    report.add("cpu.isolated", Level::note,
               isolated.empty() ? "none" : isolated + ": what is pinned there has them for itself");
}

}  // namespace

void examine_machine(Report& report, const std::string& root) {
    examine_limits(report, root);
    examine_clock(report, root);
    examine_processors(report, root);
}

}  // namespace doctor
