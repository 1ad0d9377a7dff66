// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <whorl/error.hpp>
#include <whorl/loop_options.hpp>
#include <whorl/time.hpp>

#include <liburing.h>

#include <cstddef>
#include <cstdint>

// liburing's own declaration is right in C++; the kernel's puts `bufs` eight bytes too far.
static_assert(offsetof(io_uring_buf_ring, bufs) == 0,
              "include <liburing.h>, not <linux/io_uring.h>");

namespace whorl::detail {

// What Debian 12's headers cannot say yet; each use is guarded by a probe.
inline constexpr unsigned enter_no_iowait = 1u << 7;     // IORING_ENTER_NO_IOWAIT, Linux 6.15
inline constexpr unsigned feature_no_iowait = 1u << 17;  // IORING_FEAT_NO_IOWAIT
inline constexpr unsigned setup_no_sqarray = 1u << 16;   // IORING_SETUP_NO_SQARRAY, Linux 6.6

// The system calls of io_uring, apart from the queues in shared memory. The kernel answers them, or a
// simulated ring (sim_ring.hpp) that takes its place under the production backend. Each answers as
// liburing's function does: an error as a negated errno value.
class RingCalls {
  public:
    RingCalls() = default;
    RingCalls(const RingCalls&) = delete;
    RingCalls& operator=(const RingCalls&) = delete;
    virtual ~RingCalls() = default;

    // Makes a ring and maps its queues into `ring`, as io_uring_queue_init_params() does.
    virtual int setup(unsigned entries, io_uring& ring, io_uring_params& params) noexcept = 0;
    virtual void exit(io_uring& ring) noexcept = 0;
    virtual int enter(unsigned fd, unsigned submit, unsigned complete, unsigned flags,
                      void* argument, std::size_t size) noexcept = 0;
    virtual int io_register(unsigned fd, unsigned opcode, void* argument,
                            unsigned count) noexcept = 0;
};

RingCalls& real_ring_calls() noexcept;

// The dozen things that the io_uring backend asks of a ring. It knows queues and memory, neither
// operations nor loops.
// Thread: the one that opened it, apart from close().
class Ring {
  public:
    struct Setup {
        unsigned entries;
        unsigned completion_entries;
        bool defer_taskrun;
        bool registered;
        bool no_iowait;
        RingLimit limit;
    };
    struct Failure {
        const char* step;
        int number;
    };

    explicit Ring(RingCalls& calls) noexcept : calls_(calls) {}
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;
    ~Ring() { close(); }

    // Makes the ring, asks the kernel for one no-op and its answer, and tells what is in use.
    // Errors: the errno of the refused step, named in `failure`. ENOMEM is retried for 100 ms, because
    // a ring closed before is uncharged late, and then with fewer entries.
    Error open(const Setup& setup, Failure& failure) noexcept;
    void close() noexcept;
    bool is_open() const noexcept { return open_; }

    // A free submission entry, or null when the queue is full. io_uring_get_sqe() would ask each time for
    // a kernel thread that submits and for entries of twice the size: there is neither.
    io_uring_sqe* entry() noexcept {
        const unsigned tail = ring_.sq.sqe_tail;
        if (tail - io_uring_smp_load_acquire(ring_.sq.khead) >= ring_.sq.ring_entries) {
            return nullptr;
        }
        ring_.sq.sqe_tail = tail + 1;
        return &ring_.sq.sqes[tail & ring_.sq.ring_mask];
    }
    // Entries written and not yet taken by the kernel.
    unsigned pending() const noexcept {
        return ring_.sq.sqe_tail - io_uring_smp_load_acquire(ring_.sq.khead);
    }
    // Hands over what is pending, runs deferred work, and waits for `complete` completions or until
    // `timeout` has passed (negative: no limit). Errors: errno; ETIME and EINTR count as success.
    Error enter(unsigned complete, Nanoseconds timeout) noexcept {
        io_uring_smp_store_release(ring_.sq.ktail, ring_.sq.sqe_tail);
        const bool limited = complete != 0 && timeout >= Nanoseconds::zero();
        const int done =
            limited ? enter_until(complete, timeout)
                    : calls_.enter(enter_fd_, pending(), complete, enter_flags_, nullptr, 0);
        if (done >= 0 || done == -ETIME || done == -EINTR) return {};
        return Error::from_errno(done);
    }
    // True when the kernel has something for us that only enter() brings out.
    bool wants_enter() const noexcept {
        return (queue_flags() & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN)) != 0;
    }
    bool overflowed() const noexcept { return (queue_flags() & IORING_SQ_CQ_OVERFLOW) != 0; }

