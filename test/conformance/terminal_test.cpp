// SPDX-License-Identifier: MIT
// Goal: a terminal that others have as well (a shell, a parent) is, whatever a loop does with it, as it was
// before: its status flags and its modes.
// Method: a pseudo-terminal whose slave end stays open here, too, as it would in the shell; read, written,
// watched, cancelled and closed by the loop; and a process that ends in the middle of it.
#include "conformance/contract.hpp"
#include "conformance/support.hpp"
#include "conformance/tcp_tools.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string>

namespace whorl::conformance {
namespace {

class Terminal : public TcpTools {
  protected:
    void SetUp() override {
        TcpTools::SetUp();
        master_ = Fd(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
        ASSERT_GE(master_.get(), 0);
        ASSERT_EQ(::grantpt(master_.get()), 0);
        ASSERT_EQ(::unlockpt(master_.get()), 0);
        shell_ = Fd(::open(::ptsname(master_.get()), O_RDWR | O_NOCTTY | O_CLOEXEC));
        ASSERT_GE(shell_.get(), 0);
        flags_ = ::fcntl(shell_.get(), F_GETFL);
        ASSERT_EQ(::tcgetattr(shell_.get(), &modes_), 0);
        ASSERT_EQ(flags_ & O_NONBLOCK, 0);
    }
    void TearDown() override {
        master_.close();
        shell_.close();
        TcpTools::TearDown();
    }
    void expect_as_before() {
        EXPECT_EQ(::fcntl(shell_.get(), F_GETFL), flags_);
        termios now{};
        ASSERT_EQ(::tcgetattr(shell_.get(), &now), 0);
        EXPECT_EQ(now.c_iflag, modes_.c_iflag);
        EXPECT_EQ(now.c_oflag, modes_.c_oflag);
        EXPECT_EQ(now.c_cflag, modes_.c_cflag);
        EXPECT_EQ(now.c_lflag, modes_.c_lflag);
        EXPECT_EQ(std::memcmp(now.c_cc, modes_.c_cc, sizeof now.c_cc), 0);
    }
    static void close_one(Loop& loop, Pipe pipe) {
        bool done = false;
        EXPECT_FALSE(loop.close(pipe, [&](Loop&) { done = true; }));
        run_until(loop, [&] { return done; });
    }
    void type(const char* text) {
        const auto size = static_cast<ssize_t>(std::strlen(text));
        ASSERT_EQ(::write(master_.get(), text, std::strlen(text)), size);
    }

    Fd master_;  // what the user sees
    Fd shell_;
    int flags_ = 0;
    termios modes_{};
};
WHORL_CONFORMANCE_REAL(Terminal);

TEST_P(Terminal, read_and_written_it_stays_as_it_was) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    const Result<Pipe> terminal = duplicate_pipe(loop, shell_.get());
    ASSERT_TRUE(terminal) << terminal.error().text();
    End line, prompt;
    ASSERT_TRUE(loop.submit(Read{*terminal, Buffer::allocate(64)}, into(line)));
    ASSERT_TRUE(loop.submit(WriteAll{*terminal, Buffer::copy_of(Bytes("$ "))}, into(prompt)));
    run_until(loop, [&] { return prompt.finals == 1; });
    EXPECT_FALSE(prompt.error);
    EXPECT_EQ(line.finals, 0) << "nobody has typed";
    expect_as_before();
    type("hello\n");
    run_until(loop, [&] { return line.finals == 1; });
    EXPECT_EQ(line.text, "hello\n");
    expect_as_before();
    close_one(loop, *terminal);
    expect_as_before();
    expect_clean(loop);
}

TEST_P(Terminal, watched_cancelled_and_closed_under_it_stays_as_it_was) {
    WHORL_SKIP_IF_REFUSED();
    {
        Loop loop = make_loop();
        const Result<Pipe> terminal = duplicate_pipe(loop, shell_.get());
        ASSERT_TRUE(terminal) << terminal.error().text();
        int seen = 0;
        const Result<Watch> watch =
            loop.watch(shell_.get(), Interest::readable, [&](Loop&, const Watched&) { ++seen; });
        ASSERT_TRUE(watch);
        End cancelled, closed;
        const auto reading = loop.submit(Read{*terminal, Buffer::allocate(64)}, into(cancelled));
        ASSERT_TRUE(reading);
        turns(loop, 3);
        expect_as_before();
        EXPECT_EQ(loop.cancel(*reading), Cancelled::cancelling);
        run_until(loop, [&] { return cancelled.finals == 1; });
        EXPECT_EQ(cancelled.error, Error::cancelled);
        ASSERT_TRUE(loop.submit(Read{*terminal, Buffer::allocate(64)}, into(closed)));
        turns(loop, 3);
        close_one(loop, *terminal);
        run_until(loop, [&] { return closed.finals == 1; });
        type("x\n");
        run_until(loop, [&] { return seen != 0; });
        EXPECT_TRUE(loop.cancel(*watch));
        expect_as_before();
        // One that the loop still has when it goes.
        ASSERT_TRUE(duplicate_pipe(loop, shell_.get()));
    }
    expect_as_before();
}

TEST_P(Terminal, a_process_that_dies_leaves_it_as_it_was) {
    WHORL_SKIP_IF_REFUSED();
    int fds[2];
    ASSERT_EQ(::pipe2(fds, O_CLOEXEC), 0);
    const Fd ready(fds[0]);
    Fd tell(fds[1]);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        Loop loop = make_loop();
        const Result<Pipe> terminal = duplicate_pipe(loop, shell_.get());
        End line;
        if (!terminal || !loop.submit(Read{*terminal, Buffer::allocate(64)}, into(line)))
            ::_exit(1);
        turns(loop, 3);
        if (::write(tell.get(), "r", 1) != 1) ::_exit(1);
        for (;;) static_cast<void>(loop.run_once());
    }
    tell.close();
    char byte = 0;
    EXPECT_EQ(::read(ready.get(), &byte, 1), 1) << "the child reads the terminal";
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFSIGNALED(status));
    expect_as_before();
}

}  // namespace
}  // namespace whorl::conformance
