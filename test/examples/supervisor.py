#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: the supervisor sees of its children what a shell sees, starts them again after pauses that grow,
hands signals on, and leaves neither a process nor a zombie, on the backend that is asked for.

Method: reads its lines as they come, asks /proc about the processes that they name, and runs the same
commands by sh(1). Exit status 77: this machine refuses the backend.

usage: supervisor.py --backend io_uring|libev --directory DIRECTORY
"""
import argparse
import os
import re
import signal
import subprocess
import sys
import threading

PATIENCE = 60  # seconds for anything that should take few


class Failure(Exception):
    pass


def expect(condition, what):
    if not condition:
        raise Failure(what)


class Supervisor:
    """A running supervisor; at its end, no process that it named may be left."""

    def __init__(self, arguments, *words):
        self.process = subprocess.Popen(
            [os.path.join(arguments.directory, "supervisor"), "--backend", arguments.backend, *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.lines = []
        self.watchdog = threading.Timer(PATIENCE, self.process.kill)
        self.watchdog.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.watchdog.cancel()
        if self.process.poll() is None:
            self.process.kill()
        self.process.stdout.close()
        self.process.stderr.close()
        self.process.wait()

    def wait_for(self, pattern):
        """The next line that matches."""
        while True:
            line = self.process.stdout.readline()
            if line == "":
                error = self.process.stderr.read()
                if self.process.wait() == 77:
                    print(error)
                    sys.exit(77)
                raise Failure(f"no line {pattern!r} in {self.lines}, but {error!r}")
            self.lines.append(line.rstrip("\n"))
            found = re.search(pattern, self.lines[-1])
            if found:
                return found

    def children(self):
        """(process, state) of all that it has made and not reaped."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8") as file:
                    state, parent = file.read().rsplit(")", 1)[1].split()[:2]
            except OSError:  # it has gone meanwhile
                continue
            if int(parent) == self.process.pid:
                found.append((int(name), state))
        return found

    def end(self, status):
        self.lines += self.process.stdout.read().splitlines()
        error = self.process.stderr.read()
        self.process.wait()
        expect(self.process.returncode == status,
               f"it ended with {self.process.returncode}: {self.lines} {error!r}")
        expect(self.lines[-1] == "stopped", f"it did not say that it stopped: {self.lines}")
        expect(error == "", f"it complained: {error}")
        for line in self.lines:
            named = re.search(r"started, process (\d+)$", line)
            if named:
                expect(not os.path.exists(f"/proc/{named[1]}"), f"{line}, and is left over")


def as_a_shell_sees(command):
    status = subprocess.run(["sh", "-c", "sh -c \"$1\"; exit $?", "sh", command],
                            capture_output=True, check=False).returncode
    return f"killed by signal {status - 128}" if status > 128 else f"returned {status}"


def test_statuses(arguments):
    for command in ("exit 0", "exit 3", "exit 127", "kill -9 $$", "kill -TERM $$", "kill -USR1 $$"):
        said = as_a_shell_sees(command)
        with Supervisor(arguments, "--first-ms", "60000", "--most-ms", "60000",
                        "--", "sh", "-c", command) as supervisor:
            supervisor.wait_for(f": {said}$")
            if command != "exit 0":
                supervisor.wait_for("failure 1, starts again in")
                expect(supervisor.children() == [], "a zombie is left")
                supervisor.process.send_signal(signal.SIGTERM)
            supervisor.end(0)


def test_not_there(arguments):
    with Supervisor(arguments, "--first-ms", "1", "--", "no-such-program", "--", "/etc/passwd",
                    "--", "true") as supervisor:
        supervisor.wait_for("^1 no-such-program: failure 5, starts again")
        supervisor.process.send_signal(signal.SIGINT)
        supervisor.end(0)
        said = "\n".join(supervisor.lines)
        expect("1 no-such-program: cannot be started: program: No such file" in said, said)
        expect("2 /etc/passwd: cannot be started: program: Permission denied" in said, said)
        expect("3 true: returned 0" in said and said.count("3 true: started") == 1, said)


def test_pauses_grow(arguments):
    with Supervisor(arguments, "--first-ms", "4", "--most-ms", "50", "--", "false") as supervisor:
        drawn = set()
        for number in range(1, 13):
            found = supervisor.wait_for(r"failure (\d+), starts again in (\d+) ms")
            expect(int(found[1]) == number, f"failure {found[1]} after {number - 1}")
            whole = min(4 * 2 ** (number - 1), 50)
            expect(whole // 2 <= int(found[2]) <= whole, f"{found[0]}: not half to all of {whole}")
            if whole == 50:
                drawn.add(found[2])
        expect(len(drawn) > 1, "the pauses are not drawn")
        supervisor.process.send_signal(signal.SIGTERM)
        supervisor.end(0)


def test_one_that_ran_begins_anew(arguments):
    with Supervisor(arguments, "--first-ms", "1", "--stable-ms", "1", "--",
                    "sh", "-c", "sleep 0.01; exit 1") as supervisor:
        for _ in range(3):
            supervisor.wait_for("failure 1, starts again in [01] ms")
        supervisor.process.send_signal(signal.SIGTERM)
        supervisor.end(0)


def test_signals_are_handed_on(arguments):
    # A shell that waits for a process of its own is interrupted only between two commands, and a process
    # that was just begun still has the shell's traps: it would lose a signal that comes so early.
    patient = "trap 'exit 6' TERM; echo ready; while :; do sleep 0.01; done"
    with Supervisor(arguments, "--first-ms", "1", "--", "sh", "-c", patient,
                    "--", "sh", "-c", patient) as supervisor:
        supervisor.wait_for("^ready$")
        supervisor.wait_for("^ready$")
        expect([state != "Z" for _, state in supervisor.children()] == [True, True], "two children")
        supervisor.process.send_signal(signal.SIGTERM)
        supervisor.wait_for("^signal 15$")
        supervisor.end(0)
        said = "\n".join(supervisor.lines)
        expect(said.count("returned 6") == 2 and "failure" not in said, said)


def test_who_does_not_hear_is_killed(arguments):
    deaf = "trap '' TERM INT; echo ready; exec sleep 3600"
    for words, second in ((("--deadline-ms", "50"), False), (("--deadline-ms", "3600000"), True)):
        with Supervisor(arguments, *words, "--", "sh", "-c", deaf,
                        "--", "sh", "-c", "exit 0") as supervisor:
            supervisor.wait_for("^ready$")
            supervisor.process.send_signal(signal.SIGTERM)
            if second:
                supervisor.wait_for("^signal 15$")
                supervisor.process.send_signal(signal.SIGINT)
            supervisor.wait_for("did not end in time, is killed")
            supervisor.wait_for("killed by signal 9")
            supervisor.end(1)


def test_usage(arguments):
    path = os.path.join(arguments.directory, "supervisor")
    for words in ([], ["--"], ["--first-ms"], ["--first-ms", "x", "--", "true"], ["--no", "1"],
                  ["--", "true", "--"]):
        done = subprocess.run([path, *words], capture_output=True, timeout=PATIENCE, check=False)
        expect(done.returncode == 2 and b"usage" in done.stderr, f"{words}: {done}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", required=True, choices=["io_uring", "libev"])
    parser.add_argument("--directory", required=True)
    arguments = parser.parse_args()
    try:
        for name, test in sorted(globals().items()):
            if name.startswith("test_"):
                test(arguments)
                print(f"{name}: as it should be")
    except Failure as failure:
        print(f"FAILED: {failure}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
