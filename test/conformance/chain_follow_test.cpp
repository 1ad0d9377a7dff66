// SPDX-License-Identifier: MIT
// Goal: operations that follow another begin when it has succeeded, and end with it when it has not;
// each part ends once, with its own handler, in order.
// Method: write, sync, rename and their kin, with an error or a short transfer at each place; each part
// cancelled, timed out, closed under, destroyed with its loop; on every backend the same.
#include "conformance/file_tools.hpp"

#include <whorl/pipe.hpp>

namespace whorl::conformance {
namespace {

// What the handlers of a chain have said, in order.
struct Log {
    std::vector<std::string> lines;
    void add(const std::string& name, Error error) {
        lines.push_back(error ? name + " " + error.name() : name);
    }
    bool has(std::size_t count) const { return lines.size() == count; }
};

using Lines = std::vector<std::string>;

class Chain : public FileTools {
  protected:
    // Submits a part that tells the log, behind `before` when that is given.
    template <class Op>
    static Operation part(Loop& loop, Log& log, const std::string& name, Op&& operation,
                          SubmitOptions options = {}) {
        const Result<Operation> made = loop.submit(
            std::forward<Op>(operation), options,
            [&log, name = std::string(name)](Loop&, auto done) { log.add(name, done.error); });
        EXPECT_TRUE(made) << made.error().name();
        return made ? *made : Operation();
    }
};
WHORL_CONFORMANCE(Chain);

TEST_P(Chain, write_sync_rename) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    os::put_file(path("good"), "old");
    const File file = opened(loop, "new");
    const std::string text = letters(100'000);
    for (int round = 0; round < 20; ++round) {
        Log log;
        os::put_file(path("new"), "");
        const Operation write = part(loop, log, "write", WriteAllAt{file, buffer_of(text), 0});
        const Operation sync = part(loop, log, "sync", Sync{file}, following(write));
        part(loop, log, "link", Link{path("new"), path("good" + std::to_string(round))},
             following(sync));
        EXPECT_TRUE(log.lines.empty()) << "called inline";
        run_until(loop, [&] { return log.has(3); });
        EXPECT_EQ(log.lines, (Lines{"write", "sync", "link"}));
        EXPECT_EQ(os::get_file(path("good" + std::to_string(round))), text);
        ASSERT_FALSE(finished(loop, Unlink{path("good" + std::to_string(round))}).error);
    }
    Log log;
    const Operation write = part(loop, log, "write", WriteAllAt{file, buffer_of(text), 0});
    part(loop, log, "rename", Rename{path("new"), path("good")}, following(write));
    run_until(loop, [&] { return log.has(2); });
    EXPECT_EQ(os::get_file(path("good")), text);
    close_and_wait(loop, file);
    expect_clean(loop);
}

// Two renames of one file can only succeed one after the other: the order is that of the chain.
TEST_P(Chain, a_part_begins_when_the_one_before_has_ended) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    os::put_file(path("0"), "text");
    Log log;
    Operation last;
    for (int index = 0; index < 100; ++index) {
        const std::string from = path(std::to_string(index));
        last = part(loop, log, "rename", Rename{from, path(std::to_string(index + 1))},
                    following(last));
    }
    run_until(loop, [&] { return log.has(100); });
    EXPECT_EQ(log.lines, Lines(100, "rename"));
    EXPECT_EQ(os::get_file(path("100")), "text");
    expect_clean(loop);
}

TEST_P(Chain, ends_at_the_first_error_wherever_that_is) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (std::size_t bad = 0; bad < 4; ++bad) {
        Log log;
        Operation last;
        Lines expected;
        for (std::size_t index = 0; index < 4; ++index) {
            const std::string name = std::to_string(index);
            const std::string made = path(std::to_string(bad) + "-" + name);
            if (index == bad) last = part(loop, log, name, Unlink{made}, following(last));
            else last = part(loop, log, name, MakeDirectory{made}, following(last));
            const char* end = index == bad ? " ENOENT" : index > bad ? " cancelled" : "";
            expected.push_back(name + end);
            EXPECT_FALSE(os::exists(made));
        }
        run_until(loop, [&] { return log.has(4); });
        EXPECT_EQ(log.lines, expected);
        for (std::size_t index = 0; index < 4; ++index) {
            const std::string made = path(std::to_string(bad) + "-" + std::to_string(index));
            EXPECT_EQ(os::exists(made), index < bad) << made;
        }
    }
    expect_clean(loop);
}

