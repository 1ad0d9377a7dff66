// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/host_calls.hpp"
#include "backend/sim_choices.hpp"
#include "backend/sim_datagram.hpp"
#include "backend/sim_events.hpp"
#include "backend/sim_file.hpp"
#include "backend/sim_trace.hpp"
#include "backend/system.hpp"

#include <whorl/operation_list.hpp>
#include <whorl/simulation_options.hpp>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

// A simulated kernel: descriptors, a network, a clock, and nothing that is not drawn from the seed.
//
// Time stands still while the program runs. Whoever would block calls wait(), and the world goes on:
// what is due happens in the order of its time (and of its making, for the same time), and the clock
// jumps to the next thing that happens. When nothing can ever happen again, the world says so and ends
// the program: on a real machine it would hang.
//
// Threads: one at a time. The thread that made the kernel is the first; others are made by spawn() and
// take turns with it in wait(), chosen by the seed. No other thread may call the kernel.
//
// A loop's file descriptors here are numbers of this kernel, not of the process.

namespace whorl::detail {

// What a world has done, for the trace and for tables of what a run has covered.
class SimDisk;

struct SimCounters {
    std::uint64_t events = 0;  // things that happened: arrivals, completions
    std::uint64_t faults = 0;  // errors, short transfers, delays, early ends, reorderings
    std::uint64_t waits = 0;
    std::uint64_t switches = 0;  // from one thread to another
};

class SimKernel final : public System {
  public:
    explicit SimKernel(const testing::SimulationOptions& options);
    ~SimKernel() override;

    // --- System: none of these blocks
    Instant now() noexcept override;
    int socket(int family, int type, int protocol) noexcept override;
    int bind(int fd, const sockaddr* address, socklen_t length) noexcept override;
    int listen(int fd, int backlog) noexcept override;
    int connect(int fd, const sockaddr* address, socklen_t length) noexcept override;
    int socketpair(int family, int type, int protocol, int fds[2]) noexcept override;
    int socket_mode(int, mode_t) noexcept override { return 0; }  // everybody here is one user
    int set_blocking(int fd) noexcept override;
    int unlink_socket(const char* path) noexcept override;
    int shutdown(int fd, int how) noexcept override;
    int close(int fd) noexcept override;
    int getsockname(int fd, sockaddr* address, socklen_t* length) noexcept override;
    int getpeername(int fd, sockaddr* address, socklen_t* length) noexcept override;
    int setsockopt(int fd, int level, int name, const void* value,
                   socklen_t size) noexcept override;
    int getsockopt(int fd, int level, int name, void* value, socklen_t* size) noexcept override;
    ssize_t recv(int fd, void* data, std::size_t size, int flags) noexcept override;
    ssize_t recvmsg(int fd, msghdr* message, int flags) noexcept override;
    ssize_t read(int fd, void* data, std::size_t size) noexcept override;
    ssize_t write(int fd, const void* data, std::size_t size) noexcept override;
    ssize_t write_quietly(int fd, const void* data, std::size_t size) noexcept override {
        return write(fd, data, size);
    }
    int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) noexcept override;
    // sim_splice.cpp
    ssize_t writev_quietly(int fd, const iovec* parts, int count) noexcept override;
    ssize_t splice(int from, int to, std::size_t size) noexcept override;
    ssize_t tee(int from, int to, std::size_t size) noexcept override;
    int pipe2(int fds[2], int flags) noexcept override;
    int duplicate(int fd) noexcept override { return dup(fd); }
    int pipe_access(int fd) noexcept override;
    int eventfd(unsigned initial, int flags) noexcept override;
    int epoll_create1(int flags) noexcept override;
    int epoll_ctl(int epoll, int action, int fd, epoll_event* event) noexcept override;
    int poll_now(pollfd* entries, nfds_t count) noexcept override;
    FileCalls& file_calls() noexcept override;
    // For tests: puts others in their place, which are given those that were there. No file may be open.
    template <class Front>
    void file_calls_through(Front front) {
        static_cast<void>(file_calls());
        file_calls_ = front(std::move(file_calls_));
    }
    SimHost& host_calls() noexcept override;
    ProcessCalls& process_calls() noexcept override;
    RingCalls& ring_calls() noexcept override;

