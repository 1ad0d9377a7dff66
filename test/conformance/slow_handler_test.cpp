// SPDX-License-Identifier: MIT
// Goal: a handler that runs too long is reported with its place and a stack that was taken inside it, so
// often and no more; one that does not return is reported while it runs. Method: handlers that run on
// until the library has seen what the test waits for; nothing is measured.
#include "conformance/recorder_tools.hpp"
#include "conformance/support.hpp"

#include <whorl/channel.hpp>
#include <whorl/live_handles.hpp>
#include <whorl/slow_handler.hpp>

#include <sys/resource.h>
#include <sys/syscall.h>

#include <algorithm>
#include <csignal>
#include <fstream>
#include <sstream>

namespace whorl::conformance {

// Runs until it has been looked into, and for more than the threshold. Not static: the stack's text names
// it.
[[gnu::noinline]] void run_until_sampled(Loop& loop) {
    const std::uint64_t before = slow_handler_counts(loop).samples;
    const Instant begin = clock_now();
    // A sample that was taken before this read the count is the only one.
    const Instant end = begin + 10s;
    while (slow_handler_counts(loop).samples == before && clock_now() < end) {
    }
    while (clock_now() < begin + 3ms) {
    }
}

namespace {

struct Reports {
    int count = 0;
    std::string kind;
    Site site;
    std::uint64_t suppressed = 0;
    Nanoseconds duration{};
    Nanoseconds sampled{};
    std::size_t stack_count = 0;
    std::string text;

    static void take(void* context, const SlowHandler& slow) noexcept {
        auto& self = *static_cast<Reports*>(context);
        ++self.count;
        self.kind = slow.kind;
        self.site = slow.site;
        self.suppressed = slow.suppressed;
        self.duration = slow.duration;
        self.sampled = slow.sampled;
        self.stack_count = slow.stack_count;
        char text[16384];
        print_slow_handler(slow, text, sizeof text);
        self.text = text;
    }
};

// What is written to stderr while it lives.
class Stderr {
  public:
    Stderr() : file_(std::tmpfile()), before_(::dup(STDERR_FILENO)) {
        EXPECT_NE(file_, nullptr);
        EXPECT_GE(::dup2(::fileno(file_), STDERR_FILENO), 0);
    }
    Stderr(const Stderr&) = delete;
    Stderr& operator=(const Stderr&) = delete;
    ~Stderr() {
        ::dup2(before_, STDERR_FILENO);
        ::close(before_);
        std::fclose(file_);
    }
    std::string text() const {
        std::string text(std::size_t{1} << 20, '\0');
        const ssize_t got = ::pread(::fileno(file_), text.data(), text.size(), 0);
        text.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
        return text;
    }

