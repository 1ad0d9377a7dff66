// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/wall_clock.hpp>

#include "backend/host_calls.hpp"
#include "base/counted_ref.hpp"
#include "loop/core.hpp"

#include <cerrno>
#include <memory>

// A timerfd(2) each, which the loop watches. The kernel says with ECANCELED that the clock was set; what
// that means is looked up on the clock, and the timer is armed anew, since the kernel says it once for
// each arming.

namespace whorl {

namespace detail {

namespace {

WallInstant reading(System& system) noexcept {
    return WallInstant(Nanoseconds(system.host_calls().wall_clock_ns()));
}

}  // namespace

// Owned by the handler of its watch.
class WallState : public Counted, public Allocated<WallState> {
  public:
    WallState(Loop& loop, WallInstant instant, const WallOptions& options,
              std::unique_ptr<WallListener> listener) noexcept
        : system_(loop.core().system), listener_(std::move(listener)), instant_(instant),
          tells_jumps_(options.tell_jumps) {}
    ~WallState() { close(); }
    WallState(const WallState&) = delete;
    WallState& operator=(const WallState&) = delete;

    static Result<WallTimer> open(Loop& loop, WallInstant instant, const WallOptions& options,
                                  std::unique_ptr<WallListener> listener);
    void cancel(Loop& loop) noexcept;
    Error move(WallInstant instant) noexcept {
        instant_ = instant;
        return arm();
    }

  private:
    Error arm() noexcept {
        const std::int64_t when = instant_.time_since_epoch().count();
        const int done = system_.host_calls().wall_timer_set(fd_, when);
        return done < 0 ? Error::from_errno(done) : Error();
    }
    void readable(Loop& loop, const Watched& watched);
    void last(Loop& loop, WallExpired::Why why, Error error);
    void close() noexcept {
        if (fd_ >= 0) static_cast<void>(system_.close(fd_));
        fd_ = -1;
    }

    System& system_;
    std::unique_ptr<WallListener> listener_;
    WallInstant instant_;
    bool tells_jumps_;
    int fd_ = -1;
    Watch watch_;
};

Result<WallTimer> WallState::open(Loop& loop, WallInstant instant, const WallOptions& options,
                                  std::unique_ptr<WallListener> listener) {
    loop.core().check_thread();
    if (listener == nullptr) return Error::from_errno(ENOMEM);
    const CountedRef<WallState> state(new (std::nothrow)
                                          WallState(loop, instant, options, std::move(listener)));
    if (state.get() == nullptr) return Error::from_errno(ENOMEM);
    state->fd_ = state->system_.host_calls().wall_timer();
    if (state->fd_ < 0) return Error::from_errno(state->fd_);
    if (Error error = state->arm()) return error;
    const auto handler = [state](Loop& here, const Watched& watched) {
        state->readable(here, watched);
    };
    const Result<Watch> watch = loop.watch(state->fd_, Interest::readable, handler);
    if (!watch) return watch.error();
    state->watch_ = *watch;
    WallTimer timer;
    timer.watch_ = *watch;
    timer.state_ = state.get();
    return timer;
}

void WallState::cancel(Loop& loop) noexcept {
    const CountedRef<WallState> self(this);
    static_cast<void>(loop.cancel(watch_));
    close();
}

// The clock alone says whether it is due: it may have been set back since the timer fired.
void WallState::readable(Loop& loop, const Watched& watched) {
    if (watched.error) return last(loop, WallExpired::Why::failed, watched.error);
    std::uint64_t count = 0;
    ssize_t got = -EINTR;
    while (got == -EINTR) got = system_.read(fd_, &count, sizeof count);
    if (got == -EAGAIN) return;
    const bool jumped = got == -ECANCELED;
    if (got < 0 && !jumped) {
        return last(loop, WallExpired::Why::failed, Error::from_errno(static_cast<int>(got)));
    }
    const WallInstant now = reading(system_);
    if (now >= instant_) return last(loop, WallExpired::Why::due, Error());
    if (Error error = arm()) return last(loop, WallExpired::Why::failed, error);
    if (jumped && tells_jumps_) {
        listener_->expired(loop, {WallExpired::Why::clock_set, instant_, now});
    }
}

void WallState::last(Loop& loop, WallExpired::Why why, Error error) {
    const CountedRef<WallState> self(this);
    static_cast<void>(loop.cancel(watch_));
    close();
    const std::unique_ptr<WallListener> listener = std::move(listener_);
    listener->expired(loop, {why, instant_, reading(system_), error});
}

Result<WallTimer> wall_timer_open(Loop& loop, WallInstant instant, const WallOptions& options,
                                  WallListener* listener) {
    return WallState::open(loop, instant, options, std::unique_ptr<WallListener>(listener));
}

}  // namespace detail

WallInstant wall_now(Loop& loop) noexcept { return detail::reading(loop.core().system); }

bool WallTimer::cancel(Loop& loop) const noexcept {
    if (loop.core().watch_find(watch_.value()) == nullptr) return false;
    state_->cancel(loop);
    return true;
}

Error WallTimer::move(Loop& loop, WallInstant instant) const noexcept {
    if (loop.core().watch_find(watch_.value()) == nullptr) return Error::stale_handle;
    return state_->move(instant);
}

}  // namespace whorl
