// SPDX-License-Identifier: MIT
// Goal: what a loop does is read by other threads and processes, each copy is one publication and never a
// mixture, nobody can write to or shorten a page, and what is no page is refused. Method: a loop whose
// interval is zero, or an hour, so that no test depends on time passing; pages that are wrong in one way.
#include "conformance/tcp_tools.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <whorl/statistics_page.hpp>

#include <atomic>
#include <cstring>
#include <memory>
#include <numeric>

namespace whorl::conformance {
namespace {

class StatisticsPageTest : public TcpTools {
  protected:
    static Loop make_paged_loop(Nanoseconds interval = 1h) {
        return make_loop_here([&](LoopOptions& options) {
            options.statistics_page = true;
            options.statistics_interval = interval;
            options.name = "paged";
        });
    }
    template <class Change>
    static Loop make_loop_here(Change change) {
        LoopOptions options = options_here();
        options.shutdown_bound = 60s;
        change(options);
        Result<Loop> made = Loop::create(options);
        if (!made) {
            ADD_FAILURE() << made.error().name();
            std::abort();
        }
        return std::move(*made);
    }
    static std::unique_ptr<LoopFigures> read(const StatisticsPage& page) {
        auto figures = std::make_unique<LoopFigures>();
        EXPECT_FALSE(page.read(*figures));
        return figures;
    }
    static std::uint64_t submitted(const StatisticsPage& page, const LoopFigures& figures,
                                   const std::string& name) {
        for (std::uint32_t row = 0; row < figures.kinds_count; ++row) {
            if (page.kind_name(row) == name) return figures.kinds[row].submitted;
        }
        ADD_FAILURE() << "no row for " << name;
        return 0;
    }
    // Turns that have collected, and those that are counted, differ by the present one at most.
    static bool whole(const LoopFigures& figures) {
        const std::uint64_t collected = std::accumulate(
            figures.batches, figures.batches + LoopFigures::batch_rows, std::uint64_t{0});
        const std::uint64_t turns = figures.statistics.turns;
        return turns == collected || turns == collected + 1;
    }
};

TEST_P(StatisticsPageTest, off_there_is_none) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop();
    EXPECT_EQ(loop.statistics_page().error(), Error::invalid_argument);
    EXPECT_EQ(loop.publish_statistics(), Error::invalid_argument);
    const Result<std::uint32_t> pages = StatisticsPage::find(::getpid(), nullptr, 0);
    ASSERT_TRUE(pages);
    EXPECT_EQ(*pages, 0u);
}

TEST_P(StatisticsPageTest, says_what_the_loop_did) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_paged_loop();
    const Result<StatisticsPage> page = loop.statistics_page();
    ASSERT_TRUE(page);
    const auto first = read(*page);
    EXPECT_EQ(first->publications, 1u);
    EXPECT_EQ(first->process, static_cast<std::uint64_t>(::getpid()));
    EXPECT_STREQ(first->name, "paged");
    EXPECT_STREQ(first->backend, loop.backend_name());
    EXPECT_EQ(first->operations_max, LoopOptions().ops_max);
    int calls = 0;
    for (int index = 0; index < 5; ++index) {
        ASSERT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) { ++calls; }));
    }
    ASSERT_TRUE(loop.after(0ns, [&](Loop&, Expired) { ++calls; }));
    ASSERT_FALSE(loop.post([&](Loop&) { ++calls; }));
    run_until(loop, [&] { return calls == 7; });
    EXPECT_EQ(read(*page)->publications, 1u) << "an hour has passed?";
    ASSERT_FALSE(loop.publish_statistics());
    const auto after = read(*page);
    EXPECT_EQ(after->publications, 2u);
    EXPECT_EQ(after->state, LoopState::running);
    EXPECT_EQ(std::memcmp(&after->statistics, &loop.statistics(), sizeof(Statistics)), 0);
    EXPECT_EQ(submitted(*page, *after, "nop"), 5u);
    EXPECT_GE(submitted(*page, *after, "timer"), 1u);
    EXPECT_EQ(submitted(*page, *after, "send_all"), 0u);
    EXPECT_TRUE(whole(*after));
    EXPECT_GE(after->published_ns, first->published_ns);
    EXPECT_EQ(after->thread == 0, false);
    // In a world, time need not pass in all three.
    EXPECT_LE(after->wait_ns + after->handler_ns + after->own_ns,
              after->published_ns - after->created_ns + 1'000'000);
}

