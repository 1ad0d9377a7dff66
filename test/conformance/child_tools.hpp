// SPDX-License-Identifier: MIT
#pragma once

#include "conformance/contract.hpp"
#include "conformance/support.hpp"
#include "conformance/tcp_tools.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <string>
#include <vector>

// What the tests of child processes share.

namespace whorl::conformance {

struct Started {
    int finals = 0;
    Spawn::Done done{};
};
inline auto into_started(Started& started) {
    return [&started](Loop&, Spawn::Done done) {
        started.done = done;
        ++started.finals;
    };
}

struct Ended {
    int finals = 0;
    Error error;
    ChildExit exit;
};
inline auto into_ended(Ended& ended) {
    return [&ended](Loop&, WaitChild::Done done) {
        ended.error = done.error;
        ended.exit = done.exit;
        ++ended.finals;
    };
}

class ChildTools : public TcpTools {
  protected:
    static Spawn::Done spawn(Loop& loop, const SpawnOptions& options) {
        Started started;
        const Result<Operation> made = loop.submit(Spawn{options}, into_started(started));
        EXPECT_TRUE(made) << made.error().text();
        run_until(loop, [&] { return started.finals == 1; });
        return started.done;
    }
    // One that must succeed.
    static Spawn::Done start(Loop& loop, const SpawnOptions& options) {
        Spawn::Done done = spawn(loop, options);
        EXPECT_FALSE(done.error) << name_of(done.step) << ": " << done.error.text();
        EXPECT_EQ(done.step, SpawnStep::none);
        EXPECT_TRUE(done.child);
        return done;
    }
    static Ended wait_for(Loop& loop, Child child) {
        Ended ended;
        EXPECT_TRUE(loop.submit(WaitChild{child}, into_ended(ended)));
        run_until(loop, [&] { return ended.finals == 1; });
        return ended;
    }
    // The exit status of a child, which is closed afterwards.
    static int status_of(Loop& loop, Child child) {
        const Ended ended = wait_for(loop, child);
        EXPECT_FALSE(ended.error) << ended.error.text();
        EXPECT_EQ(ended.exit.how, ChildExit::How::exited);
        EXPECT_FALSE(loop.close(child));
        return ended.exit.status;
    }
    // What is read until the end, and closes the pipe.
    static std::string read_all(Loop& loop, Pipe pipe) {
        std::string text;
        for (;;) {
            End end;
            EXPECT_TRUE(loop.submit(Read{pipe, Buffer::allocate(4096)}, into(end)));
            run_until(loop, [&] { return end.finals == 1; });
            EXPECT_FALSE(end.error) << end.error.text();
            if (end.error || end.text.empty()) break;
            text += end.text;
        }
        EXPECT_FALSE(loop.close(pipe));
        return text;
    }
    static Error write_all(Loop& loop, Pipe pipe, const std::string& text) {
        End end;
        EXPECT_TRUE(loop.submit(WriteAll{pipe, Buffer::copy_of(Bytes{text.data(), text.size()})},
                                into(end)));
        run_until(loop, [&] { return end.finals == 1; });
        return end.error;
    }
    // The whole output of a program that returns 0.
    static std::string output_of(Loop& loop, SpawnOptions options) {
        options.output = ChildStream::pipe();
        const Spawn::Done done = start(loop, options);
        std::string text = read_all(loop, done.output);
        EXPECT_EQ(status_of(loop, done.child), 0);
        return text;
    }
    static int pid_of(Loop& loop, Child child) {
        const Result<std::int32_t> pid = process_id(loop, child);
        EXPECT_TRUE(pid);
        return pid ? *pid : -1;
    }
    // The loop has reaped what was closed, and let its descriptors go.
    static void expect_all_reaped(Loop& loop) {
        run_until(loop, [&] { return loop.statistics().handles == 0; });
        EXPECT_FALSE(os::has_children());
        expect_clean(loop);
    }
};

}  // namespace whorl::conformance
