// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/libev_driver.hpp"

#include "backend/lend.hpp"
#include "backend/select.hpp"
#include "backend/work_calls.hpp"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <utility>

// Waiting: what goes into a batch, in which order, and for how long the kernel is asked.
//
// Deadlines go through a timerfd in the epoll set. libev's own timers and epoll_wait round to
// milliseconds, and a ppoll before it would cost two more system calls a turn; a timerfd is exact and,
// other than poll and epoll timeouts, not subject to the thread's timer slack (50 us by default). It is
// set only when the next deadline is nearer than what it is set to: a server whose idle timeouts move
// on with every message does not touch it, and pays one idle turn when a moved deadline would have
// been due.

namespace whorl::detail {

namespace {
constexpr Instant instant_now{Nanoseconds(1)};  // long past: a timer set to it fires at once

// The driver that this thread waits in: libev does not hand on more than its loop.
thread_local LibevDriver* waiting = nullptr;
}  // namespace

Result<Driver*> make_libev_driver(const DriverContext& context, BackendReport& report) noexcept {
    Result<LibevLibrary> library = load_libev(libev_name);
    if (!library) {
        report.failed_step = "dlopen";
        report.failed_errno = library.error().is_errno() ? library.error().value() : 0;
        return library.error();
    }
    auto* driver = new (std::nothrow) LibevDriver(context, *library);
    if (driver == nullptr) {
        library->close();
        return Error::from_errno(ENOMEM);
    }
    if (Error error = driver->open(report)) {
        delete driver;
        return error;
    }
    report.features = 0;
    return static_cast<Driver*>(driver);
}

Error LibevDriver::open(BackendReport& report) noexcept {
    const auto refused = [&report](const char* step, int number) {
        report.failed_step = step;
        report.failed_errno = number != 0 ? number : ENOMEM;
        return Error::from_errno(report.failed_errno);
    };
    const LoopOptions& options = context_.options;
    const auto watchers_max = std::min<std::uint64_t>(
        std::uint64_t{options.handles_max} + options.ops_max, std::uint64_t{1} << 31);
    if (watchers_.reserve(static_cast<std::uint32_t>(watchers_max))) return refused("mmap", ENOMEM);
    timer_fd_ = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (timer_fd_ < 0) return refused("timerfd_create", errno);
    // NOENV: LIBEV_FLAGS in the environment would replace epoll, even by libev's own io_uring.
    errno = 0;
    loop_ = libev_.ev_loop_new(static_cast<unsigned>(EVFLAG_NOENV) |
                               static_cast<unsigned>(EVFLAG_NOINOTIFY) |
                               static_cast<unsigned>(EVBACKEND_EPOLL));
    if (loop_ == nullptr) return refused("ev_loop_new", errno);
    libev_init(timer_io_, &on_timer, this);
    libev_set(timer_io_, timer_fd_, EV_READ);
    libev_.ev_io_start(loop_, &timer_io_);  // stays: ev_run() does not wait without a watcher
    libev_.ev_run(loop_, EVRUN_NOWAIT);     // the kernel is asked now, and says now if it refuses
    if (refused_) return refused("epoll_ctl", refused_.value());
    libev_.ev_set_loop_release_cb(loop_, &on_release, nullptr);
    return {};
}

LibevDriver::~LibevDriver() {
    delete work_;
    if (loop_ != nullptr) libev_.ev_loop_destroy(loop_);
    watchers_.for_each_live([](Watcher& watcher) {
        if (watcher.inner_fd >= 0) ::close(watcher.inner_fd);
    });
    for (int fd : {timer_fd_, wake_fd_, notify_fd_}) {
        if (fd >= 0) ::close(fd);
    }
    libev_.close();
}

// Submissions come first, so that a reply leaves before the next message is read, and readiness takes
// what room is left. When that was none, readiness comes first in the next wait. If submissions alone
// have brought completions, the kernel is not asked, but not twice in a row.
Error LibevDriver::wait(OpList& submissions, Nanoseconds timeout, CompletionBatch& batch) noexcept {
    WHORL_ASSERT(batch.count == 0 && batch.capacity != 0);
    const std::uint32_t capacity = batch.capacity;
    batch.capacity = std::min(capacity, completions_at_a_time);
    batch_ = &batch;
    woken_ = false;
    take(submissions);
    if (notify_fd_ >= 0 && (timer_fired_ || timer_target_ == instant_now)) {
        timer_set(instant_never);  // the host has seen it
    }
    const bool readiness_first = crowded_;
    bool looked = false;
    if (readiness_first) {
        serve_deferred();
        looked = !batch.full();
        if (looked) run_libev(EVRUN_NOWAIT);
    }
    deliver_cancelled();
    if (work_left_) work_collect();
    run_backlog();
    serve_deferred();
    if (batch.count == 0) {
        wait_for_events(timeout);
        looked = true;
    } else if (!batch.full() && !looked && (skipped_ || notify_fd_ >= 0)) {
        run_libev(EVRUN_NOWAIT);
        looked = true;
    }
    skipped_ = !looked;
    crowded_ = batch.full() && !readiness_first;
    batch_ = nullptr;
    batch.capacity = capacity;
    if (!backlog_.empty() || !cancelled_.empty() || work_left_) notify_host();
    if (refused_) return std::exchange(refused_, Error());
    return rebuilt_ && notify_fd_ >= 0 ? notify_attach() : Error();
}

// Only epoll_wait(2) could tell what has become ready.
bool LibevDriver::quiet() noexcept {
    const bool lists_empty = backlog_.empty() && cancelled_.empty() && deferred_head_ == 0;
    if (!lists_empty || work_left_ || crowded_ || notify_fd_ >= 0) return false;
    return ++quiet_turns_ < quiet_turns_max;
}

// From here on the records are with the backend. The two lists are joined as a whole.
void LibevDriver::take(OpList& submissions) noexcept {
    Slab<OpRecord>& operations = context_.operations;
    if (submissions.empty()) return;
    for (std::uint32_t index = submissions.head; index != 0; index = operations.at(index).link) {
        lend(operations.at(index));
        ++context_.statistics.submissions;
    }
    if (backlog_.empty()) {
        backlog_ = submissions;
    } else {
        operations.at(backlog_.tail).link = submissions.head;
        operations.at(submissions.head).link_previous = backlog_.tail;
        backlog_.tail = submissions.tail;
    }
    submissions = {};
}

void LibevDriver::deliver_cancelled() noexcept {
    while (!batch_->full()) {
        OpRecord* record = cancelled_.pop_front(context_.operations);
        if (record == nullptr) return;
        WHORL_ASSERT((record->flags & op_ending) != 0);
        record->flags &= static_cast<std::uint16_t>(~op_ending);
        push(*record, -ECANCELED);
    }
}

void LibevDriver::run_backlog() noexcept {
    while (!batch_->full()) {
        OpRecord* record = backlog_.pop_front(context_.operations);
        if (record == nullptr) return;
        start(*record);
    }
}

void LibevDriver::serve_deferred() noexcept {
    while (!batch_->full() && deferred_head_ != 0) {
        Watcher& watcher = watchers_.at(deferred_head_);
        deferred_head_ = watcher.link;
        if (deferred_head_ == 0) deferred_tail_ = 0;
        const int events = watcher.deferred;
        watcher.deferred = 0;
        if (watcher.is_forgotten) watchers_.release(&watcher);
        else if (watcher.is_watch) serve_watch(watcher, events);
        else serve(watcher, events);
    }
}

void LibevDriver::run_libev(int flags) noexcept {
    WHORL_ASSERT(!batch_->full() && deferred_head_ == 0);  // invariant 3
    quiet_turns_ = 0;
    ++context_.statistics.kernel_waits;
    waiting = flags == EVRUN_ONCE ? this : nullptr;
    libev_.ev_run(loop_, flags);
    waiting = nullptr;
}

// ev_run() also returns for a signal, once a minute, and for what turns out to be nothing; then it is
// entered again.
void LibevDriver::wait_for_events(Nanoseconds timeout) noexcept {
    if (woken_ || timeout == Nanoseconds::zero()) return run_libev(EVRUN_NOWAIT);
    const bool unlimited = timeout < Nanoseconds::zero();
    const Instant deadline = unlimited ? instant_never : add_saturating(clock_now(), timeout);
    do {
        timer_aim(deadline);
        run_libev(EVRUN_ONCE);
        if (batch_->count != 0 || woken_ || refused_) return;
    } while (unlimited || clock_now() < deadline);
}

void LibevDriver::timer_aim(Instant deadline) noexcept {
    if (!timer_fired_ && timer_target_ <= deadline) return;
    timer_set(deadline);
}

// Setting a timerfd also makes it unreadable, so that it need not be read.
void LibevDriver::timer_set(Instant deadline) noexcept {
    itimerspec setting{};
    if (deadline != instant_never) {
        const std::int64_t ns = deadline.time_since_epoch().count();
        setting.it_value.tv_sec = ns / 1'000'000'000;
        setting.it_value.tv_nsec = ns % 1'000'000'000;
    }
    timer_target_ = deadline;
    timer_fired_ = false;
    const int set = timerfd_settime(timer_fd_, TFD_TIMER_ABSTIME, &setting, nullptr);
    WHORL_ASSERT(set == 0);
}

// libev is about to wait. A registration that the kernel has refused (fs.epoll.max_user_watches, memory)
// is pending by now, but would be told only after the wait, which may last a minute.
void LibevDriver::on_release(struct ev_loop* loop) noexcept {
    if (waiting == nullptr || waiting->libev_.ev_pending_count(loop) == 0) return;
    waiting->timer_set(instant_now);
}

// A descriptor of our own is not watched: without it the driver does not work. It is offered to the
// kernel again in the next wait.
void LibevDriver::own_refused(ev_io& io) noexcept {
    refused_ = Error::from_errno(ENOSPC);
    libev_set(io, io.fd, EV_READ);
    libev_.ev_io_start(loop_, &io);
}

void LibevDriver::on_timer(struct ev_loop*, ev_io* io, int events) noexcept {
    auto& driver = *static_cast<LibevDriver*>(io->data);
    driver.timer_fired_ = true;
    if ((static_cast<unsigned>(events) & EV_ERROR) != 0) driver.own_refused(*io);
}

void LibevDriver::on_wake(struct ev_loop*, ev_io* io, int events) noexcept {
    auto& driver = *static_cast<LibevDriver*>(io->data);
    if ((static_cast<unsigned>(events) & EV_ERROR) != 0) return driver.own_refused(*io);
    std::uint64_t count = 0;
    static_cast<void>(!::read(driver.wake_fd_, &count, sizeof count));
    driver.woken_ = true;
}

// Of a descriptor of our own, so that libev never meets a closed one, whoever closes the caller's.
Error LibevDriver::watch_wake(int event_fd) noexcept {
    WHORL_ASSERT(wake_fd_ < 0);
    wake_fd_ = ::fcntl(event_fd, F_DUPFD_CLOEXEC, 0);
    if (wake_fd_ < 0) return Error::from_errno(errno);
    libev_init(wake_io_, &on_wake, this);
    libev_set(wake_io_, wake_fd_, EV_READ);
    libev_.ev_io_start(loop_, &wake_io_);
    return {};
}

void LibevDriver::cancel(OpRecord& record) noexcept {
    WHORL_ASSERT(record.state == OpState::kernel);
    if ((record.flags & op_ending) != 0) return;
    if (is_blocking(record.kind) && (record.flags & op_in_pool) != 0) {
        if (!work_->cancel(record)) return;  // it has begun: its end will be told
        record.flags &= static_cast<std::uint16_t>(~op_in_pool);
        --work_out_;
    } else if (!disarm(record)) {
        backlog_.remove(context_.operations, record);
    }
    record.flags |= op_ending;
    cancelled_.push_back(context_.operations, record);
    notify_host();
}

// --- Guest loops: somebody else waits, on a descriptor that stays the same.
//
// libev makes a new epoll descriptor when it finds that the kernel's set cannot be repaired (events of
// a file that was closed here and lives on in a child process). So the host gets an epoll of ours with
// libev's inside, and that is put in anew when libev says that it rebuilds.

Result<int> LibevDriver::notify_fd() noexcept {
    if (notify_fd_ >= 0) return notify_fd_;
    notify_fd_ = epoll_create1(EPOLL_CLOEXEC);
    if (notify_fd_ < 0) return Error::from_errno(errno);
    if (Error error = notify_attach()) {
        ::close(notify_fd_);
        notify_fd_ = -1;
        return error;
    }
    watch_rebuild();
    notify_host();  // interest that libev has not yet told the kernel
    return notify_fd_;
}

Error LibevDriver::notify_attach() noexcept {
    rebuilt_ = false;
    const int fd = backend_fd();
    if (fd < 0) return Error::from_errno(ENOMEM);
    epoll_event event{};
    event.events = EPOLLIN;
    const bool attached = epoll_ctl(notify_fd_, EPOLL_CTL_ADD, fd, &event) == 0 || errno == EEXIST;
    return attached ? Error() : Error::from_errno(errno);
}

// libev 4.33 has no call that tells its epoll descriptor, but what embeds one loop in another watches
// just that. The other loop uses select and owns nothing of the kernel's.
int LibevDriver::backend_fd() noexcept {
    struct ev_loop* outer = libev_.ev_loop_new(static_cast<unsigned>(EVFLAG_NOENV) |
                                               static_cast<unsigned>(EVFLAG_NOINOTIFY) |
                                               static_cast<unsigned>(EVBACKEND_SELECT));
    if (outer == nullptr) return -1;
    ev_embed embed{};
    embed.other = loop_;
    libev_.ev_embed_start(outer, &embed);
    const int fd = embed.io.fd;
    libev_.ev_embed_stop(outer, &embed);
    libev_.ev_loop_destroy(outer);
    return fd;
}

void LibevDriver::watch_rebuild() noexcept {
    if (rebuild_.active != 0) return;
    libev_init(rebuild_, &on_rebuild, this);
    libev_.ev_fork_start(loop_, &rebuild_);
}

void LibevDriver::on_rebuild(struct ev_loop*, ev_fork* watcher, int) noexcept {
    auto* const driver = static_cast<LibevDriver*>(watcher->data);
    driver->rebuilt_ = true;
    driver->epoll_fd_ = -1;
}

// Makes the host's descriptor readable for what epoll cannot know: a timer that is due.
void LibevDriver::notify_host() noexcept {
    if (notify_fd_ >= 0 && timer_target_ != instant_now) timer_set(instant_now);
}

}  // namespace whorl::detail
