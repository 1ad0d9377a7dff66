// SPDX-License-Identifier: MIT
// Goal: whorl-top shows the loops of a process, on a terminal and without, gives the terminal back however it
// ends, and says by its exit status what its manual says. Method: it is started as its users do, beside loops
// of this program or of a child; a pseudo-terminal for its screen. Nothing is judged by a clock: each step
// waits for what it should say.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <whorl/operation_latency.hpp>
#include <whorl/slow_handler.hpp>
#include <whorl/statistics_page.hpp>
#include <whorl/whorl.hpp>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "json_check.hpp"
#include "tool.hpp"
#include "top/names.hpp"
#include "top/panels.hpp"

namespace {

// whorl-top, its output on a pipe or a terminal.
struct Tool : tool_test::Tool {
    explicit Tool(std::vector<std::string> words, bool terminal = false)
        : tool_test::Tool(started(std::move(words)), terminal) {}
    static std::vector<std::string> started(std::vector<std::string> words) {
        words.insert(words.begin(), WHORL_TOP);
        return words;
    }
};

whorl::Loop make_loop(const char* name) {
    whorl::LoopOptions options;
    options.statistics_page = true;
    options.operation_latency = true;
    options.name = name;
    whorl::Result<whorl::Loop> loop = whorl::Loop::create(options);
    if (!loop) std::abort();
    return std::move(*loop);
}

// A loop that has done something.
whorl::Loop make_used_loop(const char* name) {
    whorl::Loop loop = make_loop(name);
    for (int index = 0; index < 5; ++index) {
        EXPECT_TRUE(loop.submit(whorl::Nop{}, [](whorl::Loop&, whorl::Nop::Done) {}));
    }
    EXPECT_FALSE(loop.run());
    EXPECT_FALSE(loop.publish_statistics());
    return loop;
}

std::string own_number() { return std::to_string(::getpid()); }

// A child with one loop, which lives until it is killed.
class Victim {
  public:
    Victim() {
        int ready[2];
        EXPECT_EQ(::pipe2(ready, O_CLOEXEC), 0);
        process_ = ::fork();
        if (process_ == 0) {
            const whorl::Loop loop = make_loop("victim");
            (void)!::write(ready[1], "r", 1);
            for (;;) ::pause();
        }
        char letter = 0;
        EXPECT_EQ(::read(ready[0], &letter, 1), 1);
        ::close(ready[0]);
        ::close(ready[1]);
    }
    Victim(const Victim&) = delete;
    Victim& operator=(const Victim&) = delete;
    ~Victim() { end(); }
    std::string number() const { return std::to_string(process_); }
    void end() {
        if (process_ <= 0) return;
        (void)::kill(process_, SIGKILL);
        (void)::waitpid(process_, nullptr, 0);
        process_ = -1;
    }

