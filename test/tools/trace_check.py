#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that a file is what the viewers of the trace event format take, and says what is in it.

usage: trace_check.py FILE

Each event has the fields of its phase, and no others; slices of a lane lie within or beside each other;
asynchronous slices end after they began, once; each arrow has a beginning within a slice and an end.
"""
import json
import sys
from collections import Counter

COMMON = {"ph", "pid", "tid", "ts"}
FIELDS = {  # by phase: those that must be there, and those that may
    "M": ({"name", "args"}, set()),
    "X": ({"dur", "cat", "name"}, {"args"}),
    "b": ({"id", "cat", "name", "args"}, set()),
    "n": ({"id", "cat", "name", "args"}, set()),
    "e": ({"id", "cat", "name"}, set()),
    "s": ({"id", "cat", "name"}, set()),
    "f": ({"id", "cat", "name", "bp"}, set()),
    "i": ({"s", "cat", "name", "args"}, set()),
}
TYPES = {"ph": str, "pid": int, "tid": int, "ts": (int, float), "dur": (int, float), "cat": str,
         "name": str, "args": dict, "bp": str, "s": str, "id": (str, int)}


def fail(why, event):
    sys.exit(f"trace_check: {why}: {event}")


def check_fields(event):
    must, may = FIELDS.get(event.get("ph"), (None, None))
    if must is None:
        fail("an unknown phase", event)
    names = set(event)
    if not COMMON | must <= names or names - COMMON - must - may:
        fail("fields that are missing or too many", event)
    for name, value in event.items():
        if not isinstance(value, TYPES[name]) or isinstance(value, bool):
            fail(f"{name} has another type", event)
    if event["ts"] < 0 or event.get("dur", 0) < 0:
        fail("a time before the beginning", event)


def nanoseconds(value):
    return round(value * 1000)


def check_slices(slices):
    """Each begins after the one around it, and ends no later."""
    slices.sort(key=lambda event: (nanoseconds(event["ts"]), -nanoseconds(event["dur"])))
    around = []
    for event in slices:
        begin = nanoseconds(event["ts"])
        end = begin + nanoseconds(event["dur"])
        while around and around[-1] <= begin:
            around.pop()
        if around and end > around[-1]:
            fail("a slice that leaves the one around it", event)
        around.append(end)


def check_asynchronous(events):
    open_since = {}
    for event in events:
        key = (event["pid"], event["cat"], event["id"])
        if event["ph"] == "b":
            if key in open_since:
                fail("begun twice", event)
            open_since[key] = event["ts"]
        elif key not in open_since or event["ts"] < open_since[key]:
            fail("nothing is open there", event)
        elif event["ph"] == "e":
            del open_since[key]


def check_arrows(events, slices):
    ends = {event["id"]: event for event in events if event["ph"] == "f"}
    begins = [event for event in events if event["ph"] == "s"]
    if len(ends) != len(begins) or {event["id"] for event in begins} != set(ends):
        fail("arrows without the other end", events)
    for event in events:
        at = nanoseconds(event["ts"])
        inside = [slice for slice in slices.get((event["pid"], event["tid"]), [])
                  if nanoseconds(slice["ts"]) <= at
                  <= nanoseconds(slice["ts"]) + nanoseconds(slice["dur"])]
        if not inside:
            fail("an arrow at no slice", event)
    for event in begins:
        if event["ts"] > ends[event["id"]]["ts"]:
            fail("an arrow backwards in time", event)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        trace = json.load(file)
    events = trace["traceEvents"]
    slices = {}
    for event in events:
        check_fields(event)
        if event["ph"] == "X":
            slices.setdefault((event["pid"], event["tid"]), []).append(event)
    for lane in slices.values():
        check_slices(lane)
    check_asynchronous([event for event in events if event["ph"] in "bne"])
    check_arrows([event for event in events if event["ph"] in "sf"], slices)
    count = Counter(event["ph"] for event in events)
    print(" ".join(f"{phase}:{count[phase]}" for phase in sorted(count)))


if __name__ == "__main__":
    main()