TEST_P(StatisticsPageTest, zero_publishes_in_every_turn_and_before_each_sleep) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_paged_loop(0ns);
    const Result<StatisticsPage> page = loop.statistics_page();
    ASSERT_TRUE(page);
    ASSERT_FALSE(loop.poll());
    const auto once = read(*page);
    EXPECT_EQ(once->statistics.turns, 1u);
    EXPECT_EQ(once->state, LoopState::running);
    LoopState seen = LoopState::running;
    ASSERT_TRUE(loop.after(1ms, [&](Loop&, Expired) { seen = read(*page)->state; }));
    ASSERT_FALSE(loop.run());
    EXPECT_EQ(seen, LoopState::waiting) << "the handler sees what was published before the wait";
    EXPECT_EQ(read(*page)->statistics.timers_fired, 1u);
}

TEST_P(StatisticsPageTest, a_copy_is_one_publication) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_paged_loop(0ns);
    Result<StatisticsPage> page = loop.statistics_page();
    ASSERT_TRUE(page);
    std::atomic<std::uint64_t> copies{0};
    std::atomic<bool> ends{false};
    bool mixed = false, backwards = false;
    std::thread reader([&, page = std::move(*page)] {
        auto figures = std::make_unique<LoopFigures>();
        std::uint64_t before = 0;
        while (!ends.load()) {
            if (page.read(*figures)) continue;
            mixed = mixed || !whole(*figures);
            backwards = backwards || figures->publications < before;
            before = figures->publications;
            copies.fetch_add(1);
        }
    });
    // However busy the machine is, the two meet some hundred times.
    const Instant end = clock_now() + 60s;
    while (copies.load() < 300 && clock_now() < end) {
        for (int turn = 0; turn < 50; ++turn) ASSERT_FALSE(loop.poll());
        std::this_thread::yield();
    }
    ends.store(true);
    reader.join();
    EXPECT_GE(copies.load(), 300u);
    EXPECT_FALSE(mixed);
    EXPECT_FALSE(backwards);
}

TEST_P(StatisticsPageTest, outlives_its_loop_and_says_that_it_ended) {
    WHORL_SKIP_IF_REFUSED();
    Result<StatisticsPage> page = Error(Error::cancelled);
    {
        Loop loop = make_paged_loop();
        page = loop.statistics_page();
        ASSERT_TRUE(page);
        EXPECT_EQ(read(*page)->state, LoopState::running);
        EXPECT_FALSE(loop.poll());
    }
    EXPECT_EQ(read(*page)->state, LoopState::ended);
    EXPECT_EQ(read(*page)->statistics.turns, 1u);
    EXPECT_EQ(*StatisticsPage::find(::getpid(), nullptr, 0), 0u);
}

TEST_P(StatisticsPageTest, several_loops_have_one_each_in_order) {
    WHORL_SKIP_IF_REFUSED();
    Loop one = make_paged_loop(), two = make_paged_loop();
    StatisticsPage::Place places[3];
    const Result<std::uint32_t> pages = StatisticsPage::find(::getpid(), places, 3);
    ASSERT_TRUE(pages);
    ASSERT_EQ(*pages, 2u);
    EXPECT_FALSE(two.poll());
    EXPECT_FALSE(two.publish_statistics());
    const Result<StatisticsPage> first = StatisticsPage::open(places[0].path);
    const Result<StatisticsPage> second = StatisticsPage::open(places[1].path);
    ASSERT_TRUE(first && second);
    EXPECT_EQ(read(*first)->number + 1, read(*second)->number);
    EXPECT_EQ(read(*first)->statistics.turns, 0u);
    EXPECT_EQ(read(*second)->statistics.turns, 1u);
    EXPECT_EQ(*StatisticsPage::find(::getpid(), places, 1), 2u);
}

