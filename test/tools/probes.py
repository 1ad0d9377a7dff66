#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The probes of docs/insight.md are those in a program; its lines for bpftrace are such; and a probe fires,
which a debugger sees, or bpftrace itself where the kernel has probes in user space.

usage: probes.py DOCUMENT WHORL-LATENCY

Exit status 77: the program was built without probes, or readelf is not installed.
"""
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

SKIPPED = 77
SECONDS = 120  # that end a hang


def documented(path):
    """{name: number of arguments} of the table."""
    rows = {}
    with open(path) as file:
        part = file.read().split("## Probes", 1)[1].split("\n## ", 1)[0]
    for name, arguments in re.findall(r"^\| `(\w+)` \| ([^|]*) \|", part, re.MULTILINE):
        rows[name] = len(arguments.split(","))
    return rows


def present(program):
    """The same of the program's notes."""
    notes = subprocess.run(["readelf", "-n", "-W", program], check=True, text=True,
                           stdout=subprocess.PIPE).stdout
    rows = {}
    for name, arguments in re.findall(r"Provider: whorl\s+Name: (\w+)\s+Location:.*\s+Arguments: ?(.*)",
                                      notes):
        # An argument is SIZE@OPERAND, and an operand may have blanks.
        rows[name] = len(re.findall(r"-?\d+@", arguments))
    return rows


def check_lines(document, program, probes):
    """The document's lines for bpftrace compile, and name probes that there are."""
    with open(document) as file:
        lines = re.findall(r'^bpftrace -p \$P -e "(.*?)"$', file.read(), re.MULTILINE | re.DOTALL)
    if len(lines) < 3:
        sys.exit("the document's lines for bpftrace are not found")
    for line in lines:
        for name in re.findall(r"usdt:\$E:whorl:(\w+)", line):
            if name not in probes:
                sys.exit(f"no probe {name}: {line}")
        if shutil.which("bpftrace") is None or os.geteuid() != 0:
            continue
        done = subprocess.run(["bpftrace", "-d", "-e", line.replace("$E", program)], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS)
        if done.returncode != 0:
            sys.exit(f"bpftrace does not take {line}: {done.stdout[-500:]}")
    print(f"{len(lines)} lines for bpftrace")


def stop_at_probe(program):
    """A debugger stops at the first submission, and reads where it was made."""
    if shutil.which("gdb") is None:
        return
    told = subprocess.run(
        ["gdb", "-batch", "-nx", "-ex", "set debuginfod enabled off",
         "-ex", "break -probe-stap whorl:submit", "-ex", "run",
         "-ex", 'printf "SUBMIT %s %s\\n", (char *)$_probe_arg2, (char *)$_probe_arg3', "-ex", "kill",
         "--args", program, "serve", "tcp://127.0.0.1:0", "--watched"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        timeout=SECONDS).stdout
    if "ptrace" in told or "Could not trace" in told:
        print("no process may be traced here")
        return
    found = re.search(r"SUBMIT (\w+) (\S+)", told)
    if found is None or not found.group(2).endswith(".cpp"):
        sys.exit(f"the debugger saw no submission: {told[-1000:]}")
    print("the debugger saw", found.group(0))


def bpftrace_works():
    uprobes = any(os.path.exists(f"/sys/kernel/{folder}/uprobe_events")
                  for folder in ("tracing", "debug/tracing"))
    return uprobes and os.geteuid() == 0 and shutil.which("bpftrace") is not None


def fire(program):
    """A server that looks inside itself is asked a hundred times; each message has a handler."""
    script = (f"usdt:{program}:whorl:handler_begin {{ @[str(arg2)] = count(); }} "
              'BEGIN { printf("attached\\n"); }')
    server = subprocess.Popen([program, "serve", "tcp://127.0.0.1:0", "--watched"],
                              stdout=subprocess.PIPE, text=True)
    tracer = None
    try:
        address = re.match(r"serving (\S+) on", server.stdout.readline()).group(1)
        tracer = subprocess.Popen(["bpftrace", "-p", str(server.pid), "-e", script],
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while "attached" not in (line := tracer.stdout.readline()):
            if not line:
                print("bpftrace does not attach here:", tracer.stderr.read().strip()[-300:])
                return
        converse(int(address.rpartition(":")[2]), 100)
        tracer.send_signal(signal.SIGINT)
        text = tracer.communicate(timeout=SECONDS)[0]
    finally:
        for process in (tracer, server):
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait(SECONDS)
    counts = {kind: int(count) for kind, count in re.findall(r"@\[(\w+)\]: (\d+)", text)}
    if counts.get("recv_stream", 0) < 100:
        sys.exit(f"a hundred messages and these handlers: {counts}")
    print("handlers that bpftrace saw:", counts)


def converse(port, messages):
    """One message at a time: each is received by itself."""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
        for _ in range(messages):
            connection.sendall(b"x")
            if connection.recv(1) != b"x":
                sys.exit("the server does not answer")


def main():
    document, program = sys.argv[1:]
    if shutil.which("readelf") is None:
        return SKIPPED
    here = present(program)
    if not here:
        print("built without probes (sys/sdt.h)")
        return SKIPPED
    if here != documented(document):
        sys.exit(f"in the program {sorted(here.items())}\ndocumented {sorted(documented(document).items())}")
    print(f"{len(here)} probes as documented")
    check_lines(document, program, here)
    stop_at_probe(program)
    if bpftrace_works():
        fire(program)
    return 0


if __name__ == "__main__":
    sys.exit(main())