TEST_P(Chain, less_than_was_asked_ends_it) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    os::put_file(path("a"), letters(100));
    const File file = opened(loop, "a");
    Log log;
    const Operation exact = part(loop, log, "whole", ReadExactAt{file, Buffer::allocate(100)});
    const Operation some =
        part(loop, log, "short", ReadAt{file, Buffer::allocate(101)}, following(exact));
    const Operation none = part(loop, log, "sync", Sync{file}, following(some));
    part(loop, log, "mkdir", MakeDirectory{path("d")}, following(none));
    run_until(loop, [&] { return log.has(4); });
    EXPECT_EQ(log.lines, (Lines{"whole", "short", "sync cancelled", "mkdir cancelled"}));
    EXPECT_FALSE(os::exists(path("d")));

    Log other;
    const Operation past = part(loop, other, "end", ReadExactAt{file, Buffer::allocate(101)});
    part(loop, other, "sync", Sync{file}, following(past));
    run_until(loop, [&] { return other.has(2); });
    EXPECT_EQ(other.lines, (Lines{"end end_of_file", "sync cancelled"}));
    close_and_wait(loop, file);
    expect_clean(loop);
}

// What receives takes what there is: a pipe's read is whole with one byte. Nothing to write succeeds.
TEST_P(Chain, on_pipes_and_with_nothing_to_do) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Result<PipeEnds> ends = make_pipe(loop);
    ASSERT_TRUE(ends);
    Log log;
    const Operation nothing = part(loop, log, "nothing", Write{ends->writing, Buffer()});
    const Operation write =
        part(loop, log, "write", WriteAll{ends->writing, buffer_of("t")}, following(nothing));
    const Operation read =
        part(loop, log, "read", Read{ends->reading, Buffer::allocate(10)}, following(write));
    part(loop, log, "nop", Nop{}, following(read));
    run_until(loop, [&] { return log.has(4); });
    EXPECT_EQ(log.lines, (Lines{"nothing", "write", "read", "nop"}));
    ASSERT_FALSE(loop.close(ends->reading));
    ASSERT_FALSE(loop.close(ends->writing));
    ASSERT_FALSE(loop.poll());
    expect_clean(loop);
}

TEST_P(Chain, several_follow_one) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (const bool good : {true, false}) {
        Log log;
        const std::string first = path(good ? "good" : "none/bad");
        const Operation make = part(loop, log, "first", MakeDirectory{first});
        for (int index = 0; index < 10; ++index) {
            part(loop, log, "next", MakeDirectory{path("good/" + std::to_string(index))},
                 following(make));
        }
        run_until(loop, [&] { return log.has(11); });
        if (good) {
            EXPECT_EQ(std::count(log.lines.begin(), log.lines.end(), "next"), 10);
        } else {
            EXPECT_EQ(std::count(log.lines.begin(), log.lines.end(), "next cancelled"), 10);
        }
        EXPECT_EQ(log.lines.front(), good ? "first" : "first ENOENT");
    }
    expect_clean(loop);
}

// The handler of a part runs before what follows has begun, and may still call that off.
TEST_P(Chain, cancelled_by_the_handler_before_it) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Log log;
    Operation next;
    const Result<Operation> first =
        loop.submit(MakeDirectory{path("a")}, [&](Loop& here, NameDone done) {
            log.add("first", done.error);
            EXPECT_EQ(here.cancel(next), Cancelled::cancelling);
        });
    ASSERT_TRUE(first);
    next = part(loop, log, "next", MakeDirectory{path("b")}, following(*first));
    part(loop, log, "last", MakeDirectory{path("c")}, following(next));
    run_until(loop, [&] { return log.has(3); });
    EXPECT_EQ(log.lines, (Lines{"first", "next cancelled", "last cancelled"}));
    EXPECT_TRUE(os::exists(path("a")));
    EXPECT_FALSE(os::exists(path("b")));
    EXPECT_FALSE(os::exists(path("c")));
    expect_clean(loop);
}

