// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/system.hpp"

#include "backend/file_calls.hpp"
#include "backend/host_calls.hpp"
#include "backend/pipe_transfer.hpp"
#include "backend/process_calls.hpp"
#include "backend/ring.hpp"
#include "backend/sim_kernel.hpp"
#include "base/lasting.hpp"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

namespace whorl::detail {

namespace {

template <class Number>
Number answered(Number done) noexcept {
    return done >= 0 ? done : -errno;
}

// A signal that was raised here is taken back; one that was waiting before stays.
template <class Call>
ssize_t without_signal(Call&& call) noexcept {
    sigset_t broken, before, waiting;
    sigemptyset(&broken);
    sigaddset(&broken, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &broken, &before);
    sigemptyset(&waiting);
    if (sigismember(&before, SIGPIPE) == 1) sigpending(&waiting);
    const ssize_t done = answered(call());
    if (done == -EPIPE && sigismember(&waiting, SIGPIPE) == 0) {
        const timespec at_once{0, 0};
        while (sigtimedwait(&broken, nullptr, &at_once) < 0 && errno == EINTR) {
        }
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return done;
}

class RealSystem final : public System {
  public:
    Instant now() noexcept override { return clock_now(); }

    int socket(int family, int type, int protocol) noexcept override {
        return answered(::socket(family, type, protocol));
    }
    int bind(int fd, const sockaddr* address, socklen_t length) noexcept override {
        return answered(::bind(fd, address, length));
    }
    int listen(int fd, int backlog) noexcept override { return answered(::listen(fd, backlog)); }
    int connect(int fd, const sockaddr* address, socklen_t length) noexcept override {
        return answered(::connect(fd, address, length));
    }
    int socketpair(int family, int type, int protocol, int fds[2]) noexcept override {
        return answered(::socketpair(family, type, protocol, fds));
    }
    int socket_mode(int fd, mode_t mode) noexcept override { return answered(::fchmod(fd, mode)); }
    int set_blocking(int fd) noexcept override {
        const int flags = ::fcntl(fd, F_GETFL);
        return flags < 0 ? -errno : answered(::fcntl(fd, F_SETFL, flags & ~O_NONBLOCK));
    }
    int unlink_socket(const char* path) noexcept override {
        struct stat found {};
        if (::lstat(path, &found) != 0) return -errno;
        return S_ISSOCK(found.st_mode) ? answered(::unlink(path)) : -ENOTSOCK;
    }
    int shutdown(int fd, int how) noexcept override { return answered(::shutdown(fd, how)); }
    int close(int fd) noexcept override { return answered(::close(fd)); }
    int getsockname(int fd, sockaddr* address, socklen_t* length) noexcept override {
        return answered(::getsockname(fd, address, length));
    }
    int getpeername(int fd, sockaddr* address, socklen_t* length) noexcept override {
        return answered(::getpeername(fd, address, length));
    }
    int setsockopt(int fd, int level, int name, const void* value,
                   socklen_t size) noexcept override {
        return answered(::setsockopt(fd, level, name, value, size));
    }
    int getsockopt(int fd, int level, int name, void* value, socklen_t* size) noexcept override {
        return answered(::getsockopt(fd, level, name, value, size));
    }

    ssize_t recv(int fd, void* data, std::size_t size, int flags) noexcept override {
        return answered(::recv(fd, data, size, flags));
    }
    ssize_t recvmsg(int fd, msghdr* message, int flags) noexcept override {
        return answered(::recvmsg(fd, message, flags));
    }
    ssize_t read(int fd, void* data, std::size_t size) noexcept override {
        return answered(::read(fd, data, size));
    }
    ssize_t write(int fd, const void* data, std::size_t size) noexcept override {
        return answered(::write(fd, data, size));
    }

    int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) noexcept override {
        return answered(::sendmmsg(fd, messages, count, flags));
    }
    ssize_t write_quietly(int fd, const void* data, std::size_t size) noexcept override {
        return without_signal([&] { return ::write(fd, data, size); });
    }
    ssize_t writev_quietly(int fd, const iovec* parts, int count) noexcept override {
        return without_signal([&] { return ::writev(fd, parts, count); });
    }
    ssize_t splice(int from, int to, std::size_t size) noexcept override {
        constexpr unsigned flags = SPLICE_F_NONBLOCK | SPLICE_F_MOVE;
        return without_signal([&] { return ::splice(from, nullptr, to, nullptr, size, flags); });
    }
    ssize_t tee(int from, int to, std::size_t size) noexcept override {
        return without_signal([&] { return ::tee(from, to, size, SPLICE_F_NONBLOCK); });
    }
    int pipe2(int fds[2], int flags) noexcept override { return answered(::pipe2(fds, flags)); }
    int duplicate(int fd) noexcept override { return answered(::fcntl(fd, F_DUPFD_CLOEXEC, 0)); }
    int pipe_access(int fd) noexcept override {
        struct stat found {};
        const int flags = ::fcntl(fd, F_GETFL);
        if (flags < 0 || ::fstat(fd, &found) != 0) return -errno;
        const bool whole = (flags & O_NONBLOCK) != 0 || S_ISREG(found.st_mode);
        const int mode = flags & O_ACCMODE;
        return (whole ? pipe_whole : 0) | (mode == O_WRONLY ? pipe_unreadable : 0) |
               (mode == O_RDONLY ? pipe_unwritable : 0);
    }

    int eventfd(unsigned initial, int flags) noexcept override {
        return answered(::eventfd(initial, flags));
    }
    int epoll_create1(int flags) noexcept override { return answered(::epoll_create1(flags)); }
    int epoll_ctl(int epoll, int action, int fd, epoll_event* event) noexcept override {
        return answered(::epoll_ctl(epoll, action, fd, event));
    }
    int poll_now(pollfd* entries, nfds_t count) noexcept override {
        return answered(::poll(entries, count, 0));
    }

    FileCalls& file_calls() noexcept override { return real_file_calls(); }
    HostCalls& host_calls() noexcept override { return real_host_calls(); }
    ProcessCalls& process_calls() noexcept override { return real_process_calls(); }
    RingCalls& ring_calls() noexcept override { return real_ring_calls(); }
};

}  // namespace

System& real_system() noexcept {
    static Lasting<RealSystem> system;
    return *system;
}

System& system_for(const LoopOptions& options) noexcept {
    return options.world != nullptr ? static_cast<System&>(*options.world) : real_system();
}

}  // namespace whorl::detail
