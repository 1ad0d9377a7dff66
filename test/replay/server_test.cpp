// SPDX-License-Identifier: MIT
// Goal: a run that was recorded on a real backend is repeated to the byte, without the kernel.
// Method: programs write all that their handlers are told, and the loop's clock, to a trace; a second run of
// the same program on the log must write the same, while no peer is there.
#include "tools.hpp"

#include <arpa/inet.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <csignal>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using namespace replay_test;
using whorl::Address;
using whorl::Backend;
using whorl::Buffer;
using whorl::Error;
using whorl::Loop;
using whorl::LoopOptions;
using whorl::RunEnd;
using whorl::testing::Replay;

class ReplayTest : public ::testing::TestWithParam<Backend> {
  protected:
    void SetUp() override {
        options_.backend = GetParam();
        whorl::BackendReport report;
        const whorl::Result<Loop> probe = Loop::create(options_, report);
        WHORL_REPLAY_NEEDS(probe, report.text);
    }
    LoopOptions options_;
    TemporaryFile file_;
};
INSTANTIATE_TEST_SUITE_P(Backends, ReplayTest, ::testing::Values(Backend::io_uring, Backend::libev),
                         [](const auto& info) { return whorl::name_of(info.param); });

// A server of lines: it answers each with its length and itself, notes when each came, and ends its
// connections when they have been silent for a while. It goes on until `connections` have ended.
class Server {
  public:
    Server(Loop& loop, int connections) : loop_(loop), left_(connections) {}

    bool start() {
        const auto listener = whorl::listen(loop_, Address::loopback_v4(0));
        if (!listener) return false;
        listener_ = *listener;
        const auto address = whorl::local_address(loop_, *listener);
        port_ = address ? address->port() : 0;
        note("listens");
        const auto accept = [this](Loop&, whorl::AcceptStream::Done done) { accepted(done); };
        return static_cast<bool>(loop_.submit(whorl::AcceptStream{*listener}, accept));
    }
    std::uint16_t port() const { return port_; }
    const std::string& trace() const { return trace_; }
    // What handlers were told, without times.
    std::string heard;
    bool fails_on_poison = false;

  private:
    struct Connection {
        whorl::Socket socket;
        whorl::Timer idle;
        std::string line;
        int number;
    };

    void note(const std::string& what) {
        trace_ += std::to_string(loop_.now().time_since_epoch().count()) + ' ' + what + '\n';
    }
    void accepted(whorl::AcceptStream::Done& done) {
        note(std::string("accepted ") + done.error.name());
        if (!done.socket) return;
        auto connection = std::make_shared<Connection>();
        connection->socket = done.socket;
        connection->number = ++numbers_;
        const auto peer = whorl::peer_address(loop_, done.socket);
        note("peer " + std::string(peer ? peer->print().data : "unknown"));
        const auto late = [this, connection](Loop&, whorl::Expired) { note("idle"); };
        connection->idle = *loop_.after(20s, late);
        const auto receive = [this, connection](Loop&, whorl::RecvStream::Done part) {
            received(connection, part);
        };
        ASSERT_TRUE(loop_.submit(whorl::RecvStream{done.socket}, receive));
    }
    void received(const std::shared_ptr<Connection>& connection, whorl::RecvStream::Done& done) {
        note(std::to_string(connection->number) + " received " + done.error.name() + ' ' +
             std::string(done.buffer.text()));
        if (!done.more) return ended(connection);
        ASSERT_FALSE(loop_.move(connection->idle, 20s));
        connection->line += done.buffer.text();
        for (std::size_t end = 0; (end = connection->line.find('\n')) != std::string::npos;) {
            answer(connection, connection->line.substr(0, end));
            connection->line.erase(0, end + 1);
        }
    }
    void answer(const std::shared_ptr<Connection>& connection, const std::string& line) {
        heard += line + ';';
        if (fails_on_poison && line == "poison") std::abort();
        const std::string text = std::to_string(line.size()) + ' ' + line + '\n';
        const auto sent = [this, connection](Loop&, whorl::SendAll::Done done) {
            note(std::to_string(connection->number) + " sent " + std::to_string(done.bytes));
        };
        ASSERT_TRUE(loop_.submit(
            whorl::SendAll{connection->socket, whorl::adopt(std::string(text))}, sent));
    }
    void ended(const std::shared_ptr<Connection>& connection) {
        loop_.cancel(connection->idle);
        const auto closed = [this](Loop&) {
            note("closed");
            if (--left_ == 0) static_cast<void>(loop_.close(listener_));
        };
        ASSERT_FALSE(loop_.close(connection->socket, closed));
    }

