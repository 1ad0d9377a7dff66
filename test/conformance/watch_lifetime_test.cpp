// SPDX-License-Identifier: MIT
// Goal: a watch ends when it is told to, whoever tells it and whatever its owner has done with the
// descriptor meanwhile. Method: watches cancelled from every place, descriptors closed and their
// numbers used again without a word to the loop.
#include "conformance/support.hpp"

#include <whorl/tcp.hpp>

namespace whorl::conformance {
namespace {

class WatchLifetime : public LoopTest {
  protected:
    static void settle(Loop& loop, int turns = 20) {
        for (int turn = 0; turn < turns; ++turn) ASSERT_FALSE(loop.poll());
    }
    // Another pipe whose reading end has the number that `fd` had.
    static Ends reuse(int fd) {
        Ends fresh = Ends::pipe();
        if (fresh.in.get() != fd) {
            EXPECT_EQ(os::dup3(fresh.in.get(), fd, O_CLOEXEC), fd);
            fresh.in = Fd(fd);
        }
        return fresh;
    }
};
WHORL_CONFORMANCE(WatchLifetime);

TEST_P(WatchLifetime, cancelled_in_its_own_handler_is_destroyed_after_it) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Ends ends = Ends::pipe();
    ends.out.write("stays");
    Witness witness;
    int calls = 0;
    ASSERT_TRUE(loop.watch(
        ends.in.get(), Interest::readable, [&, t = witness.copy()](Loop& inner, Watched event) {
            ++calls;
            EXPECT_TRUE(inner.cancel(event.watch));
            EXPECT_FALSE(inner.cancel(event.watch));
            EXPECT_EQ(inner.modify(event.watch, Interest::writable), Error::stale_handle);
            EXPECT_TRUE(inner.after(0ns, [](Loop&, Expired) {}));
            EXPECT_FALSE(witness.alone());
        }));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 1);
    EXPECT_TRUE(witness.alone());
    expect_clean(loop);
}

TEST_P(WatchLifetime, cancelled_and_made_anew_in_its_own_handler) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Ends ends = Ends::pipe();
    ends.out.write("stays");
    struct Again {
        int fd;
        int calls = 0;
        void operator()(Loop& loop, Watched event) {
            EXPECT_TRUE(loop.cancel(event.watch));
            if (++calls < 20) {
                EXPECT_TRUE(loop.watch(fd, Interest::readable, this));
            }
        }
    };
    Again again{ends.in.get()};
    ASSERT_TRUE(loop.watch(ends.in.get(), Interest::readable, &again));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(again.calls, 20);
    expect_clean(loop);
}

TEST_P(WatchLifetime, the_first_of_many_ready_cancels_all_others) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Witness witness;
    std::vector<Ends> pipes;
    std::vector<Watch> watches;
    int calls = 0;
    for (int index = 0; index < 30; ++index) {
        pipes.push_back(Ends::pipe());
        pipes.back().out.write("x");
        Result<Watch> watch = loop.watch(pipes.back().in.get(), Interest::readable,
                                         [&, t = witness.copy()](Loop& inner, Watched event) {
                                             ++calls;
                                             for (const Watch other : watches) {
                                                 EXPECT_TRUE(inner.cancel(other));
                                             }
                                             EXPECT_FALSE(inner.cancel(event.watch));
                                         });
        ASSERT_TRUE(watch);
        watches.push_back(*watch);
    }
    settle(loop, 40);
    EXPECT_EQ(calls, 1);
    EXPECT_TRUE(witness.alone());
    EXPECT_FALSE(loop.run());
    expect_clean(loop);
}

TEST_P(WatchLifetime, the_descriptor_may_be_closed_right_after_cancel) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (int turns = 0; turns < 4; ++turns) {
        Ends ends = Ends::sockets();
        Result<Watch> watch =
            loop.watch(ends.in.get(), Interest::readable, [](Loop&, Watched) { FAIL(); });
        ASSERT_TRUE(watch);
        settle(loop, turns);  // not yet, or already, with the kernel
        EXPECT_TRUE(loop.cancel(*watch));
        ends.in.close();
        // No turn in between: an armed poll would keep the socket open, and the peer waiting.
        EXPECT_TRUE(ends.out.readable_within(0ms)) << "after " << turns << " turns";
        EXPECT_EQ(ends.out.read(1), "");
    }
    EXPECT_FALSE(loop.run());
    expect_clean(loop);
}

