// SPDX-License-Identifier: MIT
// whorl as a guest: a program with its own poll(2) loop and its own descriptors serves echo
// connections through whorl, which never blocks. The same three calls fit any other host.
//
//   guest_poll [--port N] [--backend automatic|io_uring|libev]
//
// The host's own descriptors: standard input, where a line asks for the number of connections, and a
// signalfd, which ends it on SIGINT and SIGTERM.
#include <whorl/whorl.hpp>

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace {

// One connection: receives into a buffer of the pool, sends it back, and again.
struct Echo {
    whorl::Socket socket;

    void operator()(whorl::Loop& loop, whorl::Recv::Done done) {
        if (done.error || done.buffer.empty() ||
            !loop.submit(whorl::SendAll{socket, std::move(done.buffer)}, this)) {
            finish(loop);
        }
    }
    void operator()(whorl::Loop& loop, whorl::SendAll::Done done) {
        if (done.error || !loop.submit(whorl::Recv{socket, std::move(done.buffer)}, this)) {
            finish(loop);
        }
    }
    void finish(whorl::Loop& loop) {
        (void)loop.close(socket, [this](whorl::Loop&) { delete this; });
    }
};

void accepted(whorl::Loop& loop, whorl::AcceptStream::Done done) {
    if (done.error) return;  // short of descriptors: it goes on by itself
    auto* echo = new Echo{done.socket};
    if (!loop.submit(whorl::Recv{done.socket, loop.buffer(4096)}, echo)) echo->finish(loop);
}

// How long poll(2) may sleep: until the next deadline, rounded up, since early would be in vain.
int poll_timeout(whorl::Loop& loop) {
    const whorl::Instant deadline = loop.next_deadline();
    if (deadline == whorl::instant_never) return -1;
    const whorl::Instant now = whorl::clock_now();
    if (deadline <= now) return 0;
    const auto ms = std::chrono::ceil<std::chrono::milliseconds>(deadline - now);
    return static_cast<int>(std::min<std::int64_t>(ms.count(), 3'600'000));
}

int fail(const char* what, const char* why) {
    std::fprintf(stderr, "guest_poll: %s: %s\n", what, why);
    return 1;
}

int serve(whorl::Loop& loop, int notify_fd, int signal_fd) {
    pollfd polled[] = {{notify_fd, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}, {signal_fd, POLLIN, 0}};
    for (;;) {
        // Before the first sleep, too: it hands over to the kernel what has been submitted.
        if (whorl::Error error = loop.process()) return fail("process", error.text());
        const int ready = ::poll(polled, 3, poll_timeout(loop));
        if (ready < 0 && errno != EINTR)
            return fail("poll", whorl::Error::from_errno(errno).text());
        if (polled[2].revents != 0) return 0;
        char line[256];
        if (polled[1].revents == 0) continue;
        if (::read(STDIN_FILENO, line, sizeof line) <= 0) polled[1].fd = -1;  // poll leaves it out
        else std::printf("host: %u connections\n", loop.statistics().handles - 1);
        std::fflush(stdout);
    }
}

}  // namespace

int main(int count, char** words) {
    whorl::LoopOptions options;
    int port = 7007;
    for (int index = 1; index + 1 < count; index += 2) {
        const std::string_view name = words[index], value = words[index + 1];
        if (name == "--port") port = std::atoi(words[index + 1]);
        else if (value == "io_uring") options.backend = whorl::Backend::io_uring;
        else if (value == "libev") options.backend = whorl::Backend::libev;
    }
    whorl::BackendReport report;
    whorl::Result<whorl::Loop> made = whorl::Loop::create(options, report);
    if (!made) return fail(made.error().text(), report.text);
    whorl::Loop& loop = *made;

    const auto address = whorl::Address::loopback_v4(static_cast<std::uint16_t>(port));
    const whorl::Result<whorl::Listener> listener = whorl::listen(loop, address);
    if (!listener) return fail("listen", listener.error().text());
    (void)loop.submit(whorl::AcceptStream{*listener}, &accepted);
    const whorl::Result<int> notify_fd = loop.notify_fd();
    if (!notify_fd) return fail("notify_fd", notify_fd.error().text());

    sigset_t signals;
    sigemptyset(&signals);
    for (const int number : {SIGINT, SIGTERM}) sigaddset(&signals, number);
    sigprocmask(SIG_BLOCK, &signals, nullptr);
    const int signal_fd = ::signalfd(-1, &signals, SFD_CLOEXEC);
    std::printf("listening on %s\nbackend %s\n",
                whorl::local_address(loop, *listener)->print().data, loop.backend_report().text);
    std::fflush(stdout);

    const int status = serve(loop, *notify_fd, signal_fd);
    if (whorl::Error error = loop.drain(std::chrono::seconds(5))) return fail("end", error.text());
    ::close(signal_fd);
    std::puts("stopped");
    return status;
}
