#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs clang-tidy on sources, on all processors, and not again on what it found clean before.

    tools/tidy.py [--jobs N] BUILD_DIR SOURCE...

What clang-tidy says depends on its version, its configuration, the compiler's options and the bytes of
every file that the source includes, system headers too. A hash over all of them is kept for each source
that was clean, in ~/.cache/whorl-tidy or in $WHORL_TIDY_CACHE; empty, and nothing is kept. Exit status
1 when a source is not clean.
"""
import argparse
import concurrent.futures
import functools
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time

TIDY = "clang-tidy"
KEPT_DAYS = 30  # an entry that was not asked for in so long is removed


@functools.lru_cache(maxsize=None)
def hash_of(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def dependencies(command, directory):
    """Every file that the compiler reads, and its options."""
    words = shlex.split(command)
    if os.path.basename(words[0]) == "ccache":
        words = words[1:]
    at = words.index("-o")
    words = words[:at] + words[at + 2:]
    done = subprocess.run(words + ["-M", "-MT", "x"], cwd=directory, check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode != 0:
        return None, words
    files = shlex.split(done.stdout.replace("\\\n", " "))[1:]
    return [os.path.normpath(os.path.join(directory, name)) for name in files], words


def key_of(entry, root, common):
    """The hash of all that the answer depends on, or None where the source does not compile."""
    files, words = dependencies(entry["command"], entry["directory"])
    if files is None:
        return None
    said = hashlib.sha256(common)
    for text in words + sorted(f"{name} {hash_of(name)}" for name in set(files)):
        said.update(text.replace(root, ".").encode() + b"\0")
    return said.hexdigest()


def check(entry, build, root, common, cache):
    """(source, True when it was known to be clean, what clang-tidy said or None)"""
    source = entry["file"]
    key = key_of(entry, root, common) if cache else None
    known = cache / key if key else None
    if known and known.exists():
        known.touch()
        return source, True, None
    done = subprocess.run([TIDY, "-p", build, "--quiet", source], check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        return source, False, done.stdout
    if known:
        known.touch()
    return source, False, None


def open_cache():
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    name = os.environ.get("WHORL_TIDY_CACHE", os.path.join(home, "whorl-tidy"))
    if not name:
        return None
    cache = pathlib.Path(name)
    cache.mkdir(parents=True, exist_ok=True)
    for old in cache.iterdir():
        if old.stat().st_mtime < time.time() - KEPT_DAYS * 86400:
            old.unlink()
    return cache


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("build")
    parser.add_argument("sources", nargs="+")
    arguments = parser.parse_args()
    root = os.getcwd()
    with open(os.path.join(arguments.build, "compile_commands.json"), encoding="utf-8") as file:
        commands = {os.path.abspath(os.path.join(entry["directory"], entry["file"])): entry
                    for entry in json.load(file)}
    missing = [name for name in arguments.sources if os.path.abspath(name) not in commands]
    if missing:
        sys.exit(f"no command compiles {' '.join(missing)}")
    entries = [commands[os.path.abspath(name)] for name in arguments.sources]
    version = subprocess.run([TIDY, "--version"], check=True, stdout=subprocess.PIPE).stdout
    common = version + pathlib.Path(root, ".clang-tidy").read_bytes()
    cache, failed, known = open_cache(), 0, 0
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for source, was_known, said in pool.map(
                lambda entry: check(entry, arguments.build, root, common, cache), entries):
            known += was_known
            if said is not None:
                failed += 1
                print(f"{os.path.relpath(source, root)}:\n{said}", flush=True)
    print(f"clang-tidy: {len(entries) - failed} files are clean ({known} of them were known to be), "
          f"{failed} are not")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
