// SPDX-License-Identifier: MIT
// Goal: a loop tells every handle and operation it has, with and without insight. Method: a few of each
// kind, whose states are known; the visitor's list and the text are compared with them.
#include "conformance/support.hpp"
#include "conformance/tcp_tools.hpp"

#include <whorl/live_handles.hpp>

#include <functional>

namespace whorl::conformance {
namespace {

struct Seen : LiveVisitor {
    struct Entry {
        LiveOperation operation;
        std::uint64_t of = 0;
    };
    std::vector<LiveHandle> handles;
    std::vector<Entry> operations;

    void handle(const LiveHandle& live) override { handles.push_back(live); }
    void operation(const LiveHandle* of, const LiveOperation& live) override {
        if (of != nullptr) {
            EXPECT_EQ(of->handle, handles.back().handle) << "operations follow their handle";
        }
        operations.push_back({live, of != nullptr ? of->handle : 0});
    }
    const Entry* find(std::uint64_t handle) const {
        for (const Entry& entry : operations) {
            if (entry.operation.handle == handle) return &entry;
        }
        return nullptr;
    }
};

class LiveHandles : public TcpTools {
  protected:
    Loop make_seen(bool insight) {
        return make_loop([=](LoopOptions& options) { options.insight = insight; });
    }
    static std::string text_of(Loop& loop) {
        char text[8192];
        const std::size_t length = print_live(loop, text, sizeof text);
        EXPECT_LT(length, sizeof text);
        return std::string(text, length);
    }
};
WHORL_CONFORMANCE(LiveHandles);

TEST_P(LiveHandles, an_empty_loop_has_none) {
    WHORL_SKIP_IF_REFUSED();
    for (const bool insight : {false, true}) {
        Loop loop = make_seen(insight);
        Seen seen;
        visit_live(loop, seen);
        EXPECT_TRUE(seen.handles.empty());
        EXPECT_TRUE(seen.operations.empty());
        EXPECT_EQ(text_of(loop), "");
    }
}

TEST_P(LiveHandles, tells_what_is_open_and_what_waits) {
    WHORL_SKIP_IF_REFUSED();
    for (const bool insight : {false, true}) {
        Loop loop = make_seen(insight);
        Pair pair = make_local_pair(loop);
        const auto ignore = [](Loop&, Recv::Done) {};
        const std::uint32_t line = __LINE__ + 1;
        const auto recv = loop.submit(Recv{pair.socket, loop.buffer(100)}, ignore);
        const auto behind = loop.submit(Recv{pair.socket, loop.buffer(100)}, ignore);
        const auto timer = loop.after(1h, [](Loop&, Expired) {});
        ASSERT_TRUE(recv);
        ASSERT_TRUE(behind);
        ASSERT_TRUE(timer);
        turns(loop, 2);
        Seen seen;
        visit_live(loop, seen);
        ASSERT_EQ(seen.handles.size(), 1u);
        const LiveHandle& socket = seen.handles[0];
        EXPECT_EQ(socket.handle, pair.socket.value());
        EXPECT_EQ(socket.fd, fd_of(loop, pair.socket));
        EXPECT_STREQ(socket.kind, "socket");
        EXPECT_STREQ(socket.state, "open");
        EXPECT_EQ(socket.operations, 2u);
        EXPECT_EQ(socket.age != age_unknown, insight);
        ASSERT_EQ(seen.operations.size(), 3u);
        const Seen::Entry* first = seen.find(recv->value());
        const Seen::Entry* second = seen.find(behind->value());
        const Seen::Entry* third = seen.find(timer->value());
        ASSERT_TRUE(first != nullptr && second != nullptr && third != nullptr);
        EXPECT_STREQ(first->operation.kind, "recv");
        EXPECT_STREQ(first->operation.state, "kernel");
        EXPECT_EQ(first->of, socket.handle);
        EXPECT_STREQ(second->operation.state, "queued");
        EXPECT_STREQ(third->operation.kind, "timer");
        EXPECT_STREQ(third->operation.state, "armed");
        EXPECT_EQ(third->of, 0u);
        EXPECT_EQ(first->operation.age != age_unknown, insight);
        EXPECT_EQ(first->operation.site.line, insight ? line : 0u);
        char name[256];
        handler_name(first->operation.handler, name, sizeof name);
        EXPECT_NE(std::string(name).find("whorl::Recv"), std::string::npos) << name;
        const std::string text = text_of(loop);
        EXPECT_NE(text.find("\n  recv kernel"), std::string::npos) << text;
        EXPECT_EQ(text.find("live_handles_test.cpp:") != std::string::npos, insight) << text;
        loop.cancel(*timer);
        close_and_wait(loop, pair.socket);
    }
}

TEST_P(LiveHandles, counts_the_bytes_of_each_direction) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_seen(true);
    Pair pair = make_pair(loop);
    std::string got;
    ASSERT_TRUE(loop.submit(RecvStream{pair.socket}, [&](Loop&, RecvStream::Done done) {
        if (done.more) got += done.buffer.text();
    }));
    pair.peer.send("twelve bytes");
    run_until(loop, [&] { return got.size() == 12; });
    bool sent = false;
    ASSERT_TRUE(loop.submit(SendAll{pair.socket, Buffer::copy_of(Bytes("seven b"))},
                            [&](Loop&, SendAll::Done) { sent = true; }));
    run_until(loop, [&] { return sent; });
    Seen seen;
    visit_live(loop, seen);
    ASSERT_EQ(seen.handles.size(), 1u);
    EXPECT_EQ(seen.handles[0].bytes_in, 12u);
    EXPECT_EQ(seen.handles[0].bytes_out, 7u);
    EXPECT_GE(seen.handles[0].age, 0ns);
    close_and_wait(loop, pair.socket);
}

TEST_P(LiveHandles, a_cancelled_one_and_a_closing_one_are_told_as_such) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_seen(false);
    Pair pair = make_local_pair(loop);
    bool closed = false;
    ASSERT_TRUE(loop.submit(Recv{pair.socket, loop.buffer(100)}, [](Loop&, Recv::Done) {}));
    turns(loop, 1);
    ASSERT_FALSE(loop.close(pair.socket, [&](Loop&) { closed = true; }));
    Seen seen;
    visit_live(loop, seen);
    ASSERT_EQ(seen.handles.size(), 1u);
    EXPECT_STREQ(seen.handles[0].state, "closing");
    ASSERT_EQ(seen.operations.size(), 2u);
    EXPECT_TRUE(seen.operations[0].operation.cancelled);
    EXPECT_STREQ(seen.operations[1].operation.kind, "close");
    EXPECT_STREQ(seen.operations[1].operation.state, "armed");
    run_until(loop, [&] { return closed; });
}

