// SPDX-License-Identifier: MIT
// Goal: children start, are waited for, signalled and let go as child.hpp says, and none is ever left as
// a zombie. Method: programs that return, stay, copy and do not hear, of the machine and of a world; each
// way that the operations may end; loops that end first.
#include "conformance/child_tools.hpp"

namespace whorl::conformance {
namespace {

class ChildBasic : public ChildTools {};
WHORL_CONFORMANCE(ChildBasic);

TEST_P(ChildBasic, its_status_is_what_it_returned) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (const int status : {0, 1, 3, 255}) {
        const os::Program program = os::returns(status);
        const Spawn::Done done = start(loop, program.options());
        EXPECT_FALSE(done.input || done.output || done.error_output) << "no pipe was asked for";
        const Ended ended = wait_for(loop, done.child);
        EXPECT_FALSE(ended.error);
        EXPECT_EQ(ended.exit.how, ChildExit::How::exited);
        EXPECT_EQ(ended.exit.status, status);
        EXPECT_EQ(ended.exit.success(), status == 0);
        if (!GetParam().world) {
            EXPECT_GT(ended.exit.memory_max, 0u);
            EXPECT_GT(ended.exit.faults_minor, 0u);
        }
        const Ended again = wait_for(loop, done.child);
        EXPECT_EQ(again.error, Error::from_errno(ECHILD)) << "it has been reaped";
        EXPECT_EQ(send_signal(loop, done.child, SIGTERM), Error::from_errno(ESRCH));
        EXPECT_FALSE(loop.close(done.child));
        EXPECT_EQ(send_signal(loop, done.child, SIGTERM), Error::stale_handle);
        EXPECT_EQ(process_id(loop, done.child).error(), Error::stale_handle);
    }
    expect_clean(loop);
}

TEST_P(ChildBasic, signals_reach_it_and_are_told) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const os::Program program = os::stays();
    for (const int number : {SIGTERM, SIGKILL, SIGUSR1}) {
        const Spawn::Done done = start(loop, program.options());
        EXPECT_GT(pid_of(loop, done.child), 1);
        Ended ended;
        ASSERT_TRUE(loop.submit(WaitChild{done.child}, into_ended(ended)));
        turns(loop, 2);
        EXPECT_FALSE(send_signal(loop, done.child, 0)) << "it is there";
        EXPECT_EQ(send_signal(loop, done.child, 1000), Error::from_errno(EINVAL));
        turns(loop, 2);
        EXPECT_EQ(ended.finals, 0);
        EXPECT_FALSE(send_signal(loop, done.child, number));
        run_until(loop, [&] { return ended.finals == 1; });
        EXPECT_FALSE(ended.error);
        EXPECT_EQ(ended.exit.how, ChildExit::How::killed);
        EXPECT_EQ(ended.exit.status, number);
        EXPECT_FALSE(loop.close(done.child));
    }
    expect_clean(loop);
}

TEST_P(ChildBasic, pipes_lead_to_its_streams) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const os::Program said = os::says("some words");
    EXPECT_EQ(output_of(loop, said.options()), "some words");
    const os::Program copying = os::copies();
    SpawnOptions options = copying.options();
    options.input = options.output = ChildStream::pipe();
    options.error = ChildStream::null();
    const Spawn::Done done = start(loop, options);
    EXPECT_TRUE(done.input && done.output);
    EXPECT_FALSE(done.error_output);
    const std::string text = pattern(200'000);  // more than both pipes hold
    End written;
    ASSERT_TRUE(loop.submit(WriteAll{done.input, Buffer::copy_of(Bytes{text.data(), text.size()})},
                            into(written)));
    std::string got;
    while (got.size() < text.size() && !HasFailure()) {
        End part;
        ASSERT_TRUE(loop.submit(Read{done.output, Buffer::allocate(65536)}, into(part)));
        run_until(loop, [&] { return part.finals == 1; });
        ASSERT_FALSE(part.error);
        ASSERT_FALSE(part.text.empty());
        got += part.text;
    }
    EXPECT_TRUE(got == text);
    EXPECT_EQ(written.finals, 1);
    EXPECT_FALSE(loop.close(done.input));
    EXPECT_EQ(read_all(loop, done.output), "") << "the end, for nobody else has the other end";
    EXPECT_EQ(status_of(loop, done.child), 0);
    expect_all_reaped(loop);
}

