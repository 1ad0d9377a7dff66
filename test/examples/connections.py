#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: the echo server holds ten thousand connections, answers on each, and an idle one is small.

Method: server and clients are two processes, since each needs a descriptor for every connection.
bench_load opens them all, sends a message on each and compares its echo, leaves them idle, and then
does it again. In between, the server's memory is read from /proc. The bound is generous: it is there
to notice a buffer that stays with an idle connection. Fewer connections are opened where
RLIMIT_NOFILE allows no more, and the output says so. Exit status 77: this machine
refuses the backend.

usage: connections.py --backend io_uring|libev --server PROGRAM --load PROGRAM [--connections N]
"""
import argparse
import json
import os
import re
import resource
import signal
import subprocess
import sys

SPARE = 64               # descriptors that either process needs besides
BYTES_MAX = 1024         # resident bytes for each idle connection; sanitizers need more
BYTES_MAX_SANITIZED = 2048
BYTES_ONCE = 1 << 20     # what the server touches for its first connections, however many


def memory_kib(process, name):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as status:
        return int(re.search(rf"^{name}:\s+(\d+) kB$", status.read(), re.MULTILINE)[1])


def sanitized(program):
    with open(program, "rb") as file:
        return b"__asan_init" in file.read()


def check(server, load, connections, bytes_max):
    line = server.stdout.readline().decode()
    port = int(re.fullmatch(r"listening on .+:(\d+)\n", line)[1])
    print(server.stdout.readline().decode().strip())
    before = memory_kib(server, "VmRSS")
    client = subprocess.Popen(
        [load, "--port", str(port), "--idle", str(connections), "--size", "64"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    opened = json.loads(client.stdout.readline() or "{}")
    idle, high = memory_kib(server, "VmRSS"), memory_kib(server, "VmHWM")
    out, _ = client.communicate(timeout=120)
    closed = json.loads(out or b"{}")
    server.send_signal(signal.SIGTERM)
    rest, complaint = server.communicate(timeout=60)
    each = (idle - before) * 1024 / connections
    print(f"{connections} connections, {opened.get('verified')} echoes verified, and "
          f"{closed.get('still_open')} again; opened in {opened.get('connect_seconds')} s")
    print(f"memory of the server: {before} KiB before, {idle} KiB idle, {high} KiB at most: "
          f"{each:.0f} bytes for each idle connection (at most: "
          f"{(high - before) * 1024 / connections:.0f})")
    faults = []
    if client.returncode != 0 or closed.get("still_open") != connections:
        faults.append("not every echo came back")
    if server.returncode != 0 or not rest.endswith(b"stopped\n") or complaint:
        faults.append(f"the server ended with {server.returncode}: {complaint.decode()}")
    if (idle - before) * 1024 > connections * bytes_max + BYTES_ONCE:
        faults.append(f"more than {bytes_max} bytes for each idle connection")
    for fault in faults:
        print(f"failed: {fault}")
    return 1 if faults else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", choices=("io_uring", "libev"), required=True)
    parser.add_argument("--server", required=True)
    parser.add_argument("--load", required=True)
    parser.add_argument("--connections", type=int, default=10000)
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the children inherit it
    connections = arguments.connections
    if hard != resource.RLIM_INFINITY and connections > hard - SPARE:
        connections = hard - SPARE
        print(f"RLIMIT_NOFILE allows {hard}: {connections} connections, "
              f"not {arguments.connections}")
    server = subprocess.Popen([arguments.server, "--port", "0", "--backend", arguments.backend],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        if server.poll() is None and not server.stdout.peek(1):
            complaint = server.stderr.read().decode().strip()
            refused = "backend unavailable" in complaint
            print(f"{'skipped' if refused else 'failed'}: {complaint}")
            return 77 if refused and not os.environ.get("WHORL_TEST_NO_SKIP") else 1
        bytes_max = BYTES_MAX_SANITIZED if sanitized(arguments.server) else BYTES_MAX
        return check(server, arguments.load, connections, bytes_max)
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


if __name__ == "__main__":
    sys.exit(main())