  private:
    pid_t process_ = -1;
};

TEST(Top, prints_one_interval) {
    const whorl::Loop one = make_used_loop("first"), two = make_used_loop("second");
    Tool tool({"--once", "-i", "0.01", own_number()});
    EXPECT_EQ(tool.status(), 0) << tool.text;
    EXPECT_NE(tool.text.find("LOOP NAME"), std::string::npos) << tool.text;
    EXPECT_LT(tool.text.find("first"), tool.text.find("second"));
    EXPECT_EQ(tool.text.find('\x1b'), std::string::npos) << "no escapes without a terminal";
}

TEST(Top, prints_json) {
    const whorl::Loop loop = make_used_loop("a \"name\"");
    Tool tool({"--json", "--count", "2", "-i", "0.01", own_number()});
    EXPECT_EQ(tool.status(), 0) << tool.text;
    const std::size_t second = tool.text.find("\n{");
    ASSERT_NE(second, std::string::npos) << tool.text;
    for (const char* words : {"\"name\":\"a \\\"name\\\"\"", "\"operations_max\":1048576",
                              "\"nop\":{\"submitted\":5,", "\"handler\":{\"count\":5,"}) {
        EXPECT_NE(tool.text.find(words, second), std::string::npos) << words << tool.text;
    }
    if (::system("python3 -c pass") != 0) return;
    std::string check = "python3 -c 'import json, sys\nfor line in sys.stdin: json.loads(line)'";
    std::FILE* python = ::popen(check.c_str(), "w");
    ASSERT_NE(python, nullptr);
    (void)std::fwrite(tool.text.data(), 1, tool.text.size(), python);
    EXPECT_EQ(::pclose(python), 0) << tool.text;
}

TEST(Top, reads_one_page_by_its_path) {
    const whorl::Loop one = make_used_loop("first"), two = make_used_loop("second");
    whorl::StatisticsPage::Place places[2];
    ASSERT_EQ(*whorl::StatisticsPage::find(::getpid(), places, 2), 2u);
    Tool tool({"--once", "-i", "0.01", places[1].path});
    EXPECT_EQ(tool.status(), 0) << tool.text;
    EXPECT_EQ(tool.text.find("first"), std::string::npos);
    EXPECT_NE(tool.text.find("second"), std::string::npos);
}

TEST(Top, a_terminal_is_filled_and_given_back) {
    const whorl::Loop one = make_used_loop("first"), two = make_used_loop("second");
    Tool tool({"-i", "0.05", own_number()}, true);
    ASSERT_TRUE(tool.says("\x1b[?1049h")) << tool.text;
    ASSERT_TRUE(tool.says("by loop")) << tool.text;
    ASSERT_TRUE(tool.says("HANDLER p50 p99 max"));
    EXPECT_EQ(tool.modes().c_lflag & (ICANON | ECHO), 0u);
    tool.type("s");
    EXPECT_TRUE(tool.says("by name"));
    tool.type("<");
    EXPECT_TRUE(tool.says("by loop"));
    tool.type("r");
    EXPECT_TRUE(tool.says("reversed"));
    tool.type("r\x1b[B");
    EXPECT_TRUE(tool.says(" second\x1b[K")) << tool.text;
    tool.type("\x1b[A");
    EXPECT_TRUE(tool.says(" first\x1b[K"));
    tool.type("+");
    EXPECT_TRUE(tool.says("every 0.1s"));
    tool.type("p");
    EXPECT_TRUE(tool.says("PAUSED"));
    tool.resize(10, 5);
    EXPECT_TRUE(tool.says("whorl-top \x1b[K"));
    tool.type("q");
    EXPECT_TRUE(tool.says("\x1b[?1049l")) << tool.text;
    EXPECT_TRUE(tool.says("LOOP NAME")) << "the last table stays";
    // The modes are the terminal's, so they are looked at before its other end is closed.
    EXPECT_TRUE(tool.says("second"));
    EXPECT_EQ(tool.modes().c_lflag, tool.modes_before.c_lflag);
    EXPECT_EQ(tool.status(), 0);
}

TEST(Top, ctrl_c_leaves_the_last_figures) {
    const whorl::Loop loop = make_used_loop("first");
    Tool tool({own_number()}, true);
    ASSERT_TRUE(tool.says("by loop"));
    tool.type("\x03");
    EXPECT_TRUE(tool.says("\x1b[?1049l"));
    EXPECT_TRUE(tool.says("first"));
    EXPECT_EQ(tool.status(), 0);
    Tool printing({"--batch", "-i", "0.01", own_number()});
    ASSERT_TRUE(printing.says("first"));
    printing.signal(SIGINT);
    EXPECT_EQ(printing.status(), 0);
}

// Whether a process has a handler for a signal, by its status.
bool catches(pid_t process, int number) {
    std::ifstream status("/proc/" + std::to_string(process) + "/status");
    for (std::string line; std::getline(status, line);) {
        if (line.rfind("SigCgt:", 0) != 0) continue;
        return (std::strtoull(line.c_str() + 7, nullptr, 16) >> (number - 1) & 1) != 0;
    }
    return false;
}

// Its output is a pipe that is full already, so it waits for room as soon as it has something to say.
TEST(Top, a_reader_that_does_not_read_does_not_keep_it) {
    const whorl::Loop loop = make_used_loop("first");
    int ends[2];
    ASSERT_EQ(::pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    const std::string filling(4096, 'x');
    while (::write(ends[1], filling.data(), filling.size()) > 0) {
    }
    ASSERT_EQ(::fcntl(ends[1], F_SETFL, 0), 0);  // its writes may block
    std::vector<std::string> words = Tool::started({"--batch", "-i", "0.01", own_number()});
    tool_test::Tool tool(words, false, [&] { ::dup2(ends[1], STDOUT_FILENO); });
    const whorl::Instant end = whorl::clock_now() + std::chrono::seconds(60);
    while (!catches(tool.process(), SIGTERM) && whorl::clock_now() < end) ::sched_yield();
    tool.signal(SIGTERM);
    EXPECT_EQ(tool.status(), 0) << tool.text;
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST(Top, a_closed_terminal_ends_it) {
    const whorl::Loop loop = make_used_loop("first");
    Tool tool({"-i", "0.05", own_number()}, true);
    ASSERT_TRUE(tool.says("by loop"));
    tool.hang_up();
    EXPECT_EQ(tool.status(), 3);
    Tool printing({"--batch", "-i", "0.05", own_number()});
    ASSERT_TRUE(printing.says("first"));
    printing.hang_up();
    EXPECT_EQ(printing.status(), 3);
}

TEST(Top, a_process_that_ends_is_told) {
    Victim victim;
    Tool shown({"-i", "0.05", victim.number()}, true);
    Tool printed({"--batch", "-i", "3600", victim.number()});
    Victim other;
    Tool slow({"-i", "3600", other.number()}, true);
    ASSERT_TRUE(shown.says("victim"));
    ASSERT_TRUE(slow.says("victim"));
    victim.end();
    other.end();
    EXPECT_TRUE(shown.says("has ended")) << shown.text;
    EXPECT_EQ(shown.status(), 1);
    EXPECT_TRUE(slow.says("has ended")) << "in the middle of an interval";
    EXPECT_EQ(slow.status(), 1);
    const int status = printed.status();  // it may not have looked yet when the process ended
    EXPECT_TRUE(status == 1 || status == 2) << printed.text;
}

TEST(Top, a_loop_that_ends_is_told) {
    Tool* tool = nullptr;
    {
        const whorl::Loop loop = make_used_loop("first");
        tool = new Tool({"--batch", "-i", "0.01", own_number()});
        ASSERT_TRUE(tool->says("first"));
    }
    EXPECT_TRUE(tool->says("no loop of it has a page")) << tool->text;
    EXPECT_EQ(tool->status(), 1);
    delete tool;
}

TEST(Top, nothing_to_watch_is_refused_with_its_reason) {
    const std::pair<std::vector<std::string>, const char*> wrong[] = {
        {{own_number()}, "LoopOptions::statistics_page"},
        {{"999999999"}, "no such process"},
        {{"/nowhere"}, "no such process or page"},
        {{"/dev/null"}, "is no statistics page"},
    };
    for (const auto& [words, said] : wrong) {
        Tool tool(words);
        EXPECT_EQ(tool.status(), 2) << tool.text;
        EXPECT_NE(tool.text.find(said), std::string::npos) << tool.text;
    }
}

TEST(Top, wrong_usage_is_told) {
    const std::vector<std::string> wrong[] = {{"--view", "nothing", "1"},
                                              {"--order", "bytes", "1"},
                                              {"--view", "slow", "--order", "bytes", "1"},
                                              {},
                                              {"--interval", "0", "1"},
                                              {"--sort", "nothing", "1"},
                                              {"--nothing", "1"},
                                              {"1", "2"}};
    for (const std::vector<std::string>& words : wrong) {
        Tool tool(words);
        EXPECT_EQ(tool.status(), 3) << tool.text;
        EXPECT_FALSE(tool.text.empty());
    }
    Tool help({"--help"});
    EXPECT_EQ(help.status(), 0);
}

TEST(Top, a_full_disk_is_told) {
    const whorl::Loop loop = make_used_loop("first");
    const std::string command =
        std::string(WHORL_TOP) + " --once -i 0.01 " + own_number() + " > /dev/full 2> /dev/null";
    const int status = ::system(command.c_str());
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 3);
}

// --- Slow handlers and top handles

void ignore_report(void*, const whorl::SlowHandler&) noexcept {}

[[gnu::noinline]] void run_for_two_milliseconds() {
    const whorl::Instant end = whorl::clock_now() + std::chrono::milliseconds(2);
    while (whorl::clock_now() < end) {
    }
}

// A loop with a slow handler, and a socket over which something went.
struct Detailed {
    Detailed() : loop(make()) {
        EXPECT_FALSE(whorl::on_slow_handler(loop, &ignore_report, nullptr));
        EXPECT_TRUE(loop.after(
            std::chrono::nanoseconds(0),
            [](whorl::Loop&, whorl::Expired) { run_for_two_milliseconds(); },
            whorl::Site::here("/a/path/slow_one.cpp", 42)));
        EXPECT_FALSE(loop.run());
        int fds[2];
        EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
        peer = fds[1];
        fd = fds[0];
        const whorl::Result<whorl::Socket> socket = whorl::adopt_socket(loop, fds[0]);
        EXPECT_TRUE(socket);
        EXPECT_TRUE(loop.submit(
            whorl::SendAll{*socket, whorl::Buffer::copy_of(whorl::Bytes("twelve bytes"))},
            [](whorl::Loop&, whorl::SendAll::Done done) { EXPECT_FALSE(done.error); }));
        EXPECT_FALSE(loop.run());
        EXPECT_FALSE(loop.publish_statistics());
    }
    Detailed(const Detailed&) = delete;
    Detailed& operator=(const Detailed&) = delete;
    ~Detailed() { ::close(peer); }
    static whorl::Loop make() {
        whorl::LoopOptions options;
        options.statistics_page = true;
        options.statistics_interval = std::chrono::hours(1);
        options.top_handles = 4;
        options.slow_handler = std::chrono::milliseconds(1);
        options.name = "detailed";
        whorl::Result<whorl::Loop> loop = whorl::Loop::create(options);
        if (!loop) std::abort();
        return std::move(*loop);
    }
    whorl::Loop loop;
    int fd = -1, peer = -1;
};

TEST(Top, views_print_slow_handlers_and_top_handles) {
    const Detailed one;
    Tool slow({"--once", "-i", "0.01", "--view", "slow", "--order", "longest", own_number()});
    EXPECT_EQ(slow.status(), 0) << slow.text;
    EXPECT_NE(slow.text.find("1 handlers took longer than 1.0ms, 0 were stuck; by longest\n"),
              std::string::npos)
        << slow.text;
    EXPECT_NE(slow.text.find("\ntimer                1 "), std::string::npos) << slow.text;
    EXPECT_NE(slow.text.find(" slow_one.cpp:42 "), std::string::npos) << slow.text;
    EXPECT_NE(slow.text.find("Detailed"), std::string::npos) << "the handler's type" << slow.text;
    Tool handles({"--once", "-i", "0.01", "--view", "handles", "--order", "bytes", own_number()});
    EXPECT_EQ(handles.status(), 0) << handles.text;
    EXPECT_NE(handles.text.find("the first 4 by bytes\n"), std::string::npos) << handles.text;
    const std::string row = "\n" + top::format("%6d socket   open ", one.fd);
    EXPECT_NE(handles.text.find(row), std::string::npos) << handles.text;
    EXPECT_NE(handles.text.find(" unix\n"), std::string::npos) << "what it is" << handles.text;
    Tool json({"--json", "-n", "1", "-i", "0.01", own_number()});
    EXPECT_EQ(json.status(), 0) << json.text;
    EXPECT_EQ(trace_test::JsonCheck(json.text).problem(), "") << json.text;
    for (const char* words :
         {"\"places\":[{\"file\":\"/a/path/slow_one.cpp\",\"line\":42,\"kind\":\"timer\",",
          "\"threshold_ns\":1000000,\"handlers\":1,\"stuck\":0,", "\"bytes_out\":12,",
          "\"what\":\"unix"}) {
        EXPECT_NE(json.text.find(words), std::string::npos) << words << json.text;
    }
}

TEST(Top, keys_change_the_view_and_its_order) {
    const Detailed one;
    Tool tool({"-i", "0.05", own_number()}, true);
    ASSERT_TRUE(tool.says("HANDLER p50 p99 max"));
    tool.type("v");
    EXPECT_TRUE(tool.says("were stuck; by recent"));
    EXPECT_TRUE(tool.says("slow_one.cpp:42"));
    tool.type("o");
    EXPECT_TRUE(tool.says("were stuck; by longest"));
    tool.type("v");
    EXPECT_TRUE(tool.says("the first 4 by recent"));
    tool.type("oo");
    EXPECT_TRUE(tool.says("the first 4 by completions"));
    EXPECT_TRUE(tool.says(" unix\x1b[K")) << tool.text;
    tool.type("v");
    EXPECT_TRUE(tool.says("HANDLER p50 p99 max"));
    tool.type("oq");
    EXPECT_EQ(tool.status(), 0);
}

TEST(Top, what_was_not_asked_for_is_said) {
    const whorl::Loop loop = make_used_loop("first");
    Tool slow({"--once", "-i", "0.01", "--view", "slow", own_number()});
    EXPECT_EQ(slow.status(), 0);
    EXPECT_NE(slow.text.find("LoopOptions::slow_handler"), std::string::npos) << slow.text;
    Tool handles({"--once", "-i", "0.01", "--view", "handles", own_number()});
    EXPECT_EQ(handles.status(), 0);
    EXPECT_NE(handles.text.find("LoopOptions::top_handles"), std::string::npos) << handles.text;
}

// --- Pages that are not what they should be

// A page of this process, to be damaged.
std::string page_bytes() {
    whorl::StatisticsPage::Place place;
    EXPECT_EQ(*whorl::StatisticsPage::find(::getpid(), &place, 1), 1u);
    const int fd = ::open(place.path, O_RDONLY | O_CLOEXEC);
    EXPECT_GE(fd, 0);
    std::string bytes(static_cast<std::size_t>(::lseek(fd, 0, SEEK_END)), 0);
    EXPECT_EQ(::pread(fd, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
    ::close(fd);
    return bytes;
}

constexpr std::size_t sequence_at = 32 + std::size_t{24} * whorl::LoopFigures::kinds_max;

// A file or a memfd with these bytes.
struct Kept {
    Kept(const char* name, const std::string& bytes) : fd(::memfd_create(name, MFD_CLOEXEC)) {
        EXPECT_EQ(::pwrite(fd, bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
    }
    Kept(const Kept&) = delete;
    Kept& operator=(const Kept&) = delete;
    ~Kept() { ::close(fd); }
    int fd;
};

// Without its loop a file is all there is. One whose writer was killed while it wrote is told as such.
TEST(Top, a_page_whose_writer_died_is_told) {
    std::string bytes;
    {
        const whorl::Loop loop = make_used_loop("first");
        bytes = page_bytes();
    }
    bytes[sequence_at] = 1;
    char path[] = "/tmp/whorl-top-test-XXXXXX";
    const int fd = ::mkstemp(path);
    ASSERT_GE(fd, 0);
    ASSERT_EQ(::write(fd, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    ::close(fd);
    Tool tool({"--once", "-i", "0.01", path});
    EXPECT_EQ(tool.status(), 1) << tool.text;
    EXPECT_NE(tool.text.find("is never whole"), std::string::npos) << tool.text;
    EXPECT_EQ(::unlink(path), 0);
}

// A loop that was interrupted while it wrote: of a process that lives, nobody knows that it never goes on.
TEST(Top, a_loop_that_is_writing_is_waited_for) {
    const whorl::Loop loop = make_used_loop("first");
    std::string bytes = page_bytes();
    bytes[sequence_at] = static_cast<char>(bytes[sequence_at] | 1);
    const Kept other("whorl-statistics", bytes);
    Tool both({"--json", "-n", "2", "-i", "0.01", own_number()});
    EXPECT_EQ(both.status(), 0) << both.text;
    EXPECT_NE(both.text.find("\"name\":\"first\""), std::string::npos) << both.text;
    Tool alone({"--json", "-n", "2", "-i", "0.01",
                "/proc/" + own_number() + "/fd/" + std::to_string(other.fd)});
    EXPECT_EQ(alone.status(), 0) << alone.text;
    EXPECT_NE(alone.text.find("\"loops\":[]"), std::string::npos) << alone.text;
}

// Every number out of its range, every text full of escapes.
TEST(Top, a_hostile_page_is_shown_as_text) {
    std::string bytes;
    {
        const whorl::Loop loop = make_used_loop("first");
        bytes = page_bytes();
    }
    const std::size_t details_at = sequence_at + 8 + sizeof(whorl::LoopFigures);
    for (const int filling : {0xFF, 0x1B, 0x22, 0x7F, 0x01}) {
        std::string wrong = bytes;
        std::memset(wrong.data() + 16, filling, wrong.size() - 16);
        for (const std::size_t at : {sequence_at, details_at}) {
            wrong[at] = static_cast<char>(wrong[at] & ~1);
        }
        const Kept kept("page", wrong);
        const std::string path = "/proc/" + own_number() + "/fd/" + std::to_string(kept.fd);
        for (const char* view : {"kinds", "slow", "handles"}) {
            Tool tool({"--once", "-i", "0.01", "--view", view, path});
            EXPECT_EQ(tool.status(), 0) << tool.text;
            for (const char letter : tool.text) {
                const bool plain = letter == '\n' || (letter >= ' ' && letter <= '~');
                EXPECT_TRUE(plain) << static_cast<int>(letter);
                if (!plain) break;
            }
        }
        Tool json({"--json", "-n", "1", "-i", "0.01", path});
        EXPECT_EQ(json.status(), 0) << json.text;
        EXPECT_EQ(trace_test::JsonCheck(json.text).problem(), "") << json.text;
        Tool shown({"-i", "0.01", "-n", "3", path}, true);
        ASSERT_TRUE(shown.says("KIND"));
        shown.type("vvvq");
        EXPECT_EQ(shown.status(), 0);
    }
}

// Files that are pages up to some words, and pages that are cut.
TEST(Top, pages_that_are_bent_by_chance) {
    std::string bytes;
    {
        const whorl::Loop loop = make_used_loop("first");
        bytes = page_bytes();
    }
    std::mt19937_64 random(23);
    const std::size_t details_at = sequence_at + 8 + sizeof(whorl::LoopFigures);
    for (int round = 0; round < 25; ++round) {
        std::string wrong = bytes;
        for (int change = 0; change < 200; ++change) {
            const std::uint64_t word = random() >> random() % 64;
            const std::size_t at = 16 + 8 * (random() % ((wrong.size() - 16) / 8));
            std::memcpy(&wrong[at], &word, sizeof word);
        }
        for (const std::size_t at : {sequence_at, details_at}) {
            wrong[at] = static_cast<char>(wrong[at] & ~1);
        }
        const Kept kept("page", wrong);
        const std::string path = "/proc/" + own_number() + "/fd/" + std::to_string(kept.fd);
        const char* const views[] = {"kinds", "slow", "handles"};
        Tool tool({"--once", "-i", "0.01", "--view", views[round % 3], path});
        EXPECT_EQ(tool.status(), 0) << tool.text;
        Tool json({"--json", "-n", "1", "-i", "0.01", path});
        EXPECT_EQ(json.status(), 0) << json.text;
        EXPECT_EQ(trace_test::JsonCheck(json.text).problem(), "") << json.text;
    }
    for (const std::size_t size : {std::size_t{0}, std::size_t{7}, std::size_t{16}, sequence_at + 9,
                                   details_at, bytes.size() - 1}) {
        const Kept kept("page", bytes.substr(0, size));
        Tool tool({"--once", "/proc/" + own_number() + "/fd/" + std::to_string(kept.fd)});
        EXPECT_EQ(tool.status(), 2) << size << tool.text;
        EXPECT_NE(tool.text.find("is no statistics page of whorl"), std::string::npos) << tool.text;
    }
}

// --- What is shown, without a terminal or a process.

TEST(TopNames, sockets_are_told_by_their_addresses) {
    unsigned long inode = 0;
    std::string text;
    const char* tail = " 00000000:00000000 00:00000000 00000000  1000        0 ";
    EXPECT_TRUE(
        top::socket_of("   0: 0100007F:1F90 0200A8C0:C350 01" + std::string(tail) + "12345 1 0000",
                       false, inode, text));
    EXPECT_EQ(inode, 12345u);
    EXPECT_EQ(text, "127.0.0.1:8080 -> 192.168.0.2:50000");
    EXPECT_TRUE(
        top::socket_of("  12: 0100007F:1F90 00000000:0000 0A" + std::string(tail) + "1 1 0000",
                       false, inode, text));
    EXPECT_EQ(text, "127.0.0.1:8080");
    EXPECT_TRUE(
        top::socket_of("   0: 00000000000000000000000001000000:0050 "
                       "00000000000000000000000000000000:0000 0A" +
                           std::string(tail) + "77 1 0000",
                       true, inode, text));
    EXPECT_EQ(text, "[::1]:80");
    for (const char* line :
         {"", "  sl  local_address rem_address   st", "   0: 0100007F:1F90",
          "   0: 0100007F 0200A8C0:C350 01 0:0 0:0 0 0 0 1", "   0: x y 01 0:0 0:0 0 0 0 1"}) {
        EXPECT_FALSE(top::socket_of(line, false, inode, text)) << line;
    }
}

TEST(TopView, numbers_and_times_have_three_digits) {
    EXPECT_EQ(top::short_number(0), "0");
    EXPECT_EQ(top::short_number(7), "7");
    EXPECT_EQ(top::short_number(7.25), "7.2");
    EXPECT_EQ(top::short_number(999), "999");
    EXPECT_EQ(top::short_number(1000), "1.00k");
    EXPECT_EQ(top::short_number(99'949), "99.9k");
    EXPECT_EQ(top::short_number(123'456), "123k");
    EXPECT_EQ(top::short_number(1'048'576), "1.05M");
    EXPECT_EQ(top::short_time(0), "-");
    EXPECT_EQ(top::short_time(999), "999ns");
    EXPECT_EQ(top::short_time(1'250), "1.2us");
    EXPECT_EQ(top::short_time(34'000'000), "34ms");
    EXPECT_EQ(top::short_time(68'000'000'000), "68s");
}

TEST(TopView, rows_are_sorted_by_each_column) {
    std::vector<top::Row> rows(3);
    for (std::uint64_t index = 0; index < 3; ++index) {
        rows[index].number = index + 1;
        rows[index].name = std::string(1, static_cast<char>('c' - index));
        rows[index].busy = rows[index].turns = rows[index].batch = static_cast<double>(index);
        rows[index].p99_handler_ns = index;
    }
    top::View view;
    for (int column = 0; column < top::column_count; ++column) {
        top::Column found{};
        view.sort = static_cast<top::Column>(column);
        ASSERT_TRUE(top::column_of(top::name_of(view.sort), found));
        EXPECT_EQ(found, view.sort);
        top::sort_rows(rows, view);
        if (view.sort == top::Column::loop) {
            EXPECT_EQ(rows[0].number, 1u);
        }
        const bool last_first = view.sort == top::Column::name || view.sort == top::Column::busy ||
                                view.sort == top::Column::batch || view.sort == top::Column::p99;
        if (last_first) {
            EXPECT_EQ(rows[0].number, 3u) << column;
        }
    }
}

TEST(TopView, a_screen_keeps_its_size) {
    top::Sample sample;
    sample.rows.resize(50);
    for (const int width : {1, 20, 80, 300}) {
        for (const int height : {1, 5, 200}) {
            const auto lines = top::screen("process 1", sample, top::View(), width, height);
            EXPECT_LE(lines.size(), static_cast<std::size_t>(height));
            for (const top::Line& line : lines) {
                EXPECT_LE(line.text.size(), static_cast<std::size_t>(width));
            }
        }
    }
}

}  // namespace