// The child alone holds the pipe's other end then: it ends with the child.
TEST_P(ChildBasic, a_further_descriptor_lives_as_long_as_the_child) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Ends ends = Ends::pipe();
    const Result<Pipe> reading = adopt_pipe(loop, ends.in.release());
    ASSERT_TRUE(reading);
    const os::Program program = os::stays();
    SpawnOptions options = program.options();
    const ChildDescriptor wrong[] = {{ends.out.get(), 3}, {ends.out.get(), 3}};
    const ChildDescriptor low{ends.out.get(), 2}, high{ends.out.get(), 1024}, shut{1 << 20, 3};
    const auto refused_with = [&](const ChildDescriptor* descriptors, std::uint32_t count) {
        options.descriptors = descriptors;
        options.descriptor_count = count;
        return loop.submit(Spawn{options}, [](Loop&, Spawn::Done) { ADD_FAILURE(); }).error();
    };
    EXPECT_EQ(refused_with(wrong, 2), Error::invalid_argument) << "one number twice";
    EXPECT_EQ(refused_with(&low, 1), Error::invalid_argument);
    EXPECT_EQ(refused_with(&high, 1), Error::invalid_argument);
    EXPECT_EQ(refused_with(&low, SpawnOptions::descriptors_max + 1), Error::invalid_argument);
    options.descriptors = &shut;
    options.descriptor_count = 1;
    const Spawn::Done failed = spawn(loop, options);
    EXPECT_EQ(failed.error, Error::from_errno(EBADF));
    EXPECT_EQ(failed.step, SpawnStep::prepare);

    options.descriptors = wrong;
    const Spawn::Done done = start(loop, options);
    ends.out.close();
    End end;
    ASSERT_TRUE(loop.submit(Read{*reading, Buffer::allocate(16)}, into(end)));
    turns(loop, 3);
    EXPECT_EQ(end.finals, 0) << "somebody could write";
    EXPECT_FALSE(send_signal(loop, done.child, SIGKILL));
    run_until(loop, [&] { return end.finals == 1; });
    EXPECT_FALSE(end.error);
    EXPECT_EQ(end.text, "");
    EXPECT_EQ(wait_for(loop, done.child).exit.status, SIGKILL);
    EXPECT_FALSE(loop.close(done.child));
    EXPECT_FALSE(loop.close(*reading));
    expect_all_reaped(loop);
}

TEST_P(ChildBasic, what_cannot_start_says_what_failed) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    SpawnOptions options;
    const auto nothing = [](Loop&, Spawn::Done) { ADD_FAILURE() << "called"; };
    EXPECT_EQ(loop.submit(Spawn{options}, nothing).error(), Error::invalid_argument);
    options.program = "";
    EXPECT_EQ(loop.submit(Spawn{options}, nothing).error(), Error::invalid_argument);
    options.program = "/no/such/program";
    options.session = true;
    options.process_group = 0;
    EXPECT_EQ(loop.submit(Spawn{options}, nothing).error(), Error::invalid_argument);
    options.session = false;
    options.process_group = -2;
    EXPECT_EQ(loop.submit(Spawn{options}, nothing).error(), Error::invalid_argument);
    options.process_group = -1;
    const std::string large(std::size_t{3} << 20, 'x');
    const char* const arguments[] = {"x", large.c_str(), nullptr};
    options.arguments = arguments;
    EXPECT_EQ(loop.submit(Spawn{options}, nothing).error(), Error::from_errno(E2BIG));
    options.arguments = nullptr;
    for (const char* program : {"/no/such/program", "no-such-program-anywhere"}) {
        options.program = program;
        options.input = options.output = options.error = ChildStream::pipe();
        const Spawn::Done done = spawn(loop, options);
        EXPECT_EQ(done.error, Error::from_errno(ENOENT));
        EXPECT_EQ(done.step, SpawnStep::program);
        EXPECT_FALSE(done.child || done.input || done.output || done.error_output);
        EXPECT_FALSE(os::has_children());
        turns(loop, 2);
        expect_clean(loop);
    }
    options.input = ChildStream::descriptor(100'000);
    const Spawn::Done done = spawn(loop, options);
    EXPECT_EQ(done.error, Error::from_errno(EBADF));
    EXPECT_EQ(done.step, SpawnStep::prepare);
    turns(loop, 2);
    expect_clean(loop);
}

TEST_P(ChildBasic, no_slot_is_left_for_it) {
    WHORL_SKIP_IF_REFUSED();
    for (const std::uint32_t handles : {1u, 2u, 3u, 4u}) {
        Loop loop = make_loop([&](LoopOptions& options) { options.handles_max = handles; });
        const os::Program program = os::returns(0);
        SpawnOptions options = program.options();
        options.input = options.output = options.error = ChildStream::pipe();
        const Spawn::Done done = spawn(loop, options);
        EXPECT_EQ(done.error, handles == 4 ? Error() : Error(Error::slots_exhausted));
        EXPECT_EQ(done.step, handles == 4 ? SpawnStep::none : SpawnStep::prepare);
        if (done.child) {
            for (const Pipe pipe : {done.input, done.output, done.error_output}) {
                EXPECT_FALSE(loop.close(pipe));
            }
            EXPECT_EQ(status_of(loop, done.child), 0);
        }
        turns(loop, 2);
        expect_clean(loop);
    }
}

