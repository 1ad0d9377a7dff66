// SPDX-License-Identifier: MIT
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <whorl/whorl.hpp>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

// What the tests of the adapters share: a real server of somebody else in a process of its own, on a
// port that was free, with a folder that is removed afterwards; and a loop on each backend.

extern char** environ;

namespace whorl::hosts {

using namespace std::chrono_literals;

inline sockaddr_in loopback(int port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

// Free a moment ago; for `type` SOCK_STREAM or SOCK_DGRAM. Not one of those that the system chooses
// (ip_local_port_range), which another test may get meanwhile.
inline int free_port(int type) {
    static int next = 0;
    for (int attempt = 0; attempt < 1000; ++attempt) {
        const int port = 10'000 + (::getpid() * 7 + next++) % 20'000;
        const int fd = ::socket(AF_INET, type | SOCK_CLOEXEC, 0);
        const sockaddr_in address = loopback(port);
        const int refused = ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
        ::close(fd);
        if (refused == 0) return port;
    }
    return -1;
}

class Server {
  public:
    Server() {
        std::string pattern =
            (std::filesystem::temp_directory_path() / "whorl-host-XXXXXX").string();
        folder = ::mkdtemp(pattern.data());
    }
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    ~Server() {
        stop();
        std::filesystem::remove_all(folder);
    }

    static bool installed(const std::string& program) {
        return ::access(program.c_str(), X_OK) == 0;
    }

    void start(std::vector<std::string> words) {
        std::vector<char*> arguments;
        for (std::string& word : words) arguments.push_back(word.data());
        arguments.push_back(nullptr);
        posix_spawn_file_actions_t actions;
        posix_spawn_file_actions_init(&actions);
        const std::string log = folder + "/log";
        posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND,
                                         0600);
        posix_spawn_file_actions_adddup2(&actions, 1, 2);
        ASSERT_EQ(::posix_spawn(&process_, words[0].c_str(), &actions, nullptr, arguments.data(),
                                environ),
                  0);
        posix_spawn_file_actions_destroy(&actions);
    }
    // Runs a program to its end. Returns whether it said that all went well.
    bool run(std::vector<std::string> words) {
        start(std::move(words));
        int status = -1;
        ::waitpid(process_, &status, 0);
        process_ = -1;
        return status == 0;
    }
    pid_t pid() const { return process_; }
    void send(int signal) const { ::kill(process_, signal); }
    std::string log() const {
        std::ifstream file(folder + "/log");
        return {std::istreambuf_iterator<char>(file), {}};
    }
    // Waits until somebody listens at the port.
    void await(int port) {
        for (int attempt = 0; attempt < 500; ++attempt) {
            const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
            const sockaddr_in address = loopback(port);
            const int refused =
                ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
            ::close(fd);
            if (refused == 0) return;
            std::this_thread::sleep_for(20ms);
        }
        FAIL() << "the server does not listen: " << log();
    }
    // SIGKILL, or the signal by which a server cleans up and ends at once.
    void stop(int signal = SIGKILL) {
        if (process_ <= 0) return;
        ::kill(process_, signal);
        ::waitpid(process_, nullptr, 0);
        process_ = -1;
    }

    std::string folder;

  private:
    pid_t process_ = -1;
};

// A loop on the backend of the test's parameter, or a skip with the reason.
class HostTest : public ::testing::TestWithParam<Backend> {
  protected:
    void SetUp() override {
        LoopOptions options;
        options.backend = GetParam();
        BackendReport report;
        Result<Loop> made = Loop::create(options, report);
        if (!made) GTEST_SKIP() << report.text;
        loop = std::make_unique<Loop>(std::move(*made));
    }
    // Runs until finish() was called, or nothing is left to wait for; but not for ever.
    void run() {
        finished_ = false;
        const Result<Timer> guard = loop->after(20s, [this](Loop&, Expired) {
            ADD_FAILURE() << "nothing more happened";
            finish();
        });
        ASSERT_TRUE(guard);
        while (!finished_ && loop->statistics().operations > 1) ASSERT_FALSE(loop->run_once());
        loop->cancel(*guard);
    }
    void finish() { finished_ = true; }
    // What the library still has under way: watches and timers.
    std::uint32_t left_over() const { return loop->statistics().operations; }

    std::unique_ptr<Loop> loop;

  private:
    bool finished_ = false;
};

inline std::string backend_of(const ::testing::TestParamInfo<Backend>& info) {
    return name_of(info.param);
}

}  // namespace whorl::hosts

#define WHORL_HOST_TESTS(suite)                                                                  \
    INSTANTIATE_TEST_SUITE_P(Backends, suite,                                                    \
                             ::testing::Values(whorl::Backend::io_uring, whorl::Backend::libev), \
                             whorl::hosts::backend_of)
