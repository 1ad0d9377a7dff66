// SPDX-License-Identifier: MIT
// Goal: a loop tells every handle and operation it has, with and without insight. Method: a few of each
// kind, whose states are known; the visitor's list and the text are compared with them.
#include "conformance/file_tools.hpp"
#include "conformance/os_processes.hpp"
#include "conformance/support.hpp"
#include "conformance/unix_tools.hpp"

#include <whorl/live_handles.hpp>

#include <csignal>
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
    const LiveHandle* of(std::uint64_t handle) const {
        for (const LiveHandle& each : handles) {
            if (each.handle == handle) return &each;
        }
        return nullptr;
    }
    const Entry* find(std::uint64_t handle) const {
        for (const Entry& entry : operations) {
            if (entry.operation.handle == handle) return &entry;
        }
        return nullptr;
    }
};

struct Look : Seen {
    explicit Look(Loop& loop) { visit_live(loop, *this); }
};

class LiveHandles : public TcpTools {
  protected:
    Loop make_seen(bool insight) {
        return make_loop([=](LoopOptions& options) { options.insight = insight; });
    }
    static std::string state_of(Loop& loop, const Result<Operation>& operation) {
        EXPECT_TRUE(operation);
        const Look seen(loop);
        const Seen::Entry* entry = seen.find(operation->value());
        return entry == nullptr ? "not there" : entry->operation.state;
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

TEST_P(LiveHandles, every_kind_of_handle_has_its_name) {
    WHORL_SKIP_IF_REFUSED();
    for (const bool insight : {false, true}) {
        Loop loop = make_seen(insight);
        const Listener listener = listen_here(loop);
        const Result<Signals> signals = open_signals(loop, SignalSet{SIGUSR2});
        ASSERT_TRUE(signals);
        const std::string directory = os::make_directory();
        File file;
        const auto opened = [&](Loop&, OpenFile::Done done) { file = done.file; };
        ASSERT_TRUE(loop.submit(OpenFile{directory + "/file", O_CREAT | O_RDWR}, opened));
        const os::Program program = os::stays();
        Child child;
        const auto started = [&](Loop&, Spawn::Done done) { child = done.child; };
        ASSERT_TRUE(loop.submit(Spawn{program.options()}, started));
        run_until(loop, [&] { return file && child; });
        const Look seen(loop);
        EXPECT_EQ(seen.handles.size(), 4u);
        const auto kind_of = [&](std::uint64_t handle) -> std::string {
            const LiveHandle* live = seen.of(handle);
            EXPECT_EQ(live != nullptr && live->age != age_unknown, insight);
            return live == nullptr ? "not there" : live->kind;
        };
        EXPECT_EQ(kind_of(listener.value()), "listener");
        EXPECT_EQ(kind_of(signals->value()), "signals");
        EXPECT_EQ(kind_of(file.value()), "file");
        EXPECT_EQ(kind_of(child.value()), "child");
        EXPECT_NE(text_of(loop).find("listener fd "), std::string::npos);
        EXPECT_FALSE(send_signal(loop, child, SIGKILL));
        EXPECT_FALSE(loop.close(child));
        EXPECT_FALSE(loop.close(listener));
        EXPECT_FALSE(loop.close(*signals));
        EXPECT_FALSE(loop.close(file));
        run_until(loop, [&] { return loop.statistics().handles == 0; });
        os::remove_tree(directory);
    }
}

TEST_P(LiveHandles, a_socket_that_connects_is_told_as_such) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_seen(true);
    const Blackhole nobody;
    End end;
    const Result<Operation> connect = loop.submit(Connect{nobody.address()}, into(end));
    turns(loop, 2);
    const Look seen(loop);
    ASSERT_EQ(seen.handles.size(), 1u);
    EXPECT_STREQ(seen.handles[0].kind, "socket");
    EXPECT_STREQ(seen.handles[0].state, "connecting");
    EXPECT_EQ(state_of(loop, connect), "kernel");
    loop.cancel(*connect);
    run_until(loop, [&] { return end.finals == 1; });
    expect_clean(loop);
}

// What waits in the loop: for its turn, for another operation, for its handler.
TEST_P(LiveHandles, an_operation_is_told_before_and_behind_the_kernel) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_seen(true);
    Pair pair = make_local_pair(loop);
    End receives, follows, ends;
    const Result<Operation> recv = loop.submit(Recv{pair.socket, loop.buffer(100)}, into(receives));
    EXPECT_EQ(state_of(loop, recv), "listed");
    const Result<Operation> follower = loop.submit(Nop{}, following(*recv), into(follows));
    EXPECT_EQ(state_of(loop, follower), "linked");
    SubmitOptions background;
    background.background = true;
    const Result<Operation> behind =
        loop.submit(Recv{pair.socket, loop.buffer(100)}, background, into(ends));
    turns(loop, 1);
    EXPECT_EQ(state_of(loop, recv), "kernel");
    EXPECT_EQ(state_of(loop, behind), "queued");
    EXPECT_NE(text_of(loop).find(", background"), std::string::npos);
    EXPECT_EQ(loop.cancel(*behind), Cancelled::cancelling);
    EXPECT_EQ(state_of(loop, behind), "ready");
    EXPECT_NE(text_of(loop).find(", cancelled"), std::string::npos);
    run_until(loop, [&] { return ends.finals == 1; });
    EXPECT_EQ(state_of(loop, behind), "not there");
    pair.peer.send("a");
    run_until(loop, [&] { return receives.finals + follows.finals == 2; });
    close_and_wait(loop, pair.socket);
    expect_clean(loop);
}

