// SPDX-License-Identifier: MIT
// In a loop of epoll_wait(2): the three calls of docs/guests.md.
#include "guest_bench.hpp"

#include <sys/epoll.h>

#include <cerrno>

#include <whorl/adapters/guest.hpp>

namespace {
class Epoll {
  public:
    Epoll() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {}
    Epoll(const Epoll&) = delete;
    Epoll& operator=(const Epoll&) = delete;
    ~Epoll() { ::close(epoll_); }
    whorl::Error attach(whorl::Loop& loop) {
        const whorl::Result<int> fd = loop.notify_fd();
        if (!fd) return fd.error();
        loop_ = &loop;
        epoll_event wanted{};
        wanted.events = EPOLLIN;
        if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, *fd, &wanted) != 0)
            return whorl::Error::from_errno(errno);
        return loop.process();
    }
    void detach() {}
    void run() {
        while (running_) {
            epoll_event events[16];
            const whorl::Instant next = loop_->next_deadline();
            const bool timer = next != whorl::Instant::max();
            const int wait = !timer ? -1 : next <= whorl::clock_now() ? 0 : 1;
            // io_uring may interrupt it to run what it has for this thread.
            const int ready = ::epoll_wait(epoll_, events, 16, wait);
            bench::must(ready >= 0 || errno == EINTR, "epoll_wait");
            bench::must(!loop_->process(), "process");
        }
    }
    void stop() { running_ = false; }

  private:
    int epoll_;
    whorl::Loop* loop_ = nullptr;
    bool running_ = true;
};
}  // namespace

WHORL_GUEST_BENCH(Epoll, "epoll")