    // --- further system calls, for peers that a test writes by hand; none of these blocks
    int accept4(int fd, sockaddr* address, socklen_t* length, int flags) noexcept;
    ssize_t send(int fd, const void* data, std::size_t size, int flags) noexcept;
    ssize_t sendmsg(int fd, const msghdr* message, int flags) noexcept;
    int fcntl(int fd, int command, int argument) noexcept;
    int epoll_wait_now(int epoll, epoll_event* events, int count) noexcept;
    int dup(int fd) noexcept;
    int dup3(int fd, int number, int flags) noexcept;
    std::vector<int> open_descriptors() const;
    // RLIMIT_NOFILE, where it is lower than what the options say; may be changed at any time.
    std::uint32_t descriptors_max = UINT32_MAX;
    std::uint32_t descriptor_limit() const noexcept {
        return std::min(descriptors_max, options_.descriptors_max);
    }
    // fs.inotify.max_user_watches and max_queued_events, likewise
    std::size_t file_watches_max = 8192, file_events_max = 16384;
    SimDisk* disk = nullptr;  // of file_calls(), once somebody has asked for them

    // --- descriptors
    SimFilePtr file(int fd) const noexcept;                                   // null: EBADF
    std::shared_ptr<SimSocket> socket_of(int fd, int& error) const noexcept;  // -EBADF, -ENOTSOCK
    std::shared_ptr<SimDatagram> datagram_of(int fd) const noexcept;          // null: it is none
    int accept(SimSocket& listener) noexcept;               // a number, or an error
    int install(SimFilePtr file, int lowest = 0) noexcept;  // a number, or -EMFILE
    // The descriptors 0 to 2 that a process starts with. Without them these numbers are never given.
    void open_standard();

    // --- the network
    SimSocket* listener_for(const SimAddress& address) const noexcept;
    SimSocket* bound_to(const SimAddress& address, const SimSocket& wants) const noexcept;
    void network_add(SimSocket& socket) { sockets_.push_back(&socket); }
    void network_remove(SimSocket& socket) noexcept;
    const std::vector<SimSocket*>& sockets() const noexcept { return sockets_; }
    // net.ipv4.ip_local_port_range: the ports that the kernel chooses.
    std::uint16_t port_first = 32768, port_last = 60999;
    std::uint16_t port_in_turn() noexcept;
    std::uint16_t free_port() noexcept;  // 0: there is none
    // Datagram sockets have ports of their own.
    SimDatagram* datagram_for(const SimAddress& address, const SimDatagram* but) const noexcept;
    void datagrams_add(SimDatagram& socket) { datagrams_.push_back(&socket); }
    void datagrams_remove(SimDatagram& socket) noexcept;
    std::uint16_t free_datagram_port() noexcept;
    // Names of Unix sockets. That of a file stays when its socket has gone.
    int unix_bind(const SimAddress& address, SimFile& file);
    SimFilePtr unix_find(const SimAddress& address, int& error) const;
    bool is_local(const SimAddress& address) const noexcept;
    SimAddress host_for(const SimAddress& peer, std::uint16_t port) const noexcept;
    SimAddress seen_as(const SimAddress& address, int family) const noexcept;
    Nanoseconds flight_time(std::size_t bytes);  // of one segment
    bool partitioned = false;                    // segments are held until heal()
    void partition();
    void heal();