TEST_P(ChildBasic, closed_while_it_runs_it_is_reaped_by_the_loop) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const os::Program program = os::copies();
    SpawnOptions options = program.options();
    options.input = ChildStream::pipe();
    const Spawn::Done done = start(loop, options);
    bool closed = false;
    Ended ended;
    ASSERT_TRUE(loop.submit(WaitChild{done.child}, into_ended(ended)));
    EXPECT_FALSE(loop.close(done.child, [&](Loop&) { closed = true; }));
    run_until(loop, [&] { return closed; });
    EXPECT_EQ(ended.error, Error::cancelled);
    EXPECT_EQ(send_signal(loop, done.child, SIGTERM), Error::stale_handle);
    turns(loop, 3);
    EXPECT_TRUE(os::has_children()) << "it runs";
    EXPECT_EQ(loop.statistics().handles, 2u) << "the pipe, and the child that the loop waits for";
    EXPECT_FALSE(loop.run()) << "it does not keep a loop going";
    EXPECT_FALSE(loop.close(done.input));
    expect_all_reaped(loop);
}

TEST_P(ChildBasic, closing_kills_it_when_that_was_asked_for) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const os::Program program = os::stays_deaf();
    SpawnOptions options = program.options();
    options.output = ChildStream::pipe();
    options.kill_on_close = true;
    const Spawn::Done done = start(loop, options);
    End deaf;
    ASSERT_TRUE(loop.submit(Read{done.output, Buffer::allocate(100)}, into(deaf)));
    run_until(loop, [&] { return deaf.finals == 1; });
    Ended ended;
    ASSERT_TRUE(loop.submit(WaitChild{done.child}, within(5ms), into_ended(ended)));
    EXPECT_FALSE(send_signal(loop, done.child, SIGTERM));
    run_until(loop, [&] { return ended.finals == 1; });
    EXPECT_EQ(ended.error, Error::timed_out) << "it does not hear SIGTERM";
    EXPECT_FALSE(loop.close(done.child));
    EXPECT_EQ(read_all(loop, done.output), "");
    expect_all_reaped(loop);
}

TEST_P(ChildBasic, the_loops_end_kills_what_dies_with_its_handle) {
    WHORL_SKIP_IF_REFUSED();
    const os::Program program = os::stays();
    SpawnOptions options = program.options();
    options.kill_on_close = true;
    {
        Loop loop = make_loop();
        static_cast<void>(start(loop, options));
        const Spawn::Done closed = start(loop, options);
        EXPECT_FALSE(loop.close(closed.child));  // and at once the loop goes
    }
    EXPECT_FALSE(os::has_children());
    Loop loop = make_loop();
    static_cast<void>(start(loop, options));
    EXPECT_FALSE(loop.drain(10s));
    EXPECT_FALSE(os::has_children());
    expect_clean(loop);
}

TEST_P(ChildBasic, the_operations_keep_the_contract) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const os::Program program = os::stays();
    SpawnOptions options = program.options();
    options.kill_on_close = true;
    const Spawn::Done done = start(loop, options);
    Contract waiting(loop, [&] { return WaitChild{done.child}; });
    waiting.cancelled_in_every_way();
    waiting.closed_under(done.child);
    expect_all_reaped(loop);
}

TEST_P(ChildBasic, a_wait_is_destroyed_with_its_loop) {
    WHORL_SKIP_IF_REFUSED();
    Witness witness;
    const os::Program program = os::stays();
    SpawnOptions options = program.options();
    options.kill_on_close = true;
    {
        Loop loop = make_loop();
        const Spawn::Done done = start(loop, options);
        Contract(loop, [&] { return WaitChild{done.child}; }).left_pending(witness.copy());
    }
    EXPECT_TRUE(witness.alone());
}

