// SPDX-License-Identifier: MIT
#pragma once

#include <whorl/backend_report.hpp>

#include <string>
#include <vector>

// What whorl-doctor looks at, and what it has found. Each source file adds findings of its kind; print.cpp
// shows them all.

namespace doctor {

enum class Level {
    good,  // as it should be
    note,  // worth knowing, nothing to do
    poor,  // works, but worse than it could
    bad,   // does not work
};

struct Finding {
    std::string subject;  // stable: scripts look for it
    Level level;
    std::string what;  // what was found
    std::string cure;  // what to do; empty when there is nothing
};

struct Report {
    std::vector<Finding> findings;

    void add(const char* subject, Level level, std::string what, std::string cure = {}) {
        findings.push_back({subject, level, std::move(what), std::move(cure)});
    }
};

// Which backends there are, why not, what of the kernel is used, and whether bytes come through.
// Returns the exit status: 0 io_uring, 1 the fallback only, 2 neither.
int examine_backends(Report& report);
// Limits, clock and processors: what makes a loop fail under load, or late. The files of /proc and /sys are
// read below `root`.
void examine_machine(Report& report, const std::string& root);

struct Kernel {
    int major = 0, minor = 0;
    bool before(int a, int b) const { return major < a || (major == a && minor < b); }
};
Kernel kernel_of(const char* release);  // "6.1.0-47-cloud-amd64"

// Why io_uring was refused, in a word that scripts may look for, and what to do.
struct Cause {
    std::string word;
    std::string cure;
};
Cause cause_of(const whorl::BackendReport& report, Kernel kernel);

std::string version();
void print_text(const Report& report, int status);
void print_json(const Report& report, int status);

}  // namespace doctor
