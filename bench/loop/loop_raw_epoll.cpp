// SPDX-License-Identifier: MIT
// Plain epoll in the cases of cases.hpp: ping-pong, and an eventfd to be woken with.
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "cases.hpp"

namespace {

class Loop {
  public:
    static constexpr const char* name = "raw_epoll";
    Loop() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {}
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;
    ~Loop() {
        (void)close(epoll_);
        if (wake_fd_ >= 0) (void)close(wake_fd_);
    }
    void run() {
        epoll_event events[256];
        while (!stopped_) {
            const int count = epoll_wait(epoll_, events, 256, -1);
            for (int index = 0; index < count; ++index) ready_(*this, events[index].data.ptr);
        }
    }
    void stop() { stopped_ = true; }
    static void finish() {}

    template <class End>
    void watch(End& end) {
        ready_ = [](Loop&, void* user) { static_cast<End*>(user)->ready(); };
        add(end.read_fd, &end);
    }

    void inbox(bench::Inbox& box) {
        wake_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        ready_ = [](Loop& loop, void* user) {
            std::uint64_t count = 0;
            (void)!read(loop.wake_fd_, &count, sizeof count);
            auto* woken = static_cast<bench::Inbox*>(user);
            woken->woken();
            if (woken->finished) loop.stop();
        };
        add(wake_fd_, &box);
    }
    void give(bench::Inbox& box, std::uint64_t value) {
        box.put(value);
        const std::uint64_t one = 1;
        (void)!write(wake_fd_, &one, sizeof one);
    }

  private:
    void add(int fd, void* user) {
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.ptr = user;
        if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) std::perror("epoll_ctl");
    }
    int epoll_;
    int wake_fd_ = -1;
    bool stopped_ = false;
    void (*ready_)(Loop& loop, void* user) = nullptr;
};

}  // namespace

int main(int argc, char** argv) { return bench::loop_main<Loop>(argc, argv); }
