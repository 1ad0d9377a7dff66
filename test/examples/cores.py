#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: the examples that spread over several loops do what one thread would: every line of a chat reaches every
other member once and in the speaker's order, wherever the two are served; a pipeline changes nothing but what it
is there for, and ends when either end of it does.

Method: members of the chat are sockets, each told apart by its name; the pipeline's output is compared with the
same done here. Exit status 77: this machine refuses the backend.

usage: cores.py core_chat|pipeline --backend io_uring|libev --directory DIRECTORY
"""
import random
import re
import socket
import subprocess
import sys
import threading

from run import PATIENCE, expect, parse_arguments, run_test

MEMBERS, LINES, LOOPS = 60, 20, 3


class Member:
    def __init__(self, address, number):
        self.name = f"member{number}"
        self.peer = socket.create_connection(address, timeout=PATIENCE)
        self.reads = self.peer.makefile("rb")
        expect(self.line() == "name?\n", "no greeting")
        self.peer.sendall(f"{self.name}\n".encode())
        expect(self.line() == f"hello {self.name}\n", "no welcome")

    def line(self):
        return self.reads.readline().decode()

    def hear(self, wanted):
        """Reads until it has heard every line of everybody else, each speaker's in order."""
        while any(wanted.values()):
            name, _, text = self.line().partition(": ")
            if name.endswith(" is here\n"):
                continue
            expect(wanted.get(name), f"{self.name} heard {name!r} too often, or itself")
            expect(text == f"{wanted[name].pop(0)}\n", f"{self.name} heard {text!r} of {name} out of order")


def test_core_chat(programs):
    with programs.server("core_chat", "--loops", str(LOOPS)) as server:
        members = [Member(server.address, 0)]
        for number in range(1, MEMBERS):
            members.append(Member(server.address, number))
            # When the first has heard of one, the loop that serves it has it among its members.
            expect(members[0].line() == f"member{number} is here\n", "nobody told the first of the next")
        text = [f"{number} {'x' * (number * 20)}" for number in range(LINES)]

        def speak():
            for member in members:
                for line in text:
                    member.peer.sendall(f"{line}\n".encode())

        speaker = threading.Thread(target=speak)
        speaker.start()
        for member in members:
            member.hear({other.name: list(text) for other in members if other is not member})
        speaker.join()
        members[1].peer.shutdown(socket.SHUT_RDWR)
        for member in [members[0], *members[2:]]:
            expect(member.line() == "member1 has left\n", "nobody told of one who left")
        idle = [member.peer for member in members]
    served = [int(count) for count in re.findall(rb"loop \d had (\d+) members", server.told)]
    # 60 connections by hash: none of three loops is left out but by a chance of 1e-10.
    expect(len(served) == LOOPS and sum(served) == MEMBERS and min(served) > 0, f"loops served {served}")
    print(f"{MEMBERS} members on loops of {served}: {MEMBERS * (MEMBERS - 1) * LINES} lines heard")
    for peer in idle:
        peer.close()


def numbered(text):
    lines = text.upper().split(b"\n")
    last = lines.pop()
    out = b"".join(b"%d %s\n" % pair for pair in enumerate(lines, 1))
    return out + (b"%d %s" % (len(lines) + 1, last) if last else b"")


def test_pipeline(programs):
    noise = random.Random(3)
    words = [b"", b"word", b"Long" * 50, b"\x00\xff", b"a" * 3000]
    many = b"\n".join(b" ".join(noise.choices(words, k=noise.randrange(9))) for _ in range(5000))
    command = [programs.path("pipeline"), "--backend", programs.backend]
    for data in (b"", b"\n", b"no end", b"one\ntwo\n", b"z" * 1_000_000 + b"\nlast", many):
        done = subprocess.run(command, input=data, capture_output=True, timeout=PATIENCE, check=False)
        expect(done.returncode == 0 and done.stderr == b"", f"it ended with {done.returncode}: {done.stderr}")
        expect(done.stdout == numbered(data), f"{len(data)} bytes came out changed")
    print(f"{len(many)} bytes of lines: as they should be")
    nobody = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    nobody.stdout.close()  # nobody reads: the first that is written ends it
    try:
        nobody.stdin.write(b"line\n" * 1000)
        nobody.stdin.flush()
        expect(nobody.wait(timeout=PATIENCE) == 1, f"ended with {nobody.returncode} though nobody read")
        told = nobody.stderr.read()
        expect(told == b"pipeline: write: Broken pipe\n", f"it said {told}")
    finally:
        nobody.kill()


if __name__ == "__main__":
    given = parse_arguments("name")
    sys.exit(run_test(given.name, given, globals()[f"test_{given.name}"]))
