// SPDX-License-Identifier: MIT
// Goal: a page names the places of slow handlers, and the largest handles by each order, at a bounded cost.
// Method: handlers that run on until they are slow; sockets over which known bytes go; more handles than one
// step looks at. What a page says is copied after publish_statistics(), so that no test waits for a moment.
#include "conformance/tcp_tools.hpp"

#include <whorl/loop_details.hpp>
#include <whorl/slow_handler.hpp>
#include <whorl/statistics_page.hpp>

#include <memory>

namespace whorl::conformance {

// Not static: the page names the handler that it is part of.
[[gnu::noinline]] void run_for_two_milliseconds() {
    const Instant end = clock_now() + 2ms;
    while (clock_now() < end) {
    }
}

namespace {

void ignore_report(void*, const SlowHandler&) noexcept {}

class LoopDetailsTest : public TcpTools {
  protected:
    Loop make_detailed(std::uint32_t handles) {
        return make_loop([=](LoopOptions& options) {
            options.statistics_page = true;
            options.statistics_interval = 1h;
            options.top_handles = handles;
        });
    }
    Loop make_watched() {
        Loop loop = make_loop([](LoopOptions& options) {
            options.statistics_page = true;
            options.statistics_interval = 1h;
            options.slow_handler = 1ms;
            options.slow_handler_pause = 0ns;
        });
        EXPECT_FALSE(on_slow_handler(loop, &ignore_report, nullptr));
        return loop;
    }
    static std::unique_ptr<LoopDetails> read(const Loop& loop) {
        auto details = std::make_unique<LoopDetails>();
        const Result<StatisticsPage> page = loop.statistics_page();
        EXPECT_TRUE(page);
        if (page) {
            EXPECT_FALSE(page->read(*details));
        }
        return details;
    }
    static void be_slow(Loop& loop, Site site) {
        const auto slow = [](Loop&, Expired) { run_for_two_milliseconds(); };
        ASSERT_TRUE(loop.after(0ns, slow, site));
        ASSERT_FALSE(loop.run());
    }
    // The rows after `work(loop)`, which makes `count` handlers slow. A machine that is busy with other things
    // may make further ones slow, and they take rows: then it is done again.
    template <class Work>
    std::unique_ptr<LoopDetails> slow_rows(std::uint64_t count, Work work) {
        for (int attempts_left = 10;; --attempts_left) {
            Loop loop = make_watched();
            work(loop);
            auto details = read(loop);
            if (details->slow_handlers > count && attempts_left > 1) continue;
            EXPECT_EQ(details->slow_handlers, count);
            return details;
        }
    }
    static const SlowFigures* find(const LoopDetails& details, std::uint64_t line) {
        for (std::uint64_t row = 0; row < details.slow_count; ++row) {
            if (details.slow[row].line == line) return &details.slow[row];
        }
        return nullptr;
    }
    // The handles of an order.
    static std::vector<std::uint64_t> order(const LoopDetails& details, HandleOrder by) {
        const auto index = static_cast<std::uint32_t>(by);
        std::vector<std::uint64_t> found;
        for (std::uint64_t row = 0; row < details.handles_count[index]; ++row) {
            found.push_back(details.handles[index][row].handle);
        }
        return found;
    }
    static void send(Loop& loop, Socket socket, std::size_t size) {
        bool sent = false;
        ASSERT_TRUE(loop.submit(SendAll{socket, Buffer::copy_of(Bytes(std::string(size, 'x')))},
                                [&](Loop&, SendAll::Done done) {
                                    EXPECT_FALSE(done.error);
                                    sent = true;
                                }));
        run_until(loop, [&] { return sent; });
    }
};
WHORL_CONFORMANCE(LoopDetailsTest);

TEST_P(LoopDetailsTest, off_there_are_no_rows) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_detailed(0);
    Pair pair = make_local_pair(loop);
    ASSERT_FALSE(loop.publish_statistics());
    const auto details = read(loop);
    EXPECT_EQ(details->slow_threshold_ns, 0u);
    EXPECT_EQ(details->slow_count, 0u);
    EXPECT_EQ(details->handles_wanted, 0u);
    EXPECT_EQ(details->looks, 0u);
    for (const std::uint64_t count : details->handles_count) EXPECT_EQ(count, 0u);
    close_and_wait(loop, pair.socket);
}

TEST_P(LoopDetailsTest, too_many_and_none_without_a_page_are_refused) {
    WHORL_SKIP_IF_REFUSED();
    LoopOptions options = options_here();
    options.top_handles = 1;
    EXPECT_EQ(Loop::create(options).error(), Error::invalid_argument);
    options.statistics_page = true;
    options.top_handles = LoopDetails::handles_max + 1;
    EXPECT_EQ(Loop::create(options).error(), Error::invalid_argument);
    options.top_handles = LoopDetails::handles_max;
    EXPECT_TRUE(Loop::create(options));
}

TEST_P(LoopDetailsTest, slow_handlers_are_counted_by_their_place) {
    WHORL_SKIP_IF_REFUSED();
    const auto details = slow_rows(3, [](Loop& loop) {
        be_slow(loop, {"/a/path/first.cpp", 10});
        be_slow(loop, {"/a/path/first.cpp", 10});
        be_slow(loop, {"/a/path/second.cpp", 20});
    });
    EXPECT_EQ(details->slow_threshold_ns, 1'000'000u);
    EXPECT_EQ(details->stuck_handlers, 0u);
    ASSERT_EQ(details->slow_count, 2u);
    const SlowFigures* first = find(*details, 10);
    const SlowFigures* second = find(*details, 20);
    ASSERT_TRUE(first != nullptr && second != nullptr);
    EXPECT_STREQ(first->file, "/a/path/first.cpp");
    EXPECT_STREQ(first->kind, "timer");
    EXPECT_EQ(first->count, 2u);
    EXPECT_GE(first->longest_ns, first->last_ns);
    EXPECT_GE(first->last_ns, 1'000'000u);
    EXPECT_GE(first->total_ns, first->longest_ns + 1'000'000);
    EXPECT_NE(std::string(first->handler).find("be_slow"), std::string::npos) << first->handler;
    EXPECT_EQ(second->count, 1u);
    EXPECT_EQ(second->total_ns, second->last_ns);
    EXPECT_LE(first->ended_ns, second->ended_ns);
}

// A path is cut at its beginning. The seventeenth place takes the row of the one that is longest ago.
TEST_P(LoopDetailsTest, places_are_bounded_and_the_latest_stay) {
    WHORL_SKIP_IF_REFUSED();
    const std::string path = "/begin" + std::string(100, 'x') + "/end.cpp";
    const auto details = slow_rows(std::uint64_t{LoopDetails::slow_max} + 2, [&path](Loop& loop) {
        for (std::uint32_t line = 1; line <= LoopDetails::slow_max; ++line) {
            be_slow(loop, {path.c_str(), line});
            // A world's time passes by its own events only.
            ASSERT_TRUE(loop.after(1us, [](Loop&, Expired) {}));
            ASSERT_FALSE(loop.run());
        }
        be_slow(loop, {path.c_str(), 1});  // again: the second is the oldest now
        ASSERT_TRUE(loop.after(1us, [](Loop&, Expired) {}));
        ASSERT_FALSE(loop.run());
        be_slow(loop, {path.c_str(), 1000});
    });
    EXPECT_EQ(details->slow_count, std::uint64_t{LoopDetails::slow_max});
    EXPECT_EQ(find(*details, 2), nullptr);
    const SlowFigures* first = find(*details, 1);
    const SlowFigures* last = find(*details, 1000);
    ASSERT_TRUE(first != nullptr && last != nullptr);
    EXPECT_EQ(first->count, 2u);
    EXPECT_EQ(last->count, 1u);
    EXPECT_EQ(std::string(last->file).size(), sizeof last->file - 1);
    EXPECT_EQ(std::string(last->file), path.substr(path.size() - (sizeof last->file - 1)));
}

TEST_P(LoopDetailsTest, handles_are_in_each_order) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_detailed(2);
    Pair oldest = make_local_pair(loop);
    ASSERT_TRUE(loop.after(1ms, [](Loop&, Expired) {}));  // the next one is younger by any clock
    ASSERT_FALSE(loop.run());
    Pair busy = make_local_pair(loop), large = make_local_pair(loop);
    for (int count = 0; count < 5; ++count) send(loop, busy.socket, 10);
    send(loop, large.socket, 1000);
    ASSERT_FALSE(loop.publish_statistics());
    const std::uint64_t one = oldest.socket.value();
    const std::uint64_t two = busy.socket.value(), three = large.socket.value();
    const auto first = read(loop);
    EXPECT_EQ(first->handles_open, 3u);
    EXPECT_EQ(order(*first, HandleOrder::bytes), (std::vector<std::uint64_t>{three, two}));
    EXPECT_EQ(order(*first, HandleOrder::recent), (std::vector<std::uint64_t>{three, two}));
    EXPECT_EQ(order(*first, HandleOrder::completions).at(0), two);
    EXPECT_EQ(order(*first, HandleOrder::age).at(0), one);
    const HandleFigures& row = first->handles[static_cast<int>(HandleOrder::bytes)][0];
    EXPECT_EQ(row.fd, fd_of(loop, large.socket));
    EXPECT_EQ(row.bytes_out, 1000u);
    EXPECT_EQ(row.bytes_in, 0u);
    EXPECT_EQ(row.bytes_recent, 1000u);
    EXPECT_GE(row.completions, 1u);
    EXPECT_STREQ(row.kind, "socket");
    EXPECT_STREQ(row.state, "open");
    // Since then only the other one had something, and what is closed is gone.
    send(loop, busy.socket, 7);
    close_and_wait(loop, oldest.socket);
    ASSERT_FALSE(loop.publish_statistics());
    const auto second = read(loop);
    EXPECT_EQ(second->looks, first->looks + 1);
    EXPECT_EQ(second->handles_open, 2u);
    EXPECT_EQ(order(*second, HandleOrder::recent), std::vector<std::uint64_t>{two});
    EXPECT_EQ(second->handles[static_cast<int>(HandleOrder::recent)][0].bytes_recent, 7u);
    EXPECT_EQ(order(*second, HandleOrder::bytes), (std::vector<std::uint64_t>{three, two}));
    EXPECT_NE(order(*second, HandleOrder::age).at(0), one);
    close_all(loop, {busy.socket, large.socket});
    ASSERT_FALSE(loop.publish_statistics());
    EXPECT_EQ(read(loop)->handles_open, 0u);
}