  private:
    std::FILE* file_;
    int before_;
};

// Runs until so many have been told of as stuck.
void run_until_stuck(Loop& loop, std::uint64_t count) {
    const Instant end = clock_now() + 60s;  // only ends a hang
    while (slow_handler_counts(loop).stuck < count && clock_now() < end) {
    }
}

class SlowHandlerTest : public LoopTest {
  protected:
    Loop make_watched(Nanoseconds pause = 0ns) {
        return make_loop([=](LoopOptions& options) {
            options.slow_handler = 1ms;
            options.slow_handler_pause = pause;
        });
    }
};
WHORL_CONFORMANCE(SlowHandlerTest);

TEST_P(SlowHandlerTest, is_reported_with_its_place_and_its_stack) {
    WHORL_SKIP_IF_REFUSED();
    Reports reports;
    const auto slow = [&](Loop& inner, Expired) {
        run_until_sampled(inner);
        EXPECT_EQ(reports.count, 0) << "reported when it has returned";
    };
    for (int attempts_left = 5; attempts_left > 0; --attempts_left) {
        Loop loop = make_watched();
        reports = Reports();
        ASSERT_FALSE(on_slow_handler(loop, &Reports::take, &reports));
        const std::uint32_t line = __LINE__ + 1;
        ASSERT_TRUE(loop.after(0ns, slow));
        ASSERT_FALSE(loop.run());
        ASSERT_EQ(reports.count, 1);
        EXPECT_EQ(reports.site.line, line);
        EXPECT_EQ(slow_handler_counts(loop).slow, 1u);
        // A machine that stops the thread on its way into the handler has it sampled there.
        if (reports.text.find("run_until_sampled") != std::string::npos) break;
    }
    EXPECT_EQ(reports.kind, "timer");
    EXPECT_GE(reports.duration, 1ms);
    EXPECT_GE(reports.sampled, 500us);
    EXPECT_GT(reports.stack_count, 2u);
    EXPECT_NE(reports.text.find("slow_handler_test.cpp:"), std::string::npos) << reports.text;
    EXPECT_NE(reports.text.find("run_until_sampled"), std::string::npos) << reports.text;
}

TEST_P(SlowHandlerTest, of_every_kind) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_watched();
    Reports reports;
    ASSERT_FALSE(on_slow_handler(loop, &Reports::take, &reports));
    std::vector<std::string> kinds;
    const auto slow = [&](Loop& inner, auto&&...) { run_until_sampled(inner); };
    ASSERT_TRUE(loop.submit(Nop{}, slow));
    ASSERT_FALSE(loop.run());
    EXPECT_EQ(reports.kind, "nop");
    ASSERT_FALSE(loop.post(slow));
    ASSERT_FALSE(loop.run());
    EXPECT_EQ(reports.kind, "post");
    const Result<Remote> remote = loop.remote();
    ASSERT_TRUE(remote);
    ASSERT_TRUE(remote->post(slow));
    ASSERT_FALSE(loop.poll());
    EXPECT_EQ(reports.kind, "remote_post");
    EXPECT_EQ(reports.site.file, nullptr);
    EXPECT_EQ(reports.count, 3);
}

// A channel's wake is a post of the library's own, whose handler the receiving handler runs in. The outer
// one may be told of as well: a busy machine makes anything slow.
TEST_P(SlowHandlerTest, within_another_one_is_told_of) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_watched();
    std::vector<std::string> kinds;
    const auto take = [](void* context, const SlowHandler& slow) noexcept {
        if (slow.stack_count != 0) {
            static_cast<std::vector<std::string>*>(context)->push_back(slow.kind);
        }
    };
    ASSERT_FALSE(on_slow_handler(loop, take, &kinds));
    const auto told = [&](const char* kind) {
        return std::find(kinds.begin(), kinds.end(), kind) != kinds.end();
    };
    Result<Channel<int>> channel = Channel<int>::create(16);
    ASSERT_TRUE(channel);
    bool got = false;
    const auto receive = [&](Loop& inner, Receive<int>::Done done) {
        while (done.next()) {
            run_until_sampled(inner);
            got = true;
        }
    };
    ASSERT_TRUE(loop.submit(Receive<int>{std::move(channel->receiver)}, receive));
    ASSERT_FALSE(loop.poll());
    ASSERT_FALSE(loop.post([&](Loop&) { EXPECT_FALSE(channel->sender.send(1)); }));
    run_until(loop, [&] { return got; });
    EXPECT_TRUE(told("wait"));
    const auto slow = [&](Loop& inner, Expired) { run_until_sampled(inner); };
    ASSERT_TRUE(loop.after(0ns, slow));
    run_until(loop, [&] { return told("timer"); });
}

TEST_P(SlowHandlerTest, a_quick_one_is_not) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.slow_handler = 10h; });
    Reports reports;
    ASSERT_FALSE(on_slow_handler(loop, &Reports::take, &reports));
    int calls = 0;
    for (int round = 0; round < 100; ++round) {
        ASSERT_FALSE(loop.post([&](Loop&) { ++calls; }));
        ASSERT_FALSE(loop.run());
    }
    EXPECT_EQ(calls, 100);
    EXPECT_EQ(reports.count, 0);
    EXPECT_EQ(slow_handler_counts(loop).slow, 0u);
}

TEST_P(SlowHandlerTest, reports_are_limited_and_the_rest_is_counted) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_watched(10h);
    Reports reports;
    ASSERT_FALSE(on_slow_handler(loop, &Reports::take, &reports));
    for (int round = 0; round < 3; ++round) {
        ASSERT_FALSE(loop.post([](Loop& inner) { run_until_sampled(inner); }));
    }
    ASSERT_FALSE(loop.run());
    EXPECT_EQ(reports.count, 1);
    EXPECT_EQ(slow_handler_counts(loop).slow, 3u);
    EXPECT_EQ(slow_handler_counts(loop).suppressed, 2u);
}