TEST_P(Chain, each_part_cancelled) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (std::size_t victim = 0; victim < 4; ++victim) {
        Log log;
        std::vector<Operation> parts;
        for (std::size_t index = 0; index < 4; ++index) {
            const std::string name = std::to_string(index);
            const Operation before = parts.empty() ? Operation() : parts.back();
            parts.push_back(part(loop, log, name,
                                 MakeDirectory{path(std::to_string(victim) + "-" + name)},
                                 following(before)));
        }
        EXPECT_EQ(loop.cancel(parts[victim]), Cancelled::cancelling);
        EXPECT_EQ(loop.cancel(parts[victim]), Cancelled::already_completing);
        run_until(loop, [&] { return log.has(4); });
        std::sort(log.lines.begin(), log.lines.end());
        for (std::size_t index = 0; index < 4; ++index) {
            const std::string name = std::to_string(index);
            EXPECT_EQ(log.lines[index], index < victim ? name : name + " cancelled");
            EXPECT_EQ(os::exists(path(std::to_string(victim) + "-" + name)), index < victim);
            EXPECT_EQ(loop.cancel(parts[index]), Cancelled::not_found);
        }
    }
    expect_clean(loop);
}

TEST_P(Chain, refused_behind_what_has_ended) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Log log;
    const Operation nop = part(loop, log, "nop", Nop{});
    run_until(loop, [&] { return log.has(1); });
    const Result<Operation> late = loop.submit(Nop{}, following(nop), [](Loop&, Nop::Done) {
        ADD_FAILURE() << "a refused operation was called";
    });
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error(), Error::stale_handle);
    SubmitOptions both = following(nop);
    both.within = 1h;
    const Result<Operation> timed = loop.submit(
        Nop{}, both, [](Loop&, Nop::Done) { ADD_FAILURE() << "a refused operation was called"; });
    ASSERT_FALSE(timed);
    EXPECT_EQ(timed.error(), Error::stale_handle);
    expect_clean(loop);
}

// An operation that cannot be opened leaves the chain that it had joined.
TEST_P(Chain, refused_when_it_is_opened) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Result<PipeEnds> ends = make_pipe(loop);
    ASSERT_TRUE(ends);
    Log log;
    const Operation nop = part(loop, log, "nop", Nop{});
    const Result<Operation> wrong = loop.submit(
        Write{ends->reading, buffer_of("t")}, following(nop),
        [](Loop&, const Write::Done&) { ADD_FAILURE() << "a refused operation was called"; });
    ASSERT_FALSE(wrong);
    EXPECT_EQ(wrong.error(), Error::from_errno(EBADF));
    part(loop, log, "next", Nop{}, following(nop));
    run_until(loop, [&] { return log.has(2); });
    EXPECT_EQ(log.lines, (Lines{"nop", "next"}));
    ASSERT_FALSE(loop.close(ends->reading));
    ASSERT_FALSE(loop.close(ends->writing));
    ASSERT_FALSE(loop.poll());
    expect_clean(loop);
}

TEST_P(Chain, slots_run_out) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.ops_max = 8; });
    Log log;
    Operation last = part(loop, log, "0", Nop{});
    std::size_t count = 1;
    for (; count < 20; ++count) {
        const Result<Operation> made = loop.submit(
            Nop{}, following(last), [&log](Loop&, Nop::Done done) { log.add("n", done.error); });
        if (!made) {
            EXPECT_EQ(made.error(), Error::slots_exhausted);
            break;
        }
        last = *made;
    }
    EXPECT_LT(count, 8u);
    EXPECT_GE(count, 4u);
    run_until(loop, [&] { return log.has(count); });
    expect_clean(loop);
}

