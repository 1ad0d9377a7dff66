// SPDX-License-Identifier: MIT
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

// A tool, started as its users start it.

namespace tool_test {

constexpr int patience_ms = 60'000;  // only ends what hangs

inline void prepare_nothing() {}

// One that runs. What it prints on both outputs is one text, from a pipe or a pseudo-terminal. `words` begins
// with its path; `prepare` is called in its process before it.
class Tool {
  public:
    explicit Tool(std::vector<std::string> words, bool terminal = false,
                  const std::function<void()>& prepare = prepare_nothing) {
        int ends[2];
        if (terminal) {
            open_terminal(ends);
            EXPECT_EQ(::tcgetattr(ends[1], &modes_before), 0);
        } else {
            EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
        }
        child_ = ::fork();
        EXPECT_GE(child_, 0);
        if (child_ == 0) start(std::move(words), ends[1], terminal, prepare);
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

    pid_t process() const { return child_; }
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
        const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(patience_ms);
        while (std::chrono::steady_clock::now() < end) {
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
        const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(patience_ms);
        while (output_ >= 0 && std::chrono::steady_clock::now() < end && read()) {
        }
        if (std::chrono::steady_clock::now() >= end) (void)::kill(child_, SIGKILL);  // -9
        int status = 0;
        EXPECT_EQ(::waitpid(child_, &status, 0), child_);
        child_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }

    std::string text;
    termios modes_before{};  // the terminal's, when nothing had been started

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
    [[noreturn]] static void start(std::vector<std::string> words, int output, bool terminal,
                                   const std::function<void()>& prepare) {
        if (terminal) {
            (void)::setsid();
            (void)::ioctl(output, TIOCSCTTY, 0);
            (void)::dup2(output, STDIN_FILENO);
            (void)::setenv("TERM", "xterm", 1);
        }
        (void)::dup2(output, STDOUT_FILENO);
        (void)::dup2(output, STDERR_FILENO);
        prepare();
        std::vector<char*> arguments;
        for (std::string& word : words) arguments.push_back(word.data());
        arguments.push_back(nullptr);
        ::execv(arguments[0], arguments.data());
        ::_exit(98);
    }
    bool read() {
        pollfd entry{output_, POLLIN, 0};
        // A loop of the test that looks for slow handlers may be signalled once more when it has stopped.
        int ready = 0;
        do ready = ::poll(&entry, 1, patience_ms);
        while (ready < 0 && errno == EINTR);
        if (ready <= 0) return false;
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

// What one said until it ended.
struct Said {
    int status = -1;
    std::string text;  // of both outputs
    bool has(const std::string& words) const { return text.find(words) != std::string::npos; }
};

inline Said run(std::vector<std::string> words,
                const std::function<void()>& prepare = prepare_nothing) {
    Tool tool(std::move(words), false, prepare);
    Said said;
    said.status = tool.status();
    said.text = std::move(tool.text);
    return said;
}

}  // namespace tool_test
