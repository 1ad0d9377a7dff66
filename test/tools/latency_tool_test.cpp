// SPDX-License-Identifier: MIT
// Goal: whorl-latency measures its own servers, and tells what is wrong with an exit status as its manual
// says. Method: it is started as its users do; no figure is judged.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "latency/report.hpp"
#include "tool.hpp"

namespace {

struct Tool : tool_test::Tool {
    explicit Tool(std::vector<std::string> words,
                  const std::function<void()>& prepare = tool_test::prepare_nothing)
        : tool_test::Tool(started(std::move(words)), false, prepare) {}
    static std::vector<std::string> started(std::vector<std::string> words) {
        words.insert(words.begin(), WHORL_LATENCY);
        return words;
    }
};

// A server of its own, and where it listens.
struct Server : Tool {
    explicit Server(const std::string& target) : Tool({"serve", target}) {
        EXPECT_TRUE(says("\n")) << text;
        const std::size_t begin = text.find("serving ") + 8;
        where = text.substr(begin, text.find(' ', begin) - begin);
    }
    std::string where;
};

std::vector<std::string> short_run(const std::string& target) {
    return {target, "-w", "0", "-d", "0.2", "--rate", "500", "--patience", "30"};
}

TEST(LatencyTool, measures_its_own_servers) {
    const std::string name = "/tmp/whorl-latency-" + std::to_string(::getpid()) + ".sock";
    for (const std::string& target : {
             std::string("tcp://127.0.0.1:0"),
             std::string("udp://127.0.0.1:0"),
             "unix:" + name,
             "unix:@whorl-latency-" + std::to_string(::getpid()),
#ifdef WHORL_LATENCY_HTTP
             std::string("http://127.0.0.1:0"),
#endif
         }) {
        Server server(target);
        Tool tool(short_run(server.where));
        EXPECT_EQ(tool.status(), 0) << tool.text;
        EXPECT_NE(tool.text.find(": 100 answers"), std::string::npos) << tool.text;
        EXPECT_NE(tool.text.find("verdict"), std::string::npos) << tool.text;
        server.signal(SIGTERM);
        EXPECT_EQ(server.status(), 0) << server.text;
    }
    EXPECT_NE(::access(name.c_str(), F_OK), 0);  // its file is gone
}

TEST(LatencyTool, measures_pipes_timers_channels_and_files) {
    for (const char* target : {"pipe", "timer", "channel"}) {
        Tool tool(short_run(target));
        EXPECT_EQ(tool.status(), 0) << tool.text;
        EXPECT_NE(tool.text.find("100 answers"), std::string::npos) << tool.text;
    }
    Tool file(short_run("file:" + std::string(WHORL_LATENCY)));
    EXPECT_EQ(file.status(), 0) << file.text;
    EXPECT_NE(file.text.find(": 100 answers"), std::string::npos) << file.text;
    std::vector<std::string> words = short_run("pipe");
    words.insert(words.end(), {"--command", "cat", "--busy-poll", "--backend", "libev"});
    Tool cat(words);
    EXPECT_EQ(cat.status(), 0) << cat.text;
    EXPECT_NE(cat.text.find("backend    libev, busy polling"), std::string::npos) << cat.text;
}

TEST(LatencyTool, channels_in_a_closed_loop) {
    Tool tool({"channel", "--closed", "-c", "3", "--depth", "5", "-w", "0", "-d", "0.2",
               "--patience", "30"});
    EXPECT_EQ(tool.status(), 0) << tool.text;
    EXPECT_NE(tool.text.find("3 pairs of channels between two loops, closed loop, depth 5"),
              std::string::npos)
        << tool.text;
    Tool nowhere({"channel", "--peer-cpu", "1000000"});
    EXPECT_EQ(nowhere.status(), 2) << nowhere.text;
    EXPECT_NE(nowhere.text.find("the other loop ended: --peer-cpu"), std::string::npos);
}

// That whorl-top sees its page is the test of whorl-top; a client has none.
TEST(LatencyTool, a_server_that_may_be_watched) {
    Tool server({"serve", "--watched", "tcp://127.0.0.1:0"});
    EXPECT_TRUE(server.says("serving tcp://127.0.0.1:")) << server.text;
    Tool client({"timer", "--watched"});
    EXPECT_EQ(client.status(), 3) << client.text;
}

// Pinned where it may run: on the processor that it is on.
TEST(LatencyTool, pins_and_polls) {
    const std::string cpu = std::to_string(::sched_getcpu());
    std::vector<std::string> words = short_run("channel");
    words.insert(words.end(), {"--cpu", cpu, "--peer-cpu", cpu});
    Tool tool(words);
    EXPECT_EQ(tool.status(), 0) << tool.text;
    Tool polling({"timer", "-w", "0", "-d", "0.2", "--busy-poll", "--cpu", cpu});
    EXPECT_EQ(polling.status(), 0) << polling.text;
    EXPECT_NE(polling.text.find(", busy polling"), std::string::npos) << polling.text;
}

TEST(LatencyTool, prints_json_and_csv) {
    std::vector<std::string> words = short_run("timer");
    words.emplace_back("--json");
    Tool json(words);
    EXPECT_EQ(json.status(), 0);
    EXPECT_EQ(json.text.rfind("{\n  \"tool\": \"whorl-latency\"", 0), 0u) << json.text;
    EXPECT_NE(json.text.find("\"verdict\": \""), std::string::npos);
    words.back() = "--csv";
    Tool csv(words);
    EXPECT_EQ(csv.status(), 0);
    EXPECT_EQ(csv.text.rfind("start_s,count,", 0), 0u) << csv.text;
}

TEST(LatencyTool, saves_and_compares) {
    char folder[] = "/tmp/whorl-latency-XXXXXX";
    ASSERT_NE(::mkdtemp(folder), nullptr);
    const std::string base = folder;
    std::vector<std::string> words = short_run("timer");
    words.insert(words.end(), {"--save", base + "/a.json", "--hgrm", base + "/a.hgrm", "--svg",
                               base + "/a.svg", "--html", base + "/a.html"});
    Tool tool(words);
    EXPECT_EQ(tool.status(), 0) << tool.text;
    Tool compare({"--compare", base + "/a.json", base + "/a.hgrm", "--html", base + "/c.html"});
    EXPECT_EQ(compare.status(), 0) << compare.text;
    EXPECT_NE(compare.text.find("B to A"), std::string::npos) << compare.text;
    for (const char* file : {"/a.json", "/a.hgrm", "/a.svg", "/a.html", "/c.html"}) {
        EXPECT_EQ(std::remove((base + file).c_str()), 0) << file;
    }
    EXPECT_EQ(std::remove(folder), 0);
    Tool missing({"--compare", base + "/a.json", base + "/a.hgrm"});
    EXPECT_EQ(missing.status(), 3);
    EXPECT_NE(missing.text.find("No such file"), std::string::npos) << missing.text;
}

TEST(LatencyTool, expectations_are_its_exit_status) {
    std::vector<std::string> words = short_run("timer");
    words.insert(words.end(), {"--assert", "p50<1000s", "--assert", "max<1ns"});
    Tool tool(words);
    EXPECT_EQ(tool.status(), 1) << tool.text;
    EXPECT_NE(tool.text.find("max<1ns does not hold: it is "), std::string::npos) << tool.text;
    EXPECT_EQ(tool.text.find("p50<1000s does"), std::string::npos) << tool.text;
}

TEST(LatencyTool, wrong_usage) {
    for (const std::vector<std::string>& words :
         std::vector<std::vector<std::string>>{{},
                                               {"--nothing"},
                                               {"tcp://nowhere"},
                                               {"timer", "--rate", "0"},
                                               {"timer", "--rate", "much"},
                                               {"timer", "-d", "-1"},
                                               {"timer", "--assert", "p99<50"},
                                               {"timer", "--backend", "select"},
                                               {"timer", "--json", "--csv"},
                                               {"https://127.0.0.1/"},
                                               {"http://127.0.0.1/", "--header", "none"},
                                               {"timer", "--cpu", "1000000"},
                                               {"udp://127.0.0.1:9", "--size", "7"},
                                               {"serve"}}) {
        Tool tool(words);
        EXPECT_EQ(tool.status(), 3) << tool.text;
        EXPECT_NE(tool.text, "");
    }
}

TEST(LatencyTool, nobody_there) {
    Tool tcp({"tcp://127.0.0.1:1"});
    EXPECT_EQ(tcp.status(), 2);
    EXPECT_NE(tcp.text.find("connect to tcp://127.0.0.1:1: Connection refused"), std::string::npos)
        << tcp.text;
#ifdef WHORL_LATENCY_HTTP
    Tool http({"http://127.0.0.1:1/"});
    EXPECT_EQ(http.status(), 2);
    EXPECT_NE(http.text.find("connect to http://127.0.0.1:1/: Connection refused"),
              std::string::npos)
        << http.text;
#endif
    Tool file({"unix:/nowhere/at/all"});
    EXPECT_EQ(file.status(), 2);
    EXPECT_NE(file.text.find("No such file"), std::string::npos) << file.text;
    Tool udp({"udp://127.0.0.1:1", "-w", "0"});
    EXPECT_EQ(udp.status(), 2);
    EXPECT_NE(udp.text.find("Connection refused"), std::string::npos) << udp.text;
    Tool command({"pipe", "--command", "/nowhere/at/all"});
    EXPECT_EQ(command.status(), 2);
    Tool serve({"serve", "unix:/nowhere/at/all"});
    EXPECT_EQ(serve.status(), 2);
}

// The kernel takes connections for a server that never does.
class Listener {
  public:
    Listener() {
        fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        EXPECT_EQ(::bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
        EXPECT_EQ(::listen(fd_, 16), 0);
        socklen_t size = sizeof address;
        EXPECT_EQ(::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size), 0);
        port_ = std::to_string(ntohs(address.sin_port));
    }
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;
    ~Listener() { ::close(fd_); }
    std::string at(const char* scheme) const { return scheme + ("://127.0.0.1:" + port_); }
    // Answers what comes on one connection, without a look at it, until that ends.
    void answer(const std::string& answer) const {
        const int peer = ::accept(fd_, nullptr, nullptr);
        char request[4096];
        while (::recv(peer, request, sizeof request, 0) > 0) {
            (void)::send(peer, answer.data(), answer.size(), MSG_NOSIGNAL);
        }
        ::close(peer);
    }