TEST_P(Chain, deadlines_of_its_parts) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Result<PipeEnds> ends = make_pipe(loop);
    ASSERT_TRUE(ends);
    // The first waits for bytes that never come, with a deadline and followers at once.
    Log log;
    const Operation read =
        part(loop, log, "read", Read{ends->reading, Buffer::allocate(10)}, within(20ms));
    SubmitOptions soon = following(read);
    soon.within = 1h;
    const Operation next = part(loop, log, "next", Nop{}, soon);
    part(loop, log, "last", Nop{}, following(next));
    run_until(loop, [&] { return log.has(3); });
    EXPECT_EQ(log.lines, (Lines{"read timed_out", "next cancelled", "last cancelled"}));

    // What waits in the chain has a deadline of its own, and ends without the one before.
    Log other;
    const Operation waits = part(loop, other, "read", Read{ends->reading, Buffer::allocate(10)});
    SubmitOptions short_one = following(waits);
    short_one.within = 20ms;
    const Operation late = part(loop, other, "late", Nop{}, short_one);
    part(loop, other, "last", Nop{}, following(late));
    run_until(loop, [&] { return other.has(2); });
    EXPECT_EQ(other.lines, (Lines{"late timed_out", "last cancelled"}));
    // The deadline of a part that is followed is forgotten with it.
    ASSERT_TRUE(
        loop.submit(WriteAll{ends->writing, buffer_of("t")}, following(waits),
                    [&](Loop&, const WriteAll::Done& done) { other.add("write", done.error); }));
    EXPECT_EQ(loop.cancel(waits), Cancelled::cancelling);
    run_until(loop, [&] { return other.has(4); });
    EXPECT_EQ(other.lines[2], "read cancelled");
    EXPECT_EQ(other.lines[3], "write cancelled");
    ASSERT_FALSE(loop.close(ends->reading));
    ASSERT_FALSE(loop.close(ends->writing));
    ASSERT_FALSE(loop.poll());
    expect_clean(loop);
}

// A deadline that is met is forgotten, followers or not.
TEST_P(Chain, deadlines_that_are_met) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Log log;
    Operation last;
    for (int index = 0; index < 10; ++index) {
        SubmitOptions options = following(last);
        options.within = 1h;
        last = part(loop, log, "nop", Nop{}, options);
    }
    run_until(loop, [&] { return log.has(10); });
    EXPECT_EQ(log.lines, Lines(10, "nop"));
    expect_clean(loop);
}

TEST_P(Chain, closed_under_a_part_that_waits) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Result<PipeEnds> ends = make_pipe(loop);
    const Result<PipeEnds> others = make_pipe(loop);
    ASSERT_TRUE(ends && others);
    const File file = opened(loop, "a");
    Log log;
    const Operation read = part(loop, log, "read", Read{ends->reading, Buffer::allocate(10)});
    const Operation write =
        part(loop, log, "write", Write{others->writing, buffer_of("text")}, following(read));
    part(loop, log, "sync", Sync{file}, following(read));
    part(loop, log, "last", Nop{}, following(write));
    ASSERT_FALSE(loop.poll());
    bool closed = false;
    ASSERT_FALSE(loop.close(others->writing, [&](Loop&) { closed = true; }));
    run_until(loop, [&] { return closed && log.has(2); });
    EXPECT_EQ(log.lines, (Lines{"write cancelled", "last cancelled"}));
    close_and_wait(loop, file);
    EXPECT_EQ(log.lines.back(), "sync cancelled");
    ASSERT_FALSE(loop.close(ends->reading));
    run_until(loop, [&] { return log.has(4); });
    EXPECT_EQ(log.lines.back(), "read cancelled");
    ASSERT_FALSE(loop.close(ends->writing));
    ASSERT_FALSE(loop.close(others->reading));
    ASSERT_FALSE(loop.poll());
    expect_clean(loop);
}

TEST_P(Chain, drained_and_destroyed_at_any_time) {
    WHORL_SKIP_IF_REFUSED();
    for (int round = 0; round < 12; ++round) {
        const Witness handlers;
        int ended = 0;
        {
            Loop loop = make_loop();
            const File file = opened(loop, "a");
            Operation last;
            for (int index = 0; index < 10; ++index) {
                SubmitOptions options = following(last);
                if (index % 3 == 0) options.within = 1h;
                const Result<Operation> made = loop.submit(
                    WriteAllAt{file, buffer_of(letters(3'000)), 0}, options,
                    [&, copy = handlers.copy()](Loop&, const WriteAllAt::Done&) { ++ended; });
                ASSERT_TRUE(made);
                last = *made;
            }
            for (int turn = 0; turn < round / 2; ++turn) ASSERT_FALSE(loop.poll());
            if (round % 2 == 0) {
                ASSERT_FALSE(loop.drain(60s));
                EXPECT_EQ(ended, 10);
                expect_clean(loop);
            }
        }
        EXPECT_TRUE(handlers.alone());
    }
}

}  // namespace
}  // namespace whorl::conformance
