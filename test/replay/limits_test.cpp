// SPDX-License-Identifier: MIT
// Goal: a replay says what differs, and a log that is short, damaged or foreign is an answer and no surprise.
// Method: one small program on a socket pair, recorded; then changed programs, and logs cut at every byte,
// with every byte changed, and with changed entries whose checksums are right.
#include "tools.hpp"

#include "backend/run_log_file.hpp"

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <whorl/hooks.hpp>

#include <csignal>
#include <cstring>
#include <random>
#include <string>

namespace {

using namespace std::chrono_literals;
using namespace replay_test;
using whorl::Buffer;
using whorl::Error;
using whorl::Loop;
using whorl::LoopOptions;
using whorl::RunEnd;
using whorl::testing::Replay;

// What the program does; one thing may be done otherwise.
enum class Change {
    none,
    other_bytes,
    other_size,
    other_operation,
    other_call,
    one_more,
    one_less,
    clock,
    cancel,
    socket,
    another_turn,
};

Error run_program(Loop& loop, Change change, std::string& trace) {
    if (change == Change::other_call) {  // where the other one asked for a pair
        EXPECT_FALSE(whorl::open_udp(loop, whorl::Address::loopback_v4(0)));
        static_cast<void>(loop.submit(whorl::Nop{}, [](Loop&, whorl::Nop::Done) {}));
        return loop.run();
    }
    const auto pair = whorl::socket_pair(loop, whorl::UnixKind::stream);
    if (!pair) return pair.error();
    const auto [near, far] = std::pair(pair->first, pair->second);
    if (change == Change::socket)
        static_cast<void>(whorl::open_udp(loop, whorl::Address::loopback_v4(0)));
    if (change == Change::clock) {
        static_cast<void>(loop.after(1h, [](Loop&, whorl::Expired) {}));
    }
    const auto note = [&trace](const char* what, Error error, std::uint64_t bytes) {
        trace += std::string(what) + ' ' + error.name() + ' ' + std::to_string(bytes) + '\n';
    };
    const std::size_t room = change == Change::other_size ? 65 : 64;
    const auto received = [note](Loop&, whorl::Recv::Done done) {
        note(std::string(done.buffer.text()).c_str(), done.error, done.buffer.size());
    };
    const auto reading = loop.submit(whorl::Recv{far, Buffer::allocate(room), 0}, received);
    if (change == Change::cancel) loop.cancel(*reading);
    const auto sent = [note](Loop&, const auto& done) { note("sent", done.error, done.bytes); };
    const char* text = change == Change::other_bytes ? "holla" : "hello";
    Buffer bytes = Buffer::copy_of(whorl::Bytes(std::string_view(text)));
    if (change == Change::other_operation) {
        static_cast<void>(loop.submit(whorl::Send{near, std::move(bytes)}, sent));
    } else if (change != Change::one_less) {
        static_cast<void>(loop.submit(whorl::SendAll{near, std::move(bytes)}, sent));
    }
    if (change == Change::one_more) {
        static_cast<void>(loop.submit(whorl::Nop{}, [](Loop&, whorl::Nop::Done) {}));
    }
    if (Error error = loop.run()) return error;
    return change == Change::another_turn ? loop.poll() : Error();
}

LoopOptions small() {
    LoopOptions options;
    options.backend = whorl::Backend::libev;
    options.ops_max = 64;
    options.handles_max = 64;
    return options;
}

// What the library says of recordings that end and of loops that were damaged before their first turn.
std::string& said() {
    static std::string text;
    return text;
}

class ReplayLimits : public ::testing::Test {
  protected:
    void SetUp() override {
        whorl::Hooks hooks;
        hooks.log = [](void*, whorl::LogLevel, const char* message) noexcept { said() = message; };
        ASSERT_FALSE(whorl::set_hooks(hooks));
        WHORL_REPLAY_NEEDS(Loop::create(small()), "no libev here");
        record(small(), file_,
               [this](Loop& loop) { EXPECT_FALSE(run_program(loop, Change::none, trace_)); });
    }
    TemporaryFile file_;
    std::string trace_;
};

struct Difference {
    Change change;
    const char* said;  // a part of the explanation
};

TEST_F(ReplayLimits, what_differs_is_said) {
    const Difference differences[] = {
        {Change::other_bytes, "both submitted send_all on slot 1, with other bytes to send"},
        {Change::other_size, "both submitted recv on slot 2, with another size"},
        {Change::other_operation, "submitted send_all on slot 1, the program send on slot 1"},
        {Change::other_call, "the recorded run called socketpair(), the program called socket()"},
        {Change::one_more, "submitted nothing more, the program nop"},
        {Change::one_less, "submitted send_all on slot 1, the program nothing more"},
        {Change::clock, "the program called now()"},
        {Change::cancel, "submitted recv on slot 2, the program send_all on slot 1"},
        {Change::socket, "the program called socket()"},
    };
    for (const Difference& difference : differences) {
        Replay replay(file_.path());
        auto loop = replay.make_loop();
        ASSERT_TRUE(loop);
        std::string trace;
        EXPECT_EQ(run_program(*loop, difference.change, trace), Error::replay_diverged);
        EXPECT_EQ(replay.error(), Error::replay_diverged);
        EXPECT_NE(std::string(replay.text()).find(difference.said), std::string::npos)
            << replay.text();
        EXPECT_FALSE(replay.finished());
    }
}

TEST_F(ReplayLimits, other_bytes_may_be_allowed) {
    Replay replay(file_.path());
    replay.accept_other_bytes();
    auto loop = replay.make_loop();
    ASSERT_TRUE(loop);
    std::string trace;
    EXPECT_FALSE(run_program(*loop, Change::other_bytes, trace)) << replay.text();
    EXPECT_EQ(trace, trace_);
}

// One turn more than was recorded is where the loop was destroyed then: another difference than the end of a
// log, which has none of that.
TEST_F(ReplayLimits, turn_more_is_a_difference) {
    Replay replay(file_.path());
    std::string trace;
    {
        auto loop = replay.make_loop();
        ASSERT_TRUE(loop);
        EXPECT_TRUE(run_program(*loop, Change::another_turn, trace));
        EXPECT_EQ(trace, trace_);
    }
    EXPECT_FALSE(replay.finished());
    EXPECT_STRNE(replay.text(), "");
}

TEST_F(ReplayLimits, log_serves_one_loop_at_a_time) {
    Replay replay(file_.path());
    ASSERT_TRUE(replay.make_loop());
    EXPECT_EQ(replay.make_loop().error(), Error::invalid_argument);
}

// How a damaged or shortened log is taken: refused, or repeated as far as it goes.
void take(const TemporaryFile& file, const std::string& bytes, const std::string& what) {
    file.write(bytes);
    Replay replay(file.path());
    if (replay.error()) {
        EXPECT_EQ(replay.error(), Error::run_log_damaged) << what;
        EXPECT_STRNE(replay.text(), "") << what;
        EXPECT_EQ(replay.make_loop().error(), Error::run_log_damaged) << what;
        return;
    }
    EXPECT_EQ(replay.recorded_end(), RunEnd::unfinished) << what;
    auto loop = replay.make_loop();
    if (!loop) return;
    std::string trace;
    static_cast<void>(run_program(*loop, Change::none, trace));
}

TEST_F(ReplayLimits, log_may_be_cut_anywhere) {
    const std::string whole = file_.read();
    ASSERT_GT(whole.size(), 100u);
    TemporaryFile cut;
    for (std::size_t size = 0; size < whole.size(); ++size) {
        take(cut, whole.substr(0, size), "cut at " + std::to_string(size));
    }
}

// A process may be killed between any two instructions: while it writes an entry, mostly, where entries are large.
// What stands before that entry is a log that was cut off, and no damage.
TEST(ReplayKilled, log_of_a_process_that_was_killed_is_whole_as_far_as_it_goes) {
    for (int round = 0; round < 20; ++round) {
        const TemporaryFile file;
        const pid_t writer = ::fork();
        ASSERT_GE(writer, 0);
        if (writer == 0) {
            whorl::detail::RunLogWriter log;
            const std::string large(100'000 + static_cast<std::size_t>(round) * 20'000, 'x');
            if (log.open(file.path(), std::uint64_t{1} << 30)) ::_exit(1);
            log.begin(whorl::detail::RunEntry::options);
            while (log.commit()) {
                log.begin(whorl::detail::RunEntry::call);
                log.bytes(large.data(), large.size());
            }
            ::_exit(1);
        }
        struct stat status {};
        while (status.st_size < off_t{4} << 20) ASSERT_EQ(::stat(file.path(), &status), 0);
        ASSERT_EQ(::kill(writer, SIGKILL), 0);
        int ended = 0;
        ASSERT_EQ(::waitpid(writer, &ended, 0), writer);
        EXPECT_TRUE(WIFSIGNALED(ended));
        whorl::detail::RunLogReader log;
        char text[256] = "";
        EXPECT_FALSE(log.open(file.path(), text, sizeof text)) << text;
        EXPECT_EQ(log.end(), whorl::RunEnd::unfinished);
        int entries = 0;
        while (log.next() != whorl::detail::RunEntry::none) ++entries;
        EXPECT_GT(entries, 4);
    }
}

TEST_F(ReplayLimits, changed_byte_is_found) {
    const std::string whole = file_.read();
    TemporaryFile changed;
    for (std::size_t at = 0; at < whole.size(); ++at) {
        std::string bytes = whole;
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << at % 8));
        take(changed, bytes, "changed at " + std::to_string(at));
    }
}

