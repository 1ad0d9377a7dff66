// SPDX-License-Identifier: MIT
// A reference for whorl-latency: an echo server with known delays, that has nothing of whorl in it.
//
//   delay_server SIZE|http|sockperf=SIZE fixed US | bimodal US US PERCENT | stall PERIOD_MS STALL_MS
//
// http: a message is what ends with an empty line, and is answered with 13 bytes of text. sockperf=SIZE: an
// answer has the bit cleared by which sockperf (3.7) knows what it has sent itself.
// fixed: each message of SIZE bytes is answered so long after it came. bimodal: PERCENT of them (each
// k-th, spread evenly) after the second time instead. stall: at once, but for the first STALL_MS of every
// PERIOD_MS since the first message, in which nothing is read or answered.
// Answers of a connection stay in order. It prints its port, serves one connection after the other, and at
// the end of each prints the delays that it gave, from having read a message to having sent its answer:
// count, p50 and p99, sorted and not in a histogram.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <string>
#include <vector>

namespace {

enum class Speech { echo, http, sockperf };

struct Delays {
    Speech speech = Speech::echo;
    std::string kind;
    double first = 0, second = 0, percent = 0;
};

std::int64_t now_ns() {
    timespec time{};
    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

struct Pending {
    std::int64_t came, due;
    std::size_t size;
};

class Connection {
  public:
    Connection(int fd, std::size_t size, const Delays& delays)
        : fd_(fd), size_(size), delays_(delays) {}

    void serve() {
        while (!ended_ || !pending_.empty()) {
            wait();
            const bool stalled = stalled_until() > now_ns();
            if (!stalled && !ended_) read();
            answer();
            if (broken_) break;
        }
        print();
    }

  private:
    // The end of the stall that is now, or 0.
    std::int64_t stalled_until() const {
        if (delays_.kind != "stall" || started_ == 0) return 0;
        const auto period = static_cast<std::int64_t>(delays_.first * 1e6);
        const auto stall = static_cast<std::int64_t>(delays_.second * 1e6);
        const std::int64_t begin = now_ns() - (now_ns() - started_) % period;
        return now_ns() < begin + stall ? begin + stall : 0;
    }
    // Sleeps until shortly before something is due, and then looks all the time.
    void wait() {
        std::int64_t until = pending_.empty() ? now_ns() + 1'000'000'000 : pending_.front().due;
        const std::int64_t stalled = stalled_until();
        until = std::max(until, stalled);
        if (stalled != 0) until = stalled;
        const std::int64_t left = until - now_ns() - 20'000;
        if (left <= 0 && stalled != 0) {
            while (now_ns() < stalled) {
            }
        }
        timespec time{0, 0};
        if (left > 0) time = {left / 1'000'000'000, left % 1'000'000'000};
        pollfd wanted{fd_, static_cast<short>(stalled != 0 || ended_ ? 0 : POLLIN), 0};
        (void)ppoll(&wanted, 1, &time, nullptr);
    }
    void read() {
        char bytes[65536];
        const ssize_t got = recv(fd_, bytes, sizeof bytes, MSG_DONTWAIT);
        if (got == 0) ended_ = true;
        if (got < 0 && errno != EAGAIN && errno != EINTR) ended_ = broken_ = true;
        if (got <= 0) return;
        const std::int64_t now = now_ns();
        if (started_ == 0) started_ = now;
        in_.insert(in_.end(), bytes, bytes + got);
        for (std::size_t size = 0; (size = next_size()) != 0; whole_ += size) {
            const std::int64_t due = now + delay();
            const std::int64_t before = pending_.empty() ? 0 : pending_.back().due;
            pending_.push_back({now, std::max(due, before), size});
            ++count_;
        }
    }
    // Of the next message that is whole and was not noted yet; 0 without one.
    std::size_t next_size() const {
        const std::size_t begin = whole_ - taken_;
        if (delays_.speech != Speech::http) return begin + size_ <= in_.size() ? size_ : 0;
        const std::string end = "\r\n\r\n";
        const auto from = in_.begin() + static_cast<std::ptrdiff_t>(begin);
        const auto found = std::search(from, in_.end(), end.begin(), end.end());
        return found == in_.end() ? 0 : static_cast<std::size_t>(found - from) + end.size();
    }
    std::string answer_to(std::string message) const {
        if (delays_.speech == Speech::http) {
            return "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, World!";
        }
        // A number of eight bytes, and the flags, of which the lowest says that a client speaks.
        if (delays_.speech == Speech::sockperf && message.size() > 9) {
            message[9] = static_cast<char>(message[9] & ~1);
        }
        return message;
    }
    std::int64_t delay() const {
        if (delays_.kind == "stall") return 0;
        if (delays_.kind == "fixed") return static_cast<std::int64_t>(delays_.first * 1e3);
        const auto slow = [&](std::uint64_t count) {
            return static_cast<std::uint64_t>(static_cast<double>(count) * delays_.percent / 100);
        };
        const bool is_slow = slow(count_ + 1) != slow(count_);
        return static_cast<std::int64_t>((is_slow ? delays_.second : delays_.first) * 1e3);
    }
    void answer() {
        while (!pending_.empty() && pending_.front().due <= now_ns()) {
            const auto size = static_cast<std::ptrdiff_t>(pending_.front().size);
            const std::string bytes = answer_to({in_.begin(), in_.begin() + size});
            in_.erase(in_.begin(), in_.begin() + size);
            taken_ += pending_.front().size;
            for (std::size_t at = 0; at < bytes.size();) {
                const ssize_t sent = send(fd_, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
                if (sent < 0) {
                    broken_ = true;
                    return;
                }
                at += static_cast<std::size_t>(sent);
            }
            given_.push_back(now_ns() - pending_.front().came);
            pending_.pop_front();
        }
    }
    void print() {
        if (given_.empty()) return;
        std::sort(given_.begin(), given_.end());
        const auto at = [&](double share) {
            const auto count = static_cast<double>(given_.size());
            const auto rank = static_cast<std::size_t>(share * count + 0.999999);
            return static_cast<double>(given_[std::max<std::size_t>(rank, 1) - 1]) * 1e-3;
        };
        std::printf("given %zu p50 %.1f us p99 %.1f us\n", given_.size(), at(0.5), at(0.99));
        (void)std::fflush(stdout);
    }

    int fd_;
    std::size_t size_;
    const Delays& delays_;
    std::deque<char> in_;
    std::deque<Pending> pending_;
    std::vector<std::int64_t> given_;
    std::uint64_t taken_ = 0, whole_ = 0, count_ = 0;  // bytes answered, bytes noted, messages
    std::int64_t started_ = 0;
    bool ended_ = false, broken_ = false;
};

bool parse(int count, char** words, std::size_t& size, Delays& delays) {
    if (count < 4) return false;
    std::string first = words[1];
    if (first.rfind("sockperf=", 0) == 0) {
        delays.speech = Speech::sockperf;
        first.erase(0, 9);
    }
    if (first == "http") delays.speech = Speech::http;
    size = delays.speech == Speech::http ? 1 : std::strtoul(first.c_str(), nullptr, 10);
    delays.kind = words[2];
    delays.first = std::strtod(words[3], nullptr);
    if (count > 4) delays.second = std::strtod(words[4], nullptr);
    if (count > 5) delays.percent = std::strtod(words[5], nullptr);
    const int wanted = delays.kind == "fixed"     ? 4
                       : delays.kind == "stall"   ? 5
                       : delays.kind == "bimodal" ? 6
                                                  : 0;
    return size > 0 && count == wanted && delays.first >= 0;
}

}  // namespace

int main(int count, char** words) {
    std::size_t size = 0;
    Delays delays;
    if (!parse(count, words, size, delays)) {
        std::fputs(
            "usage: delay_server SIZE|http|sockperf=SIZE fixed US | bimodal US US PERCENT | "
            "stall MS MS\n",
            stderr);
        return 2;
    }
    (void)prctl(PR_SET_TIMERSLACK, 1);
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    if (bind(listener, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
        listen(listener, 8) != 0 ||
        getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
        std::perror("delay_server");
        return 1;
    }
    std::printf("%d\n", ntohs(address.sin_port));
    (void)std::fflush(stdout);
    for (;;) {
        const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        if (fd < 0) continue;
        const int on = 1;
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        Connection(fd, size, delays).serve();
        (void)close(fd);
    }
}
