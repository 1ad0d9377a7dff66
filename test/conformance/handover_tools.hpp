// SPDX-License-Identifier: MIT
#pragma once

#include "conformance/stream_tools.hpp"

#include <whorl/handover.hpp>

#include <optional>
#include <utility>

namespace whorl::conformance {

// Two loops that take turns on one thread, and streams that go from one to the other.
class Handover : public StreamTools {
  protected:
    // Both loops take turns until `done()`.
    template <class Done>
    static void both(Loop& one, Loop& other, Done done) {
        const Instant end = os::now() + 30s;
        while (!done()) {
            ASSERT_LT(os::now(), end) << "not reached";
            EXPECT_FALSE(one.poll());
            EXPECT_FALSE(other.poll());
            os::let_arrive();
        }
    }
    static DetachedStream detached(Loop& loop, Stream& stream) {
        DetachDone got;
        bool told = false;
        EXPECT_FALSE(detach(stream, [&](Loop&, DetachDone done) {
            EXPECT_FALSE(std::exchange(told, true)) << "told twice";
            got = std::move(done);
        }));
        EXPECT_FALSE(told) << "told inline";
        run_until(loop, [&] { return told; });
        EXPECT_FALSE(got.error) << got.error.text();
        EXPECT_EQ(static_cast<bool>(got.stream), !got.error);
        return std::move(got.stream);
    }
    static Stream& attach_there(Loop& loop, DetachedStream stream, Log& log) {
        const Result<Stream*> attached = attach(loop, std::move(stream), Recorder(log));
        EXPECT_TRUE(attached) << attached.error().text();
        if (!attached) std::abort();
        EXPECT_FALSE(stream);
        return **attached;
    }
    // How a detach of `stream` ends, which must be an error.
    static Error refusal(Loop& loop, Stream& stream, const std::function<void()>& meanwhile) {
        std::optional<Error> told;
        EXPECT_FALSE(detach(stream, [&](Loop&, DetachDone done) {
            EXPECT_FALSE(told) << "told twice";
            EXPECT_FALSE(done.stream);
            told = done.error;
        }));
        meanwhile();
        run_until(loop, [&] { return told.has_value(); });
        return told.value_or(Error());
    }
    static void expect_nothing_left(Loop& loop) {
        EXPECT_EQ(stream_statistics(loop).streams, 0u);
        EXPECT_EQ(stream_statistics(loop).bytes, 0u);
        expect_clean(loop);
    }
};

}  // namespace whorl::conformance