// Not for whom a checksum is meant, but nothing may be read or written beyond its place.
TEST_F(ReplayLimits, made_up_entries_are_survived) {
    const std::string whole = file_.read();
    TemporaryFile changed;
    std::minstd_rand random(1);
    for (int round = 0; round < 250; ++round) {
        std::string bytes = whole;
        std::vector<std::size_t> frames;
        std::size_t at = sizeof(whorl::detail::RunLogHeader);
        whorl::detail::RunLogFrame frame{};
        // The first entry has the loop's options, which are a matter of Loop::create().
        while (at + sizeof frame < bytes.size()) {
            std::memcpy(&frame, bytes.data() + at, sizeof frame);
            frames.push_back(at);
            at += sizeof frame + frame.size;
        }
        at = frames[1 + random() % (frames.size() - 1)];
        std::memcpy(&frame, bytes.data() + at, sizeof frame);
        char* body = bytes.data() + at + sizeof frame;
        body[random() % frame.size] = static_cast<char>(random());
        frame.checksum = static_cast<std::uint32_t>(whorl::detail::run_digest(body, frame.size));
        std::memcpy(bytes.data() + at, &frame, sizeof frame);
        changed.write(bytes);
        Replay replay(changed.path());
        if (replay.error()) continue;
        auto loop = replay.make_loop();
        ASSERT_TRUE(loop);
        std::string trace;
        static_cast<void>(run_program(*loop, Change::none, trace));
    }
}

