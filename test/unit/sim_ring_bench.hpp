// SPDX-License-Identifier: MIT
#pragma once

#include "backend/ring.hpp"
#include "backend/sim_kernel.hpp"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

// What the tests of the simulated ring share: a ring in a simulated kernel of its own, driven by hand
// with liburing's functions, and a ring of receive buffers.

namespace whorl::sim_ring_test {

using namespace std::chrono_literals;
using whorl::Instant;
using whorl::Nanoseconds;
using whorl::detail::Ring;
using whorl::detail::RingCalls;
using whorl::detail::SimKernel;
using whorl::testing::RingLevel;
using whorl::testing::SimulationOptions;

inline constexpr unsigned deferring = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                      IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SUBMIT_ALL;
inline constexpr RingLevel levels[] = {RingLevel::linux_5_15, RingLevel::linux_6_1,
                                       RingLevel::linux_6_18};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr std::uint64_t seeds = 60;
#else
inline constexpr std::uint64_t seeds = 300;
#endif

inline SimulationOptions kind(RingLevel level = RingLevel::linux_6_18) {
    SimulationOptions options;
    options.ring_level = level;
    return options;
}

struct Answer {
    std::uint64_t data;
    int result;
    unsigned flags;
    bool more() const { return (flags & IORING_CQE_F_MORE) != 0; }
};

// A simulated kernel with one ring, driven by hand.
class Bench {
  public:
    explicit Bench(const SimulationOptions& options, unsigned flags = 0, unsigned entries = 64,
                   unsigned completions = 0)
        : kernel(options), calls(kernel.ring_calls()) {
        io_uring_params params{};
        params.flags = flags | (completions != 0 ? IORING_SETUP_CQSIZE : 0);
        params.cq_entries = completions;
        made = calls.setup(entries, ring, params);
        for (unsigned index = 0; made == 0 && index < ring.sq.ring_entries; ++index) {
            ring.sq.array[index] = index;
        }
    }
    Bench(const Bench&) = delete;
    Bench& operator=(const Bench&) = delete;
    ~Bench() {
        if (made == 0) calls.exit(ring);
    }
    void exit() {
        calls.exit(ring);
        made = -1;
    }

    io_uring_sqe* entry() {
        io_uring_sqe* sqe = io_uring_get_sqe(&ring);
        EXPECT_NE(sqe, nullptr);
        return sqe;
    }
    // One io_uring_enter with what has been written.
    int enter(unsigned complete, Nanoseconds timeout = 10s) {
        io_uring_smp_store_release(ring.sq.ktail, ring.sq.sqe_tail);
        __kernel_timespec time{timeout.count() / 1'000'000'000, timeout.count() % 1'000'000'000};
        io_uring_getevents_arg argument{};
        argument.ts = reinterpret_cast<std::uintptr_t>(&time);
        const unsigned submit = ring.sq.sqe_tail - *ring.sq.khead;
        return calls.enter(static_cast<unsigned>(ring.ring_fd), submit, complete,
                           IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &argument,
                           sizeof argument);
    }
    // Enters until everything is submitted, whatever the ring refuses on the way.
    void submit() {
        for (int tries = 0; tries < 1000; ++tries) {
            enter(0);
            if (ring.sq.sqe_tail == *ring.sq.khead) return;
        }
        ADD_FAILURE() << "the ring takes nothing";
    }
    std::vector<Answer> reap() {
        std::vector<Answer> found;
        while (io_uring_cq_ready(&ring) != 0) {
            const unsigned head = *ring.cq.khead;
            const io_uring_cqe& cqe = ring.cq.cqes[head & ring.cq.ring_mask];
            found.push_back({cqe.user_data, cqe.res, cqe.flags});
            io_uring_cq_advance(&ring, 1);
        }
        return found;
    }
    // The next completion, waited for; data UINT64_MAX when none comes.
    Answer next(Nanoseconds timeout = 10s) {
        const Instant end = kernel.clock() + timeout;
        while (waiting_.empty()) {
            for (const Answer& answer : reap()) waiting_.push_back(answer);
            if (!waiting_.empty()) break;
            if (kernel.clock() >= end) return {UINT64_MAX, 0, 0};
            enter(1, end - kernel.clock());
        }
        const Answer first = waiting_.front();
        waiting_.erase(waiting_.begin());
        return first;
    }
    void clear() {
        submit();
        waiting_.clear();
        while (next(0ns).data != UINT64_MAX) {
        }
    }

