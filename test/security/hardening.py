#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that what was built has the hardening that docs/SECURITY.md promises.

usage: hardening.py [--library SO]... [--archive A]... [--program EXE]... [--optimized]

Goal: a flag that is lost on its way through the build system is noticed. Method: what readelf and nm
say of the files, not what the command lines say.

  library, program  RELRO, immediate binding, a stack that is not executable, no page both written
                    and executed; a program is position independent as well
  library, archive  stack protector; with --optimized the checked forms of libc's functions
  library, archive  nothing is destroyed at exit, when threads may still use it
  library           landing marks for indirect branches in the code
  archive           the note of control-flow protection in every object (the linker drops it from
                    what it links where, as on Debian 12, the C library's start files lack it)
"""
import argparse
import platform
import re
import subprocess
import sys

failures = []
passed = 0


def tell(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True,
                          env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"}).stdout


def expect(condition, path, what):
    global passed
    if condition:
        passed += 1
    else:
        failures.append(f"{path}: {what}")


def has_control_flow_marks(notes):
    features = re.findall(r"x86 feature: ([A-Z, ]+)", notes)
    return features and all("IBT" in found and "SHSTK" in found for found in features)


def check_linked(path):
    segments = tell("readelf", "-lW", path)
    dynamic = tell("readelf", "-dW", path)
    stack = re.search(r"GNU_STACK .*", segments)
    expect("GNU_RELRO" in segments, path, "has no RELRO segment")
    expect(re.search(r"BIND_NOW|Flags:.*\bNOW\b", dynamic), path, "binds lazily")
    expect(stack and "E" not in stack.group().split()[-2], path, "has an executable stack")
    expect(not re.search(r"LOAD .* RWE ", segments), path, "has pages both written and executed")
    expect("TEXTREL" not in dynamic, path, "is relocated in its text")


def check_landing_marks(path):
    if platform.machine() == "x86_64":
        symbols = tell("readelf", "--dyn-syms", "-W", path)
        functions = len(re.findall(r" FUNC +GLOBAL +DEFAULT +\d", symbols))
        marks = tell("objdump", "-d", "--no-show-raw-insn", path).count("endbr64")
        expect(marks > functions > 0, path, f"has {marks} landing marks for {functions} functions")


def check_program(path):
    check_linked(path)
    expect("Type:                              DYN" in tell("readelf", "-hW", path), path,
           "is not position independent")


def check_code(path, optimized):
    wanted = tell("nm", "-uD" if ".so" in path else "-u", path)
    expect("__stack_chk_fail" in wanted, path, "has no stack protector")
    expect("__cxa_atexit" not in wanted, path, "destroys an object at exit (src/base/lasting.hpp)")
    if optimized:
        expect(re.search(r"__v?snprintf_chk", wanted), path, "does not use libc's checked functions")


def check_archive(path):
    if platform.machine() != "x86_64":
        return
    # One `File:` line for each object, followed by its notes.
    for part in tell("readelf", "-nW", path).split("\nFile: ")[1:]:
        expect(has_control_flow_marks(part), part.split("\n", 1)[0], "has no control-flow marks")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--library", action="append", default=[])
    parser.add_argument("--archive", action="append", default=[])
    parser.add_argument("--program", action="append", default=[])
    parser.add_argument("--optimized", action="store_true")
    arguments = parser.parse_args([word for word in sys.argv[1:] if word])  # CMake leaves an empty one
    for path in arguments.library:
        check_linked(path)
        check_landing_marks(path)
        check_code(path, arguments.optimized)
    for path in arguments.archive:
        check_archive(path)
        check_code(path, arguments.optimized)
    for path in arguments.program:
        check_program(path)
    for failure in failures:
        print(f"hardening: {failure}")
    print(f"hardening: {passed} passed, {len(failures)} failed")
    return 1 if failures or passed == 0 else 0


sys.exit(main())
