#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: the example tail prints what tail(1) prints, and goes on printing as tail -F does, while a file
is added to, cut and written anew, taken away and replaced by another.

Method: both print the last lines of files with and without an end; then both follow one file, and after
each change the test waits until both have printed what it expects.
Exit status 77: this machine refuses the backend.

usage: follow.py --backend io_uring|libev --directory DIRECTORY
"""
import argparse
import os
import select
import subprocess
import sys
import tempfile
import time

PATIENCE = 60  # seconds for anything that should take a few


class Failure(Exception):
    pass


def expect(condition, what):
    if not condition:
        raise Failure(what)


def ours(arguments, *words):
    return [os.path.join(arguments.directory, "tail"), "--backend", arguments.backend, *words]


def run(command):
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    if done.returncode == 77:
        print(done.stderr.decode())
        sys.exit(77)
    return done


def test_lines(arguments, scratch):
    path = os.path.join(scratch, "lines")
    contents = [b"", b"\n", b"one", b"one\n", b"one\ntwo", b"one\ntwo\n", b"\n\n\n",
                b"".join(b"line %d\n" % number for number in range(30000)),
                b"x" * 200000 + b"\nshort\n", b"\n" + b"y" * 65536, b"z" * 65535 + b"\n" + b"z" * 65536]
    for content in contents:
        with open(path, "wb") as file:
            file.write(content)
        for lines in ("0", "1", "2", "10", "5000", "1000000"):
            done = run(ours(arguments, "-n", lines, path))
            theirs = run(["tail", "-n", lines, path])
            expect(done.returncode == 0, f"it failed: {done.stderr}")
            expect(done.stdout == theirs.stdout,
                   f"-n {lines} of {len(content)} bytes: {len(done.stdout)} bytes were printed, "
                   f"{len(theirs.stdout)} by tail(1)")
    done = run(ours(arguments, os.path.join(scratch, "none")))
    expect(done.returncode == 1 and b"No such file" in done.stderr, f"it said {done.stderr}")


class Follower:
    def __init__(self, name, command):
        self.name = name
        self.seen = b""
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL)

    def wait_for(self, expected):
        """Until as much has been printed as is expected, which it must then be."""
        end = time.monotonic() + PATIENCE
        output = self.process.stdout.fileno()
        while len(self.seen) < len(expected):
            ready, _, _ = select.select([output], [], [], max(0, end - time.monotonic()))
            expect(ready, f"{self.name} printed {self.seen[-100:]} and no more")
            part = os.read(output, 65536)
            expect(part, f"{self.name} ended")
            self.seen += part
        expect(self.seen == expected, f"{self.name} printed {self.seen[-200:]}")

    def end(self):
        self.process.kill()
        self.process.communicate()


def write(path, text, mode="ab"):
    with open(path, mode) as file:
        file.write(text)


def test_follow(arguments, scratch):
    path = os.path.join(scratch, "log")
    write(path, b"".join(b"line %d\n" % number for number in range(100)))
    expected = b"".join(b"line %d\n" % number for number in range(97, 100))
    followers = [Follower("the example", ours(arguments, "-n", "3", "-f", path)),
                 Follower("tail(1)", ["tail", "-n", "3", "-F", path])]
    try:
        changes = [
            ("added", lambda: write(path, b"added\n")),
            ("much is added", lambda: write(path, b"much " * 100000 + b"\n")),
            ("cut", lambda: write(path, b"anew\n", "wb")),
            ("added after the cut", lambda: write(path, b"after\n")),
            ("rotated", lambda: (os.rename(path, path + ".1"), write(path, b"the next\n"))),
            ("added to the next", lambda: write(path, b"more of it\n")),
            ("replaced", lambda: (write(path + ".new", b"replaced\n"),
                                  os.rename(path + ".new", path))),
            ("added to that", lambda: write(path, b"end\n")),
            ("taken away and made again", lambda: (os.unlink(path), write(path, b"again\n"))),
        ]
        texts = [b"added\n", b"much " * 100000 + b"\n", b"anew\n", b"after\n", b"the next\n",
                 b"more of it\n", b"replaced\n", b"end\n", b"again\n"]
        for follower in followers:
            follower.wait_for(expected)
        for (name, change), text in zip(changes, texts):
            change()
            expected += text
            for follower in followers:
                try:
                    follower.wait_for(expected)
                except Failure as failure:
                    raise Failure(f"{name}: {failure}") from failure
    finally:
        for follower in followers:
            follower.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=["io_uring", "libev"], required=True)
    parser.add_argument("--directory", required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            test_lines(arguments, scratch)
            test_follow(arguments, scratch)
        except Failure as failure:
            print(f"follow.py: {failure}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
