// SPDX-License-Identifier: MIT
// Goal: a loop tells every handle and operation it has, with and without insight. Method: a few of each
// kind, whose states are known; the visitor's list and the text are compared with them.
#include "conformance/support.hpp"
#include "conformance/tcp_tools.hpp"

#include <whorl/live_handles.hpp>

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
