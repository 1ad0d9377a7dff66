// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/libev_driver.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>

// Readiness: which events each descriptor waits for, and who is served when they come.

namespace whorl::detail {

namespace {

// The kernel refused a registration. libev keeps the reason to itself; with an open descriptor only
// the limit fs.epoll.max_user_watches remains (or memory, which epoll_ctl(2) calls by another name).
std::int32_t refusal_of(int fd) noexcept { return ::fcntl(fd, F_GETFD) < 0 ? -EBADF : -ENOSPC; }

// EBADF for a number that names nothing, or only a path (O_PATH): libev aborts when epoll refuses such.
int refusal_to_poll(int fd) noexcept {
    pollfd asked{fd, 0, 0};
    if (fd < 0) return EBADF;
    if (::poll(&asked, 1, 0) < 0) return errno;
    return (asked.revents & POLLNVAL) != 0 ? EBADF : 0;
}

}  // namespace

// --- Watchers

LibevDriver::Watcher* LibevDriver::watcher_claim(WaitingIo callback) noexcept {
    Watcher* watcher = watchers_.claim();
    if (watcher == nullptr) return nullptr;
    libev_init(watcher->io, callback, watcher);
    watcher->io.next = nullptr;
    watcher->driver = this;
    watcher->read = 0;
    watcher->write = 0;
    watcher->wanted = 0;
    watcher->deferred = 0;
    watcher->inner_fd = -1;
    watcher->is_watch = false;
    watcher->is_forgotten = false;
    watcher->is_nonblocking = false;
    return watcher;
}

LibevDriver::Watcher* LibevDriver::watcher_of(Descriptor& descriptor) noexcept {
    if (descriptor.backend != nullptr) return static_cast<Watcher*>(descriptor.backend);
    Watcher* watcher = watcher_claim(&on_descriptor);
    if (watcher == nullptr) return nullptr;
    libev_set(watcher->io, descriptor.fd, 0);
    descriptor.backend = watcher;
    return watcher;
}

// Null until the watch was started once.
LibevDriver::Watcher* LibevDriver::watcher_of(OpRecord& watch) noexcept {
    WHORL_ASSERT(watch.kind == OpKind::watch);
    if ((watch.flags & op_watched) == 0) return nullptr;
    return &watchers_.at(watch.as<std::uint32_t>());
}

// A watcher in deferred_ is released when it is taken from there.
void LibevDriver::watcher_release(Watcher& watcher) noexcept {
    WHORL_ASSERT(watcher.read == 0 && watcher.write == 0);
    libev_.ev_io_stop(loop_, &watcher.io);  // drops what is pending for it, too
    if (watcher.inner_fd >= 0) ::close(watcher.inner_fd);
    watcher.inner_fd = -1;
    watcher.is_forgotten = true;
    if (watcher.deferred == 0) watchers_.release(&watcher);
}

void LibevDriver::forget(Descriptor& descriptor) noexcept {
    if (descriptor.backend == nullptr) return;
    watcher_release(*static_cast<Watcher*>(descriptor.backend));
    descriptor.backend = nullptr;
}

// libev leaves it to close(2) to take a descriptor out of the epoll set. One that stays open would go on to
// wake us, until libev finds that and removes its number, which may be another file's by then. When it comes
// back, libev adds it again: libev_set() has told it not to trust what it knows.
void LibevDriver::let_go(Descriptor& descriptor) noexcept {
    if (descriptor.backend == nullptr) return;
    const int fd = descriptor.fd;
    forget(descriptor);
    if (epoll_fd_ < 0) {
        watch_rebuild();
        epoll_fd_ = backend_fd();
    }
    epoll_event none{};
    if (epoll_fd_ >= 0) static_cast<void>(epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, &none));
}

void LibevDriver::forget_watch(OpRecord& record) noexcept {
    Watcher* watcher = watcher_of(record);
    if (watcher == nullptr) return;
    record.flags &= static_cast<std::uint16_t>(~op_watched);
    watcher_release(*watcher);
}

// --- Armed operations

void LibevDriver::arm(OpRecord& record) noexcept {
    Watcher* watcher = watcher_of(context_.descriptors.at(record.descriptor));
    if (watcher == nullptr) return push(record, -ENOMEM);
    const bool reads = side_of(record.kind) == Side::read;
    std::uint32_t& side = reads ? watcher->read : watcher->write;
    WHORL_ASSERT(side == 0);
    side = context_.operations.index_of(&record);
    rearm(*watcher);
}

// False when the record is not armed.
bool LibevDriver::disarm(OpRecord& record) noexcept {
    const std::uint32_t index = context_.operations.index_of(&record);
    Watcher* watcher = nullptr;
    if (record.kind == OpKind::watch) {
        watcher = watcher_of(record);
    } else if (record.descriptor != 0) {
        watcher = static_cast<Watcher*>(context_.descriptors.at(record.descriptor).backend);
    }
    if (watcher == nullptr || (watcher->read != index && watcher->write != index)) return false;
    (watcher->read == index ? watcher->read : watcher->write) = 0;
    if (watcher->is_watch) libev_.ev_io_stop(loop_, &watcher->io);
    else rearm(*watcher);
    return true;
}

// Lets a descriptor's ev_io wait for what its armed sides need. libev tells the kernel in its next
// ev_run() and only what has changed by then: a side that ends and is armed again in between costs
// no system call.
void LibevDriver::rearm(Watcher& watcher) noexcept {
    const int wanted = (watcher.read != 0 ? EV_READ : 0) | (watcher.write != 0 ? EV_WRITE : 0);
    const int current = watcher.io.active != 0 ? watcher.io.events : 0;
    if (wanted == current) return;
    libev_.ev_io_stop(loop_, &watcher.io);
    if (wanted == 0) return;
    libev_modify(watcher.io, wanted);
    libev_.ev_io_start(loop_, &watcher.io);
}