TEST_F(ReplayLimits, foreign_file_is_refused) {
    TemporaryFile other;
    other.write("nothing of the kind");
    Replay replay(other.path());
    EXPECT_EQ(replay.error(), Error::run_log_damaged);
    EXPECT_NE(std::string(replay.text()).find("no run log"), std::string::npos);
    EXPECT_EQ(Replay("/nonexistent/file").error(), Error::from_errno(ENOENT));
    EXPECT_EQ(Replay("/dev").error(), Error::run_log_damaged);
    const std::string fifo = std::string(other.path()) + ".fifo";
    ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
    EXPECT_EQ(Replay(fifo.c_str()).error(), Error::run_log_damaged) << "and does not wait";
    ::unlink(fifo.c_str());

    std::string bytes = file_.read();
    bytes[8] = static_cast<char>(bytes[8] ^ 1);  // the byte order's mark
    other.write(bytes);
    EXPECT_NE(std::string(Replay(other.path()).text()).find("byte order"), std::string::npos);
    bytes = file_.read();
    bytes[12] = static_cast<char>(bytes[12] ^ 1);
    other.write(bytes);
    EXPECT_NE(std::string(Replay(other.path()).text()).find("another version"), std::string::npos);
}

TEST_F(ReplayLimits, file_that_cannot_be_written_is_refused) {
    LoopOptions options = small();
    options.run_log = "/nonexistent/run";
    whorl::BackendReport report;
    EXPECT_EQ(Loop::create(options, report).error(), Error::from_errno(ENOENT));
    EXPECT_NE(std::string(report.text).find("run_log"), std::string::npos);
    options.run_log = file_.path();
    options.run_log_bytes_max = 1000;
    EXPECT_EQ(Loop::create(options).error(), Error::invalid_argument);
    options.run_log_bytes_max = 1 << 20;
    const auto first = Loop::create(options);
    ASSERT_TRUE(first);
    EXPECT_EQ(Loop::create(options).error(), Error::from_errno(EWOULDBLOCK));
}

