#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Passes when a file does not compile for the reason that it names.

usage: check.py file -- compiler flags...

The file's first lines hold `// Expect: regex`, searched in the compiler's output. With
-DWHORL_EXPECT_OK the file must compile, so that a typing error cannot pass for the misuse.
"""
import os
import re
import subprocess
import sys

LINES_SEARCHED = 10


def compile_file(command, path, *extra):
    # Not -fsyntax-only: that may leave templates uninstantiated.
    return subprocess.run(
        [*command, *extra, "-S", "-o", os.devnull, path],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        text=True, errors="replace", env={**os.environ, "LC_ALL": "C"}, check=False)


def fail(message, output=""):
    print(message)
    print(output)
    return 1


def main():
    if len(sys.argv) < 4 or sys.argv[2] != "--":
        return fail(__doc__)
    path, command = sys.argv[1], [word for word in sys.argv[3:] if word]
    with open(path, encoding="utf-8") as file:
        head = "".join(file.readlines()[:LINES_SEARCHED])
    expect = re.search(r"^// Expect: (.+)$", head, re.MULTILINE)
    if expect is None:
        return fail(f"{path}: no line `// Expect: regex` among the first {LINES_SEARCHED}")

    right = compile_file(command, path, "-DWHORL_EXPECT_OK")
    if right.returncode != 0:
        return fail(f"{path}: must compile with -DWHORL_EXPECT_OK", right.stdout)
    wrong = compile_file(command, path)
    if wrong.returncode == 0:
        return fail(f"{path}: compiles, but must not")
    if not re.search(expect.group(1), wrong.stdout):
        return fail(f"{path}: fails for another reason than /{expect.group(1)}/", wrong.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
