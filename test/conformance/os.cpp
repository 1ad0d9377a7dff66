// SPDX-License-Identifier: MIT
#include "conformance/os.hpp"

#include "backend/sim_kernel.hpp"

#include <dirent.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

// Every call has two halves: libc, and the simulated kernel, which never blocks by itself.

namespace whorl::conformance::os {

using detail::SimKernel;

namespace {

// Not owned by a destructor: a process that ends in the middle of a test leaves it as it is.
SimKernel* present = nullptr;

template <class Number>
Number answer(Number done) {
    if (done >= 0) return done;
    errno = static_cast<int>(-done);
    return -1;
}

// Makes the call until it no longer says that it would block, unless it is told not to wait.
template <class Call>
ssize_t blocking(int fd, bool wait, Call call) {
    ssize_t done = call();
    const detail::SimFilePtr file = present->file(fd);
    if (done != -EAGAIN || !wait || file == nullptr || file->nonblocking) return done;
    // The answer is kept, since whoever gives the turn away may ask more than once.
    present->wait([&] { return done != -EAGAIN || (done = call()) != -EAGAIN; }, instant_never);
    return done;
}

// A blocking write ends when all is written.
template <class Call>
ssize_t blocking_write(int fd, bool wait, const void* data, std::size_t size, Call call) {
    const char* bytes = static_cast<const char*>(data);
    std::size_t written = 0;
    do {
        const ssize_t done =
            blocking(fd, wait, [&] { return call(bytes + written, size - written); });
        if (done < 0) return written != 0 ? static_cast<ssize_t>(written) : done;
        written += static_cast<std::size_t>(done);
        if (!wait || present->file(fd)->nonblocking) break;
    } while (written < size);
    return static_cast<ssize_t>(written);
}

}  // namespace

// --- the world in force

void enter_world(const testing::SimulationOptions& options) {
    present = new SimKernel(options);
    present->open_standard();
}

void leave_world() {
    delete present;
    present = nullptr;
}

SimKernel* world() noexcept { return present; }
std::uint64_t trace_hash() noexcept { return present != nullptr ? present->trace_hash() : 0; }

void print_trace(std::size_t lines) {
    const std::vector<std::string> all = present->trace_lines();
    for (std::size_t index = all.size() > lines ? all.size() - lines : 0; index < all.size();
         ++index) {
        std::fprintf(stderr, "  %s\n", all[index].c_str());
    }
}

// --- time and threads

Instant now() { return present != nullptr ? present->now() : clock_now(); }

void stay_busy(Nanoseconds time) {
    if (present != nullptr) return present->advance(time);
    const Instant end = clock_now() + time;
    while (clock_now() < end) {
    }
}

void give_turn() {
    if (present != nullptr) present->settle();
}

void let_arrive() {
    if (present == nullptr) return;
    const testing::SimulationOptions& options = present->options();
    // A segment, what answers it, and what is told late of either.
    const auto late = Nanoseconds(static_cast<std::int64_t>(options.lateness_max_us * 1000));
    present->advance(2 * (options.latency_max + late) + std::chrono::microseconds(1));
}

void await(const std::function<bool()>& done) {
    if (present != nullptr) {
        present->wait(done, instant_never);
        return;
    }
    while (!done()) std::this_thread::yield();
}

Thread::~Thread() {
    if (task_ == 0) return;
    std::fprintf(stderr, "a thread of the world was not joined\n");
    std::abort();
}

void Thread::start(std::function<void()> body) { task_ = present->spawn(std::move(body)); }

void Thread::join() {
    if (task_ == 0) return real_.join();
    present->join(std::exchange(task_, 0));
}

void Thread::detach() {
    if (task_ == 0) return real_.detach();
    task_ = 0;
}

// --- descriptors

std::set<int> open_descriptors() {
    if (present != nullptr) {
        const std::vector<int> numbers = present->open_descriptors();
        return {numbers.begin(), numbers.end()};
    }
    std::set<int> numbers;
    DIR* directory = opendir("/proc/self/fd");
    while (const dirent* entry = readdir(directory)) {
        const int number = std::atoi(entry->d_name);
        if (entry->d_name[0] != '.' && number != dirfd(directory)) numbers.insert(number);
    }
    closedir(directory);
    return numbers;
}

int close(int fd) { return present != nullptr ? answer(present->close(fd)) : ::close(fd); }

int fcntl(int fd, int command, int argument) {
    if (present == nullptr) return ::fcntl(fd, command, argument);
    return answer(present->fcntl(fd, command, argument));
}

int dup3(int fd, int number, int flags) {
    if (present == nullptr) return ::dup3(fd, number, flags);
    return answer(present->dup3(fd, number, flags));
}

int dup(int fd) { return present != nullptr ? answer(present->dup(fd)) : ::dup(fd); }

ssize_t read(int fd, void* data, std::size_t size) {
    if (present == nullptr) return ::read(fd, data, size);
    return answer(blocking(fd, true, [&] { return present->read(fd, data, size); }));
}

ssize_t write(int fd, const void* data, std::size_t size) {
    if (present == nullptr) return ::write(fd, data, size);
    return answer(blocking_write(fd, true, data, size, [fd](const char* part, std::size_t rest) {
        return present->write(fd, part, rest);
    }));
}

int pipe2(int fds[2], int flags) {
    return present != nullptr ? answer(present->pipe2(fds, flags)) : ::pipe2(fds, flags);
}

int regular_file() {
    // A world's standard input is always ready, too.
    return present != nullptr ? dup(STDIN_FILENO) : ::memfd_create("regular", MFD_CLOEXEC);
}

int eventfd(unsigned initial, int flags) {
    return present != nullptr ? answer(present->eventfd(initial, flags))
                              : ::eventfd(initial, flags);
}

namespace {

int poll_in_world(pollfd* entries, nfds_t count, Nanoseconds timeout) {
    const bool forever = timeout < Nanoseconds::zero();
    const Instant deadline = forever ? instant_never : add_saturating(present->clock(), timeout);
    int ready = present->poll_now(entries, count);
    if (ready != 0) return answer(ready);
    present->wait([&] { return (ready = present->poll_now(entries, count)) != 0; }, deadline);
    return answer(ready);
}

}  // namespace

int poll(pollfd* entries, nfds_t count, int timeout_ms) {
    if (present == nullptr) return ::poll(entries, count, timeout_ms);
    return poll_in_world(entries, count, std::chrono::milliseconds(timeout_ms));
}

int ppoll(pollfd* entries, nfds_t count, const timespec* timeout) {
    if (present == nullptr) return ::ppoll(entries, count, timeout, nullptr);
    if (timeout == nullptr) return poll_in_world(entries, count, Nanoseconds(-1));
    const auto whole = std::chrono::seconds(timeout->tv_sec);
    return poll_in_world(entries, count, whole + Nanoseconds(timeout->tv_nsec));
}

int epoll_create1(int flags) {
    return present != nullptr ? answer(present->epoll_create1(flags)) : ::epoll_create1(flags);
}

int epoll_ctl(int epoll, int action, int fd, epoll_event* event) {
    if (present == nullptr) return ::epoll_ctl(epoll, action, fd, event);
    return answer(present->epoll_ctl(epoll, action, fd, event));
}

int epoll_wait(int epoll, epoll_event* events, int count, int timeout_ms) {
    if (present == nullptr) return ::epoll_wait(epoll, events, count, timeout_ms);
    const int found = present->epoll_wait_now(epoll, events, count);
    if (found != 0) return answer(found);
    pollfd asked{epoll, POLLIN, 0};
    const int ready = poll_in_world(&asked, 1, std::chrono::milliseconds(timeout_ms));
    return ready > 0 ? answer(present->epoll_wait_now(epoll, events, count)) : ready;
}

namespace {

// libc has an enumeration for this in C++ with GNU extensions, and an int otherwise.
template <class Resource>
int real_getrlimit(int (*call)(Resource, rlimit*), int resource, rlimit* limit) {
    return call(static_cast<Resource>(resource), limit);
}
template <class Resource>
int real_setrlimit(int (*call)(Resource, const rlimit*), int resource, const rlimit* limit) {
    return call(static_cast<Resource>(resource), limit);
}

}  // namespace

int getrlimit(int resource, rlimit* limit) {
    if (present == nullptr || resource != RLIMIT_NOFILE) {
        return real_getrlimit(&::getrlimit, resource, limit);
    }
    limit->rlim_cur = present->descriptor_limit();
    limit->rlim_max = present->options().descriptors_max;
    return 0;
}

int setrlimit(int resource, const rlimit* limit) {
    if (present == nullptr || resource != RLIMIT_NOFILE) {
        return real_setrlimit(&::setrlimit, resource, limit);
    }
    present->descriptors_max = static_cast<std::uint32_t>(limit->rlim_cur);
    return 0;
}

// --- sockets

int socket(int family, int type, int protocol) {
    if (present == nullptr) return ::socket(family, type, protocol);
    return answer(present->socket(family, type, protocol));
}

int socketpair(int family, int type, int protocol, int fds[2]) {
    if (present == nullptr) return ::socketpair(family, type, protocol, fds);
    return answer(present->socketpair(family, type, protocol, fds));
}

int bind(int fd, const sockaddr* address, socklen_t length) {
    if (present == nullptr) return ::bind(fd, address, length);
    return answer(present->bind(fd, address, length));
}

int listen(int fd, int backlog) {
    return present != nullptr ? answer(present->listen(fd, backlog)) : ::listen(fd, backlog);
}

int connect(int fd, const sockaddr* address, socklen_t length) {
    if (present == nullptr) return ::connect(fd, address, length);
    int done = present->connect(fd, address, length);
    const detail::SimFilePtr file = present->file(fd);
    if (done != -EINPROGRESS || file->nonblocking) return answer(done);
    const auto& made = static_cast<const detail::SimSocket&>(*file);
    present->wait([&] { return made.role() != detail::SimSocket::Role::connecting; },
                  instant_never);
    return answer(present->connect(fd, address, length));
}

int accept4(int fd, sockaddr* address, socklen_t* length, int flags) {
    if (present == nullptr) return ::accept4(fd, address, length, flags);
    return static_cast<int>(answer(blocking(fd, true, [&] {
        return static_cast<ssize_t>(present->accept4(fd, address, length, flags));
    })));
}

ssize_t recv(int fd, void* data, std::size_t size, int flags) {
    if (present == nullptr) return ::recv(fd, data, size, flags);
    return answer(blocking(fd, (flags & MSG_DONTWAIT) == 0,
                           [&] { return present->recv(fd, data, size, flags); }));
}

ssize_t send(int fd, const void* data, std::size_t size, int flags) {
    if (present == nullptr) return ::send(fd, data, size, flags);
    return answer(blocking_write(fd, (flags & MSG_DONTWAIT) == 0, data, size,
                                 [fd, flags](const char* part, std::size_t rest) {
                                     return present->send(fd, part, rest, flags);
                                 }));
}

ssize_t recvmsg(int fd, msghdr* message, int flags) {
    if (present == nullptr) return ::recvmsg(fd, message, flags);
    return answer(blocking(fd, (flags & MSG_DONTWAIT) == 0,
                           [&] { return present->recvmsg(fd, message, flags); }));
}

ssize_t sendmsg(int fd, const msghdr* message, int flags) {
    if (present == nullptr) return ::sendmsg(fd, message, flags);
    return answer(blocking(fd, (flags & MSG_DONTWAIT) == 0,
                           [&] { return present->sendmsg(fd, message, flags); }));
}

int shutdown(int fd, int how) {
    return present != nullptr ? answer(present->shutdown(fd, how)) : ::shutdown(fd, how);
}

int getsockname(int fd, sockaddr* address, socklen_t* length) {
    if (present == nullptr) return ::getsockname(fd, address, length);
    return answer(present->getsockname(fd, address, length));
}

int getpeername(int fd, sockaddr* address, socklen_t* length) {
    if (present == nullptr) return ::getpeername(fd, address, length);
    return answer(present->getpeername(fd, address, length));
}

int setsockopt(int fd, int level, int name, const void* value, socklen_t size) {
    if (present == nullptr) return ::setsockopt(fd, level, name, value, size);
    return answer(present->setsockopt(fd, level, name, value, size));
}

int getsockopt(int fd, int level, int name, void* value, socklen_t* size) {
    if (present == nullptr) return ::getsockopt(fd, level, name, value, size);
    return answer(present->getsockopt(fd, level, name, value, size));
}

}  // namespace whorl::conformance::os