    // --- time
    Instant clock() const noexcept { return now_; }  // without time_per_call
    // Runs `event` at `when`, from inside wait(). Returns a number for cancel_event().
    template <class Event>
    std::uint64_t at(Instant when, Event&& event) {
        return events_.add(std::max(when, now_), std::forward<Event>(event));
    }
    void cancel_event(std::uint64_t number) noexcept { events_.cancel(number); }
    Instant next_event() const noexcept { return events_.next(); }
    std::size_t event_count() const noexcept { return events_.size(); }
    // Lets the world go on until `done` holds or the clock has reached `deadline`; answers `done`.
    bool wait(const std::function<bool()>& done, Instant deadline);
    // Does what is due by now and lets other threads run, without moving the clock further.
    void settle();
    void advance(Nanoseconds time);
    void advance_to(Instant when);

    // How much longer the blocking call takes that is being made: a call adds to it.
    Nanoseconds work_takes{0};

    // --- threads of the world
    std::uint32_t spawn(std::function<void()> body);
    void join(std::uint32_t thread);

    // --- choices and the trace
    SimChoices choices;
    // The next `times` operations of this kind, once they could begin, fail with this errno value:
    // those of the simulator, and those of a simulated ring, as far as their entries tell the kind
    // (SimRing::kinds_of).
    void script_fault(OpKind kind, int error, std::uint32_t times);
    int take_scripted_fault(OpKind kind, OpKind or_kind) noexcept;  // 0: none
    int take_scripted_fault(OpKind kind) noexcept { return take_scripted_fault(kind, kind); }
    bool faulty(double chance);  // draws, and counts a fault when it happens
    const testing::SimulationOptions& options() const noexcept { return options_; }
    testing::SimulationOptions& options() noexcept { return options_; }
    SimCounters counters;
    std::uint32_t drivers = 0;  // loops that live here
    // One line of the trace, as printf: at most four numbers and literals (sim_trace.hpp).
    template <std::size_t Size, class... Arguments>
    void trace(const char (&format)[Size], Arguments... arguments) {
        trace_.line(now_, format, arguments...);
    }
    void note(std::string_view words) { trace_.text(now_, words); }
    std::uint64_t trace_hash() const noexcept { return trace_.hash(); }
    std::vector<std::string> trace_lines(std::size_t most = SimTrace::lines_max) const {
        return trace_.lines(most);
    }
    void trace_to(std::FILE* stream) noexcept { trace_.copy_to(stream); }

  private:
    int fault_in_call(const char* call, std::initializer_list<int> errors) noexcept;
    int install_pair(const SimFilePtr& first, const SimFilePtr& second, int fds[2]);
    struct Task {
        std::thread thread;
        std::condition_variable turn;
        const std::function<bool()>* done = nullptr;
        Instant deadline{};
        bool finished = false;
    };
    static constexpr std::uint32_t no_task = UINT32_MAX;
    bool run_due();
    void drop_events();
    void switch_to(std::uint32_t index);
    void task_body(Task& self, std::uint32_t index, std::function<void()> body);
    std::uint32_t choose_runnable();
    [[noreturn]] void stuck();

    testing::SimulationOptions options_;
    Instant now_;
    SimEvents events_;

    std::vector<SimFilePtr> files_;
    int lowest_descriptor_ = 3;
    std::vector<SimSocket*> sockets_;
    std::vector<SimDatagram*> datagrams_;
    std::map<std::string, std::weak_ptr<SimFile>> unix_names_;
    std::uint16_t port_next_ = 32768;
    std::unique_ptr<FileCalls> file_calls_;  // and its disk
    std::unique_ptr<SimHost> host_calls_;
    std::unique_ptr<ProcessCalls> process_calls_;  // and its children
    std::unique_ptr<RingCalls> ring_calls_;

    std::mutex baton_;
    std::vector<std::unique_ptr<Task>> tasks_;
    std::uint32_t running_ = 0;
    const std::function<bool()> always_ = [] { return true; };

    struct ScriptedFault {
        OpKind kind;
        int error;
        std::uint32_t times;
    };
    std::vector<ScriptedFault> scripted_;

    SimTrace trace_;
};

// The simulated kernel that a loop's options name, or null.
inline SimKernel* sim_kernel_of(const LoopOptions& options) noexcept { return options.world; }

}  // namespace whorl::detail
