#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Plants one small mistake after another in the library and sees that the tests find each.

usage: run.py [--build DIR] [--only NAME]... [--jobs N] [--named-only]
       run.py --list | --check

A mutant is a file NAME.patch: a header, an empty line, and a unified diff of one file of src or include.

    Breaks: what is wrong now, in a sentence
    Kills: tests that must fail, the likeliest first (names of ctest entries)
    Needs: address                (optional: only AddressSanitizer sees it)
    Configs: io_uring,libev       (optional: WHORL_TEST_CONFIGS for its tests)

The diff's line numbers mean nothing: what it removes, with its context, must stand in the file in
exactly one place. The tree is copied to the build folder, so that the working tree is never touched.
For each mutant the library and the named tests are built and run, and when all of them pass, all
other tests of the kinds unit, model, conformance and guard, until one fails. A test that runs ten times
as long as it does without a mistake is killed, and so is the mutant: a hang is found, too.

--list    names and headers
--check   every mutant is well-formed and applies; fast, builds nothing

Exit status 1 when a mutant survives, does not build, or does not apply.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PARTS = ["CMakeLists.txt", "README.md", "bench", "docs", "examples", "include", "src", "test", "tools"]
OTHERS = "^(unit|model|conformance|guard)$"
LINES_MAX = 4          # changed lines of a mutant: it is a slip, not a rewrite
TIME_LEAST_S = 60.0    # no test is thought to hang before: other programs may be busy
TIME_FACTOR = 10
BUILD_TIME_S = 1800


class Problem(Exception):
    pass


class Mutant:
    FIELDS = {"Breaks": True, "Kills": True, "Needs": False, "Configs": False}

    def __init__(self, path):
        self.name = path.stem
        head, separator, diff = path.read_text(encoding="utf-8").partition("\n\n")
        if not separator:
            raise Problem(f"{self.name}: no header")
        self.fields = {}
        for line in head.split("\n"):
            key, colon, value = line.partition(": ")
            if not colon or key not in self.FIELDS or key in self.fields or not value.strip():
                raise Problem(f"{self.name}: not a header line: {line}")
            self.fields[key] = value.strip()
        for key, required in self.FIELDS.items():
            if required and key not in self.fields:
                raise Problem(f"{self.name}: no {key}")
        self.needs = self.fields.get("Needs", "")
        if self.needs not in ("", "address"):
            raise Problem(f"{self.name}: Needs: address, or nothing")
        self.kills = self.fields["Kills"].split()
        self.parse_diff(diff)

    def parse_diff(self, diff):
        lines = diff.rstrip("\n").split("\n")
        match = re.fullmatch(r"--- a/((?:src|include)/\S+)", lines[0])
        if not match or lines[1] != f"+++ b/{match[1]}" or not lines[2].startswith("@@ "):
            raise Problem(f"{self.name}: not the diff of one file of src or include")
        self.file = match[1]
        body = lines[3:]
        if any(line[:1] not in (" ", "-", "+") for line in body):
            raise Problem(f"{self.name}: more than one hunk, or a line without its mark")
        self.old = "".join(line[1:] + "\n" for line in body if line[0] != "+")
        self.new = "".join(line[1:] + "\n" for line in body if line[0] != "-")
        for mark in "-+":
            if sum(line[0] == mark for line in body) > LINES_MAX:
                raise Problem(f"{self.name}: more than {LINES_MAX} lines are changed")
        if self.old == self.new:
            raise Problem(f"{self.name}: changes nothing")

    def applied(self, root):
        """The file's text with the mistake in it."""
        path = root / self.file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        count = text.count(self.old)
        if count != 1:
            raise Problem(f"{self.name}: its place stands {count} times in {self.file}")
        return text.replace(self.old, self.new)


def all_mutants():
    return [Mutant(path) for path in sorted(HERE.glob("*.patch"))]


def known_tests():
    """Names that test/ registers, as far as they can be read without configuring."""
    names = set()
    for path in (ROOT / "test").rglob("CMakeLists.txt"):
        text = path.read_text(encoding="utf-8")
        # A folder's own function may put something before the name: whorl_test(http_${name} ...)
        before = dict(re.findall(r"\bfunction\((\w+) name\)\n +whorl_test\((\w+)\$\{name\}", text))
        for function, name in re.findall(r"\b(whorl_\w*test)\((\w+)", text):
            names.add(before.get(function, "") + name)
        names |= set(re.findall(r"\bwhorl_register\((\w+)", text))
    return names