// Does what a test says to whatever it sees.
struct Meddler : LiveVisitor {
    std::function<void(const LiveHandle&)> on_handle;
    std::function<void(const LiveOperation&)> on_operation;

    void handle(const LiveHandle& live) override {
        if (on_handle) on_handle(live);
    }
    void operation(const LiveHandle*, const LiveOperation& live) override {
        if (on_operation) on_operation(live);
    }
};

// It ends all that it sees, begins as much, and looks again; outside of a turn, in a handler and in a post.
TEST_P(LiveHandles, a_visitor_may_change_what_it_visits) {
    WHORL_SKIP_IF_REFUSED();
    for (int round = 0; round < 6; ++round) {
        Loop loop = make_seen(round % 2 == 0);
        Pair pair = make_local_pair(loop);
        int received = 0, expired = 0, begun = 0, ended = 0, looked = 0;
        bool closed = false;
        const auto on_end = [&](Loop&, Recv::Done done) {
            EXPECT_TRUE(done.error);
            ++received;
        };
        const auto first = loop.submit(Recv{pair.socket, loop.buffer(100)}, on_end);
        const auto second = loop.submit(Recv{pair.socket, loop.buffer(100)}, on_end);
        const auto timer = loop.after(1h, [&](Loop&, Expired) { ++expired; });
        ASSERT_TRUE(first && second && timer);
        turns(loop, 2);
        Meddler meddler;
        meddler.on_handle = [&](const LiveHandle& live) {
            EXPECT_EQ(live.handle, pair.socket.value());
            EXPECT_FALSE(loop.close(pair.socket, [&](Loop&) { closed = true; }));
            ++looked;
        };
        meddler.on_operation = [&](const LiveOperation& live) {
            if (live.handle == first->value()) static_cast<void>(loop.cancel(*second));
            loop.cancel(*timer);
            if (begun < 20) {
                ++begun;
                EXPECT_FALSE(loop.post([&](Loop&) { ++ended; }));
                ++begun;
                EXPECT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) { ++ended; }));
            }
            EXPECT_NE(text_of(loop), "");
            Seen again;
            visit_live(loop, again);
            EXPECT_EQ(again.handles.size(), 1u);
            ++looked;
        };
        const auto look = [&] { visit_live(loop, meddler); };
        if (round < 2) look();
        else if (round < 4) EXPECT_FALSE(loop.post([&](Loop&) { look(); }));
        else EXPECT_TRUE(loop.submit(Nop{}, [&](Loop&, Nop::Done) { look(); }));
        run_until(loop, [&] { return closed && received == 2 && looked != 0 && ended == begun; });
        EXPECT_EQ(expired, 0);
        EXPECT_GT(begun, 0);
    }
}

TEST_P(LiveHandles, the_loop_is_not_run_from_a_visit) {
    WHORL_SKIP_IF_REFUSED();
    GTEST_FLAG_SET(death_test_style, "fast");
    // In the process that dies: a loop stays with the process that made it.
    const auto visited = [&](const std::function<void(Loop&)>& meddle) {
        Loop loop = make_seen(false);
        static_cast<void>(loop.after(1h, [](Loop&, Expired) {}));
        Meddler meddler;
        meddler.on_operation = [&](const LiveOperation&) { meddle(loop); };
        visit_live(loop, meddler);
        static_cast<void>(loop.poll());  // once it is over
    };
    EXPECT_DEATH(visited([](Loop& loop) { static_cast<void>(loop.poll()); }),
                 "from inside a handler");
    EXPECT_DEATH(visited([](Loop& loop) { const Loop moved(std::move(loop)); }), "in_turn");
    visited([](Loop&) {});
}

TEST_P(LiveHandles, a_visitor_that_throws_has_ended_its_visit) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_seen(true);
    const auto timer = loop.after(1h, [](Loop&, Expired) {});
    ASSERT_TRUE(timer);
    Meddler meddler;
    meddler.on_operation = [](const LiveOperation&) { throw 7; };
    EXPECT_THROW(visit_live(loop, meddler), int);
    EXPECT_FALSE(loop.poll());
    loop.cancel(*timer);
    EXPECT_FALSE(loop.run());
}

TEST_P(LiveHandles, the_text_is_cut_where_there_is_no_room) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_seen(true);
    const Result<Timer> timer = loop.after(1h, [](Loop&, Expired) {});
    ASSERT_TRUE(timer);
    const std::size_t whole = text_of(loop).size();
    char text[11];
    EXPECT_GE(print_live(loop, text, sizeof text), sizeof text);
    EXPECT_EQ(std::string(text), "timer arme");
    EXPECT_GE(whole, 20u);
    EXPECT_GE(print_live(loop, nullptr, 0), 20u);
    loop.cancel(*timer);
}

}  // namespace
}  // namespace whorl::conformance
