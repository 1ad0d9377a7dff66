#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes a source of src, or a public header, with one mistake in it, which the model must find.

usage: mutate.py NAME SOURCE OUTPUT
       mutate.py --list     a line each: NAME FILE REGEX-OF-THE-VIOLATION
"""

import sys

# name: (file, text, text instead, what must be said)
MUTANTS = {
    # The loop looks for posts before it says that it sleeps, and not again.
    "no_second_look": (
        "remote.cpp",
        """ nothing = remote->head.load(std::memory_order_seq_cst) == nullptr &&
                         !remote->stop.load(std::memory_order_seq_cst);""",
        " nothing = !remote->stop.load(std::memory_order_seq_cst);",
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
    # The channel: each look after a word was set, and each order.
    "channel_rest_without_look": (
        "channel.cpp",
        "if (channel.ring_found() || channel.ring_ended()) channel.ring_bell();",
        "",
        "nobody is left to wake it"),
    "channel_end_not_looked_for": (
        "channel.cpp",
        "if (channel.ring_found() || channel.ring_ended()) channel.ring_bell();",
        "if (channel.ring_found()) channel.ring_bell();",
        "nobody is left to wake it"),
    "channel_rest_release": (
        "channel.cpp",
        "channel.bell.exchange(Bell::idle, std::memory_order_seq_cst);",
        "channel.bell.store(Bell::idle, std::memory_order_release);",
        "nobody is left to wake it"),
    "channel_end_asked_late": (
        "channel.cpp",
        """    const bool ended = channel.ring_ended();  // asked first: nothing found afterwards is the end
    if (!channel.ring_empty()) {""",
        """    const bool empty = channel.ring_empty();
    const bool ended = channel.ring_ended();
    if (!empty) {""",
        "closed before everything"),
    "channel_left_without_post": (
        "channel.cpp",
        "post_to(*channel.receiver_home, channel.receiver_post);  // for the next turn",
        "",
        "nobody is left to wake it"),
    "channel_post_without_reference": (
        "channel.cpp",
        "post.channel->references.fetch_add(1, std::memory_order_relaxed);",
        "",
        "after it was destroyed|destroyed twice|given back twice|used after|not ordered"),
    "channel_references_relaxed": (
        "channel.cpp",
        "references.fetch_sub(1, std::memory_order_acq_rel) == 1",
        "references.fetch_sub(1, std::memory_order_relaxed) == 1",
        "not ordered before|data race"),
    "channel_space_without_look": (
        "channel.cpp",
        "if (!channel.ring_room() && !channel.ring_refuses()) return false;",
        "if (!channel.ring_refuses()) return false;",
        "nobody is left to wake it"),
    "channel_space_release": (
        "channel.cpp",
        "channel.space.exchange(Space::wanted, std::memory_order_seq_cst);",
        "channel.space.store(Space::wanted, std::memory_order_release);",
        "nobody is left to wake it"),
    "channel_space_look_acquire": (
        "channel.cpp",
        "if (space.load(std::memory_order_seq_cst) != Space::wanted) return;",
        "if (space.load(std::memory_order_acquire) != Space::wanted) return;",
        "nobody is left to wake it"),
    # The ring, in both layouts. Each order, one degree weaker.
    "ring_sequence_relaxed": (
        "spsc_ring.hpp",
        "slot.sequence.store(++producer.tail, std::memory_order_release);",
        "slot.sequence.store(++producer.tail, std::memory_order_relaxed);",
        "data race"),
    "ring_sequence_look_relaxed": (
        "spsc_ring.hpp",
        "slot.sequence.load(std::memory_order_acquire)",
        "slot.sequence.load(std::memory_order_relaxed)",
        "data race"),
    "ring_sequence_first": (
        "spsc_ring.hpp",
        """        ::new (static_cast<void*>(slot.message)) T(std::move(message));
        slot.sequence.store(++producer.tail, std::memory_order_release);
        return true;""",
        """        slot.sequence.store(++producer.tail, std::memory_order_release);
        ::new (static_cast<void*>(slot.message)) T(std::move(message));
        return true;""",
        "data race|used after"),
    "ring_streak_relaxed": (
        "spsc_ring.hpp",
        "if (++streak_ >= Streak) {\n                consumer.tail_seen = this->tail_.load(std::memory_order_acquire);",
        "if (++streak_ >= Streak) {\n                consumer.tail_seen = this->tail_.load(std::memory_order_relaxed);",
        "data race"),
    "ring_room_relaxed": (
        "spsc_ring.hpp",
        "head_seen = head.load(std::memory_order_acquire);",
        "head_seen = head.load(std::memory_order_relaxed);",
        "data race"),
    "ring_give_back_relaxed": (
        "spsc_ring.hpp",
        "head_.store(consumer_.head, std::memory_order_release);",
        "head_.store(consumer_.head, std::memory_order_relaxed);",
        "data race"),
    "ring_given_back_too_early": (
        "spsc_ring.hpp",
        """        self().message_at(consumer_.head).~T();
        ++consumer_.head;
        if (consumer_.head - consumer_.returned >= consumer_.quarter) give_back();""",
        """        ++consumer_.head;
        if (consumer_.head - consumer_.returned >= consumer_.quarter) give_back();
        self().message_at(consumer_.head - 1).~T();""",
        "data race"),
    "ring_one_too_many": (
        "spsc_ring.hpp",
        """        head_seen = head.load(std::memory_order_acquire);
        return tail - head_seen <= mask;""",
        """        head_seen = head.load(std::memory_order_acquire);
        return tail - head_seen <= mask + 1;""",
        "data race|out of order|was lost"),
    "ring_publish_release": (
        "spsc_ring.hpp",
        "tail_.store(this->producer_.tail, std::memory_order_seq_cst)",
        "tail_.store(this->producer_.tail, std::memory_order_release)",
        "nobody is left to wake it"),
    "ring_found_acquire": (
        "spsc_ring.hpp",
        "tail_.load(std::memory_order_seq_cst)",
        "tail_.load(std::memory_order_acquire)",
        "nobody is left to wake it"),
    "ring_give_back_ordered_release": (
        "spsc_ring.hpp",
        "head_.store(consumer_.head, std::memory_order_seq_cst);",
        "head_.store(consumer_.head, std::memory_order_release);",
        "nobody is left to wake it"),
    "ring_room_ordered_acquire": (
        "spsc_ring.hpp",
        "producer_.head_seen = head_.load(std::memory_order_seq_cst);",
        "producer_.head_seen = head_.load(std::memory_order_acquire);",
        "nobody is left to wake it"),
    "ring_closed_relaxed": (
        "spsc_ring.hpp",
        """        return producer_closed_.load(std::memory_order_seq_cst);""",
        """        return producer_closed_.load(std::memory_order_relaxed);""",
        "closed before everything"),
    # The stack of free numbers.
    "slots_takes_uncounted": (
        "free_slots.hpp",
        "((head >> 32) + 1) << 32 | below",
        "(head >> 32) << 32 | below",
        "two have the same number|a number was lost|a data race"),
    "slots_take_relaxed": (
        "free_slots.hpp",
        """taken, std::memory_order_acquire,
                                            std::memory_order_acquire)""",
        "taken, std::memory_order_relaxed, std::memory_order_relaxed)",
        "a data race"),
    "slots_give_relaxed": (
        "free_slots.hpp",
        "given, std::memory_order_release,",
        "given, std::memory_order_relaxed,",
        "a data race"),
    # The copy of words that one thread publishes.
    "seqlock_word_relaxed": (
        "seqlock.hpp",
        "store(from[index], std::memory_order_release)",
        "store(from[index], std::memory_order_relaxed)",
        "a mixture of two publications"),
    "seqlock_copy_relaxed": (
        "seqlock.hpp",
        "to[index] = words[index].load(std::memory_order_acquire)",
        "to[index] = words[index].load(std::memory_order_relaxed)",
        "a mixture of two publications"),
    "seqlock_end_relaxed": (
        "seqlock.hpp",
        "sequence.store(before + 2, std::memory_order_release)",
        "sequence.store(before + 2, std::memory_order_relaxed)",
        "a mixture of two publications|never published|is not seen"),
    "seqlock_begin_relaxed": (
        "seqlock.hpp",
        "before = sequence.load(std::memory_order_acquire)",
        "before = sequence.load(std::memory_order_relaxed)",
        "a mixture of two publications|never published|is not seen"),
    "seqlock_not_odd": (
        "seqlock.hpp",
        "    sequence.store(before + 1, std::memory_order_relaxed);\n",
        "",
        "a mixture of two publications"),
    "seqlock_looks_once": (
        "seqlock.hpp",
        "return sequence.load(std::memory_order_relaxed) == before;",
        "return true;",
        "a mixture of two publications"),
}

# Both layouts have these.
TWICE = {"ring_publish_release", "ring_found_acquire"}


def main() -> int:
    if sys.argv[1:] == ["--list"]:
        for name, (file, _, _, said) in MUTANTS.items():
            print(name, file, said)
        return 0
    name, source, output = sys.argv[1:]
    _, old, new, _ = MUTANTS[name]
    with open(source, encoding="utf-8") as stream:
        text = stream.read()
    if text.count(old) != (2 if name in TWICE else 1):
        print(f"mutate.py: {name}: {text.count(old)} places in {source}")
        return 1
    with open(output, "w", encoding="utf-8") as stream:
        stream.write(text.replace(old, new))
    return 0


sys.exit(main())