// Makes turns until the file would have become too large.
void fill(Loop& loop, int turns, int& done) {
    for (int turn = 0; turn < turns; ++turn) {
        const auto ended = [&done](Loop&, whorl::Nop::Done) { ++done; };
        ASSERT_TRUE(loop.submit(whorl::Nop{}, ended));
        ASSERT_FALSE(loop.run());
    }
}

void expect_ended(const TemporaryFile& file, RunEnd end, std::size_t size_max) {
    EXPECT_LE(file.read().size(), size_max);
    Replay replay(file.path());
    ASSERT_FALSE(replay.error()) << replay.text();
    EXPECT_EQ(replay.recorded_end(), end);
    auto loop = replay.make_loop();
    ASSERT_TRUE(loop);
    int done = 0;
    Error error;
    while (!error && done < 100'000) {
        const auto ended = [&done](Loop&, whorl::Nop::Done) { ++done; };
        ASSERT_TRUE(loop->submit(whorl::Nop{}, ended));
        error = loop->run();
    }
    EXPECT_EQ(error, Error::replay_ended);
    EXPECT_GT(done, 1000);
    EXPECT_LT(done, 20'000);
    EXPECT_NE(std::string(replay.text()).find(name_of(end)), std::string::npos) << replay.text();
}

TEST_F(ReplayLimits, size_limit_ends_the_recording_and_not_the_run) {
    int done = 0;
    LoopOptions options = small();
    options.run_log_bytes_max = 256 << 10;
    record(options, file_, [&done](Loop& loop) { fill(loop, 20'000, done); });
    EXPECT_EQ(done, 20'000);
    EXPECT_NE(said().find("ended after"), std::string::npos) << said();
    expect_ended(file_, RunEnd::size_limit, 256 << 10);
}

TEST_F(ReplayLimits, full_disk_ends_the_recording_and_not_the_run) {
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    rlimit tight = before;
    tight.rlim_cur = 256 << 10;
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &tight), 0);
    int done = 0;
    record(small(), file_, [&done](Loop& loop) { fill(loop, 20'000, done); });
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    std::signal(SIGXFSZ, handler);
    EXPECT_EQ(done, 20'000);
    EXPECT_NE(said().find("no_space"), std::string::npos) << said();
    expect_ended(file_, RunEnd::no_space, 256 << 10);
}

}  // namespace