def check():
    failed = 0
    known = known_tests()
    mutants = []
    for path in sorted(HERE.glob("*.patch")):
        try:
            mutant = Mutant(path)
            mutant.applied(ROOT)
            for test in mutant.kills:
                if test not in known:
                    raise Problem(f"{mutant.name}: there is no test {test}")
            if any(other.file == mutant.file and other.new == mutant.new for other in mutants):
                raise Problem(f"{mutant.name}: is there twice")
            mutants.append(mutant)
        except Problem as problem:
            print(f"mutants: {problem}")
            failed += 1
    if len(mutants) < 40:
        print("mutants: fewer than 40")
        failed += 1
    print(f"mutants: {len(mutants)} passed, {failed} failed")
    return 1 if failed else 0


def last_begun(said):
    """The case in which a program was when it said no more, and what it said last."""
    begun = re.findall(r"\[ RUN      \] (\S+)", said)
    last = said.strip().rpartition("\n")[2]
    return f"{begun[-1] if begun else 'main()'}: {last[:120]}"


class Build:
    """One configuration of the copied tree."""

    def __init__(self, directory, tree, needs, jobs):
        self.directory = directory
        self.jobs = jobs
        self.seconds = {}
        options = ["-G", "Ninja", "-S", str(tree), "-B", str(directory), "-DCMAKE_BUILD_TYPE=Debug",
                   "-DCMAKE_CXX_FLAGS_DEBUG=-O1", "-DWHORL_BUILD_BENCH=OFF",
                   "-DWHORL_BUILD_EXAMPLES=OFF", "-DWHORL_BUILD_TOOLS=OFF", "-DWHORL_WERROR=OFF"]
        if needs:
            options.append(f"-DWHORL_SANITIZE={needs}")
        if shutil.which("ccache"):
            options.append("-DCMAKE_CXX_COMPILER_LAUNCHER=ccache")
        done = subprocess.run(["cmake", *options], capture_output=True, text=True)
        if done.returncode != 0:
            raise Problem(f"cmake: {done.stdout}{done.stderr}")
        listed = subprocess.run(["ctest", "--test-dir", str(directory), "-N", "-L", OTHERS],
                                capture_output=True, text=True, check=True).stdout
        self.others = re.findall(r"^ *Test +#\d+: (\w+)$", listed, re.MULTILINE)

    def build(self, test):
        """What the compiler says when it does not build, else nothing."""
        command = ["cmake", "--build", str(self.directory), f"-j{self.jobs}", "--target",
                   f"test-{test}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_TIME_S)
        return "" if done.returncode == 0 else done.stdout + done.stderr

    def run(self, test, environment, limit_s):
        """Whether the test passes, and how it ended."""
        command, folder, variables = self.started_with(test)
        with tempfile.TemporaryFile() as file:  # a pipe would be kept open by what a killed test has started
            process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=file,
                                       stderr=subprocess.STDOUT, start_new_session=True,
                                       env={**os.environ, "GTEST_FAIL_FAST": "1", **variables, **environment})
            try:
                process.wait(timeout=limit_s)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
            hangs = process.wait() == -signal.SIGKILL
            file.seek(0)
            said = file.read().decode(errors="replace")
        if process.returncode == 0:
            return True, ""
        if hangs:
            return False, f"hangs for {limit_s:.0f} s in {last_begun(said)}"
        failed = re.findall(r"\[  FAILED  \] (\S+?)(?:,| \()", said)
        return False, failed[0] if failed else f"dies in {last_begun(said)}"

    def started_with(self, test):
        """What ctest would start, and where. Its own limit is the test's, whatever it is told."""
        listed = subprocess.run(["ctest", "--test-dir", str(self.directory), "-R", f"^{re.escape(test)}$",
                                 "--show-only=json-v1"], capture_output=True, text=True, check=True).stdout
        entries = json.loads(listed)["tests"]
        if len(entries) != 1 or "command" not in entries[0]:
            raise Problem(f"ctest cannot start {test}")
        properties = {entry["name"]: entry["value"] for entry in entries[0]["properties"]}
        variables = dict(entry.split("=", 1) for entry in properties.get("ENVIRONMENT", []))
        return entries[0]["command"], properties["WORKING_DIRECTORY"], variables

    def limit(self, test, environment):
        """How long the test may run; measures it, without a mistake, the first time."""
        key = (test, *sorted(environment.items()))
        if key not in self.seconds:
            problem = self.build(test)
            if problem:
                raise Problem(f"{test} does not build without any mutant:\n{problem}")
            began = time.monotonic()
            passes, how = self.run(test, environment, 600)
            if not passes:
                raise Problem(f"{test} fails without any mutant: {how}")
            self.seconds[key] = time.monotonic() - began
        return max(TIME_LEAST_S, TIME_FACTOR * self.seconds[key])


