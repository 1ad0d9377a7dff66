# SPDX-License-Identifier: MIT
"""Instructions in user space, counted by callgrind. Two runs of different length are subtracted, so that
what a program does once is left out and only the steady state counts. Counts repeat to a few per cent on
a busy machine, where times do not; but a loop that finds more ready at a turn because valgrind slows it
spreads its turn over more requests."""
import re
import shutil
import subprocess
import tempfile

from . import cases
from .common import SKIPPED, Failure, Figure, note, pinned
from .servers import SERVERS, Load, Server, load_group

VALGRIND = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
# connections, depth, and the requests of the two runs
CELLS = ((1, 1, 1_000, 4_000), (100, 1, 5_000, 20_000), (100, 16, 20_000, 80_000))


def collected(text, what):
    match = re.search(r"Collected : (\d+)", text)
    if match is None:
        raise Failure(f"{what}: callgrind said no count: {text[-300:]}")
    return int(match.group(1))


def server_run(spec, connections, depth, requests, arguments):
    """Instructions of a server's whole life with so many requests; None when it cannot run."""
    server = Server(spec, arguments.build_dir, arguments.server_cpu, VALGRIND)
    if server.process is None:
        return None
    try:
        load = Load(arguments.load, server,
                    ["--control", "--connections", connections, "--size", 64, "--depth", depth],
                    arguments.client_cpu)
        try:
            load.ask(f"count {connections * depth * 4}", 120)
            load.ask(f"count {requests}", 120)
        finally:
            load.stop()
    finally:
        server.stop()
    server.stderr.seek(0)
    return collected(server.stderr.read(), server.label)


def echo_instructions(arguments):
    cells = [(1, 1, 200, 400)] if arguments.tiny else CELLS
    for connections, depth, short, long in cells:
        name, words = load_group("instructions", connections, 64, depth, 0)
        group = (name, "echo, " + words)
        figures = []
        for spec in (arguments.servers or SERVERS).split(","):
            label = spec.partition("=")[0]
            few = server_run(spec, connections, depth, short, arguments)
            if few is None:
                continue
            many = server_run(spec, connections, depth, long, arguments)
            value = (many - few) / (long - short)
            figures.append(Figure(group, label, 0, value, "instructions", {}))
            note(f"  {group[1]}: {label} {value:.0f}")
        yield figures


def process_run(case, label, operations, arguments):
    command = cases.command_of(case, label, arguments, operations)
    if command is None:
        return None
    with tempfile.TemporaryFile("w+") as stderr:
        done = subprocess.run(list(VALGRIND) + command, stdout=subprocess.DEVNULL, stderr=stderr,
                              timeout=600, check=False, preexec_fn=pinned(arguments.server_cpu))
        if done.returncode == SKIPPED:
            return None
        stderr.seek(0)
        return collected(stderr.read(), f"{label}, {case.name}")


def case_list():
    rivals = {**cases.TIMERS, "empty": ("bench_timers_empty", "")}
    chosen = [cases.Case(name, name, 1_000, 100_000, rivals, "instructions")
              for name in ("arm_cancel", "timeouts", "push", "random")]
    posts = cases.post_cases()
    chosen += [posts[1]._replace(operations=20_000), posts[3]._replace(operations=20_000)]
    nops = [case for case in cases.loop_cases() if case.case == "nop"]
    return chosen + [case._replace(operations=20_000) for case in nops]


def case_instructions(arguments):
    for case in case_list()[:1] if arguments.tiny else case_list():
        group = ("instructions", f"{case.name} {case.count}")
        few = case.operations // 10
        figures = []
        if arguments.tiny:
            case, few = case._replace(count=10, operations=2_000), 1_000
        for label in case.rivals:
            short = process_run(case, label, few, arguments)
            if short is None:
                continue
            long = process_run(case, label, case.operations, arguments)
            value = (long - short) / (case.operations - few)
            figures.append(Figure(group, label, 0, value, "instructions", {}))
            note(f"  {group[1]}: {label} {value:.0f}")
        yield figures


def run_instructions(arguments):
    if shutil.which("valgrind") is None:
        note("instructions: skipped, valgrind is not installed")
        return
    yield from echo_instructions(arguments)
    yield from case_instructions(arguments)