TEST_P(SlowHandlerTest, a_stuck_one_is_reported_from_inside_and_the_recorder_dumped) {
    WHORL_SKIP_IF_REFUSED();
    char folder[] = "/tmp/whorl-stuck-XXXXXX";
    ASSERT_NE(::mkdtemp(folder), nullptr);
    const std::string path = std::string(folder) + "/dump";
    std::string file;
    {
        Loop loop = make_loop([&](LoopOptions& options) {
            options.stuck_handler = 1ms;
            options.recorder_events = 64;
            options.recorder_path = path.c_str();
        });
        std::atomic<int> told{0};
        ASSERT_FALSE(on_stuck_handler(
            loop,
            [](void* context, const SlowHandler& stuck) noexcept {
                const bool known = stuck.stack_count > 2 && stuck.duration >= 1ms;
                static_cast<std::atomic<int>*>(context)->fetch_add(known ? 1 : 100);
            },
            &told));
        ASSERT_FALSE(loop.post([&](Loop&) {
            const Instant end = clock_now() + 60s;
            while (told == 0 && clock_now() < end) {
            }
        }));
        ASSERT_FALSE(loop.run());
        EXPECT_EQ(told, 1);
        EXPECT_EQ(slow_handler_counts(loop).stuck, 1u);
        const Dump live = dump_of(loop);
        EXPECT_EQ(live.of(recorder::Event::stuck).size(), 1u);
        EXPECT_EQ(live.of(recorder::Event::handler_end).size(), 1u);
        file = path + "." + std::to_string(live.header.process) + "." +
               std::to_string(live.header.loop);
    }
    std::ifstream stream(file, std::ios::binary);
    std::ostringstream bytes;
    bytes << stream.rdbuf();
    Dump dump;
    dump_read(bytes.str(), dump);
    ASSERT_FALSE(dump.records.empty());
    EXPECT_EQ(dump.records.back().event, static_cast<int>(recorder::Event::stuck));
    EXPECT_TRUE(dump.of(recorder::Event::handler_end).empty()) << "it still ran";
    EXPECT_EQ(::unlink(file.c_str()), 0);
    EXPECT_EQ(::rmdir(folder), 0);
}

TEST_P(SlowHandlerTest, without_a_function_the_report_is_printed) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_watched();
    const std::uint32_t line = __LINE__ + 1;
    ASSERT_FALSE(loop.post([](Loop& inner) { run_until_sampled(inner); }));
    std::string text;
    {
        const Stderr printed;
        EXPECT_FALSE(loop.run());
        text = printed.text();
    }
    EXPECT_EQ(text.find("whorl: a handler took "), 0u) << text;
    const std::string place = "slow_handler_test.cpp:" + std::to_string(line);
    EXPECT_NE(text.find(place), std::string::npos) << text;
    EXPECT_NE(text.find("run_until_sampled"), std::string::npos) << text;
}

TEST_P(SlowHandlerTest, without_a_function_a_stuck_one_is_printed_while_it_runs) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.stuck_handler = 1ms; });
    std::string text;
    const std::uint32_t line = __LINE__ + 1;
    ASSERT_FALSE(loop.post([](Loop& inner) { run_until_stuck(inner, 1); }));
    {
        const Stderr printed;
        EXPECT_FALSE(loop.run());
        text = printed.text();
    }
    EXPECT_EQ(text.find("whorl: a handler has not returned for "), 0u) << text;
    const std::string place = "slow_handler_test.cpp:" + std::to_string(line) + "\n";
    EXPECT_NE(text.find(" ms: post from "), std::string::npos) << text;
    EXPECT_NE(text.find(place), std::string::npos) << text;
    EXPECT_GT(std::count(text.begin(), text.end(), '\n'), 3) << "its stack: " << text;
    // One whose place is not known.
    const Result<Remote> remote = loop.remote();
    ASSERT_TRUE(remote);
    ASSERT_TRUE(remote->post([](Loop& inner) { run_until_stuck(inner, 2); }));
    {
        const Stderr printed;
        EXPECT_FALSE(loop.poll());
        text = printed.text();
    }
    EXPECT_NE(text.find(" ms: remote_post\n"), std::string::npos) << text;
}