    // Two connected sockets of the simulated kernel.
    std::pair<int, int> pair() {
        int fds[2] = {-1, -1};
        EXPECT_EQ(kernel.socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        return {fds[0], fds[1]};
    }
    int listener(int backlog = 16) {
        const int fd = kernel.socket(AF_INET, SOCK_STREAM, 0);
        sockaddr_in here = loopback(0);
        EXPECT_EQ(kernel.bind(fd, reinterpret_cast<sockaddr*>(&here), sizeof here), 0);
        EXPECT_EQ(kernel.listen(fd, backlog), 0);
        socklen_t size = sizeof here;
        EXPECT_EQ(kernel.getsockname(fd, reinterpret_cast<sockaddr*>(&here), &size), 0);
        address = here;
        return fd;
    }
    int dial() {
        const int fd = kernel.socket(AF_INET, SOCK_STREAM, 0);
        static_cast<void>(
            kernel.connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address));
        return fd;
    }
    static sockaddr_in loopback(std::uint16_t port) {
        sockaddr_in made{};
        made.sin_family = AF_INET;
        made.sin_port = htons(port);
        made.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return made;
    }

    SimKernel kernel;
    RingCalls& calls;
    io_uring ring{};
    int made = -1;
    sockaddr_in address{};

  private:
    std::vector<Answer> waiting_;
};

// A ring of `count` buffers of `size` bytes, group 0.
class Buffers {
  public:
    Buffers(Bench& bench, unsigned count, unsigned size)
        : bench_(bench), count_(count), size_(size) {
        memory_.resize(std::size_t{count} * size);
        ring_ = static_cast<io_uring_buf_ring*>(
            mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        io_uring_buf_reg registration{};
        registration.ring_addr = reinterpret_cast<std::uintptr_t>(ring_);
        registration.ring_entries = count;
        answer = bench.calls.io_register(static_cast<unsigned>(bench.ring.ring_fd),
                                         IORING_REGISTER_PBUF_RING, &registration, 1);
        io_uring_buf_ring_init(ring_);
    }
    Buffers(const Buffers&) = delete;
    Buffers& operator=(const Buffers&) = delete;
    ~Buffers() {
        io_uring_buf_reg registration{};
        bench_.calls.io_register(static_cast<unsigned>(bench_.ring.ring_fd),
                                 IORING_UNREGISTER_PBUF_RING, &registration, 1);
        munmap(ring_, 4096);
    }
    void give(unsigned id) {
        io_uring_buf_ring_add(ring_, &memory_[std::size_t{id} * size_], size_,
                              static_cast<unsigned short>(id), io_uring_buf_ring_mask(count_), 0);
        io_uring_buf_ring_advance(ring_, 1);
    }
    std::string text(const Answer& answer_of) const {
        const unsigned id = answer_of.flags >> IORING_CQE_BUFFER_SHIFT;
        return std::string(&memory_[std::size_t{id} * size_],
                           static_cast<std::size_t>(answer_of.result));
    }

    int answer = 0;

  private:
    Bench& bench_;
    unsigned count_;
    unsigned size_;
    std::vector<char> memory_;
    io_uring_buf_ring* ring_ = nullptr;
};

inline std::string pattern(std::size_t size, std::uint64_t offset = 0) {
    std::string text(size, '\0');
    for (std::size_t index = 0; index < size; ++index) {
        text[index] = static_cast<char>(((offset + index) * 0x9E3779B97F4A7C15u) >> 56);
    }
    return text;
}

}  // namespace whorl::sim_ring_test