def hunt(mutant, build, tree, named_only):
    """Plants the mutant; returns (killed, what to say)."""
    environment = {}
    if "Configs" in mutant.fields:
        environment["WHORL_TEST_CONFIGS"] = mutant.fields["Configs"]
    limits = {test: build.limit(test, environment) for test in mutant.kills}
    path = tree / mutant.file
    original = path.read_text(encoding="utf-8")
    path.write_text(mutant.applied(tree), encoding="utf-8")
    try:
        others = [] if named_only else [test for test in build.others if test not in mutant.kills]
        for test in mutant.kills + others:
            problem = build.build(test)
            if problem:
                return False, "does not build:\n" + problem[-3000:]
            passes, how = build.run(test, environment, limits.get(test, 120.0))
            if not passes:
                where = "" if test in mutant.kills else " (not named in its header)"
                return True, f"killed by {test}: {how}{where}"
        return False, "SURVIVES"
    finally:
        path.write_text(original, encoding="utf-8")


def copy_file(source, target):
    """Files that are the same keep their time, so that a second run builds little."""
    data = source.read_bytes()
    if not target.is_file() or target.read_bytes() != data:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        shutil.copymode(source, target)


def copy_tree(tree):
    wanted = set()
    for part in PARTS:
        source = ROOT / part
        files = [path for path in source.rglob("*") if path.is_file()] if source.is_dir() else [source]
        for path in files:
            if "__pycache__" not in path.parts:
                wanted.add(tree / path.relative_to(ROOT))
                copy_file(path, tree / path.relative_to(ROOT))
    for path in tree.rglob("*"):
        if path.is_file() and path not in wanted:
            path.unlink()


def run(arguments):
    mutants = all_mutants()
    for name in arguments.only:
        if name not in [mutant.name for mutant in mutants]:
            raise Problem(f"there is no mutant {name}")
    if arguments.only:
        mutants = [mutant for mutant in mutants if mutant.name in arguments.only]
    directory = pathlib.Path(arguments.build).resolve()
    tree = directory / "tree"
    tree.mkdir(parents=True, exist_ok=True)
    copy_tree(tree)
    for mutant in mutants:
        mutant.applied(tree)  # all apply, before hours are spent
    builds = {}
    killed = 0
    bad = []
    for mutant in mutants:
        began = time.monotonic()
        if mutant.needs not in builds:
            builds[mutant.needs] = Build(directory / (mutant.needs or "plain"), tree, mutant.needs,
                                         arguments.jobs)
        good, what = hunt(mutant, builds[mutant.needs], tree, arguments.named_only)
        print(f"{mutant.name:40} {what} ({time.monotonic() - began:.0f} s)", flush=True)
        if good:
            killed += 1
        else:
            bad.append(mutant.name)
    print(f"mutants: {killed} passed, {len(bad)} failed")
    return 1 if bad else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--build", default=str(ROOT / "build" / "mutants"))
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--named-only", action="store_true",
                        help="do not try other tests when the named ones pass")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    try:
        if arguments.check:
            return check()
        if arguments.list:
            for mutant in all_mutants():
                print(f"{mutant.name}: {mutant.fields['Breaks']}")
            return 0
        return run(arguments)
    except Problem as problem:
        print(f"mutants: {problem}")
        return 1


sys.exit(main())
