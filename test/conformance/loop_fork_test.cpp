// SPDX-License-Identifier: MIT
// Goal: a loop stays with the process that made it. In a child of fork(2) every use ends with a message
// that says so, its destruction touches nothing, and a loop of the child's own works; the parent's loop
// goes on as if nothing had happened. A program that is executed inherits nothing of it.
// Method: children that answer by their exit status, and one that lists its descriptors.
#include "conformance/support.hpp"
#include "conformance/tcp_tools.hpp"

#include <sys/wait.h>

#include <csignal>
#include <optional>
#include <sstream>
#include <string>

namespace whorl::conformance {
namespace {

class LoopFork : public TcpTools {
  protected:
    // The exit status of a child that runs `body`.
    template <class Body>
    static int in_child(Body body) {
        const pid_t child = ::fork();
        if (child == 0) ::_exit(body());
        int status = -1;
        EXPECT_EQ(::waitpid(child, &status, 0), child);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
    }
};
WHORL_CONFORMANCE(LoopFork);
// Programs are executed, and signals sent, on the machine only.
class LoopForkExec : public LoopFork {};
WHORL_CONFORMANCE_REAL(LoopForkExec);

TEST_P(LoopFork, child_may_destroy_the_parents_loop) {
    WHORL_SKIP_IF_REFUSED();
    std::optional<Loop> loop(make_loop());
    Pair pair = make_pair(*loop);
    End end;
    ASSERT_TRUE(loop->submit(Recv{pair.socket, loop->buffer(64)}, into(end)));
    turns(*loop, 3);
    EXPECT_EQ(in_child([&] {
                  loop.reset();
                  return 7;
              }),
              7);
    // The child's end of everything has not ended anything here.
    pair.peer.send("still here");
    run_until(*loop, [&] { return end.finals == 1; });
    EXPECT_FALSE(end.error);
    EXPECT_EQ(end.text, "still here");
    close_and_wait(*loop, pair.socket);
    expect_clean(*loop);
}

TEST_P(LoopFork, child_may_have_a_loop_of_its_own) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    static_cast<void>(loop.poll());
    EXPECT_EQ(in_child([&] {
                  Loop own = make_loop();
                  bool fired = false;
                  if (!own.after(1ms, [&](Loop&, Expired) { fired = true; })) return 1;
                  if (own.run()) return 2;
                  return fired ? 7 : 3;
              }),
              7);
    bool fired = false;
    ASSERT_TRUE(loop.after(1ms, [&](Loop&, Expired) { fired = true; }));
    EXPECT_FALSE(loop.run());
    EXPECT_TRUE(fired);
}

TEST_P(LoopFork, every_use_in_a_child_says_whose_the_loop_is) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Result<Timer> timer = loop.after(1h, [](Loop&, Expired) {});
    ASSERT_TRUE(timer);
    const char* message = "wrong process: this loop was made before fork";
    EXPECT_DEATH(static_cast<void>(loop.poll()), message);
    EXPECT_DEATH(static_cast<void>(loop.post([](Loop&) {})), message);
    EXPECT_DEATH(loop.cancel(*timer), message);
    EXPECT_DEATH(static_cast<void>(loop.submit(Nop{}, [](Loop&, Nop::Done) {})), message);
    EXPECT_DEATH(static_cast<void>(listen(loop, Address::loopback_v4(0))), message);
    EXPECT_DEATH(static_cast<void>(open_signals(loop, {SIGUSR1})), message);
    EXPECT_DEATH(static_cast<void>(send_signal(loop, Child(), SIGUSR1)), message);
    EXPECT_TRUE(loop.cancel(*timer));
}