TEST_P(StatisticsPageTest, nobody_else_writes_or_shortens_it) {
    WHORL_SKIP_IF_REFUSED();
    const Loop loop = make_paged_loop();
    StatisticsPage::Place place;
    ASSERT_EQ(*StatisticsPage::find(::getpid(), &place, 1), 1u);
    const int fd = ::open(place.path, O_RDWR | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    struct stat state {};
    ASSERT_EQ(::fstat(fd, &state), 0);
    const auto size = static_cast<std::size_t>(state.st_size);
    EXPECT_EQ(::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
    EXPECT_EQ(::pwrite(fd, "x", 1, 0), -1);
    EXPECT_EQ(::ftruncate(fd, 0), -1);
    EXPECT_EQ(::close(fd), 0);
}

WHORL_CONFORMANCE(StatisticsPageTest);

// --- Other processes, and what is no page: the same whatever the backend.

class StatisticsPageReal : public StatisticsPageTest {
  protected:
    // A child's answer. It ends without a test's destructors.
    template <class Body>
    static int child(Body body) {
        const pid_t process = ::fork();
        if (process == 0) ::_exit(body());
        int status = 0;
        EXPECT_EQ(::waitpid(process, &status, 0), process);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
};

TEST_P(StatisticsPageReal, another_process_reads_it) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_paged_loop();
    EXPECT_FALSE(loop.poll());
    EXPECT_FALSE(loop.publish_statistics());
    const int answer = child([] {
        StatisticsPage::Place place;
        const Result<std::uint32_t> pages = StatisticsPage::find(::getppid(), &place, 1);
        if (!pages || *pages != 1) return 1;
        const Result<StatisticsPage> page = StatisticsPage::open(place.path);
        if (!page) return 2;
        LoopFigures figures;
        if (page->read(figures)) return 3;
        return figures.statistics.turns == 1 ? 42 : 4;
    });
    EXPECT_EQ(answer, 42);
}

TEST_P(StatisticsPageReal, what_a_child_inherits_is_not_its_own) {
    WHORL_SKIP_IF_REFUSED();
    const Loop loop = make_paged_loop();
    const int answer = child([] {
        const Result<std::uint32_t> pages = StatisticsPage::find(::getpid(), nullptr, 0);
        return pages && *pages == 0 ? 42 : 1;
    });
    EXPECT_EQ(answer, 42);
}

TEST_P(StatisticsPageReal, what_is_no_page_is_refused) {
    WHORL_SKIP_IF_REFUSED();
    const Loop loop = make_paged_loop();
    StatisticsPage::Place place;
    ASSERT_EQ(*StatisticsPage::find(::getpid(), &place, 1), 1u);
    const int fd = ::open(place.path, O_RDONLY | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    struct stat state {};
    ASSERT_EQ(::fstat(fd, &state), 0);
    std::string bytes(static_cast<std::size_t>(state.st_size), 0);
    ASSERT_EQ(::pread(fd, bytes.data(), bytes.size(), 0), state.st_size);
    EXPECT_EQ(::close(fd), 0);

    char path[] = "/tmp/whorl-page-XXXXXX";
    const int copy = ::mkstemp(path);
    ASSERT_GE(copy, 0);
    const auto open_with = [&](const std::string& text) {
        EXPECT_EQ(::ftruncate(copy, 0), 0);
        EXPECT_EQ(::pwrite(copy, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
        return StatisticsPage::open(path);
    };
    {
        // A copy is one publication for ever, and is not mapped: it may become shorter.
        const Result<StatisticsPage> page = open_with(bytes);
        ASSERT_TRUE(page) << page.error().name();
        EXPECT_EQ(::ftruncate(copy, 0), 0);
        EXPECT_STREQ(read(*page)->name, "paged");
    }
    std::string wrong = bytes;
    wrong[0] = 'W';
    EXPECT_EQ(open_with(wrong).error().value(), EBADMSG);
    EXPECT_EQ(open_with(bytes.substr(0, 100)).error().value(), EBADMSG);
    EXPECT_EQ(open_with(bytes + "x").error().value(), EBADMSG);
    EXPECT_EQ(open_with("").error().value(), EBADMSG);
    wrong = bytes;
    wrong[8] = static_cast<char>(wrong[8] + 1);  // its version
    EXPECT_EQ(open_with(wrong).error().value(), ENOTSUP);
    // Hostile text, numbers out of every range, and a writer that died while it wrote.
    wrong = bytes;
    std::memset(wrong.data() + 16, 0xFF, wrong.size() - 16);
    {
        const Result<StatisticsPage> page = open_with(wrong);
        ASSERT_TRUE(page);
        LoopFigures figures;
        EXPECT_EQ(page->read(figures).value(), EAGAIN) << "an odd number: it is being written";
        LoopDetails details;
        EXPECT_EQ(page->read(details).value(), EAGAIN);
        EXPECT_EQ(std::strlen(page->kind_name(0)), 23u);
        EXPECT_EQ(page->kind_name(0)[0], '_');
        EXPECT_STREQ(page->kind_name(UINT32_MAX), "");
    }
    const std::size_t sequence = 32 + 24 * std::size_t{LoopFigures::kinds_max};
    wrong[sequence] = 2;
    wrong[sequence + 8 + sizeof(LoopFigures)] = 2;
    {
        const Result<StatisticsPage> page = open_with(wrong);
        ASSERT_TRUE(page);
        const auto figures = read(*page);
        EXPECT_EQ(figures->kinds_count, LoopFigures::kinds_max);
        EXPECT_EQ(figures->state, LoopState::running);
        EXPECT_EQ(std::string(figures->name), std::string(31, '?'));
        LoopDetails details;
        EXPECT_FALSE(page->read(details));
        EXPECT_EQ(details.slow_count, std::uint64_t{LoopDetails::slow_max});
        EXPECT_EQ(std::strlen(details.slow[LoopDetails::slow_max - 1].handler), 127u);
        EXPECT_EQ(details.handles_count[0], std::uint64_t{LoopDetails::handles_max});
        EXPECT_EQ(std::string(details.handles[3][0].kind), std::string(15, '?'));
    }
    EXPECT_EQ(::close(copy), 0);
    EXPECT_EQ(::unlink(path), 0);
    EXPECT_EQ(StatisticsPage::open(path).error().value(), ENOENT);
    EXPECT_EQ(StatisticsPage::open("/proc/self").error().value(), EBADMSG);
    EXPECT_EQ(StatisticsPage::find(0, nullptr, 0).error().value(), ESRCH);
    EXPECT_EQ(StatisticsPage::find(0x7FFFFFFF, nullptr, 0).error().value(), ESRCH);
}

TEST_P(StatisticsPageReal, without_a_descriptor_there_is_no_loop) {
    WHORL_SKIP_IF_REFUSED();
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    int answer = 0;
    // How many descriptors a loop takes differs: with room for none to all of them, the loop is refused,
    // or has its page; nothing is left behind.
    for (rlim_t room = 0; room < 16 && answer != 42; ++room) {
        answer = child([&] {
            LoopOptions options = options_here();
            options.statistics_page = true;
            const int first = ::dup(0);  // the lowest that is free
            ::close(first);
            const rlimit little{static_cast<rlim_t>(first) + room, before.rlim_max};
            if (::setrlimit(RLIMIT_NOFILE, &little) != 0) return 1;
            const Result<Loop> loop = Loop::create(options);
            const int error = loop ? 0 : loop.error().value();
            ::setrlimit(RLIMIT_NOFILE, &before);
            const int again = ::dup(0);
            if (loop) return 42;
            if (again != first) return 2;
            return error == EMFILE || error == ENFILE || loop.error() == Error::backend_unavailable
                       ? 3
                       : 4;
        });
        EXPECT_TRUE(answer == 3 || answer == 42) << answer << " with room for " << room;
    }
    EXPECT_EQ(answer, 42);
}

WHORL_CONFORMANCE_REAL(StatisticsPageReal);

}  // namespace
}  // namespace whorl::conformance