// Two steps at least, with turns between them. The busiest is in the second.
TEST_P(LoopDetailsTest, many_handles_are_looked_at_in_steps) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_loop([](LoopOptions& options) {
        options.statistics_page = true;
        options.statistics_interval = 0ns;
        options.top_handles = LoopDetails::handles_max;
    });
    constexpr std::size_t many = 300;
    std::vector<Socket> sockets;
    while (sockets.size() < many) {
        int fds[2];
        ASSERT_EQ(os::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        os::close(fds[1]);
        const Result<Socket> socket = adopt_socket(loop, fds[0]);
        ASSERT_TRUE(socket);
        sockets.push_back(*socket);
    }
    Pair last = make_local_pair(loop);
    send(loop, last.socket, 1);
    ASSERT_FALSE(loop.publish_statistics());
    const std::uint64_t looks = read(loop)->looks;
    send(loop, last.socket, 100);
    // Each of these turns publishes.
    run_until(loop, [&] {
        static_cast<void>(loop.after(6ms, [](Loop&, Expired) {}));
        return read(loop)->looks > looks;
    });
    const auto details = read(loop);
    EXPECT_EQ(details->handles_open, many + 1);
    EXPECT_EQ(details->handles_count[static_cast<int>(HandleOrder::age)],
              std::uint64_t{LoopDetails::handles_max});
    EXPECT_EQ(order(*details, HandleOrder::bytes), std::vector<std::uint64_t>{last.socket.value()});
    const HandleFigures& row = details->handles[static_cast<int>(HandleOrder::bytes)][0];
    EXPECT_EQ(row.bytes_out, 101u);
    sockets.push_back(last.socket);
    close_all(loop, sockets);
}

}  // namespace
}  // namespace whorl::conformance
