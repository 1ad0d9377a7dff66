// SPDX-License-Identifier: MIT
// Goal: a loop that cannot wait until the kernel has let go of its buffers leaks and reports them, and
// does not free them. Method: no time at all to wait, in a child process, whose kernel writes afterwards.
#include "conformance/support.hpp"
#include "conformance/tcp_tools.hpp"

#include <optional>

namespace whorl::conformance {
namespace {

class DrainBoundDeathTest : public TcpTools {
  protected:
    // Exits with 0 when the loop's end did not take the buffer with it.
    static void destroy_without_time() {
        LoopOptions options = GetParam().options;
        options.shutdown_bound = 0ns;
        Result<Loop> made = Loop::create(options);
        if (!made) _exit(2);
        std::optional<Loop> loop(std::move(*made));
        Pair pair = make_local_pair(*loop);
        bool freed = false;
        std::string memory(100, '.');
        char* data = memory.data();
        Buffer buffer = adopt(data, memory.size(), [&freed](void*) { freed = true; });
        const Witness witness;
        const auto handler = [copy = witness.copy()](Loop&, Recv::Done) {};
        if (!loop->submit(Recv{pair.socket, std::move(buffer)}, handler)) _exit(3);
        turns(*loop, 3);
        loop.reset();
        if (freed) _exit(4);
        pair.peer.send("late");  // into memory that is still there, if anywhere
        std::fprintf(stderr, "the buffer is %s\n", freed ? "gone" : "there");
        _exit(freed ? 5 : 0);
    }
};
WHORL_CONFORMANCE_REAL(DrainBoundDeathTest);  // a world lets go in no time

TEST_P(DrainBoundDeathTest, buffers_are_leaked_and_reported_never_freed) {
    WHORL_SKIP_IF_REFUSED();
    EXPECT_EXIT(destroy_without_time(), ::testing::ExitedWithCode(0),
                "still held 1 operations after 0 ms.*leaked, not freed(.|\n)*the buffer is there");
}

}  // namespace
}  // namespace whorl::conformance