TEST_P(LiveHandles, a_watch_is_told_with_its_descriptor) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_seen(true);
    const Ends pipe = Ends::pipe();
    const int fd = pipe.in.get();
    const Result<Watch> watch = loop.watch(fd, Interest::none, [](Loop&, Watched) {});
    ASSERT_TRUE(watch);
    const auto told = [&](const char* state) {
        const Look seen(loop);
        const Seen::Entry* entry = seen.find(watch->value());
        ASSERT_NE(entry, nullptr);
        EXPECT_STREQ(entry->operation.kind, "watch");
        EXPECT_STREQ(entry->operation.state, state);
        EXPECT_EQ(entry->operation.fd, fd);
        EXPECT_EQ(entry->of, 0u);
        const std::string line = std::string("watch ") + state + " fd " + std::to_string(fd) + ",";
        EXPECT_EQ(text_of(loop).find(line), 0u) << text_of(loop);
    };
    told("paused");
    EXPECT_FALSE(loop.modify(*watch, Interest::readable));
    told("listed");
    turns(loop, 1);
    told("kernel");
    EXPECT_TRUE(loop.cancel(*watch));
    turns(loop, 1);
    EXPECT_TRUE(Look(loop).operations.empty());
}

// A stream that holds its share of the buffers, and one for which there are none.
TEST_P(LiveHandles, a_stream_without_buffers_is_told_as_such) {
    WHORL_SKIP_IF_REFUSED();
    for (const bool starved : {false, true}) {
        Loop loop = make_loop([&](LoopOptions& options) {
            options.buffer_bytes_max = std::size_t{256} << 10;
            options.recv_buffer_size = 16384;
            if (!starved) options.recv_buffers_per_stream = 1;
        });
        std::vector<Buffer> held;
        while (starved) {
            Buffer buffer = loop.buffer(16384);
            if (!buffer) break;
            held.push_back(std::move(buffer));
        }
        Pair pair = make_local_pair(loop);
        pair.peer.send(pattern(50'000));
        std::size_t parts = 0;
        bool ended = false;
        const auto receive = [&](Loop&, RecvStream::Done done) {
            if (!done.more) ended = true;
            else held.push_back(std::move(done.buffer)), ++parts;
        };
        const Result<Operation> stream = loop.submit(RecvStream{pair.socket}, receive);
        run_until(loop, [&] { return state_of(loop, stream) == (starved ? "starved" : "paused"); });
        const Look seen(loop);
        ASSERT_EQ(seen.handles.size(), 1u);
        EXPECT_EQ(seen.handles[0].buffers_out, parts);
        EXPECT_EQ(text_of(loop).find(" buffers out") != std::string::npos, parts != 0);
        EXPECT_EQ(parts == 0, starved);
        loop.cancel(*stream);
        run_until(loop, [&] { return ended; });
        held.clear();
        close_and_wait(loop, pair.socket);
        expect_clean(loop);
    }
}

// A full backlog tells nobody when it has room: the library asks again.
TEST_P(LiveHandles, one_that_is_tried_again_is_told_as_such) {
    WHORL_SKIP_IF_REFUSED();
    Loop loop = make_seen(false);
    const UnixAddress address = *UnixAddress::abstract("whorl-live-" + std::to_string(::getpid()));
    UnixListenOptions options;
    options.backlog = 1;
    const Result<Listener> listener = listen_unix(loop, address, options);
    ASSERT_TRUE(listener);
    End ends[3];
    std::vector<Result<Operation>> connects;
    for (End& end : ends) connects.push_back(loop.submit(ConnectUnix{address}, into(end)));
    run_until(loop, [&] {
        int again = 0;
        for (const auto& connect : connects) again += state_of(loop, connect) == "retrying";
        return again == 1;
    });
    for (const auto& connect : connects) loop.cancel(*connect);
    run_until(loop, [&] { return ends[0].finals + ends[1].finals + ends[2].finals == 3; });
    for (const End& end : ends) {
        if (end.socket) close_and_wait(loop, end.socket);
    }
    EXPECT_FALSE(loop.close(*listener));
    expect_clean(loop);
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
