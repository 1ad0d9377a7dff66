#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes a source of src/loop with one mistake in it, which the model must find.

usage: mutate.py NAME SOURCE OUTPUT
       mutate.py --list     a line each: NAME FILE REGEX-OF-THE-VIOLATION
"""

import sys

# name: (file, text, text instead, what must be said)
MUTANTS = {
    # The loop looks for posts before it says that it sleeps, and not again.
    "no_second_look": (
        "remote.cpp",
        """    return remote->head.load(std::memory_order_seq_cst) == nullptr &&
           !remote->stop.load(std::memory_order_seq_cst);""",
        "    return !remote->stop.load(std::memory_order_seq_cst);",
        "nobody is left to wake it"),
    "no_look_at_stop": (
        "remote.cpp",
        """ == nullptr &&
           !remote->stop.load(std::memory_order_seq_cst);""",
        " == nullptr;",
        "nobody is left to wake it"),
    "second_look_ignored": (
        "turn.cpp",
        "if (sleeps && !remote_sleep()) timeout = Nanoseconds::zero();",
        "if (sleeps) static_cast<void>(remote_sleep());",
        "nobody is left to wake it"),
    # Each of the four accesses, one degree weaker.
    "sleep_acq_rel": (
        "remote.cpp",
        "exchange(Sleep::sleeping, std::memory_order_seq_cst)",
        "exchange(Sleep::sleeping, std::memory_order_acq_rel)",
        "nobody is left to wake it"),
    "second_look_acquire": (
        "remote.cpp",
        "remote->head.load(std::memory_order_seq_cst)",
        "remote->head.load(std::memory_order_acquire)",
        "nobody is left to wake it"),
    "push_release": (
        "remote.cpp",
        """compare_exchange_weak(first, post, std::memory_order_seq_cst,""",
        """compare_exchange_weak(first, post, std::memory_order_release,""",
        "nobody is left to wake it"),
    "wake_look_acquire": (
        "remote.cpp",
        "if (sleep.load(std::memory_order_seq_cst) != Sleep::sleeping) return;",
        "if (sleep.load(std::memory_order_acquire) != Sleep::sleeping) return;",
        "nobody is left to wake it"),
    "stop_release": (
        "remote.cpp",
        "stop.store(true, std::memory_order_seq_cst)",
        "stop.store(true, std::memory_order_release)",
        "nobody is left to wake it"),
    "stop_look_acquire": (
        "remote.cpp",
        "!remote->stop.load(std::memory_order_seq_cst)",
        "!remote->stop.load(std::memory_order_acquire)",
        "nobody is left to wake it"),
    "push_relaxed": (
        "remote.cpp",
        """compare_exchange_weak(first, post, std::memory_order_seq_cst,""",
        """compare_exchange_weak(first, post, std::memory_order_relaxed,""",
        "data race|not ordered before|nobody is left to wake it"),
    "take_relaxed": (
        "remote.cpp",
        "exchange(nullptr, std::memory_order_acquire)",
        "exchange(nullptr, std::memory_order_relaxed)",
        "data race|not ordered before"),
    # Waking.
    "never_woken": (
        "remote.cpp",
        "== Sleep::sleeping) wake();",
        "== Sleep::sleeping) {}",
        "nobody is left to wake it"),
    "woken_by_all": (
        "remote.cpp",
        "if (sleep.exchange(Sleep::notified, std::memory_order_seq_cst) == Sleep::sleeping) wake();",
        "wake();",
        "more than one wake call"),
    "woken_only_if_first": (
        "remote.cpp",
        """    wake_sleeper();
    return true;
}

bool RemoteState::closed""",
        """    if (first != nullptr) wake_sleeper();
    return true;
}

bool RemoteState::closed""",
        "nobody is left to wake it"),
    "guest_not_woken": (
        "remote.cpp",
        "if (!remote_sleep()) remote_wake();",
        "static_cast<void>(remote_sleep());",
        "nobody is left to wake it"),
    # Order and number.
    "last_first": (
        "remote.cpp",
        "reversed(remote->head.exchange(nullptr, std::memory_order_acquire))",
        "remote->head.exchange(nullptr, std::memory_order_acquire)",
        "out of order"),
    "taken_without_exchange": (
        "remote.cpp",
        "remote_taken = reversed(remote->head.exchange(nullptr, std::memory_order_acquire));",
        """remote_taken = reversed(remote->head.load(std::memory_order_acquire));
        remote->head.store(nullptr, std::memory_order_release);""",
        "a post was lost|not given back|nobody is left"),
    # The end.
    "not_closed": (
        "remote.cpp",
        "remote->head.exchange(&closed_post, std::memory_order_seq_cst)",
        "remote->head.exchange(nullptr, std::memory_order_seq_cst)",
        "not given back|not destroyed"),
    "close_relaxed": (
        "remote.cpp",
        "remote->head.exchange(&closed_post, std::memory_order_seq_cst)",
        "remote->head.exchange(&closed_post, std::memory_order_relaxed)",
        "data race|not ordered before"),
    "taken_forgotten": (
        "remote.cpp",
        """        RemotePost* next = post->next;
        post->run(nullptr, post);
        post = next;""",
        "        post = post->next;",
        "not given back|not destroyed"),
    "state_freed_at_close": (
        "remote.cpp",
        """    remote->drop_reference();
    remote = nullptr;""",
        """    static_cast<void>(system.close(remote->event_fd));
    delete remote;
    remote = nullptr;""",
        "after it was destroyed|not ordered before"),
    "descriptor_closed_at_close": (
        "remote.cpp",
        """    remote->drop_reference();
    remote = nullptr;""",
        """    static_cast<void>(system.close(remote->event_fd));
    remote->drop_reference();
    remote = nullptr;""",
        "written to after it was closed|closed twice"),
    "references_relaxed": (
        "remote.cpp",
        "references.fetch_sub(1, std::memory_order_acq_rel)",
        "references.fetch_sub(1, std::memory_order_relaxed)",
        "not ordered before"),
}


def main() -> int:
    if sys.argv[1:] == ["--list"]:
        for name, (file, _, _, said) in MUTANTS.items():
            print(name, file, said)
        return 0
    name, source, output = sys.argv[1:]
    _, old, new, _ = MUTANTS[name]
    with open(source, encoding="utf-8") as stream:
        text = stream.read()
    if text.count(old) != 1:
        print(f"mutate.py: {name}: {text.count(old)} places in {source}, not 1")
        return 1
    with open(output, "w", encoding="utf-8") as stream:
        stream.write(text.replace(old, new))
    return 0


sys.exit(main())
