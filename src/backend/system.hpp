// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <whorl/loop_options.hpp>
#include <whorl/time.hpp>

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>

#include <cerrno>
#include <cstddef>

namespace whorl::detail {

class FileCalls;
class HostCalls;
class ProcessCalls;
class RingCalls;

// What the library asks of the operating system outside of io_uring and libev: the clock, and calls
// that do not wait. The kernel answers them, or a simulated one (sim_kernel.hpp). Each call is the
// system call of that name and answers as it does, an error as a negated errno value.
// Thread: any. Cost: a virtual call before the system call.
class System {
  public:
    System() = default;
    System(const System&) = delete;
    System& operator=(const System&) = delete;
    virtual ~System() = default;

    virtual Instant now() noexcept = 0;  // CLOCK_MONOTONIC

    virtual int socket(int family, int type, int protocol) noexcept = 0;
    virtual int bind(int fd, const sockaddr* address, socklen_t length) noexcept = 0;
    virtual int listen(int fd, int backlog) noexcept = 0;
    virtual int connect(int fd, const sockaddr* address, socklen_t length) noexcept = 0;
    virtual int socketpair(int family, int type, int protocol, int fds[2]) noexcept = 0;
    // fchmod(2) of a socket that is not bound: the permissions of the file that bind(2) will make.
    virtual int socket_mode(int fd, mode_t mode) noexcept = 0;
    virtual int set_blocking(int fd) noexcept = 0;  // fcntl(2) without O_NONBLOCK
    // Removes a file that is a socket; -ENOTSOCK when it is none.
    virtual int unlink_socket(const char* path) noexcept = 0;
    virtual int shutdown(int fd, int how) noexcept = 0;
    virtual int close(int fd) noexcept = 0;
    virtual int getsockname(int fd, sockaddr* address, socklen_t* length) noexcept = 0;
    virtual int getpeername(int fd, sockaddr* address, socklen_t* length) noexcept = 0;
    virtual int setsockopt(int fd, int level, int name, const void* value,
                           socklen_t size) noexcept = 0;
    virtual int getsockopt(int fd, int level, int name, void* value, socklen_t* size) noexcept = 0;

    virtual ssize_t recv(int fd, void* data, std::size_t size, int flags) noexcept = 0;
    virtual ssize_t recvmsg(int fd, msghdr* message, int flags) noexcept = 0;
    virtual ssize_t read(int fd, void* data, std::size_t size) noexcept = 0;
    virtual ssize_t write(int fd, const void* data, std::size_t size) noexcept = 0;

    virtual int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) noexcept = 0;

    // write(2) without SIGPIPE.
    virtual ssize_t write_quietly(int fd, const void* data, std::size_t size) noexcept = 0;
    virtual ssize_t writev_quietly(int fd, const iovec* parts, int count) noexcept = 0;
    // splice(2) at the files' own positions, without SIGPIPE; neither waits for a pipe.
    virtual ssize_t splice(int from, int to, std::size_t size) noexcept = 0;
    virtual ssize_t tee(int from, int to, std::size_t size) noexcept = 0;
    virtual int pipe2(int fds[2], int flags) noexcept = 0;
    virtual int duplicate(int fd) noexcept = 0;    // fcntl(2) F_DUPFD_CLOEXEC
    virtual int pipe_access(int fd) noexcept = 0;  // pipe_… bits (pipe_transfer.hpp)

    virtual int eventfd(unsigned initial, int flags) noexcept = 0;
    virtual int epoll_create1(int flags) noexcept = 0;
    virtual int epoll_ctl(int epoll, int action, int fd, epoll_event* event) noexcept = 0;
    virtual int poll_now(pollfd* entries, nfds_t count) noexcept = 0;  // poll(2) with timeout 0

    // The system calls on files and names (file_calls.hpp).
    virtual FileCalls& file_calls() noexcept = 0;
    // The machine's names and wall clock (host_calls.hpp).
    virtual HostCalls& host_calls() noexcept = 0;
    // The system calls on signals and child processes (process_calls.hpp).
    virtual ProcessCalls& process_calls() noexcept = 0;
    // The system calls of io_uring (ring.hpp).
    virtual RingCalls& ring_calls() noexcept = 0;
};

// Makes an eventfd readable. It fails only when the counter is about to overflow: it is readable then.
// Whoever stands between us and the kernel (a tracer, a sandbox) may interrupt it like any other call,
// and a wake-up must not be lost to that.
inline void eventfd_raise(System& system, int event_fd) noexcept {
    const std::uint64_t one = 1;
    while (system.write(event_fd, &one, sizeof one) == -EINTR) {
    }
}

// The kernel that this process runs on.
System& real_system() noexcept;

// The system that a loop with these options works with.
System& system_for(const LoopOptions& options) noexcept;

}  // namespace whorl::detail