// Whatever a loop has open, a program that is executed has none of it.
TEST_P(LoopForkExec, nothing_is_inherited) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Pair pair = make_pair(loop);
    ASSERT_TRUE(open_signals(loop, {SIGUSR1}));
    ASSERT_TRUE(make_pipe(loop));
    const Remote remote = *loop.remote();
    const os::Program program = os::stays();
    SpawnOptions options = program.options();
    options.kill_on_close = true;
    options.input = ChildStream::pipe();
    Spawn::Done child{};
    ASSERT_TRUE(loop.submit(Spawn{options}, [&](Loop&, Spawn::Done done) { child = done; }));
    End receiving;
    ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, into(receiving)));
    ASSERT_TRUE(loop.watch(0, Interest::priority, [](Loop&, Watched) {}));
    run_until(loop, [&] { return child.child != Child() || child.error; });
    turns(loop, 2);
    Ends listing = Ends::pipe();
    EXPECT_EQ(in_child([&] {
                  ::dup2(listing.out.get(), 1);
                  ::execlp("ls", "ls", "/proc/self/fd", nullptr);
                  return 1;
              }),
              0);
    char text[1000] = {};
    EXPECT_GT(os::read(listing.in.get(), text, sizeof text - 1), 0);
    std::istringstream lines{std::string(text)};
    int others = 0;
    for (int fd = -1; lines >> fd;) {
        if ((os::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0) ++others;
    }
    EXPECT_LE(others, 1) << "the directory that it lists, and what the test began with: " << text;
    EXPECT_FALSE(loop.drain(10s));
    expect_clean(loop);
}

// The parent's child is the parent's: that its loop goes with a forked process ends nothing.
TEST_P(LoopForkExec, a_forked_process_kills_no_child_and_takes_no_signal) {
    WHORL_SKIP_IF_REFUSED();
    std::optional<Loop> loop(make_loop());
    const Signals signals = *open_signals(*loop, {SIGUSR1});
    const os::Program program = os::stays();
    SpawnOptions options = program.options();
    options.kill_on_close = true;
    Spawn::Done child{};
    ASSERT_TRUE(loop->submit(Spawn{options}, [&](Loop&, Spawn::Done done) { child = done; }));
    run_until(*loop, [&] { return child.child != Child() || child.error; });
    int heard = 0;
    ASSERT_TRUE(loop->submit(SignalStream{signals}, [&](Loop&, SignalStream::Done done) {
        if (done.more) ++heard;
    }));
    turns(*loop, 2);
    EXPECT_EQ(in_child([&] {
                  loop.reset();
                  sigset_t mask;
                  pthread_sigmask(SIG_SETMASK, nullptr, &mask);
                  if (sigismember(&mask, SIGUSR1) != 1) return 1;  // inherited
                  Loop own = make_loop();
                  const Signals same = *open_signals(own, {SIGUSR1});
                  SignalInfo info;
                  if (!own.submit(WaitSignal{same},
                                  [&](Loop&, WaitSignal::Done done) { info = done.signal; })) {
                      return 2;
                  }
                  ::kill(::getpid(), SIGUSR1);
                  if (own.run() || info.pid != ::getpid()) return 3;
                  return HasFailure() ? 4 : 7;
              }),
              7);
    turns(*loop, 2);
    EXPECT_EQ(heard, 0);
    EXPECT_FALSE(send_signal(*loop, child.child, 0));
    ChildExit exit;
    ASSERT_TRUE(loop->submit(WaitChild{child.child},
                             [&](Loop&, const WaitChild::Done& done) { exit = done.exit; }));
    turns(*loop, 2);
    EXPECT_EQ(exit.status, 0) << "it lives";
    os::send_signal(SIGUSR1);
    run_until(*loop, [&] { return heard == 1; });
    EXPECT_FALSE(send_signal(*loop, child.child, SIGTERM));
    run_until(*loop, [&] { return exit.status == SIGTERM; });
    EXPECT_FALSE(loop->close(signals));
    EXPECT_FALSE(loop->close(child.child));
    turns(*loop, 3);
    expect_clean(*loop);
}

}  // namespace
}  // namespace whorl::conformance