TEST_P(WatchLifetime, the_descriptor_may_be_closed_right_after_cancel_in_the_handler) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Ends ends = Ends::sockets();
    Ends other = Ends::sockets();
    int calls = 0;
    Result<Watch> quiet =
        loop.watch(other.in.get(), Interest::readable, [](Loop&, Watched) { FAIL(); });
    ASSERT_TRUE(quiet);
    settle(loop);
    ASSERT_TRUE(loop.watch(ends.in.get(), Interest::readable, [&](Loop& inner, Watched event) {
        ++calls;
        EXPECT_TRUE(inner.cancel(event.watch));
        ends.in.read(10);
        ends.in.close();
        EXPECT_TRUE(ends.out.readable_within(0ms));
        EXPECT_TRUE(inner.cancel(*quiet));
        other.in.close();
        EXPECT_TRUE(other.out.readable_within(0ms));
    }));
    ends.out.write("x");
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 1);
    expect_clean(loop);
}

TEST_P(WatchLifetime, a_number_used_again_after_cancel_brings_no_event_of_its_last_owner) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Ends first = Ends::pipe();
    const int number = first.in.get();
    first.out.write("ready");
    for (int round = 0; round < 20; ++round) {
        Result<Watch> watch =
            loop.watch(number, Interest::readable, [](Loop&, Watched) { FAIL(); });
        ASSERT_TRUE(watch);
        if (round % 2 == 0) {
            // Handed over and perhaps ready, but not dispatched: a stop comes first.
            loop.stop();
            EXPECT_FALSE(loop.run());
        }
        EXPECT_TRUE(loop.cancel(*watch));
        Ends next = reuse(number);
        first.in.release();
        first = std::move(next);
        int calls = 0;
        Result<Watch> fresh = loop.watch(number, Interest::readable, [&](Loop&, Watched event) {
            EXPECT_FALSE(event.error) << event.error.name();
            ++calls;
        });
        ASSERT_TRUE(fresh);
        settle(loop, 3);
        EXPECT_EQ(calls, 0);
        first.out.write("y");
        run_until(loop, [&] { return calls >= 2; });
        EXPECT_TRUE(loop.cancel(*fresh));
    }
    EXPECT_FALSE(loop.run());
    expect_clean(loop);
}

// What libraries do: they close "their" descriptor, open another one that gets the same number, and
// only then say that the first need not be watched any more.
TEST_P(WatchLifetime, closed_and_used_again_behind_our_back) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    for (int round = 0; round < 10; ++round) {
        Ends first = Ends::pipe();
        const int number = first.in.get();
        int stale_calls = 0, calls = 0;
        Result<Watch> stale =
            loop.watch(number, Interest::readable, [&](Loop&, Watched) { ++stale_calls; });
        ASSERT_TRUE(stale);
        settle(loop, round % 4);
        first.in.close();
        Ends second = reuse(number);
        Result<Watch> watch = loop.watch(number, Interest::readable, [&](Loop&, Watched event) {
            EXPECT_FALSE(event.error) << event.error.name();
            ++calls;
        });
        ASSERT_TRUE(watch);
        EXPECT_TRUE(loop.cancel(*stale));  // by handle: the new one is not meant
        settle(loop, 5);
        EXPECT_EQ(stale_calls + calls, 0);
        second.out.write("x");
        run_until(loop, [&] { return calls >= 3; });
        EXPECT_EQ(stale_calls, 0);
        EXPECT_TRUE(loop.cancel(*watch));
    }
    EXPECT_FALSE(loop.run());
    expect_clean(loop);
}

TEST_P(WatchLifetime, closed_behind_our_back_and_cancelled_later) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Ends ends = Ends::pipe();
    Result<Watch> watch = loop.watch(ends.in.get(), Interest::readable, [&](Loop&, Watched event) {
        // Hearing of it is allowed; only as what it is.
        EXPECT_TRUE(event.error.value() == EBADF || event.hung_up);
    });
    ASSERT_TRUE(watch);
    settle(loop);
    ends.in.close();
    ends.out.close();
    settle(loop);
    loop.cancel(*watch);
    EXPECT_FALSE(loop.run());
    expect_clean(loop);
}