    Loop& loop_;
    whorl::Listener listener_;
    std::string trace_;
    std::uint16_t port_ = 0;
    int left_;
    int numbers_ = 0;
};

// A blocking client: sends each line, reads its answer, and leaves.
void visit(std::uint16_t port, const std::vector<std::string>& lines) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    for (const std::string& line : lines) {
        const std::string text = line + '\n';
        ASSERT_EQ(::send(fd, text.data(), text.size(), MSG_NOSIGNAL),
                  static_cast<ssize_t>(text.size()));
        std::string answer;
        char bytes[256];
        while (answer.find('\n') == std::string::npos) {
            const ssize_t got = ::recv(fd, bytes, sizeof bytes, 0);
            if (got <= 0) break;
            answer.append(bytes, static_cast<std::size_t>(got));
        }
    }
    ::close(fd);
}

std::vector<std::string> some_lines(int seed, int count) {
    std::vector<std::string> lines;
    for (int index = 0; index < count; ++index) {
        lines.push_back("line " + std::to_string(seed * 1000 + index) +
                        std::string(static_cast<std::size_t>((seed * 7 + index * 13) % 60), 'x'));
    }
    return lines;
}

// Records the server while so many clients visit it, all at once, from threads of their own.
std::string record_server(const LoopOptions& options, const TemporaryFile& file, int clients,
                          int lines) {
    std::string trace;
    record(options, file, [&](Loop& loop) {
        Server server(loop, clients);
        ASSERT_TRUE(server.start());
        std::vector<std::thread> threads;
        for (int client = 0; client < clients; ++client) {
            threads.emplace_back(
                [&server, client, lines] { visit(server.port(), some_lines(client, lines)); });
        }
        EXPECT_FALSE(loop.run());
        for (std::thread& thread : threads) thread.join();
        trace = server.trace();
    });
    return trace;
}

TEST_P(ReplayTest, server_does_the_same_without_clients) {
    const std::string trace = record_server(options_, file_, 4, 10);
    for (int again = 0; again < 2; ++again) {
        Replay replay(file_.path());
        ASSERT_FALSE(replay.error()) << replay.text();
        EXPECT_EQ(replay.recorded_end(), RunEnd::complete);
        {
            auto loop = replay.make_loop();
            ASSERT_TRUE(loop);
            EXPECT_STREQ(loop->backend_name(), whorl::name_of(GetParam()));
            Server server(*loop, 4);
            ASSERT_TRUE(server.start());
            EXPECT_FALSE(loop->run()) << replay.text();
            EXPECT_EQ(server.trace(), trace) << replay.text();
            EXPECT_FALSE(replay.finished());
        }
        EXPECT_TRUE(replay.finished()) << replay.text();
        EXPECT_STREQ(replay.text(), "");
    }
}

