// SPDX-License-Identifier: MIT
// Goal: with insight on, the loop knows of everything that was submitted where that was and how far it
// has come, names the handler that runs, and behaves as without. Method: one of each kind; what the loop
// knows is read from inside the handlers.
#include "loop/insight.hpp"
#include "conformance/support.hpp"
#include "conformance/tcp_tools.hpp"
#include "loop/core.hpp"

#include <string_view>

namespace whorl::conformance {
namespace {

class InsightSeam : public TcpTools {
  protected:
    Loop make_seen() {
        // The handler that runs is known where slow ones are looked for.
        return make_loop([](LoopOptions& options) {
            options.operation_latency = true;
            options.slow_handler = std::chrono::hours(1);
        });
    }
    static const detail::HandlerRun& running(Loop& loop) { return *loop.core().insight->running; }
    static void expect_here(const Site& site, std::uint32_t line) {
        ASSERT_NE(site.file, nullptr);
        const std::string_view file(site.file);
        EXPECT_NE(file.find("insight_test.cpp"), std::string_view::npos) << file;
        EXPECT_EQ(site.line, line);
    }
};
WHORL_CONFORMANCE(InsightSeam);

TEST_P(InsightSeam, off_there_is_none) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    EXPECT_EQ(loop.core().insight, nullptr);
    EXPECT_FALSE(loop.core().watched);
}

TEST_P(InsightSeam, names_the_line_of_every_submission) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_seen();
    // A call over several lines stands outside of macros, whose lines clang and gcc number differently.
    std::uint32_t lines[6] = {};
    int calls = 0;
    const auto seen = [&](std::uint32_t line, std::uint8_t kind) {
        ++calls;
        EXPECT_NE(loop.core().insight->running, nullptr);
        expect_here(running(loop).of.site(), line);
        EXPECT_EQ(running(loop).kind, kind);
    };
    lines[0] = __LINE__ + 1;
    ASSERT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) { seen(lines[0], 0); }));
    SubmitOptions options;
    options.within = 10s;
    lines[1] = __LINE__ + 1;
    ASSERT_TRUE(loop.submit(Nop{}, options, [&](Loop&, Nop::Done) { seen(lines[1], 0); }));
    const auto timer = static_cast<std::uint8_t>(detail::OpKind::timer);
    lines[2] = __LINE__ + 1;
    ASSERT_TRUE(loop.after(0ns, [&](Loop&, Expired) { seen(lines[2], timer); }));
    lines[3] = __LINE__ + 1;
    const Result<Timer> every = loop.every(1us, [&](Loop& inner, Expired expired) {
        seen(lines[3], timer);
        EXPECT_TRUE(inner.cancel(expired.timer));
    });
    ASSERT_TRUE(every);
    lines[4] = __LINE__ + 1;
    ASSERT_FALSE(loop.post([&](Loop&) { seen(lines[4], detail::kind_post); }));
    const auto hook = static_cast<std::uint8_t>(detail::OpKind::hook);
    Operation hooked;
    lines[5] = __LINE__ + 1;
    hooked = *loop.hook(HookPoint::after_wait, [&](Loop& inner) {
        seen(lines[5], hook);
        EXPECT_EQ(inner.cancel(hooked), Cancelled::cancelling);
    });
    ASSERT_FALSE(loop.run());
    EXPECT_EQ(calls, 6);
    EXPECT_EQ(loop.core().insight->running, nullptr);
}

TEST_P(InsightSeam, another_site_can_be_handed_through) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_seen();
    Site site;
    site.file = "elsewhere";
    site.line = 7;
    int calls = 0;
    const auto seen = [&](Loop&, auto&&...) {
        ++calls;
        EXPECT_STREQ(running(loop).of.file, "elsewhere");
        EXPECT_EQ(running(loop).of.line, 7u);
    };
    ASSERT_TRUE(loop.submit(Nop{}, seen, site));
    ASSERT_TRUE(loop.after(0ns, seen, site));
    ASSERT_FALSE(loop.post(seen, site));
    ASSERT_FALSE(loop.run());
    EXPECT_EQ(calls, 3);
}

TEST_P(InsightSeam, times_come_in_the_order_of_an_operations_life) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_seen();
    int calls = 0;
    for (int round = 0; round < 3; ++round) {
        ASSERT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) {
            ++calls;
            const detail::HandlerRun& run = running(loop);
            EXPECT_TRUE(run.last);
            EXPECT_GT(run.of.submitted_ns, 0u);
            EXPECT_GE(run.of.handed_ns, run.of.submitted_ns);
            EXPECT_GE(run.of.completed_ns, run.of.handed_ns);
            EXPECT_GE(run.begun_ns, run.of.completed_ns);
        }));
        ASSERT_FALSE(loop.run());
    }
    EXPECT_EQ(calls, 3);
}

TEST_P(InsightSeam, posts_keep_their_sites_through_growth_and_turns) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_seen();
    std::uint32_t next = 0;
    for (int round = 0; round < 3; ++round) {
        for (std::uint32_t index = 0; index < 1000; ++index) {
            Site site = Site::here();
            site.line = index;
            ASSERT_FALSE(loop.post(
                [&, index](Loop&) {
                    EXPECT_EQ(running(loop).of.line, index);
                    EXPECT_EQ(index, next);
                    ++next;
                },
                site));
        }
        ASSERT_FALSE(loop.run());
        EXPECT_EQ(next, 1000u);
        next = 0;
    }
}

// What ends without its handler, and what is still there when the loop ends.
TEST_P(InsightSeam, handlers_that_are_dropped_are_destroyed_once) {
    WHORL_SKIP_IF_REFUSED();
    const Witness witness;
    {
        Loop loop = make_seen();
        Result<Timer> timer = loop.after(10s, [copy = witness.copy()](Loop&, Expired) {});
        ASSERT_TRUE(timer);
        EXPECT_TRUE(loop.cancel(*timer));
        EXPECT_TRUE(witness.alone());
        ASSERT_TRUE(loop.after(10s, [copy = witness.copy()](Loop&, Expired) {}));
        ASSERT_TRUE(loop.submit(Nop{}, [copy = witness.copy()](Loop&, Nop::Done) {}));
        ASSERT_FALSE(loop.post([copy = witness.copy()](Loop&) {}));
        ASSERT_TRUE(loop.hook(HookPoint::before_wait, [copy = witness.copy()](Loop&) {}));
    }
    EXPECT_TRUE(witness.alone());
}

#if defined(__cpp_exceptions)
TEST_P(InsightSeam, a_handler_that_throws_has_ended) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_seen();
    ASSERT_TRUE(loop.submit(Nop{}, [](Loop&, Nop::Done) { throw 7; }));
    ASSERT_FALSE(loop.post([](Loop&) { throw 8; }));
    for (int thrown = 0; thrown < 2;) {
        try {
            ASSERT_FALSE(loop.run());
            FAIL() << "nothing was thrown";
        } catch (int) {
            ++thrown;
        }
        EXPECT_EQ(loop.core().insight->running, nullptr);
    }
    EXPECT_FALSE(loop.run());
}
#endif

}  // namespace
}  // namespace whorl::conformance
