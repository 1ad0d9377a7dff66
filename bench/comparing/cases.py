# SPDX-License-Identifier: MIT
"""Cases of one process each: a rival does a fixed number of operations and tells the processor time of
one. A round runs every rival once, odd rounds backwards. All rivals must come to the same checksum."""
import collections
import json
import subprocess

from .common import SKIPPED, Failure, Figure, find_program, note, pinned

# name: what the tables say; the rest is what the program is given. `rivals` maps a label to the
# program and what stands before the case's name. The first that runs is the baseline.
Case = collections.namedtuple("Case", "name case count operations rivals unit")

TIMERS = {
    "libev": ("bench_timers_libev", ""),
    "libuv": ("bench_timers_libuv", ""),
    "libevent": ("bench_timers_libevent", ""),
    "asio": ("bench_timers_asio", ""),
    "whorl": ("bench_timers_whorl", ""),
    "whorl:wheel": ("bench_timers_whorl", "wheel:"),
}
LOOPS = {
    "raw_epoll": ("bench_loop_raw_epoll", ""),
    "raw_uring": ("bench_loop_raw_uring", ""),
    "libev": ("bench_loop_libev", ""),
    "libevent": ("bench_loop_libevent", ""),
    "libuv": ("bench_loop_libuv", ""),
    "asio": ("bench_loop_asio", ""),
    "asio:defer": ("bench_loop_asio_defer", ""),
    "asio:io_uring": ("bench_loop_asio_uring", ""),
    "whorl:io_uring": ("bench_loop_whorl", "io_uring:"),
    "whorl:libev": ("bench_loop_whorl", "libev:"),
}
FILES = {
    "libuv": ("bench_files_libuv", ""),
    "threads": ("bench_files_threads", ""),
    "raw_uring": ("bench_files_raw_uring", ""),
    "whorl:io_uring": ("bench_files_whorl", "io_uring:"),
    "whorl:libev": ("bench_files_whorl", "libev:"),
}
STRUCTURES = {
    "churn": ("malloc", "slab"),
    "lookup": ("pointer", "slab"),
    "handler": ("function", "virtual", "inline"),
    "buffers": ("malloc", "pool"),
    "messages": ("deque", "local"),
}


def without(rivals, *labels):
    return {label: rival for label, rival in rivals.items() if label not in labels}


def only(rivals, *labels):
    return {label: rivals[label] for label in labels}


def timer_cases(counts):
    cases = []
    for count in counts:
        rounds = 3 if count < 1_000_000 else 2  # inside a process
        many = 1_000_000 if count < 1_000_000 else 500_000
        fires = max(count, 200_000) // count * count
        for case, operations in (("arm_cancel", many), ("timeouts", many), ("random", many),
                                 ("push", many), ("expire", fires), ("burst", fires)):
            cases.append(Case(case, case, count, operations, TIMERS, "ns"))
        if count < 100_000:  # no crowd, and its memory is less than the loop's
            continue
        cases.append(Case("worst", "worst", count, rounds, TIMERS, "ns"))
        cases.append(Case("crowd", "crowd", count, rounds, TIMERS, "ns"))
        cases.append(Case("crowd_sleep", "crowd_sleep", count, rounds,
                          only(TIMERS, "whorl:wheel"), "ns"))
        cases.append(Case("bytes", "bytes", count, 1, TIMERS, "bytes"))
    return cases


def loop_cases():
    watches = without(LOOPS, "asio:defer")
    wakes = without(LOOPS, "asio:defer", "raw_uring")
    timers = without(wakes, "raw_epoll")
    nops = only(LOOPS, "raw_uring", "whorl:io_uring")
    return [
        Case("pingpong", "pingpong", 1, 20_000, watches, "ns"),
        Case("pingpong", "pingpong", 100, 40_000, watches, "ns"),
        Case("wake", "wake", 1, 500, wakes, "ns"),
        Case("remote", "remote", 1, 100_000, wakes, "ns"),
        Case("nop", "nop", 1, 200_000, nops, "ns"),
        Case("nop", "nop", 100, 1_000_000, nops, "ns"),
        Case("lateness", "lateness", 1, 60, only(timers, "asio", *without(timers, "asio")), "ns"),
        Case("slow_handler", "slow_handler", 1, 8,
             only(timers, "asio", *without(timers, "asio")), "ns"),
    ]


def post_cases():
    rivals = only(LOOPS, "libev", "libevent", "libuv", "asio", "asio:defer", "whorl:io_uring",
                  "whorl:libev")
    return [Case("post", "post", 1, 200_000, rivals, "ns"),
            Case("post", "post", 100, 1_000_000, rivals, "ns"),
            Case("post", "post", 10_000, 1_000_000, rivals, "ns"),
            Case("chain", "chain", 1, 500_000, rivals, "ns")]


