// SPDX-License-Identifier: MIT
// Goal: an error of accept(2) that stays burns no core. A connection that is reported as gone is
// skipped, but not more than once a millisecond; without a free descriptor a received stream of connections asks the kernel at most ten times a
// second, connections that are there go on being served, and the stream recovers within a second of a
// descriptor becoming free.
// Method: the process fills its table; connections wait in the backlog. Attempts are counted where
// they are made: accept4 in libev's case, submission entries in io_uring's. A tick measures how late
// the machine itself is, so that only what the library adds is judged.
#include "fault/calls.hpp"
#include "fault/scenario_tools.hpp"

#include <fcntl.h>
#include <liburing.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <algorithm>
#include <vector>

namespace fault {
namespace {

constexpr int waiting_count = 40;
constexpr std::uint32_t attempts_a_second_max = 10;
constexpr int seconds = 3;

// Two ends of a connection in the loop that hand one message to and fro.
struct Live {
    Socket sockets[2];
    std::uint64_t rounds = 0;

    void receive(Loop& loop, int side, Buffer buffer) {
        static_cast<void>(loop.submit(Recv{sockets[side], std::move(buffer)},
                                      [this, side](Loop& inner, Recv::Done done) {
                                          if (done.error || done.buffer.empty()) return;
                                          ++rounds;
                                          send(inner, side, std::move(done.buffer));
                                      }));
    }
    void send(Loop& loop, int side, Buffer buffer) {
        static_cast<void>(loop.submit(SendAll{sockets[side], std::move(buffer)},
                                      [this, side](Loop& inner, SendAll::Done done) {
                                          if (!done.error)
                                              receive(inner, side, std::move(done.buffer));
                                      }));
    }
    void start(Loop& loop) {
        Buffer ball = loop.buffer(64);
        ball.resize(64);
        receive(loop, 1, loop.buffer(64));
        send(loop, 0, std::move(ball));
    }
};

class Storm {
  public:
    explicit Storm(bool uring, bool canary) : uring_(uring), canary_(canary) {}
    int run();

  private:
    bool failed(const char* what) {
        std::printf("FAILED: %s\n", what);
        return false;
    }
    std::uint32_t attempts() const {
        return uring_ ? submissions_of(IORING_OP_ACCEPT) : calls_of(SYS_accept4);
    }
    bool open();
    bool open_live();
    void fill_table();
    void connect_waiting();
    bool gone();
    bool storm();
    bool recover();
    bool refill();
    template <class Reached>
    bool run_until(Reached reached, Nanoseconds bound) {
        const Instant end = clock_now() + bound;
        while (!reached() && clock_now() < end) {
            if (loop_->run_once()) return failed("the loop does not run");
        }
        return reached();
    }

