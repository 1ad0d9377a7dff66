// SPDX-License-Identifier: MIT
// The scenarios of guest_test.hpp inside a plain epoll(7) loop: the recipe of docs/guests.md, without an
// adapter.
#include "guests/guest_test.hpp"

#include <sys/epoll.h>

#include <whorl/adapters/guest.hpp>

#include <deque>
#include <map>

namespace {

class Epoll {
  public:
    Epoll() : epoll_(::epoll_create1(EPOLL_CLOEXEC)) {}
    Epoll(const Epoll&) = delete;
    Epoll& operator=(const Epoll&) = delete;
    ~Epoll() { ::close(epoll_); }

    whorl::Error attach(whorl::Loop& loop) {
        detach();
        const whorl::Result<int> fd = loop.notify_fd();
        if (!fd) return fd.error();
        guest_ = &loop;
        guest_fd_ = *fd;
        add(guest_fd_, nullptr);
        error_ = loop.process();
        if (error_) detach();
        return error_;
    }
    void detach() {
        if (guest_ == nullptr) return;
        ::epoll_ctl(epoll_, EPOLL_CTL_DEL, guest_fd_, nullptr);
        guest_ = nullptr;
    }
    whorl::Error error() const { return error_; }
    void watch(int fd, std::function<void()> call) {
        add(fd, &calls_.emplace_back(std::move(call)));
    }
    void after(int ms, std::function<void()> call) {
        timers_.emplace(whorl::clock_now() + std::chrono::milliseconds(ms), std::move(call));
    }
    void run() {
        for (running_ = true; running_;) {
            epoll_event events[16];
            const int count = ::epoll_wait(epoll_, events, 16, timeout_ms());
            bool guest = false;
            for (int at = 0; at < count && running_; ++at) {
                auto* call = static_cast<std::function<void()>*>(events[at].data.ptr);
                if (call == nullptr) guest = true;
                else (*call)();
            }
            fire();
            // What the calls above have submitted goes out with it, too.
            const bool due = guest_ != nullptr && guest_->next_deadline() <= whorl::clock_now();
            if (guest_ != nullptr && (guest || due)) error_ = guest_->process();
        }
    }
    void stop() { running_ = false; }

  private:
    void add(int fd, void* call) const {
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.ptr = call;
        EXPECT_EQ(::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event), 0);
    }
    // Until the first timer of either loop; -1 for ever.
    int timeout_ms() const {
        constexpr std::chrono::milliseconds unit(1);
        whorl::Nanoseconds delay(-1);
        if (guest_ != nullptr) delay = whorl::adapters::guest_delay(*guest_, unit);
        if (!timers_.empty()) {
            const auto left =
                std::max(timers_.begin()->first - whorl::clock_now(), whorl::Nanoseconds::zero());
            if (delay < whorl::Nanoseconds::zero() || left < delay) delay = left + unit;
        }
        return delay < whorl::Nanoseconds::zero() ? -1 : static_cast<int>(delay / unit);
    }
    void fire() {
        while (running_ && !timers_.empty() && timers_.begin()->first <= whorl::clock_now()) {
            const std::function<void()> call = std::move(timers_.begin()->second);
            timers_.erase(timers_.begin());
            call();
        }
    }

    int epoll_;
    bool running_ = false;
    std::deque<std::function<void()>> calls_;
    std::multimap<whorl::Instant, std::function<void()>> timers_;
    whorl::Loop* guest_ = nullptr;
    int guest_fd_ = -1;
    whorl::Error error_;
};

WHORL_GUEST_TESTS(Epoll)

}  // namespace
