#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Says how much of src and include the tests reach, and fails when it is less than it was.

usage: coverage.py BUILD_DIRECTORY [--missing] [--html DIRECTORY]

The directory is a build with WHORL_COVERAGE=ON (gcc) in which tests have been run. Not counted, because
no test can or should reach it:
  - the branches that the compiler adds for exceptions, those of a handler's call included, and code
    that it proves to be unreachable;
  - the question whether a pointer is null that is part of every delete, once for each type;
  - lines with WHORL_ASSERT, WHORL_VERIFY and WHORL_MAYBE: the other branch of each ends the program.

--missing  every line and branch that was not reached
--html     a report to look at

Exit status 1 below a threshold. The thresholds are what was reached, rounded down: raise them with the
tests, never lower them without a reason in docs/testing.md.
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
LINES_MIN = 98.6
BRANCHES_MIN = 92.0

# Where a line that no test has run is a mistake waiting: (file, lines, branches).
COMPLETE = [
    ("include/whorl/slab.hpp", 100.0, 100.0),
    ("include/whorl/spsc_ring.hpp", 100.0, 86.0),  # the rest is in <atomic>
    ("include/whorl/timer_wheel.hpp", 100.0, 100.0),
    ("src/core/channel.cpp", 100.0, 92.0),  # the rest are races
    ("src/loop/descriptors.cpp", 100.0, 100.0),
    ("src/structure/slab.cpp", 100.0, 100.0),
]

OPTIONS = [
    "--root", str(ROOT), "--filter", str(ROOT / "src") + "/", "--filter", str(ROOT / "include") + "/",
    # Sources that test/guard and test/interleave compile once more, in another mode: with lines and branches
    # of their own, which those few tests do not reach.
    "--exclude-directories", ".*/whorl-electric.dir", "--exclude-directories", ".*/interleave/.*",
    "--exclude-throw-branches", "--exclude-unreachable-branches",
    "--exclude-lines-by-pattern", r".*\bWHORL_(ASSERT|VERIFY|MAYBE)\(.*",
    "--exclude-branches-by-pattern",
    r".*(\bdelete \w+;|handler_call\(|stored\(std::forward<).*",
]


def gcovr(build, *options):
    command = ["gcovr", *OPTIONS, *options, str(build / "src"), str(build / "test")]
    with tempfile.TemporaryDirectory() as scratch:  # for gcov's files
        subprocess.run(command, cwd=scratch, check=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--missing", action="store_true")
    parser.add_argument("--html", type=pathlib.Path)
    arguments = parser.parse_args()
    build = arguments.build.resolve()
    if shutil.which("gcovr") is None:
        print("coverage: install gcovr")
        return 1

    # Reading the counters is what takes time: once, into a file that the reports are made of.
    traces = build / "coverage.json"
    gcovr(build, "--json", str(traces))
    read = ["gcovr", *OPTIONS, "--add-tracefile", str(traces)]
    summary = build / "coverage-summary.json"
    subprocess.run([*read, "--json-summary", str(summary)], cwd=build, check=True)
    subprocess.run([*read, "--txt"], cwd=build, check=True)
    if arguments.missing:
        subprocess.run([*read, "--txt", "--branches"], cwd=build, check=True)
    if arguments.html:
        arguments.html.mkdir(parents=True, exist_ok=True)
        subprocess.run([*read, "--html-details", str(arguments.html.resolve() / "index.html")],
                       cwd=build, check=True)

    with open(summary, encoding="utf-8") as file:
        result = json.load(file)
    files = {entry["filename"]: entry for entry in result["files"]}
    wanted = [("all", result, LINES_MIN, BRANCHES_MIN)]
    wanted += [(name, files.get(name), lines, branches) for name, lines, branches in COMPLETE]
    passed = failed = 0
    for name, entry, lines_min, branches_min in wanted:
        lines = entry["line_percent"] if entry else 0.0
        branches = entry["branch_percent"] if entry else 0.0
        # A file without branches has no percentage.
        enough = (lines or 0.0) >= lines_min and (branches is None or branches >= branches_min)
        print(f"coverage: {name}: lines {lines} % (at least {lines_min}), "
              f"branches {branches} % (at least {branches_min}){'' if enough else ': TOO LITTLE'}")
        passed += enough
        failed += not enough
    print(f"coverage: {passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
