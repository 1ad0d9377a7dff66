#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Counts the cases of the conformance suite on each configuration.

usage: count.py --minimum N program...

Fails when a configuration that runs the whole suite has fewer than N cases, or when two of them do not
have the same ones. Cases that no simulated world can have are counted apart.
"""
import argparse
import collections
import subprocess
import sys


def cases_of(program):
    """Yields (suite.test, configuration) for each case of a test program."""
    listing = subprocess.run([program, "--gtest_list_tests"], check=True, text=True,
                             stdout=subprocess.PIPE).stdout
    suite = ""
    for line in listing.splitlines():
        name = line.split("#")[0].rstrip()
        if not name.startswith(" "):
            suite = name.split("/")[-1]
        elif "/" in name:
            test, configuration = name.strip().rsplit("/", 1)
            yield suite + test, configuration


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minimum", type=int, required=True)
    parser.add_argument("programs", nargs="+")
    arguments = parser.parse_args()
    tests = collections.defaultdict(set)
    for program in arguments.programs:
        for test, configuration in cases_of(program):
            if test in tests[configuration]:
                sys.exit(f"{test} is there twice")
            tests[configuration].add(test)
    simulated = {name: found for name, found in tests.items() if name.startswith("sim")}
    real = {name: found for name, found in tests.items() if name not in simulated}
    if not real or not simulated:
        sys.exit("there are no cases on this machine's kernel, or none in a world")
    failed = False
    for kind, group in (("this machine's kernel", real), ("a simulated world", simulated)):
        whole = set.union(*group.values())
        for name, found in sorted(group.items()):
            print(f"{len(found):5} cases  {name}")
            for test in sorted(whole - found):
                print(f"{name} lacks {test}, which others on {kind} have")
                failed = True
        if len(whole) < arguments.minimum:
            print(f"{len(whole)} cases on {kind}, and {arguments.minimum} must be there")
            failed = True
    extra = set.union(*simulated.values()) - set.union(*real.values())
    for test in sorted(extra):
        print(f"{test} runs in worlds only")
        failed = True
    return failed


if __name__ == "__main__":
    sys.exit(main())