// The report that follows tells how many there were in between.
TEST_P(SlowHandlerTest, the_next_report_tells_of_those_that_were_not_reported) {
    WHORL_SKIP_IF_REFUSED();
    // A machine may need a while for one: several must fit into a pause.
    Nanoseconds one = 2ms;
    {
        Loop loop = make_watched();
        const Instant begin = clock_now();
        ASSERT_FALSE(loop.post([](Loop& inner) { run_until_sampled(inner); }));
        ASSERT_FALSE(loop.run());
        one = std::max(one, clock_now() - begin);
    }
    Loop loop = make_watched(10 * one);
    Reports reports;
    ASSERT_FALSE(on_slow_handler(loop, &Reports::take, &reports));
    std::uint64_t handlers = 0;
    const Instant end = clock_now() + 60s;
    while (reports.suppressed == 0 && clock_now() < end) {
        ASSERT_FALSE(loop.post([](Loop& inner) { run_until_sampled(inner); }));
        ASSERT_FALSE(loop.run());
        ++handlers;
    }
    const SlowHandlerCounts counts = slow_handler_counts(loop);
    EXPECT_EQ(counts.slow, handlers);
    EXPECT_EQ(counts.suppressed, reports.suppressed);
    EXPECT_EQ(counts.slow, static_cast<std::uint64_t>(reports.count) + counts.suppressed);
    const std::string told = "(" + std::to_string(reports.suppressed) + " more not reported)";
    EXPECT_NE(reports.text.find(told), std::string::npos) << reports.text;
}

// The signal is sent by a timer of the loop's; others, and a tick of a loop that has gone, look nowhere.
TEST_P(SlowHandlerTest, a_signal_that_is_no_tick_of_the_loop_is_let_pass) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.stuck_handler = 10h; });
    const int number = SIGRTMAX - 1;
    const auto tick = [&](std::uint64_t name) {
        siginfo_t info{};
        info.si_signo = number;
        info.si_code = SI_TIMER;
        std::memcpy(&info.si_value.sival_ptr, &name, sizeof name);
        return ::syscall(SYS_rt_tgsigqueueinfo, ::getpid(), ::syscall(SYS_gettid), number, &info);
    };
    int calls = 0;
    ASSERT_FALSE(loop.post([&](Loop& inner) {
        errno = EDOM;
        EXPECT_EQ(::raise(number), 0);
        EXPECT_EQ(tick(UINT32_MAX), 0) << "a loop that cannot be";
        EXPECT_EQ(tick(255), 0) << "a loop that has not been, or has gone";
        for (std::uint64_t index = 0; index < 4; ++index) {
            EXPECT_EQ(tick(std::uint64_t{0xFFFFFFFF} << 32 | index), 0) << "a loop that has gone";
        }
        EXPECT_EQ(errno, EDOM) << "the signal handler leaves it";
        EXPECT_EQ(slow_handler_counts(inner).samples, 0u);
        ++calls;
    }));
    ASSERT_FALSE(loop.run());
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(slow_handler_counts(loop).samples, 0u);
}

// Without a timer nothing looks into the handlers: the loop says so, every time, and works when it has one.
TEST_P(SlowHandlerTest, a_timer_that_is_refused_is_said) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_watched();
    Reports reports;
    ASSERT_FALSE(on_slow_handler(loop, &Reports::take, &reports));
    int calls = 0;
    ASSERT_FALSE(loop.post([&](Loop& inner) {
        run_until_sampled(inner);
        ++calls;
    }));
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_SIGPENDING, &before), 0);
    const rlimit none{0, before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_SIGPENDING, &none), 0);
    const Error first = loop.run();
    const Error second = loop.run();
    ASSERT_EQ(::setrlimit(RLIMIT_SIGPENDING, &before), 0);
    EXPECT_EQ(first, Error::from_errno(EAGAIN));
    EXPECT_EQ(second, Error::from_errno(EAGAIN));
    ASSERT_EQ(calls, 0);
    EXPECT_FALSE(loop.run());
    EXPECT_EQ(calls, 1);
    EXPECT_EQ(reports.count, 1);
}

#if defined(__cpp_exceptions)
TEST_P(SlowHandlerTest, one_that_throws_is_reported) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_watched();
    Reports reports;
    ASSERT_FALSE(on_slow_handler(loop, &Reports::take, &reports));
    ASSERT_FALSE(loop.post([](Loop& inner) {
        run_until_sampled(inner);
        throw 7;
    }));
    EXPECT_THROW(static_cast<void>(loop.run()), int);
    EXPECT_EQ(reports.count, 1);
}
#endif

TEST_P(SlowHandlerTest, several_loops_of_a_thread_are_told_apart) {
    WHORL_SKIP_IF_REFUSED();
    Loop first = make_watched();
    Loop second = make_watched();
    Reports of_first, of_second;
    ASSERT_FALSE(on_slow_handler(first, &Reports::take, &of_first));
    ASSERT_FALSE(on_slow_handler(second, &Reports::take, &of_second));
    ASSERT_FALSE(first.poll());
    ASSERT_FALSE(second.post([](Loop& inner) { run_until_sampled(inner); }));
    ASSERT_FALSE(second.run());
    EXPECT_EQ(of_first.count, 0);
    EXPECT_EQ(of_second.count, 1);
}

