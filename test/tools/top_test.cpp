// SPDX-License-Identifier: MIT
// Goal: whorl-top shows the loops of a process, on a terminal and without, gives the terminal back however it
// ends, and says by its exit status what its manual says. Method: it is started as its users do, beside loops
// of this program or of a child; a pseudo-terminal for its screen. Nothing is judged by a clock: each step
// waits for what it should say.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>
#include <whorl/operation_latency.hpp>
#include <whorl/statistics_page.hpp>
#include <whorl/whorl.hpp>

#include <csignal>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "top/view.hpp"

namespace {

constexpr int patience_ms = 60'000;  // only ends what hangs

// The tool, its output on a pipe or a pseudo-terminal.
class Tool {
  public:
    explicit Tool(std::vector<std::string> words, bool terminal = false) {
        int ends[2];
        if (terminal) open_terminal(ends);
        else EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
        child_ = ::fork();
        EXPECT_GE(child_, 0);
        if (child_ == 0) start(std::move(words), ends[1], terminal);
        output_ = ends[0];
        if (terminal) slave_ = ends[1];
        else ::close(ends[1]);
    }
    Tool(const Tool&) = delete;
    Tool& operator=(const Tool&) = delete;
    ~Tool() {
        if (child_ > 0) {
            (void)::kill(child_, SIGKILL);
            (void)::waitpid(child_, nullptr, 0);
        }
        hang_up();
    }

    void signal(int number) const { EXPECT_EQ(::kill(child_, number), 0); }
    void type(const std::string& keys) const {
        EXPECT_EQ(::write(output_, keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
    }
    void resize(unsigned short columns, unsigned short rows) const {
        const winsize size{rows, columns, 0, 0};
        EXPECT_EQ(::ioctl(output_, TIOCSWINSZ, &size), 0);
    }
    termios modes() const {
        termios modes{};
        EXPECT_EQ(::tcgetattr(slave_, &modes), 0);
        return modes;
    }
    // Closes the terminal under it.
    void hang_up() {
        if (output_ >= 0) ::close(output_);
        if (slave_ >= 0) ::close(slave_);
        output_ = slave_ = -1;
    }
    // Reads on until it has said these words since the last time, or has ended.
    bool says(const std::string& words) {
        const whorl::Instant end = whorl::clock_now() + std::chrono::milliseconds(patience_ms);
        while (whorl::clock_now() < end) {
            const std::size_t at = text.find(words, seen_);
            if (at != std::string::npos) {
                seen_ = at + words.size();
                return true;
            }
            if (!read()) break;
        }
        return false;
    }
    int status() {
        if (slave_ >= 0) ::close(slave_);  // its end is the end of the output
        slave_ = -1;
        const whorl::Instant end = whorl::clock_now() + std::chrono::milliseconds(patience_ms);
        while (output_ >= 0 && whorl::clock_now() < end && read()) {
        }
        if (whorl::clock_now() >= end) (void)::kill(child_, SIGKILL);  // -9
        int status = 0;
        EXPECT_EQ(::waitpid(child_, &status, 0), child_);
        child_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }

    std::string text;

  private:
    static void open_terminal(int ends[2]) {
        ends[0] = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
        EXPECT_GE(ends[0], 0);
        EXPECT_EQ(::grantpt(ends[0]), 0);
        EXPECT_EQ(::unlockpt(ends[0]), 0);
        const winsize size{40, 200, 0, 0};
        EXPECT_EQ(::ioctl(ends[0], TIOCSWINSZ, &size), 0);
        ends[1] = ::open(::ptsname(ends[0]), O_RDWR | O_NOCTTY | O_CLOEXEC);
        EXPECT_GE(ends[1], 0);
    }
    [[noreturn]] static void start(std::vector<std::string> words, int output, bool terminal) {
        if (terminal) {
            (void)::setsid();
            (void)::ioctl(output, TIOCSCTTY, 0);
            (void)::dup2(output, STDIN_FILENO);
            (void)::setenv("TERM", "xterm", 1);
        }
        (void)::dup2(output, STDOUT_FILENO);
        (void)::dup2(output, STDERR_FILENO);
        std::string program = WHORL_TOP;
        std::vector<char*> arguments{program.data()};
        for (std::string& word : words) arguments.push_back(word.data());
        arguments.push_back(nullptr);
        ::execv(arguments[0], arguments.data());
        ::_exit(98);
    }
    bool read() {
        pollfd entry{output_, POLLIN, 0};
        if (::poll(&entry, 1, patience_ms) <= 0) return false;
        char part[4096];
        const ssize_t got = ::read(output_, part, sizeof part);
        if (got > 0) text.append(part, static_cast<std::size_t>(got));
        return got > 0;
    }

    pid_t child_ = -1;
    int output_ = -1;
    int slave_ = -1;
    std::size_t seen_ = 0;
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
    const termios before = tool.modes();
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
    EXPECT_EQ(tool.modes().c_lflag, before.c_lflag);
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
    const std::vector<std::string> wrong[] = {
        {}, {"--interval", "0", "1"}, {"--sort", "nothing", "1"}, {"--nothing", "1"}, {"1", "2"}};
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

// --- What is shown, without a terminal or a process.

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
