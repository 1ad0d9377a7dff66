# SPDX-License-Identifier: MIT
"""What all parts of a comparison share: processes, and figures with their spread."""
import collections
import os
import select
import statistics
import sys
import time

SKIPPED = 77

# One figure: `group` says what was measured and on what ("timers", "arm_cancel", "1000 timers"), and
# `extras` holds what else that slice told.
Figure = collections.namedtuple("Figure", "group rival round value unit extras")


class Failure(Exception):
    """Something that was measured is wrong, or a program failed."""


def note(text):
    print(text, file=sys.stderr, flush=True)


def read_line(stream, seconds, what):
    """One line of an unbuffered stream, or an error that says who did not answer."""
    line = b""
    limit = time.monotonic() + seconds
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([stream], [], [], max(0, limit - time.monotonic()))
        if not ready:
            raise Failure(f"{what}: no answer within {seconds:g} s")
        byte = os.read(stream.fileno(), 1)
        if not byte:
            raise Failure(f"{what}: ended unexpectedly")
        line += byte
    return line.decode()


def find_program(build_dir, name):
    for folder in ("", "bench", "bin"):
        path = os.path.join(build_dir, folder, name)
        if os.access(path, os.X_OK):
            return path
    return None


def pinned(cpu):
    """A function for the child that binds it to the CPU; None where there is no such CPU."""
    if cpu is None or cpu not in os.sched_getaffinity(0):
        return None
    return lambda: os.sched_setaffinity(0, {cpu})


def middle(values):
    """Median, and the first and third quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return median, low, high


def by_rival(figures):
    """The figures of one group, by rival in the order they came."""
    rivals = {}
    for figure in figures:
        rivals.setdefault(figure.rival, []).append(figure)
    return rivals


def ratios(figures, base):
    """The ratio of each round to the baseline's slice of that round."""
    values = {figure.round: figure.value for figure in base}
    return [figure.value / values[figure.round] for figure in figures
            if values.get(figure.round)]