TEST_P(SlowHandlerTest, errors) {
    WHORL_SKIP_IF_REFUSED();
    LoopOptions options = options_here();
    options.slow_handler = 1us;
    EXPECT_EQ(Loop::create(options).error(), Error::invalid_argument);
    options.slow_handler = 1ms;
    options.slow_handler_signal = SIGUSR1;
    EXPECT_EQ(Loop::create(options).error(), Error::invalid_argument);
    options.slow_handler_signal = SIGRTMIN + 5;
    struct sigaction before {};
    struct sigaction taken {};
    taken.sa_handler = [](int) {};
    ASSERT_EQ(::sigaction(SIGRTMIN + 5, &taken, &before), 0);
    EXPECT_EQ(Loop::create(options).error(), Error::from_errno(EBUSY));
    ASSERT_EQ(::sigaction(SIGRTMIN + 5, &before, nullptr), 0);
    Loop without = make_loop();
    Reports reports;
    EXPECT_EQ(on_slow_handler(without, &Reports::take, &reports), Error::invalid_argument);
    EXPECT_EQ(on_stuck_handler(without, &Reports::take, &reports), Error::invalid_argument);
    EXPECT_EQ(slow_handler_counts(without).slow, 0u);
    Loop watched = make_watched();
    EXPECT_EQ(on_stuck_handler(watched, &Reports::take, &reports), Error::invalid_argument);
    EXPECT_EQ(on_slow_handler(without, nullptr, nullptr), Error::invalid_argument);
    EXPECT_EQ(on_stuck_handler(watched, nullptr, nullptr), Error::invalid_argument);
}

TEST_P(SlowHandlerTest, without_a_function_it_is_printed_again) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_watched();
    Reports reports;
    ASSERT_FALSE(on_slow_handler(loop, &Reports::take, &reports));
    const auto slow = [](Loop& inner, auto&&...) { run_until_sampled(inner); };
    ASSERT_FALSE(loop.post(slow));
    ASSERT_FALSE(loop.run());
    ASSERT_EQ(reports.count, 1);
    ASSERT_FALSE(on_slow_handler(loop, nullptr, nullptr));
    ASSERT_FALSE(loop.post(slow));
    ::testing::internal::CaptureStderr();
    const Error error = loop.run();
    const std::string printed = ::testing::internal::GetCapturedStderr();
    ASSERT_FALSE(error);
    EXPECT_NE(printed.find("whorl: a handler took"), std::string::npos) << printed;
    EXPECT_EQ(reports.count, 1);
    EXPECT_EQ(slow_handler_counts(loop).slow, 2u);
}

TEST_P(SlowHandlerTest, a_stuck_one_is_printed_again_without_a_function) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) { options.stuck_handler = 1ms; });
    Reports reports;
    ASSERT_FALSE(on_stuck_handler(loop, &Reports::take, &reports));
    ASSERT_FALSE(on_stuck_handler(loop, nullptr, nullptr));
    ASSERT_FALSE(loop.post([](Loop& inner) {
        while (slow_handler_counts(inner).stuck == 0) continue;
    }));
    ::testing::internal::CaptureStderr();
    const Error error = loop.run();
    const std::string printed = ::testing::internal::GetCapturedStderr();
    ASSERT_FALSE(error);
    EXPECT_NE(printed.find("whorl: "), std::string::npos) << printed;
    EXPECT_EQ(reports.count, 0);
}

// 256 of them, in simulated loops, which are cheap; what ends makes room.
TEST_P(SlowHandlerTest, there_is_a_limit_for_the_process) {
    WHORL_SKIP_IF_REFUSED();
    if (std::string_view(GetParam().name) != "simulator") return;
    LoopOptions options = options_here();
    options.slow_handler = 1ms;
    options.ops_max = options.handles_max = 64;
    for (int round = 0; round < 2; ++round) {
        std::vector<Loop> loops;
        for (int index = 0; index < 256; ++index) {
            Result<Loop> made = Loop::create(options);
            ASSERT_TRUE(made) << index << ": " << made.error().name();
            loops.push_back(std::move(*made));
        }
        EXPECT_EQ(Loop::create(options).error(), Error::slots_exhausted);
    }
}

}  // namespace
}  // namespace whorl::conformance
