// SPDX-License-Identifier: MIT
#include "interleave/model_loop.hpp"

#include "backend/run_seam.hpp"
#include "backend/select.hpp"
#include "loop/remote_state.hpp"

#include <cstdlib>
#include <new>
#include <utility>

namespace interleave {

namespace {

std::uint32_t sleeps = 0;
std::uint32_t wakes_of_a_sleep = 1;

// How many wake calls there may have been in this execution so far.
std::uint32_t wakes_allowed() { return sleeps * wakes_of_a_sleep; }

}  // namespace

// Can wait, and nothing else.
class WaitingDriver : public whorl::detail::Driver {
  public:
    whorl::Error bind() noexcept override { return {}; }
    whorl::Error wait(whorl::detail::OpList&, whorl::Nanoseconds timeout,
                      whorl::detail::CompletionBatch&) noexcept override {
        explorer().event_wait(event_fd_, timeout != whorl::Nanoseconds::zero(), true);
        return {};
    }
    void cancel(whorl::detail::OpRecord&) noexcept override {}
    void flush() noexcept override {}
    void forget(whorl::detail::Descriptor&) noexcept override {}
    void forget_watch(whorl::detail::OpRecord&) noexcept override {}
    whorl::Error watch_wake(int event_fd) noexcept override {
        event_fd_ = event_fd;
        return {};
    }
    whorl::Result<int> notify_fd() noexcept override { return event_fd_; }

  private:
    int event_fd_ = -1;
};

whorl::Loop make_loop() {
    whorl::LoopOptions options;
    options.ops_max = options.handles_max = options.posts_max = 4;
    options.completions_per_turn = 1;
    whorl::Result<whorl::Loop> loop = whorl::Loop::create(options);
    explorer().check(loop.has_value(), "Loop::create");
    return std::move(*loop);
}

void watch_sleeps(std::uint32_t wakes_per_sleep) {
    sleeps = 0;
    wakes_of_a_sleep = wakes_per_sleep;
    explorer().on_write([](const void* tag, Word value) {
        using whorl::detail::Sleep;
        if (tag != Atomic<Sleep>::tag()) return;
        if (static_cast<Sleep>(value) == Sleep::sleeping) ++sleeps;
    });
}

}  // namespace interleave

namespace whorl {

Instant clock_now() noexcept { return Instant(Nanoseconds(1'000'000'000)); }

namespace detail {

namespace {

// The system of the model: one eventfd, and a clock that stands still.
class ModelSystem final : public System {
  public:
    Instant now() noexcept override { return clock_now(); }
    int eventfd(unsigned, int) noexcept override { return interleave::explorer().event_make(); }
    ssize_t write(int fd, const void*, std::size_t size) noexcept override {
        interleave::explorer().event_write(fd);
        interleave::explorer().check(
            interleave::explorer().event_writes() <= interleave::wakes_allowed(),
            "more than one wake call for one sleep");
        return static_cast<ssize_t>(size);
    }
    int close(int fd) noexcept override {
        interleave::explorer().event_close(fd);
        return 0;
    }

    // Nothing else is asked for.
    int socket(int, int, int) noexcept override { return -ENOSYS; }
    int bind(int, const sockaddr*, socklen_t) noexcept override { return -ENOSYS; }
    int listen(int, int) noexcept override { return -ENOSYS; }
    int shutdown(int, int) noexcept override { return -ENOSYS; }
    int socketpair(int, int, int, int[2]) noexcept override { return -ENOSYS; }
    int socket_mode(int, mode_t) noexcept override { return -ENOSYS; }
    int set_blocking(int) noexcept override { return -ENOSYS; }
    int unlink_socket(const char*) noexcept override { return -ENOSYS; }
    ssize_t write_quietly(int, const void*, std::size_t) noexcept override { return -ENOSYS; }
    int sendmmsg(int, mmsghdr*, unsigned, int) noexcept override { return -ENOSYS; }
    ssize_t writev_quietly(int, const iovec*, int) noexcept override { return -ENOSYS; }
    ssize_t splice(int, int, std::size_t) noexcept override { return -ENOSYS; }
    ssize_t tee(int, int, std::size_t) noexcept override { return -ENOSYS; }
    int pipe2(int[2], int) noexcept override { return -ENOSYS; }
    int duplicate(int) noexcept override { return -ENOSYS; }
    int pipe_access(int) noexcept override { return -ENOSYS; }
    int connect(int, const sockaddr*, socklen_t) noexcept override { return -ENOSYS; }
    ssize_t recvmsg(int, msghdr*, int) noexcept override { return -ENOSYS; }
    int getsockname(int, sockaddr*, socklen_t*) noexcept override { return -ENOSYS; }
    int getpeername(int, sockaddr*, socklen_t*) noexcept override { return -ENOSYS; }
    int setsockopt(int, int, int, const void*, socklen_t) noexcept override { return -ENOSYS; }
    int getsockopt(int, int, int, void*, socklen_t*) noexcept override { return -ENOSYS; }
    ssize_t recv(int, void*, std::size_t, int) noexcept override { return -ENOSYS; }
    ssize_t read(int, void*, std::size_t) noexcept override { return -ENOSYS; }
    int epoll_create1(int) noexcept override { return -ENOSYS; }
    int epoll_ctl(int, int, int, epoll_event*) noexcept override { return -ENOSYS; }
    int poll_now(pollfd*, nfds_t) noexcept override { return -ENOSYS; }
    FileCalls& file_calls() noexcept override { std::abort(); }
    HostCalls& host_calls() noexcept override { std::abort(); }
    ProcessCalls& process_calls() noexcept override { std::abort(); }
    RingCalls& ring_calls() noexcept override { std::abort(); }
};

}  // namespace

System& system_for(const LoopOptions&) noexcept {
    static ModelSystem system;
    return system;
}

KernelVersion kernel_version_running() noexcept { return {}; }

Result<RunSeam*> make_run_recorder(const LoopOptions&) noexcept {
    return Error::from_errno(ENOSYS);
}

Result<Driver*> select_driver(const DriverContext&, const KernelVersion&,
                              BackendReport& report) noexcept {
    report = BackendReport{};
    Driver* driver = new (std::nothrow) interleave::WaitingDriver;
    return driver;
}

}  // namespace detail
}  // namespace whorl
