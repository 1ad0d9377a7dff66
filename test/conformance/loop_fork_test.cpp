// SPDX-License-Identifier: MIT
// Goal: a loop stays with the process that made it. In a child of fork(2) every use ends with a message
// that says so, its destruction touches nothing, and a loop of the child's own works; the parent's loop
// goes on as if nothing had happened. Method: children that answer by their exit status.
#include "conformance/support.hpp"
#include "conformance/tcp_tools.hpp"

#include <sys/wait.h>

#include <optional>

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
    EXPECT_TRUE(loop.cancel(*timer));
}

}  // namespace
}  // namespace whorl::conformance
