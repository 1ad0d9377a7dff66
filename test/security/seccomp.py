#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs the echo server under seccomp filters.

usage: seccomp.py --rule FILE --server PROGRAM

Goal: the rule in docs/seccomp-io_uring.json allows what whorl needs and nothing more. Method: filters
in BPF that refuse io_uring as container runtimes do, with EPERM, but for the names in the rule. With
all of them the server must get io_uring and echo; without any one of them it must echo on libev and
say why. At last, a filter that also refuses accept4: connections come in all the same, because
seccomp sees system calls and not what the ring is told to do.
"""
import argparse
import ctypes
import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys

SKIPPED = 77

# The same numbers on every architecture: those calls are younger than the common table.
IO_URING = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427}
ACCEPT4 = {"x86_64": 288, "aarch64": 242}

LOAD_NUMBER = (0x20, 0, 0, 0)  # BPF_LD | BPF_W | BPF_ABS, offset of seccomp_data.nr
JUMP_EQUAL = 0x15              # BPF_JMP | BPF_JEQ | BPF_K
RETURN = 0x06                  # BPF_RET | BPF_K
ALLOW = 0x7FFF0000
REFUSE = 0x00050000 | errno.EPERM

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
MODE_FILTER = 2

libc = ctypes.CDLL(None, use_errno=True)


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def refuse(numbers):
    """From here on this process cannot make these calls."""
    steps = [LOAD_NUMBER]
    for number in numbers:
        steps += [(JUMP_EQUAL, 0, 1, number), (RETURN, 0, 0, REFUSE)]
    steps.append((RETURN, 0, 0, ALLOW))
    code = b"".join(struct.pack("HBBI", *step) for step in steps)
    program = Program(len(steps), code)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")
    if libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


def backend_of(server, numbers):
    """Starts the server with these calls refused, has it echo, and returns what it says it runs on."""
    process = subprocess.Popen([server, "--port", "0"], stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True,
                               preexec_fn=lambda: refuse(numbers))
    try:
        place = process.stdout.readline().strip()
        backend = process.stdout.readline().strip()
        if not place.startswith("listening on "):
            raise AssertionError(f"the server did not start: {place} {backend}")
        port = int(place.rsplit(":", 1)[1])
        message = os.urandom(100_000)
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall(message)
            received = b""
            while len(received) < len(message):
                part = connection.recv(65536)
                assert part, "the server ended the connection"
                received += part
        assert received == message, "other bytes came back"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0, "the server did not end orderly"
        return backend
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rule", required=True)
    parser.add_argument("--server", required=True)
    arguments = parser.parse_args()
    for name in ("WHORL_BACKEND", "WHORL_DISABLE"):
        os.environ.pop(name, None)

    with open(arguments.rule, encoding="utf-8") as file:
        rule = json.load(file)
    assert rule["action"] == "SCMP_ACT_ALLOW", rule
    assert sorted(rule) == ["action", "names"], "nothing but names and an action"
    assert set(rule["names"]) == set(IO_URING), "exactly the three calls"

    if not backend_of(arguments.server, []).startswith("backend io_uring"):
        print("skipped: this machine refuses io_uring")
        return SKIPPED

    # As under a container runtime's default profile, which does not name the three calls.
    text = backend_of(arguments.server, list(IO_URING.values()))
    assert text.startswith("backend libev") and "EPERM" in text and "seccomp" in text, text

    # With the rule.
    allowed = [number for name, number in IO_URING.items() if name not in rule["names"]]
    text = backend_of(arguments.server, allowed)
    assert text.startswith("backend io_uring"), text

    # Without one of its names.
    for name in ("io_uring_setup", "io_uring_enter"):
        text = backend_of(arguments.server, [IO_URING[name]])
        assert text.startswith("backend libev") and name in text, text
    # Without io_uring_register it runs, but no optional feature can be found or used.
    text = backend_of(arguments.server, [IO_URING["io_uring_register"]])
    assert text.startswith("backend io_uring"), text

    machine = os.uname().machine
    if machine in ACCEPT4:
        text = backend_of(arguments.server, [ACCEPT4[machine]])
        assert text.startswith("backend io_uring"), text
    print("seccomp: 7 passed, 0 failed")
    return 0


sys.exit(main())