void LibevDriver::defer(Watcher& watcher, int events) noexcept {
    const bool listed = watcher.deferred != 0;
    watcher.deferred |= events;
    if (listed) return;
    const std::uint32_t index = watchers_.index_of(&watcher);
    watcher.link = 0;
    if (deferred_tail_ != 0) watchers_.at(deferred_tail_).link = index;
    else deferred_head_ = index;
    deferred_tail_ = index;
}

void LibevDriver::on_descriptor(struct ev_loop*, ev_io* io, int events) noexcept {
    auto& watcher = *static_cast<Watcher*>(io->data);
    watcher.driver->serve(watcher, events);
}

// Trouble (a reset, a hang-up) makes libev report both sides; each armed one asks the kernel itself.
void LibevDriver::serve(Watcher& watcher, int events) noexcept {
    if (batch_->full()) return defer(watcher, events);
    if ((events & EV_ERROR) != 0) return serve_failure(watcher);
    if ((events & EV_READ) != 0 && watcher.read != 0) serve_operation(watcher.read);
    if ((events & EV_WRITE) != 0 && watcher.write != 0) {
        if (batch_->full()) defer(watcher, EV_WRITE);
        else serve_operation(watcher.write);
    }
    rearm(watcher);
}

// libev has stopped the ev_io already, and believes that the kernel knows its descriptor: set anew, so
// that the next operation asks the kernel again.
void LibevDriver::serve_failure(Watcher& watcher) noexcept {
    const std::int32_t result = refusal_of(watcher.io.fd);
    if (watcher.io.active == 0) libev_set(watcher.io, watcher.io.fd, 0);
    if (watcher.read != 0) finish(watcher.read, result);
    if (watcher.write == 0) return;
    if (batch_->full()) return defer(watcher, static_cast<int>(EV_ERROR));
    finish(watcher.write, result);
}

// --- Watches: one ev_io for each, one answer for each submission.

void LibevDriver::start_watch(OpRecord& record) noexcept {
    Watcher* watcher = watcher_of(record);
    if (watcher == nullptr) {
        watcher = watcher_claim(&on_watch);
        if (watcher == nullptr) return push(record, -ENOMEM);
        watcher->is_watch = true;
        record.store(watchers_.index_of(watcher));
        record.flags |= op_watched;
    }
    const int failed = aim_watch(*watcher, static_cast<int>(record.descriptor),
                                 static_cast<std::uint32_t>(record.extra));
    if (failed != 0) return push(record, -failed);
    watcher->read = context_.operations.index_of(&record);
}

// Makes the ev_io wait for the wanted POLL bits. Returns 0 or an errno value.
//
// libev knows readable and writable. What else may be asked (priority, a hang-up alone) is asked of an
// epoll of the watch's own, which is readable when there is such an event. Regular files are refused
// by epoll and always ready for libev as for poll(2).
int LibevDriver::aim_watch(Watcher& watcher, int fd, std::uint32_t wanted) noexcept {
    // Still waiting from last time, for the same: the usual case.
    if (watcher.io.active != 0 && watcher.wanted == wanted) return 0;
    const std::uint32_t plain = POLLIN | POLLOUT | ((wanted & POLLIN) != 0 ? POLLRDHUP : 0);
    const int events =
        ((wanted & POLLIN) != 0 ? EV_READ : 0) | ((wanted & POLLOUT) != 0 ? EV_WRITE : 0);
    const bool needs_inner = (wanted & ~plain) != 0 || events == 0;
    libev_.ev_io_stop(loop_, &watcher.io);
    if (watcher.inner_fd >= 0) ::close(watcher.inner_fd);
    watcher.inner_fd = -1;
    if (const int refused = refusal_to_poll(fd)) return refused;
    watcher.wanted = wanted;
    libev_set(watcher.io, fd, events);
    if (needs_inner) {
        watcher.inner_fd = epoll_create1(EPOLL_CLOEXEC);
        if (watcher.inner_fd < 0) return errno;
        epoll_event event{};
        event.events = wanted;
        libev_set(watcher.io, watcher.inner_fd, EV_READ);
        if (epoll_ctl(watcher.inner_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
            if (errno != EPERM || events == 0) return errno;
            libev_set(watcher.io, fd, events);  // a regular file
        }
    }
    libev_.ev_io_start(loop_, &watcher.io);
    return 0;
}

void LibevDriver::on_watch(struct ev_loop*, ev_io* io, int events) noexcept {
    auto& watcher = *static_cast<Watcher*>(io->data);
    watcher.driver->serve_watch(watcher, events);
}

// libev's two bits hide what poll(2) tells apart (errors, hang-ups), so that is asked.
void LibevDriver::serve_watch(Watcher& watcher, int events) noexcept {
    if (watcher.read == 0) {  // the record is with the loop: invariant 2
        libev_.ev_io_stop(loop_, &watcher.io);
        return;
    }
    if (batch_->full()) return defer(watcher, events);
    const OpRecord& record = context_.operations.at(watcher.read);
    if ((events & EV_ERROR) != 0) return finish(watcher.read, refusal_of(watcher.io.fd));
    pollfd asked{static_cast<int>(record.descriptor), static_cast<short>(record.extra), 0};
    if (::poll(&asked, 1, 0) <= 0) return;  // gone again: it stays armed
    if ((asked.revents & POLLNVAL) != 0) {  // closed without a word to us
        libev_.ev_io_stop(loop_, &watcher.io);
        return finish(watcher.read, -EBADF);
    }
    finish(watcher.read, asked.revents);
}

}  // namespace whorl::detail