TEST_P(WatchLifetime, modified_after_it_was_closed_behind_our_back) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Ends ends = Ends::sockets();
    int calls = 0;
    Result<Watch> watch = loop.watch(ends.in.get(), Interest::readable, [&](Loop&, Watched event) {
        ++calls;
        EXPECT_EQ(event.error.value(), EBADF);
    });
    ASSERT_TRUE(watch);
    settle(loop);
    ends.in.close();
    EXPECT_FALSE(loop.modify(*watch, Interest::writable));
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 1) << "a watch that cannot be has to end, with its error";
    expect_clean(loop);
}

TEST_P(WatchLifetime, a_descriptor_kept_open_by_a_copy_is_let_go) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Ends ends = Ends::pipe();
    Fd copy(os::fcntl(ends.in.get(), F_DUPFD_CLOEXEC, 0));
    Result<Watch> watch =
        loop.watch(ends.in.get(), Interest::readable, [](Loop&, Watched) { FAIL(); });
    ASSERT_TRUE(watch);
    settle(loop);
    EXPECT_TRUE(loop.cancel(*watch));
    ends.in.close();  // the file lives on in the copy, and with it what epoll knows of it
    ends.out.write("for the copy");
    expect_idle(loop, 20ms, "the loop spins on events of nobody");
    EXPECT_EQ(copy.read(100), "for the copy");
    expect_clean(loop);
}

TEST_P(WatchLifetime, many_come_and_go) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    Fd event(os::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
    std::uint64_t calls = 0;
    std::vector<Watch> watches;
    for (std::uint64_t round = 0; round < scaled(20'000); ++round) {
        Result<Watch> watch =
            loop.watch(event.get(), Interest::readable, [&](Loop&, Watched) { ++calls; });
        ASSERT_TRUE(watch);
        watches.push_back(*watch);
        ASSERT_FALSE(loop.poll());
        if (watches.size() > 10) {
            EXPECT_TRUE(loop.cancel(watches[round % watches.size()]));
            watches.erase(watches.begin() + static_cast<long>(round % watches.size()));
        }
    }
    EXPECT_GT(calls, 100u);
    for (const Watch watch : watches) EXPECT_TRUE(loop.cancel(watch));
    EXPECT_FALSE(loop.run());
    // A harsh world lets go of what was cancelled a while later.
    EXPECT_LE(loop.statistics().operations_high, exact() ? 100u : 1000u);
    expect_clean(loop);
}

// The event of the second watch has been seen by the kernel and waits to be collected when its cause
// goes away and the watch is cancelled: nobody may arm it again then.
TEST_P(WatchLifetime, cancelled_after_an_event_that_has_lost_its_cause) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.completions_per_turn = 1; });
    Ends ends[2] = {Ends::sockets(), Ends::sockets()};
    for (Ends& pair : ends) pair.out.write("x");
    Watch watches[2];
    int calls = 0;
    for (int index = 0; index < 2; ++index) {
        Result<Watch> watch =
            loop.watch(ends[index].in.get(), Interest::readable | Interest::priority,
                       [&, index](Loop& inner, Watched) {
                           ++calls;
                           EXPECT_EQ(ends[1 - index].in.read(1), "x");
                           EXPECT_TRUE(inner.cancel(watches[1 - index]));
                           EXPECT_TRUE(inner.cancel(watches[index]));
                       });
        ASSERT_TRUE(watch);
        watches[index] = *watch;
    }
    run_until(loop, [&] { return calls > 0; });
    run_until(loop, [&] { return loop.statistics().operations == 0; });
    EXPECT_EQ(calls, 1);
    expect_clean(loop);
}

TEST_P(WatchLifetime, destroyed_with_the_loop_and_nothing_is_called) {
    WHORL_SKIP_IF_REFUSED();
    Witness witness;
    Ends ends = Ends::sockets();
    ends.out.write("ready");
    {
        Loop loop = make_loop();
        for (int turns = 0; turns < 3; ++turns) {
            for (const Interest interest :
                 {Interest::none, Interest::readable, Interest::writable, Interest::priority}) {
                ASSERT_TRUE(loop.watch(ends.in.get(), interest,
                                       [t = witness.copy()](Loop& inner, Watched event) {
                                           EXPECT_FALSE(inner.modify(event.watch, Interest::none));
                                       }));
            }
            settle(loop, turns);
        }
    }
    EXPECT_TRUE(witness.alone());
    ends.in.close();
    EXPECT_TRUE(ends.out.readable_within(0ms)) << "the kernel still holds the descriptor";
}

}  // namespace
}  // namespace whorl::conformance
