#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs a conformance program twice in its simulated worlds and compares the hashes of their traces.

usage: repeat.py program
"""
import os
import re
import subprocess
import sys


def hashes_of(program):
    environment = dict(os.environ, WHORL_TEST_CONFIGS="sim", WHORL_TEST_HASH="1")
    run = subprocess.run([program], env=environment, check=True, text=True,
                         stdout=subprocess.PIPE)
    return dict(re.findall(r"^trace of (\S+): (\S+)$", run.stdout, re.MULTILINE))


def main():
    first, second = hashes_of(sys.argv[1]), hashes_of(sys.argv[1])
    different = [test for test in first if first[test] != second.get(test)]
    for test in different:
        print(f"{test} took another way the second time")
    print(f"{len(first)} cases, {len(set(first.values()))} different traces")
    return bool(different) or len(first) < 2 or first.keys() != second.keys()


if __name__ == "__main__":
    sys.exit(main())