def file_cases():
    return [Case("read", "read", 1, 10_000, FILES, "ns"),
            Case("read", "read", 32, 40_000, FILES, "ns"),
            Case("direct", "direct", 1, 1_000, FILES, "ns"),
            Case("direct", "direct", 32, 4_000, FILES, "ns"),
            Case("sync", "sync", 1, 100, FILES, "ns")]


def structure_cases():
    cases = []
    for case, labels in STRUCTURES.items():
        rivals = {label: ("bench_structures", label + ":") for label in labels}
        # 64 buffers would have malloc give memory back to the system and fetch it again each time.
        counts = (100, 30_000) if case in ("churn", "lookup") else (1, 16)
        for count in counts:
            operations = 5_000_000 if case != "buffers" else 1_000_000
            cases.append(Case(case, case, count, operations // count * count, rivals, "ns"))
    return cases


def spsc_cases():
    labels = ("indices", "boost", "moodycamel", "whorl", "whorl-slot", "whorl-index")
    rivals = {label: ("bench_spsc", label + ":") for label in labels}
    sizes = {"roundtrip": 200_000, "single": 3_000_000, "small": 5_000_000, "batch": 20_000_000,
             "large": 2_000_000}
    return [Case(case, case, 1, operations, rivals, "ns") for case, operations in sizes.items()]


def channel_cases():
    rivals = {label: ("bench_channel", label + ":") for label in ("ring", "io_uring", "libev", "post")}
    return [Case("flood", "flood", 1, 10_000_000, rivals, "ns"),
            Case("paced", "paced", 1, 20_000, without(rivals, "ring"), "ns")]


def mesh_cases():
    rivals = {label: ("bench_mesh", label + ":") for label in ("io_uring", "libev")}
    return [Case(case, case, loops, loops * (loops - 1) * (200_000 // loops), rivals, "ns")
            for case in ("sparse", "dense") for loops in (2, 8, 64)] + [
                Case("hop", "hop", 2, 200_000, rivals, "ns")]


def tiny(case):
    """The same with so little to do that it takes milliseconds."""
    count = min(case.count, 100)
    operations = {"worst": 1, "crowd": 1, "crowd_sleep": 1, "wake": 20, "lateness": 3,
                  "slow_handler": 2, "bytes": 1}.get(case.case, 10 * count)
    return case._replace(count=count, operations=operations)


def quick(case):
    """A fifth of the operations where there are many."""
    if case.operations < 200_000:
        return case
    return case._replace(operations=max(case.operations // 5 // case.count, 1) * case.count)


def command_of(case, label, arguments, operations=None):
    program, prefix = case.rivals[label]
    path = find_program(arguments.build_dir, program)
    if path is None:
        return None
    return [path, "--case", prefix + case.case, "--count", str(case.count), "--operations",
            str(operations or case.operations), "--other-cpu", str(arguments.client_cpu)]


def run_once(case, label, arguments):
    """What one process told, or None when it has no such case."""
    command = command_of(case, label, arguments)
    if command is None:
        return None
    done = subprocess.run(command, stdout=subprocess.PIPE, timeout=300, check=False,
                          preexec_fn=pinned(arguments.server_cpu))
    if done.returncode == SKIPPED:
        return None
    if done.returncode != 0:
        raise Failure(f"{label}, {case.name}: exit status {done.returncode}")
    return json.loads(done.stdout)


def check_sums(case, sums):
    if len(set(sums.values())) > 1:
        raise Failure(f"{case.name} {case.count}: the rivals did not do the same: {sums}")


def measure_case(name, case, arguments):
    group = (name, f"{case.name} {case.count}")
    labels = list(case.rivals)
    missing = set()
    figures = []
    sums = {}
    for number in range(arguments.rounds):
        for label in labels if number % 2 == 0 else labels[::-1]:
            if label in missing:
                continue
            row = run_once(case, label, arguments)
            if row is None:
                missing.add(label)
                continue
            sums[label] = row["checksum"]
            extras = {key: value for key, value in row.items()
                      if key not in ("rival", "case", "count", "operations", "ns", "checksum")}
            figures.append(Figure(group, label, number, row["ns"], case.unit, extras))
        check_sums(case, sums)
    note(f"  {' '.join(group)}: {', '.join(sorted(sums))}" +
         (f"; without {', '.join(sorted(missing))}" if missing else ""))
    return figures


def run_cases(name, cases, arguments):
    """The figures of one case after the other."""
    if arguments.tiny:
        cases = {(case.name, case.count): case for case in map(tiny, cases)}.values()
    for case in cases:
        yield measure_case(name, quick(case) if arguments.quick else case, arguments)
