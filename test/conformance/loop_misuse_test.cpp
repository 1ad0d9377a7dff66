// SPDX-License-Identifier: MIT
// Goal: what must never be done with a loop ends the program with a message that says so, in every
// build; and a process may exit with loops still there. Method: death tests; each makes its loop in
// the dying child, because a ring does not survive fork(2).
#include "conformance/support.hpp"

#include <whorl/socket.hpp>
#include <whorl/tcp.hpp>

#include <ctime>
#include <optional>
#include <thread>

namespace whorl::conformance {
namespace {

// Destroyed after whatever the library has made since main() began, and not quickly: what it needs in
// other threads must last.
struct Lingering {
    bool wanted = false;
    ~Lingering() {
        const timespec time{0, 30'000'000};
        if (wanted) ::nanosleep(&time, nullptr);
    }
} lingering;

class LoopMisuseDeathTest : public LoopTest {
  protected:
    static Loop fresh() {
        Result<Loop> made = Loop::create(options_here());
        if (!made) std::abort();
        return std::move(*made);
    }
    // A loop that belongs to this thread, and `call` made on it from another.
    template <class Call>
    static void call_from_elsewhere(Call call) {
        Loop loop = fresh();
        static_cast<void>(loop.poll());
        os::Thread([&] { call(loop); }).join();
    }
    static constexpr const char* wrong_thread =
        "wrong thread: this loop belongs to thread [0-9]+ and was called from thread [0-9]+";
};
WHORL_CONFORMANCE(LoopMisuseDeathTest);

TEST_P(LoopMisuseDeathTest, running_from_inside_a_handler) {
    WHORL_SKIP_IF_REFUSED();
    const auto inside = [](auto call) {
        Loop loop = fresh();
        static_cast<void>(loop.post([call](Loop& inner) { call(inner); }));
        static_cast<void>(loop.run());
    };
    const char* message = "called from inside a handler of the same loop";
    EXPECT_DEATH(inside([](Loop& loop) {
                     static_cast<void>(loop.post([](Loop&) {}));
                     static_cast<void>(loop.run());
                 }),
                 message);
    EXPECT_DEATH(inside([](Loop& loop) { static_cast<void>(loop.poll()); }), message);
    EXPECT_DEATH(inside([](Loop& loop) { static_cast<void>(loop.drain(1s)); }), message);
}

TEST_P(LoopMisuseDeathTest, destroying_a_loop_inside_its_handler) {
    WHORL_SKIP_IF_REFUSED();
    EXPECT_DEATH(
        {
            std::optional<Loop> loop(fresh());
            static_cast<void>(loop->post([&](Loop&) { loop.reset(); }));
            static_cast<void>(loop->run());
        },
        "destroyed from inside one of its own handlers");
}

TEST_P(LoopMisuseDeathTest, submitting_from_another_thread) {
    WHORL_SKIP_IF_REFUSED();
    EXPECT_DEATH(call_from_elsewhere([](Loop& loop) {
                     static_cast<void>(loop.submit(Nop{}, [](Loop&, Nop::Done) {}));
                 }),
                 wrong_thread);
    EXPECT_DEATH(call_from_elsewhere(
                     [](Loop& loop) { static_cast<void>(loop.after(1s, [](Loop&, Expired) {})); }),
                 wrong_thread);
    EXPECT_DEATH(
        call_from_elsewhere([](Loop& loop) { static_cast<void>(loop.post([](Loop&) {})); }),
        wrong_thread);
    EXPECT_DEATH(call_from_elsewhere([](Loop& loop) {
                     static_cast<void>(loop.watch(0, Interest::readable, [](Loop&, Watched) {}));
                 }),
                 wrong_thread);
}

TEST_P(LoopMisuseDeathTest, ending_things_from_another_thread) {
    WHORL_SKIP_IF_REFUSED();
    EXPECT_DEATH(call_from_elsewhere([](Loop& loop) { loop.cancel(Operation()); }), wrong_thread);
    EXPECT_DEATH(call_from_elsewhere([](Loop& loop) { loop.cancel(Timer()); }), wrong_thread);
    EXPECT_DEATH(call_from_elsewhere([](Loop& loop) { loop.cancel(Watch()); }), wrong_thread);
    EXPECT_DEATH(call_from_elsewhere([](Loop& loop) { static_cast<void>(loop.close(Socket())); }),
                 wrong_thread);
}

TEST_P(LoopMisuseDeathTest, running_and_stopping_from_another_thread) {
    WHORL_SKIP_IF_REFUSED();
    EXPECT_DEATH(call_from_elsewhere([](Loop& loop) { static_cast<void>(loop.poll()); }),
                 wrong_thread);
    EXPECT_DEATH(call_from_elsewhere([](Loop& loop) { static_cast<void>(loop.drain(1s)); }),
                 wrong_thread);
    EXPECT_DEATH(call_from_elsewhere([](Loop& loop) { loop.stop(); }), wrong_thread);
    EXPECT_DEATH(call_from_elsewhere([](Loop& loop) { static_cast<void>(loop.remote()); }),
                 wrong_thread);
    EXPECT_DEATH(call_from_elsewhere([](Loop& loop) { static_cast<void>(loop.buffer(100)); }), "");
}

TEST_P(LoopMisuseDeathTest, destroying_from_another_thread_while_the_kernel_has_a_buffer) {
    WHORL_SKIP_IF_REFUSED();
    const auto destroy_elsewhere = [] {
        Loop loop = fresh();
        Ends ends = Ends::sockets();
        Result<Socket> socket = adopt_socket(loop, ends.in.release());
        static_cast<void>(loop.submit(Recv{*socket, loop.buffer(100)}, [](Loop&, Recv::Done) {}));
        static_cast<void>(loop.poll());
        os::Thread([moved = std::move(loop)] {}).join();
    };
    EXPECT_DEATH(destroy_elsewhere(), wrong_thread);
}

// A loop with a destructor that runs after main(), with everything armed.
TEST_P(LoopMisuseDeathTest, a_process_exits_with_a_global_loop) {
    WHORL_SKIP_IF_REFUSED();
    EXPECT_EXIT(
        {
            static Loop loop = fresh();
            static thread_local Loop local = fresh();
            for (Loop* each : {&loop, &local}) {
                static_cast<void>(each->after(1h, [](Loop&, Expired) {}));
                static_cast<void>(each->watch(0, Interest::readable, [](Loop&, Watched) {}));
                Result<Listener> listener = listen(*each, Address::loopback_v4(0));
                static_cast<void>(each->submit(Accept{*listener}, [](Loop&, Accept::Done) {}));
                static_cast<void>(each->poll());
            }
            std::exit(0);
        },
        ::testing::ExitedWithCode(0), "");
}

TEST_P(LoopMisuseDeathTest, a_process_exits_while_a_detached_thread_runs_a_loop) {
    WHORL_SKIP_IF_REFUSED();
    EXPECT_EXIT(
        {
            Loop here = fresh();
            Result<Remote> back = here.remote();
            os::Thread([to = *back] {
                Loop loop = fresh();
                static_cast<void>(
                    loop.post([&](Loop&) { to.post([](Loop& other) { other.stop(); }); }));
                static_cast<void>(loop.every(1ms, [](Loop& inner, Expired) {
                    static_cast<void>(listen(inner, Address::loopback_v4(0)));
                }));
                static_cast<void>(loop.run());
            }).detach();
            static_cast<void>(here.run(RunUntil::stopped));
            // A simulated kernel belongs to the test and ends with it.
            lingering.wanted = os::world() == nullptr;
            std::exit(0);
        },
        ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace whorl::conformance