TEST_P(ReplayTest, ten_thousand_operations) {
    const std::string trace = record_server(options_, file_, 4, 2500);
    Replay replay(file_.path());
    auto loop = replay.make_loop();
    ASSERT_TRUE(loop) << replay.text();
    Server server(*loop, 4);
    ASSERT_TRUE(server.start());
    EXPECT_FALSE(loop->run()) << replay.text();
    EXPECT_TRUE(server.trace() == trace) << replay.text();
    EXPECT_GE(replay.operations(), 10'000u);
}

// The server in a process of its own, which writes its port to a pipe and never comes back.
[[noreturn]] void crash_server(const LoopOptions& options, int pipe_end) {
    // What a crash says is not to be said.
    static_cast<void>(!std::freopen("/dev/null", "w", stderr));
    whorl::Result<Loop> loop = Loop::create(options);
    if (!loop) ::_exit(1);
    Server server(*loop, 1);
    server.fails_on_poison = true;
    if (!server.start()) ::_exit(2);
    const std::uint16_t port = server.port();
    if (::write(pipe_end, &port, sizeof port) != sizeof port) ::_exit(3);
    ::_exit(loop->run() ? 4 : 5);
}

TEST_P(ReplayTest, crash_happens_again) {
    LoopOptions options = options_;
    options.run_log = file_.path();
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    if (child == 0) crash_server(options, ends[1]);
    std::uint16_t port = 0;
    ASSERT_EQ(::read(ends[0], &port, sizeof port), static_cast<ssize_t>(sizeof port));
    visit(port, {"one", "two", "poison", "never answered"});
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    ASSERT_EQ(WTERMSIG(status), SIGABRT);
    for (const int end : ends) ::close(end);

    // The program as it was crashes again, in every replay and at the same place.
    EXPECT_EXIT(
        {
            Replay replay(file_.path());
            auto loop = replay.make_loop();
            Server server(*loop, 1);
            server.fails_on_poison = true;
            static_cast<void>(server.start());
            static_cast<void>(loop->run());
        },
        ::testing::KilledBySignal(SIGABRT), "");
    // Mended, it comes to the end of what was recorded.
    Replay replay(file_.path());
    EXPECT_EQ(replay.recorded_end(), RunEnd::unfinished);
    auto loop = replay.make_loop();
    ASSERT_TRUE(loop);
    Server server(*loop, 1);
    ASSERT_TRUE(server.start());
    EXPECT_EQ(loop->run(), Error::replay_ended);
    EXPECT_EQ(server.heard, "one;two;poison;");
    EXPECT_NE(std::string(replay.text()).find("unfinished"), std::string::npos) << replay.text();
}

// A thread that posts, and a loop that notes what it posted and when. The first few lie there together before the
// first turn: their order is not the one in which they are found.
std::string collect_posts(Loop& loop, int count) {
    constexpr int together = 3;
    std::string trace;
    int next = 0;
    const auto remote = loop.remote();
    EXPECT_TRUE(remote);
    const auto post = [&trace, &next, remote = *remote](int number) {
        const bool posted = remote.post([number, &trace, &next](Loop& here) {
            EXPECT_EQ(number, next++);
            trace += std::to_string(number) + '@' +
                     std::to_string(here.now().time_since_epoch().count()) + ' ';
        });
        EXPECT_TRUE(posted);
    };
    for (int number = 0; number < together; ++number) post(number);
    std::thread poster([post, remote = *remote, count] {
        for (int number = together; number < count; ++number) post(number);
        static_cast<void>(remote.stop());
    });
    // A heartbeat, so that posts come between other events.
    const auto beat = loop.every(100us, [&trace](Loop&, whorl::Expired) { trace += "beat "; });
    EXPECT_FALSE(loop.run());
    poster.join();
    loop.cancel(*beat);
    // What was posted before the stop and not run yet.
    EXPECT_FALSE(loop.poll());
    return trace;
}

TEST_P(ReplayTest, posts_of_another_thread_come_in_their_turns) {
    std::string trace;
    record(options_, file_, [&](Loop& loop) { trace = collect_posts(loop, 500); });
    Replay replay(file_.path());
    auto loop = replay.make_loop();
    ASSERT_TRUE(loop) << replay.text();
    EXPECT_EQ(collect_posts(*loop, 500), trace) << replay.text();
    EXPECT_FALSE(replay.error()) << replay.text();
}

TEST_P(ReplayTest, posts_that_do_not_come_are_a_difference) {
    record(options_, file_, [&](Loop& loop) {
        const auto remote = loop.remote();
        ASSERT_TRUE(remote->post([](Loop& here) { here.stop(); }));
        EXPECT_FALSE(loop.run());
    });
    Replay replay(file_.path());
    replay.wait_for_posts(1ms);
    auto loop = replay.make_loop();
    ASSERT_TRUE(loop);
    ASSERT_TRUE(loop->remote());
    const auto beat = loop->every(1s, [](Loop&, whorl::Expired) {});
    ASSERT_TRUE(beat);
    EXPECT_EQ(loop->run(), Error::replay_diverged) << replay.text();
}

}  // namespace