    // How many completions there are; completion(0) is the oldest. Their memory is the kernel's again
    // with pop().
    unsigned completions() const noexcept { return io_uring_cq_ready(&ring_); }
    const io_uring_cqe& completion(unsigned index) const noexcept {
        return completion_at(completion_first() + index);
    }
    // The same by a position that goes on counting: for who takes several.
    unsigned completion_first() const noexcept { return *ring_.cq.khead; }
    const io_uring_cqe& completion_at(unsigned position) const noexcept {
        return ring_.cq.cqes[position & ring_.cq.ring_mask];
    }
    void pop(unsigned count) noexcept { io_uring_cq_advance(&ring_, count); }

    bool opcode_supported(unsigned opcode) const noexcept;
    bool probe_refused() const noexcept { return !probed_; }
    bool deferred() const noexcept { return deferred_; }
    bool registrable() const noexcept { return registrable_; }
    bool hides_iowait() const noexcept { return no_iowait_; }
    // Whether an entry may ask for no completion when it succeeds (Linux 5.17).
    bool skips_success() const noexcept { return skips_success_; }

    // Registers the ring with the thread that enters it from now on, which makes entering cheaper.
    // A thread has room for 16, and keeps one that another thread closes until its own end: so only
    // a ring that has found its thread is registered. False: entered by its descriptor, as before.
    bool register_index() noexcept;
    Error register_event_fd(int fd) noexcept;

    // Groups of receive buffers. `entries` is a power of two.
    static constexpr unsigned groups_max = 2;
    Error buffers_open(unsigned group, unsigned entries) noexcept;
    void buffers_put(unsigned group, void* data, unsigned size, unsigned short id) noexcept {
        Buffers& buffers = buffers_[group];
        io_uring_buf& place = buffers.ring->bufs[buffers.tail++ & (buffers.entries - 1)];
        place.addr = reinterpret_cast<std::uintptr_t>(data);
        place.len = size;
        place.bid = id;
    }
    // The kernel sees what was put.
    void buffers_publish(unsigned group) noexcept {
        const Buffers& buffers = buffers_[group];
        io_uring_smp_store_release(&buffers.ring->tail, buffers.tail);
    }
    bool has_buffers(unsigned group) const noexcept { return buffers_[group].ring != nullptr; }

    // A table of registered memory with `places` empty places, and one place of it filled. What is
    // registered stays in memory until the ring is closed.
    Error memory_open(unsigned places) noexcept;
    Error memory_put(unsigned place, const void* data, std::size_t size) noexcept;

  private:
    Error setup_once(unsigned entries, const Setup& setup) noexcept;
    int enter_until(unsigned complete, Nanoseconds timeout) noexcept;
    void enter_chosen() noexcept;
    unsigned queue_flags() const noexcept {
        return __atomic_load_n(ring_.sq.kflags, __ATOMIC_RELAXED);
    }
    Error limit_to(RingLimit limit) noexcept;
    void unregister_index() noexcept;
    Error round_trip() noexcept;
    void probe() noexcept;

    int register_call(unsigned opcode, void* argument, unsigned count) noexcept {
        return calls_.io_register(static_cast<unsigned>(ring_.ring_fd), opcode, argument, count);
    }

    RingCalls& calls_;
    io_uring ring_{};
    struct Buffers {
        io_uring_buf_ring* ring = nullptr;
        unsigned entries = 0;
        std::uint16_t tail = 0;  // behind what was put, published or not
    };
    Buffers buffers_[groups_max];
    int index_ = -1;         // the registered index, which belongs to the thread that registered it
    unsigned enter_fd_ = 0;  // it, or the descriptor; with
    unsigned enter_flags_ = 0;  // these
    unsigned long thread_ = 0;
    bool open_ = false;
    bool deferred_ = false;
    bool no_iowait_ = false;
    bool probed_ = false;
    bool registrable_ = false;
    bool skips_success_ = false;
    unsigned char opcodes_[32] = {};  // one bit each
};

}  // namespace whorl::detail
