// SPDX-License-Identifier: MIT
#pragma once

#include <whorl/simulation_options.hpp>
#include <whorl/time.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <thread>
#include <utility>

// The operating system as the tests see it: the machine's, or a simulated kernel while a world is in
// force (the fixture enters one for each test of a simulated configuration). Each call is the system
// call of that name: it blocks, answers and sets errno as that does, in either.
//
// In a world threads take turns and time passes only while all of them wait. So a test waits by these
// calls and never spins on a variable: await() is for that.

namespace whorl::detail {
class SimKernel;
}

namespace whorl::conformance::os {

// --- the world in force

// From here on all calls go to a fresh simulated kernel. No thread may be running yet.
void enter_world(const testing::SimulationOptions& options);
// What belongs to it must have been closed and joined.
void leave_world();
// The kernel of the world in force; null on the machine's own.
detail::SimKernel* world() noexcept;
// A number that tells two runs apart: of all that happened in the world so far.
std::uint64_t trace_hash() noexcept;
// The last lines of what happened, to stderr.
void print_trace(std::size_t lines);

// --- time and threads

Instant now();
// Keeps the calling thread busy: a slow handler. Not a way to wait for anything.
void stay_busy(Nanoseconds time);
// In a loop that never waits: here a world may give the turn to another thread.
void give_turn();
// What is under way between sockets arrives; on this machine's loopback it has.
void let_arrive();
// Waits until `done` holds: for a variable that another thread sets.
void await(const std::function<bool()>& done);

// std::thread, or a thread of the world.
class Thread {
  public:
    Thread() = default;
    template <class Body>
    explicit Thread(Body body) {
        // A world takes only what can be copied.
        if (world() == nullptr) real_ = std::thread(std::move(body));
        else start([shared = std::make_shared<Body>(std::move(body))] { (*shared)(); });
    }
    Thread(Thread&& other) noexcept { swap(other); }
    Thread& operator=(Thread&& other) noexcept {
        Thread moved(std::move(other));
        swap(moved);
        return *this;
    }
    ~Thread();

    void join();
    void detach();  // for a test whose process ends while it runs

  private:
    void start(std::function<void()> body);
    void swap(Thread& other) noexcept {
        real_.swap(other.real_);
        std::swap(task_, other.task_);
    }

    std::thread real_;
    std::uint32_t task_ = 0;  // of the world; 0: none
};

// --- descriptors

std::set<int> open_descriptors();
int close(int fd);
int fcntl(int fd, int command, int argument = 0);
int dup(int fd);
int dup3(int fd, int number, int flags);
ssize_t read(int fd, void* data, std::size_t size);
ssize_t write(int fd, const void* data, std::size_t size);
int pipe2(int fds[2], int flags);
int regular_file();  // an empty one, open for reading and writing
int eventfd(unsigned initial, int flags);
int poll(pollfd* entries, nfds_t count, int timeout_ms);
int ppoll(pollfd* entries, nfds_t count, const timespec* timeout);
int epoll_create1(int flags);
int epoll_ctl(int epoll, int action, int fd, epoll_event* event);
int epoll_wait(int epoll, epoll_event* events, int count, int timeout_ms);
// The limit of open files is the world's; any other limit is the process's.
int getrlimit(int resource, rlimit* limit);
int setrlimit(int resource, const rlimit* limit);

// --- sockets

int socket(int family, int type, int protocol);
int socketpair(int family, int type, int protocol, int fds[2]);
int bind(int fd, const sockaddr* address, socklen_t length);
int listen(int fd, int backlog);
int connect(int fd, const sockaddr* address, socklen_t length);
int accept4(int fd, sockaddr* address, socklen_t* length, int flags);
ssize_t recv(int fd, void* data, std::size_t size, int flags);
ssize_t send(int fd, const void* data, std::size_t size, int flags);
ssize_t recvmsg(int fd, msghdr* message, int flags);
ssize_t sendmsg(int fd, const msghdr* message, int flags);
int shutdown(int fd, int how);
int getsockname(int fd, sockaddr* address, socklen_t* length);
int getpeername(int fd, sockaddr* address, socklen_t* length);
int setsockopt(int fd, int level, int name, const void* value, socklen_t size);
int getsockopt(int fd, int level, int name, void* value, socklen_t* size);

}  // namespace whorl::conformance::os