    bool uring_;
    bool canary_;
    std::optional<Loop> loop_;
    Listener listener_;
    Listener other_;
    Address address_;
    Live live_;
    std::vector<int> waiting_;
    std::vector<Socket> accepted_;
    int spare_ = -1;
    int told_ = 0;
    bool stream_ended_ = false;
    bool storms_ = false;  // no descriptor is free
    Instant tick_last_{};
    Nanoseconds lateness_{0};  // the longest time between two ticks
    rlimit limit_{};
};

bool Storm::open() {
    LoopOptions options;
    options.backend = uring_ ? Backend::io_uring : Backend::libev;
    Result<Loop> made = Loop::create(options);
    if (!made) return false;
    loop_.emplace(std::move(*made));
    const Result<Listener> listener = whorl::listen(*loop_, Address::loopback_v4(0));
    const Result<Listener> other = whorl::listen(*loop_, Address::loopback_v4(0));
    if (!listener || !other) return failed("listen");
    listener_ = *listener;
    other_ = *other;
    const Result<Address> address = local_address(*loop_, listener_);
    if (!address) return failed("local_address");
    address_ = *address;
    tick_last_ = clock_now();
    const Result<Timer> tick = loop_->every(10ms, [this](Loop& loop, Expired) {
        const Instant now = clock_now();
        lateness_ = std::max<Nanoseconds>(lateness_, now - tick_last_);
        tick_last_ = now;
        if (canary_ && storms_)
            static_cast<void>(loop.submit(Accept{other_}, [](Loop&, Accept::Done) {}));
    });
    return tick ? open_live() : failed("every");
}

bool Storm::open_live() {
    static_cast<void>(loop_->submit(
        Accept{listener_}, [this](Loop&, Accept::Done done) { live_.sockets[0] = done.socket; }));
    static_cast<void>(loop_->submit(
        Connect{address_}, [this](Loop&, Connect::Done done) { live_.sockets[1] = done.socket; }));
    if (!run_until([this] { return live_.sockets[0] && live_.sockets[1]; }, 5s)) {
        return failed("no live connection");
    }
    live_.start(*loop_);
    return run_until([this] { return live_.rounds > 10; }, 5s) || failed("the connection is dead");
}

// From here on no descriptor is free, and `waiting_count` connections want one.
void Storm::fill_table() {
    for (int index = 0; index < waiting_count; ++index) {
        waiting_.push_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    }
    spare_ = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    getrlimit(RLIMIT_NOFILE, &limit_);
    rlimit full = limit_;
    full.rlim_cur = static_cast<rlim_t>(spare_) + 1;
    setrlimit(RLIMIT_NOFILE, &full);
}

void Storm::connect_waiting() {
    for (const int fd : waiting_) {
        static_cast<void>(
            ::connect(fd, static_cast<const sockaddr*>(address_.data()), address_.length()));
    }
}

// Every connection is said to be gone: what accept(2) answers when a firewall forbids it (EPERM), and
// what a sandbox answers for ever.
bool Storm::gone() {
    bool ended = false;
    static_cast<void>(
        loop_->submit(Accept{listener_}, [&ended](Loop&, Accept::Done) { ended = true; }));
    plan({uring_ ? call_of_opcode(IORING_OP_ACCEPT) : call_of_system(SYS_accept4), EPERM, 1, true});
    const Instant start = clock_now();
    if (loop_->run_for(500ms)) return failed("the loop does not run");
    const auto passed_ms = static_cast<std::uint32_t>((clock_now() - start) / 1ms);
    const std::uint32_t made = attempts();
    std::printf("%u attempts in %u ms in which every connection is gone\n", made, passed_ms);
    if (made < 2 || ended) return failed("an aborted connection ended the accept");
    if (made > passed_ms + 1) return failed("more than one attempt a millisecond");
    plan({});
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const auto* there = static_cast<const sockaddr*>(address_.data());
    const bool connected = ::connect(fd, there, address_.length()) == 0;
    ::close(fd);
    return (connected && run_until([&ended] { return ended; }, 5s)) || failed("no recovery");
}

bool Storm::storm() {
    static_cast<void>(
        loop_->submit(AcceptStream{listener_}, [this](Loop&, AcceptStream::Done done) {
            if (done.error.value() == EMFILE) ++told_;
            if (!done.more) stream_ended_ = true;
            if (!done.error) accepted_.push_back(done.socket);
        }));
    plan({});  // counts from here
    storms_ = true;
    connect_waiting();
    for (int second = 1; second <= seconds; ++second) {
        const std::uint32_t attempts_before = attempts();
        const std::uint64_t rounds_before = live_.rounds;
        if (loop_->run_for(1s)) return failed("the loop does not run");
        const std::uint32_t made = attempts() - attempts_before;
        std::printf("second %d: %u attempts, %llu rounds on the live connection\n", second, made,
                    static_cast<unsigned long long>(live_.rounds - rounds_before));
        if (made > attempts_a_second_max) return failed("more than ten attempts a second");
        if (live_.rounds == rounds_before) return failed("the live connection is not served");
    }
    if (attempts() == 0) return failed("no attempt was counted");
    if (!accepted_.empty()) return failed("a connection was accepted without a descriptor");
    if (told_ != 1 || stream_ended_) return failed("the shortage is not told once");
    return true;
}

bool Storm::recover() {
    lateness_ = 0ns;
    const Instant start = clock_now();
    ::close(spare_);
    if (!run_until([this] { return !accepted_.empty(); }, 10s)) return failed("no recovery");
    const Nanoseconds took = clock_now() - start;
    std::printf("recovered after %lld ms; the machine was up to %lld ms late\n",
                static_cast<long long>(took / 1ms), static_cast<long long>(lateness_ / 1ms));
    if (took > 1s + lateness_) return failed("recovery took more than a second");
    return true;
}

// With descriptors for all, all are accepted.
bool Storm::refill() {
    setrlimit(RLIMIT_NOFILE, &limit_);
    if (!run_until([this] { return accepted_.size() == waiting_count; }, 10s)) {
        return failed("not every connection that waited was accepted");
    }
    return !stream_ended_ || failed("the stream has ended");
}

int Storm::run() {
    const long of_uring[] = {SYS_io_uring_setup, SYS_mmap, SYS_io_uring_enter};
    const long of_libev[] = {SYS_accept4};
    const Installed installed = uring_ ? install(of_uring, 3) : install(of_libev, 1);
    if (installed != Installed::yes) {
        std::printf("skipped: system calls cannot be trapped here\n");
        return 77;
    }
    const bool opened = open();
    if (!opened && !loop_) {
        std::printf("skipped: the backend is refused\n");
        return std::getenv("WHORL_TEST_NO_SKIP") == nullptr ? 77 : 1;
    }
    if (!opened || !gone()) return 1;
    fill_table();
    const bool good = storm() && recover() && refill();
    for (const int fd : waiting_) ::close(fd);
    loop_.reset();
    return good ? 0 : 1;
}

}  // namespace
}  // namespace fault

int main(int count, char** words) {
    bool uring = false, libev = false, canary = false;
    for (int index = 1; index < count; ++index) {
        uring = uring || std::strcmp(words[index], "io_uring") == 0;
        libev = libev || std::strcmp(words[index], "libev") == 0;
        canary = canary || std::strcmp(words[index], "--canary") == 0;
    }
    if (uring == libev) {
        std::fprintf(stderr, "usage: test-accept_storm io_uring|libev [--canary]\n");
        return 2;
    }
    fault::Storm storm(uring, canary);
    const int status = storm.run();
    std::fflush(stdout);
    _exit(status);  // LeakSanitizer would stop the process by calls that are trapped now
}
