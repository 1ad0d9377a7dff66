// SPDX-License-Identifier: MIT
// Asio's steady_timer: a binary heap of entries, and an operation on the heap for each wait. A cancelled
// wait completes through the loop, as operation_aborted.
//
// Asio looks at its timers when its timerfd has run out, and that one lives on the kernel's clock; so it
// is set to run out at once here, with the same system call.
#include <sys/timerfd.h>

#include <asio.hpp>

#include "timers.hpp"

extern "C" int timerfd_settime(int fd, int flags, const itimerspec* wanted,
                               itimerspec* old) noexcept {
    itimerspec now = *wanted;
    if (now.it_value.tv_sec != 0 || now.it_value.tv_nsec != 0) {
        flags = 0;
        now.it_value = {0, 1};
    }
    return static_cast<int>(syscall(SYS_timerfd_settime, fd, flags, &now, old));
}

namespace {

class Asio {
  public:
    static constexpr const char* name = "asio";
    explicit Asio(std::size_t count) {
        timers_.reserve(count);
        for (std::size_t i = 0; i != count; ++i) timers_.emplace_back(context_);
    }
    void arm(std::size_t i, std::uint64_t delay_ms) {
        timers_[i].expires_after(std::chrono::milliseconds(delay_ms));
        timers_[i].async_wait([i](const asio::error_code& error) {
            if (!error) bench::fired += i;
        });
    }
    void cancel(std::size_t i) { timers_[i].cancel(); }
    void push(std::size_t i, std::uint64_t delay_ms) { arm(i, delay_ms); }
    void step() {
        context_.restart();
        context_.poll();
    }

  private:
    asio::io_context context_{ASIO_CONCURRENCY_HINT_UNSAFE};
    std::vector<asio::steady_timer> timers_;
};

}  // namespace

WHORL_BENCH_TIMERS_MAIN(Asio)
