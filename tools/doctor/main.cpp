// SPDX-License-Identifier: MIT
// whorl-doctor: which backend a loop gets here, why, and what would make it better. See its manual page,
// tools/man/whorl-doctor.1.
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>

#include "findings.hpp"

int main(int count, char** words) {
    CLI::App options("Tells which backend a whorl loop gets on this machine, and why.",
                     "whorl-doctor");
    bool json = false;
    std::string root;
    options.add_flag("--json", json, "Print JSON");
    options
        .add_option("--root", root,
                    "Read the machine's /proc and /sys below this directory, a copy")
        ->check(CLI::ExistingDirectory);
    options.set_version_flag("--version", doctor::version());
    options.footer(
        "Exit status: 0 io_uring, 1 the fallback, 2 neither, 3 wrong usage or nowhere to print "
        "to.");
    try {
        options.parse(count, words);
    } catch (const CLI::ParseError& error) {
        return options.exit(error) == 0 ? 0 : 3;
    }

    (void)std::signal(SIGPIPE, SIG_IGN);  // whoever reads no more is told of like a full disk
    doctor::Report report;
    const int status = doctor::examine_backends(report);
    doctor::examine_machine(report, root);
    if (json) doctor::print_json(report, status);
    else doctor::print_text(report, status);
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
        std::perror("whorl-doctor: standard output");
        return 3;
    }
    return status;
}
