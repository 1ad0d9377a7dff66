// SPDX-License-Identifier: MIT
#pragma once

#include "conformance/fixture.hpp"

#include <utility>

// What the contract says of every operation, whatever it does: how it ends when it is cancelled, when
// its deadline passes, when its descriptor is closed and when its loop is destroyed. `make` returns an
// operation that does not end by itself.

namespace whorl::conformance {

// How an operation ended. `inside` is set while a call of the API is on the stack.
struct Ending {
    int finals = 0;
    Error error;
    bool inside = false;
};

// A handler for any operation that writes into an Ending.
inline auto ending(Ending& end) {
    return [&end](Loop&, auto done) {
        EXPECT_FALSE(end.inside) << "called inline";
        EXPECT_EQ(end.finals, 0) << "nothing follows the final completion";
        end.error = done.error;
        ++end.finals;
    };
}

template <class Make>
class Contract : private LoopTest {
  public:
    Contract(Loop& loop, Make make) : loop_(loop), make_(std::move(make)) {}

    void cancelled_before_the_turn() {
        Ending end;
        const Operation operation = submit(end);
        cancel(operation, end);
        run_until(loop_, [&] { return end.finals == 1; });
        EXPECT_EQ(end.error, Error::cancelled);
        EXPECT_EQ(loop_.cancel(operation), Cancelled::not_found);
    }
    void cancelled_in_the_kernel() {
        Ending end;
        const Operation operation = submit(end);
        for (int turn = 0; turn < 3; ++turn) EXPECT_FALSE(loop_.poll());
        EXPECT_EQ(end.finals, 0) << "it should not end by itself";
        cancel(operation, end);
        run_until(loop_, [&] { return end.finals == 1; });
        EXPECT_EQ(end.error, Error::cancelled);
    }
    void times_out() {
        constexpr Nanoseconds time = std::chrono::milliseconds(20);
        for (bool relative : {true, false}) {
            Ending end;
            const Instant start = os::now();
            const SubmitOptions options = relative ? within(time) : until(start + time);
            ASSERT_TRUE(loop_.submit(make_(), options, ending(end)));
            run_until(loop_, [&] { return end.finals == 1; });
            EXPECT_EQ(end.error, Error::timed_out);
            EXPECT_GE((os::now() - start).count(), time.count());
        }
    }
    // One with the kernel, one behind it and one that was never handed over end together.
    template <class Tag>
    void closed_under(Handle<Tag> handle) {
        Ending ends[3];
        bool closed = false;
        submit(ends[0]);
        submit(ends[1]);
        for (int turn = 0; turn < 3; ++turn) EXPECT_FALSE(loop_.poll());
        submit(ends[2]);
        EXPECT_FALSE(loop_.close(handle, [&](Loop&) {
            for (const Ending& end : ends) EXPECT_EQ(end.finals, 1) << "closed before they ended";
            closed = true;
        }));
        EXPECT_EQ(loop_.close(handle), Error::stale_handle);
        run_until(loop_, [&] { return closed; });
        for (const Ending& end : ends) EXPECT_EQ(end.error, Error::cancelled);
        const Result<Operation> late = loop_.submit(make_(), [](Loop&, auto) {});
        EXPECT_FALSE(late);
        EXPECT_EQ(late.error(), Error::stale_handle);
    }
    void cancelled_in_every_way() {
        cancelled_before_the_turn();
        cancelled_in_the_kernel();
        times_out();
    }
    // The caller destroys the loop next: the handlers are destroyed and not called.
    void left_pending(const std::shared_ptr<int>& witness) {
        for (int count = 0; count < 3; ++count) {
            if (count == 2) {
                EXPECT_FALSE(loop_.poll());
            }
            EXPECT_TRUE(loop_.submit(make_(), [witness](Loop&, auto) {
                ADD_FAILURE() << "called while the loop was destroyed";
            }));
        }
    }

  private:
    void TestBody() override {}
    Operation submit(Ending& end) {
        end.inside = true;
        const Result<Operation> made = loop_.submit(make_(), ending(end));
        end.inside = false;
        EXPECT_TRUE(made) << made.error().text();
        return made ? *made : Operation();
    }
    void cancel(Operation operation, Ending& end) {
        end.inside = true;
        EXPECT_EQ(loop_.cancel(operation), Cancelled::cancelling);
        end.inside = false;
        EXPECT_EQ(end.finals, 0);
    }

    Loop& loop_;
    Make make_;
};

}  // namespace whorl::conformance
