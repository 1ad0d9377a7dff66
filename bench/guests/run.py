#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""run.py [--build-dir DIR] [--tiny] [--backend B] [--repeat N]

What an echo costs when whorl is the guest of another loop: nanoseconds of processor time of the host's
thread for a message of 64 bytes, the least of several runs, with one connection (a wake-up for each message) and
with 64 (one for many). All programs must have seen the same bytes.
"""
import argparse
import os
import subprocess
import sys

HOSTS = ["alone", "in_epoll", "in_libevent", "in_libuv", "in_asio", "in_glib", "in_sd_event"]


def measure(program, backend, connections, rounds, repeat):
    """The least time of a message, and the sum; None: this machine refuses the backend."""
    best, sums = None, set()
    for _ in range(repeat):
        done = subprocess.run([program, backend, str(connections), str(rounds)], capture_output=True,
                              text=True, timeout=120, check=False)
        if done.returncode == 77:
            return None
        if done.returncode != 0:
            sys.exit(f"{program} {backend}: exit {done.returncode}\n{done.stderr}")
        _, _, _, messages, each, total = done.stdout.split()
        if int(messages) != rounds * connections:
            sys.exit(f"{program} {backend}: {messages} messages, {rounds * connections} were asked for")
        sums.add(total)
        best = min(int(each), best or int(each))
    if len(sums) != 1:
        sys.exit(f"{program} {backend}: sums differ: {sums}")
    return best, sums.pop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build-dir", default="build/release")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--backend", choices=["io_uring", "libev"], action="append")
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    rounds = {1: 200, 16: 20} if arguments.tiny else {1: 20000, 64: 1000}
    repeat = 1 if arguments.tiny else arguments.repeat
    folder = os.path.join(arguments.build_dir, "bench", "guests")
    found = [host for host in HOSTS if os.path.exists(os.path.join(folder, "bench_guest_" + host))]
    if "alone" not in found:
        sys.exit(f"no bench_guest_alone in {folder}: build bench_guests")
    ran = False
    for backend in arguments.backend or ["io_uring", "libev"]:
        for connections, number in rounds.items():
            sums, alone = set(), None
            for host in found:
                program = os.path.join(folder, "bench_guest_" + host)
                got = measure(program, backend, connections, number, repeat)
                if got is None:
                    break
                ran = True
                each, total = got
                sums.add(total)
                alone = alone or each
                print(f"{backend:8} {connections:3} connections  {host:12} {each:6} ns a message, "
                      f"{each / max(alone, 1):.2f} of alone")
            if len(sums) > 1:
                sys.exit(f"{backend}, {connections} connections: the hosts saw other bytes: {sums}")
    return 0 if ran else 77


if __name__ == "__main__":
    sys.exit(main())