  private:
    int fd_;
    std::string port_;
};

// What it waited is printed; it is no measurement.
TEST(LatencyTool, a_server_that_says_nothing) {
    const Listener listener;
    Tool tool({listener.at("tcp"), "-w", "0", "-d", "0.1", "--patience", "0.1"});
    EXPECT_EQ(tool.status(), 2) << tool.text;
    EXPECT_NE(tool.text.find("no message was answered"), std::string::npos) << tool.text;
    EXPECT_NE(tool.text.find("unanswered "), std::string::npos) << tool.text;
}

#ifdef WHORL_LATENCY_HTTP
// However quick its refusals are.
TEST(LatencyTool, a_server_that_refuses_meets_no_expectation) {
    const Listener listener;
    std::vector<std::string> words = short_run(listener.at("http"));
    words.insert(words.end(), {"-c", "1", "--assert", "max<1000s", "--html", "/dev/null", "--svg",
                               "/dev/null", "--hgrm", "/dev/null"});
    std::thread server([&] { listener.answer("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"); });
    Tool tool(words);
    EXPECT_EQ(tool.status(), 1) << tool.text;
    server.join();
    EXPECT_NE(tool.text.find("100 of 100 answers have a status of 400 or more: no --assert holds"),
              std::string::npos)
        << tool.text;
    EXPECT_NE(tool.text.find("refused    100, "), std::string::npos) << tool.text;
}
#endif

TEST(LatencyTool, nowhere_to_write_to) {
    Tool full(short_run("timer"), [] {
        const int fd = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
        ::dup2(fd, STDOUT_FILENO);
    });
    EXPECT_EQ(full.status(), 3);
    EXPECT_NE(full.text.find("No space left"), std::string::npos) << full.text;
    Tool closed(short_run("timer"), [] { ::close(STDOUT_FILENO); });
    EXPECT_EQ(closed.status(), 3);
    EXPECT_NE(closed.text.find("standard output is closed"), std::string::npos) << closed.text;
    // A pipe that nobody reads.
    Tool unread(short_run("timer"), [] {
        int numbers[2];
        (void)::pipe(numbers);
        ::dup2(numbers[1], STDOUT_FILENO);
        ::close(numbers[0]);
        ::close(numbers[1]);
    });
    EXPECT_EQ(unread.status(), 3);
    EXPECT_NE(unread.text.find("Broken pipe"), std::string::npos) << unread.text;
    std::vector<std::string> words = short_run("timer");
    words.insert(words.end(), {"--hgrm", "/dev/full"});
    Tool file(words);
    EXPECT_EQ(file.status(), 3);
    EXPECT_NE(file.text.find("/dev/full: No space left"), std::string::npos) << file.text;
    EXPECT_NE(file.text.find("verdict"), std::string::npos) << file.text;  // printed all the same
}

TEST(LatencyTool, interrupted_it_prints_what_it_has) {
    Server server("tcp://127.0.0.1:0");
    Tool tool({server.where, "-w", "0", "-d", "100000", "--progress"});
    EXPECT_TRUE(tool.says(" answers  p50 ")) << tool.text;
    tool.signal(SIGINT);
    EXPECT_EQ(tool.status(), 0) << tool.text;
    EXPECT_NE(tool.text.find("interrupted"), std::string::npos) << tool.text;
    EXPECT_NE(tool.text.find("verdict"), std::string::npos) << tool.text;
}

// A terminal of the tool's own, which goes away in the middle. Its hang-up ends the measurement; what can no
// longer be printed is in the file all the same, and the exit status says that it was not printed.
TEST(LatencyTool, a_terminal_that_closes) {
    const std::string saved = "/tmp/whorl-latency-tty-" + std::to_string(::getpid()) + ".json";
    const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    ASSERT_GE(terminal, 0);
    ASSERT_EQ(::grantpt(terminal), 0);
    ASSERT_EQ(::unlockpt(terminal), 0);
    const std::string name = ::ptsname(terminal);
    const int held = ::open(name.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC);  // until the tool has it
    Tool tool({"timer", "-w", "0", "-d", "100000", "--rate", "50", "--save", saved}, [&] {
        (void)::setsid();
        const int slave = ::open(name.c_str(), O_RDWR);  // becomes the controlling one
        ::dup2(slave, STDIN_FILENO);
        ::dup2(slave, STDOUT_FILENO);
        ::dup2(slave, STDERR_FILENO);
        if (slave > STDERR_FILENO) ::close(slave);
    });
    std::string shown;
    char part[256];
    while (shown.find(" answers  p50 ") == std::string::npos) {
        const ssize_t got = ::read(terminal, part, sizeof part);
        ASSERT_GT(got, 0) << shown;
        shown.append(part, static_cast<std::size_t>(got));
    }
    EXPECT_NE(shown.find("\r\033[K"), std::string::npos);  // one line, written over
    ::close(terminal);
    ::close(held);
    EXPECT_EQ(tool.status(), 3) << tool.text;
    latency::Curve curve;
    std::string why;
    EXPECT_TRUE(latency::load_curve(saved, curve, why)) << why;
    EXPECT_GT(curve.at(50), 0);
    (void)std::remove(saved.c_str());
}

// The server dies: what was measured until then is printed, and the exit status says that it was cut short.
TEST(LatencyTool, a_server_that_goes) {
    Server server("tcp://127.0.0.1:0");
    Tool tool({server.where, "-w", "0", "-d", "100000", "--progress"});
    EXPECT_TRUE(tool.says(" answers  p50 ")) << tool.text;
    server.signal(SIGKILL);
    EXPECT_EQ(tool.status(), 2) << tool.text;
    EXPECT_NE(tool.text.find("failed     "), std::string::npos) << tool.text;
    EXPECT_NE(tool.text.find("verdict"), std::string::npos) << tool.text;
}

}  // namespace
