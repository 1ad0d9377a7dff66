// SPDX-License-Identifier: MIT
// Asio's steady_timer: a binary heap of entries, and an operation on the heap for each wait. A cancelled
// wait completes through the loop, as operation_aborted.
//
// Asio looks at its timers when its timerfd has run out, and that one lives on the kernel's clock. So the
// loop gets an eventfd in its place that is always readable, and sets a timerfd beside it: the system calls
// are the same, and no interrupt comes in between.
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include <asio.hpp>

#include "timers.hpp"

extern "C" int timerfd_create(int, int) noexcept { return eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK); }

extern "C" int timerfd_settime(int, int flags, const itimerspec* wanted, itimerspec* old) noexcept {
    static const long beside = syscall(SYS_timerfd_create, CLOCK_MONOTONIC, TFD_CLOEXEC);
    return static_cast<int>(syscall(SYS_timerfd_settime, beside, flags, wanted, old));
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