// Whatever a cancel or a deadline comes to, there is a child exactly when the completion has one.
TEST_P(ChildBasic, a_spawn_is_cancelled_or_there_is_a_child) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const os::Program program = os::stays();
    SpawnOptions options = program.options();
    options.kill_on_close = true;
    options.output = ChildStream::pipe();
    for (int rounds = 0; rounds < 6; ++rounds) {
        Started started;
        const bool timed = rounds >= 4;
        const SubmitOptions limit = within(rounds == 4 ? 0ns : 1h);
        const Operation operation = *loop.submit(Spawn{options}, limit, into_started(started));
        for (int turn = 0; turn < rounds && rounds != 4; ++turn) {
            if (started.finals != 0) break;
            EXPECT_FALSE(loop.poll());
        }
        if (!timed && started.finals == 0) {
            EXPECT_NE(loop.cancel(operation), Cancelled::not_found);
        }
        run_until(loop, [&] { return started.finals == 1; });
        if (started.done.error) {
            EXPECT_EQ(started.done.error, timed ? Error::timed_out : Error::cancelled);
            EXPECT_EQ(started.done.step, SpawnStep::none);
            EXPECT_FALSE(started.done.child || started.done.output);
            EXPECT_NE(rounds, 5);
        } else {
            EXPECT_NE(rounds, 0) << "cancelled before the turn";
            EXPECT_NE(rounds, 4) << "a deadline that had passed";
            EXPECT_FALSE(loop.close(started.done.output));
            EXPECT_FALSE(loop.close(started.done.child));
        }
        expect_all_reaped(loop);
    }
}

TEST_P(ChildBasic, a_spawn_is_destroyed_with_its_loop) {
    WHORL_SKIP_IF_REFUSED();
    const os::Program program = os::stays();
    SpawnOptions options = program.options();
    options.kill_on_close = true;
    options.input = options.output = options.error = ChildStream::pipe();
    for (int rounds = 0; rounds < 4; ++rounds) {
        Witness witness;
        bool ending = false;
        {
            Loop loop = make_loop();
            ASSERT_TRUE(loop.submit(
                Spawn{options}, [&ending, held = witness.copy()](Loop&, const Spawn::Done&) {
                    EXPECT_FALSE(ending) << "called while the loop was destroyed";
                }));
            // In the last, the thread may be done and its answer here, but not dispatched.
            if (rounds == 3) loop.stop();
            for (int turn = 0; turn < rounds && rounds != 2; ++turn) EXPECT_FALSE(loop.poll());
            ending = true;
        }
        EXPECT_TRUE(witness.alone());
        EXPECT_FALSE(os::has_children());
    }
}

TEST_P(ChildBasic, sigchld_is_for_whoever_wants_it) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Signals signals = *open_signals(loop, {SIGCHLD});
    SignalInfo heard;
    ASSERT_TRUE(loop.submit(WaitSignal{signals},
                            [&](Loop&, WaitSignal::Done done) { heard = done.signal; }));
    const os::Program program = os::returns(7);
    const Spawn::Done done = start(loop, program.options());
    const int pid = pid_of(loop, done.child);
    EXPECT_EQ(status_of(loop, done.child), 7) << "nobody has reaped it";
    run_until(loop, [&] { return heard.number != 0; });
    EXPECT_EQ(heard.number, SIGCHLD);
    EXPECT_EQ(heard.pid, pid);
    EXPECT_EQ(heard.code, CLD_EXITED);
    EXPECT_EQ(heard.status, 7);
    EXPECT_FALSE(loop.close(signals));
    expect_all_reaped(loop);
}

// All at once, waited for in any order.
TEST_P(ChildBasic, a_crowd_leaves_nothing_behind) {
    WHORL_SKIP_IF_REFUSED();
    const std::string_view name = GetParam().name;
    const bool whole = name == "io_uring" || name == "libev" || GetParam().world.has_value();
    const auto count = static_cast<std::size_t>(whole ? scaled(1000) : 20);
    rlimit files{};
    os::getrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < count * 2 + 100) GTEST_SKIP() << "RLIMIT_NOFILE is too low";
    Loop loop = make_loop();
    const os::Program program = os::copies();
    SpawnOptions options = program.options();
    options.input = ChildStream::pipe();
    struct Each {
        Child child;
        Pipe input;
    };
    std::vector<Each> each;
    std::size_t ended = 0, failed = 0;
    for (std::size_t index = 0; index < count; ++index) {
        ASSERT_TRUE(loop.submit(Spawn{options}, [&](Loop& inside, Spawn::Done done) {
            if (done.error) {
                ++failed;
                return;
            }
            each.push_back({done.child, done.input});
            const Child child = done.child;
            EXPECT_TRUE(inside.submit(WaitChild{child},
                                      [&, child](Loop& loop_inside, WaitChild::Done exit) {
                                          EXPECT_FALSE(exit.error);
                                          EXPECT_TRUE(exit.exit.success());
                                          EXPECT_FALSE(loop_inside.close(child));
                                          ++ended;
                                      }));
        }));
    }
    run_until(
        loop, [&] { return each.size() + failed == count; }, 60s);
    EXPECT_EQ(failed, 0u);
    EXPECT_EQ(ended, 0u) << "all are alive";
    for (const Each& one : each) EXPECT_FALSE(loop.close(one.input));
    run_until(
        loop, [&] { return ended == each.size(); }, 60s);
    expect_all_reaped(loop);
}

}  // namespace
}  // namespace whorl::conformance
