// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/ring.hpp"
#include "backend/sim_kernel.hpp"

#include <sys/uio.h>

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <vector>

// One simulated ring: its queues in plain memory, and the operations that it has in flight.
//
// An operation is in one of these places:
//   armed     its file is watched; a change that it waits for queues it
//   delayed   an event of the kernel will queue it: the world tells it late
//   work      in work_, the task work of the ring: it is tried again, or its completion is posted
//
// Task work runs inside io_uring_enter. Without DEFER_TASKRUN it also runs by an event of the kernel,
// as a real task runs it whenever it leaves the kernel.
//
// Invariants:
//   1. A change of a file is only noted; operations are tried by submission and by task work alone.
//   2. An operation keeps its file until its outcome is decided, not until that is told.
//   3. Completions of one operation are posted in order, and none is ever lost: what finds the
//      completion queue full waits in overflow_.

namespace whorl::detail {

// What io_uring of one version of Linux can do.
struct SimRingLevel {
    unsigned features;     // IORING_FEAT_
    unsigned setup_flags;  // IORING_SETUP_, those that are simulated
    unsigned enter_flags;  // IORING_ENTER_
    unsigned entry_flags;  // IOSQE_
    unsigned opcode_last;
    bool multishots;      // of accept and receive (5.19, 6.0)
    bool buffer_rings;    // 5.19
    bool registered_fds;  // 5.18
    bool waits_for_all;   // MSG_WAITALL goes on after a part was moved (5.19)
    bool busy_when_full;  // refuses submissions while completions wait for room (until 5.18)
};

const SimRingLevel& sim_ring_level(testing::RingLevel level) noexcept;

struct SimRingOp {
    enum class Place : std::uint8_t { free, armed, delayed, work };

    std::uint64_t user_data = 0;
    // The whole entry of an operation on a file or name; its type cannot be a member in C++.
    std::array<unsigned char, sizeof(io_uring_sqe)> entry{};
    SimFilePtr file;
    std::uint64_t event = 0;  // of the kernel, while it is delayed
    char* data = nullptr;     // what a transfer reads or writes
    std::size_t size = 0;
    std::size_t moved = 0;
    std::vector<iovec> parts;   // of a gathering send
    SimAddress address;         // of a connect
    msghdr* message = nullptr;  // of a message that is received or sent as one
    std::uint32_t index = 0;
    std::uint32_t next = 0;  // in its chain of table_, or in the free list
    unsigned wanted = 0;     // POLL… bits that it waits for
    int message_flags = 0;
    int result = 0;  // once it is decided
    unsigned flags = 0;
    std::uint16_t group = 0;
    std::uint8_t opcode = 0;
    Place place = Place::free;
    bool decided = false;
    bool multishot = false;
    bool selects = false;  // takes a buffer of its group
    bool silent = false;   // success is not told
    bool nowait = false;   // says EAGAIN instead of waiting
    bool watched = false;
    bool woken = false;  // has waited before
    // A zero-copy send: whether one; and that its answer is told, so that its notification is due.
    bool zero_copy = false;
    bool notifies = false;
    std::uint64_t digest = 0;  // of its bytes when they were sent
    bool losing = false;       // a cancel came too late: it is tried once more
};

class SimRing final : public SimFile, private SimWatcher {
  public:
    // `params` are checked and completed by prepare().
    SimRing(SimKernel& kernel, const SimRingLevel& level, const io_uring_params& params);
    ~SimRing() override { leave(); }

    // 0 or -EINVAL; fills in what io_uring_setup answers.
    static int prepare(const SimRingLevel& level, unsigned entries,
                       io_uring_params& params) noexcept;
    // The queues as liburing's inline functions want to find them.
    void map(io_uring& ring) noexcept;
    // Its memory is gone for the program; what is in flight goes on for a while.
    void leave();

    int enter(unsigned submit, unsigned complete, unsigned flags, void* argument, std::size_t size);
    int control(unsigned opcode, void* argument, unsigned count);

    const char* name() const noexcept override { return "ring"; }
    unsigned poll_bits() const noexcept override;

  private:
    static constexpr int would_block = INT32_MIN;
    struct Queues {
        unsigned sq_head, sq_tail, sq_mask, sq_entries, sq_flags, sq_dropped;
        unsigned cq_head, cq_tail, cq_mask, cq_entries, cq_flags, cq_overflow;
        std::unique_ptr<unsigned[]> array;
        std::unique_ptr<io_uring_sqe[]> sqes;
        // An io_uring_cqe ends in a flexible array: there is no array of them in C++.
        std::unique_ptr<unsigned char[]> cqe_bytes;
        io_uring_cqe* cqes = nullptr;
    };
    struct Group {
        const io_uring_buf_ring* ring;
        unsigned entries;
        std::uint16_t head;
    };
    struct Outcome {
        int result;
        unsigned flags;
    };

    // sim_ring_queues.cpp
    int take(unsigned count);
    int wait(unsigned complete, Instant deadline);
    void post(std::uint64_t user_data, int result, unsigned flags, bool futile = false);
    void put(const io_uring_cqe& cqe) noexcept;
    void overflow_flush();
    void signal();
    void flag(unsigned bit, bool on) noexcept;
    unsigned ready() const noexcept;
    bool foreign() const noexcept;
    bool deferred() const noexcept { return (setup_ & IORING_SETUP_DEFER_TASKRUN) != 0; }

    // sim_ring_flight.cpp
    SimRingOp& claim(std::uint64_t user_data);
    void release(SimRingOp& op) noexcept;
    SimRingOp* find(std::uint64_t user_data) noexcept;
    std::uint32_t& chain_of(std::uint64_t user_data) noexcept;
    void table_grow();
    void file_changed(SimFile& file, std::uint64_t token) override;
    void attempt(SimRingOp& op);
    void arm(SimRingOp& op);
    void enqueue(SimRingOp& op);
    void delay(SimRingOp& op, Nanoseconds time);
    void decide(SimRingOp& op, int result, unsigned flags);
    void complete(SimRingOp& op, int result, unsigned flags);
    void tell(SimRingOp& op);
    void let_go(SimRingOp& op) noexcept;
    void run_work();
    int cancel(std::uint64_t target, bool polls);
    void leave_behind(SimRingOp& op);
    Nanoseconds lateness();

    // sim_ring_operations.cpp
    bool start(const io_uring_sqe& sqe);
    int refuse(const io_uring_sqe& sqe) const noexcept;
    bool start_at_once(const io_uring_sqe& sqe);
    int prepare_op(const io_uring_sqe& sqe, SimRingOp& op);
    int prepare_connect(const io_uring_sqe& sqe, SimRingOp& op);
    int prepare_accept(const io_uring_sqe& sqe, SimRingOp& op) const;
    int prepare_recv(const io_uring_sqe& sqe, SimRingOp& op) const;
    int prepare_send(const io_uring_sqe& sqe, SimRingOp& op) const;
    int prepare_sendmsg(const io_uring_sqe& sqe, SimRingOp& op) const;
    static bool moves_message(const io_uring_sqe& sqe, const SimFile& file);
    int prepare_message(const io_uring_sqe& sqe, SimRingOp& op) const;
    int prepare_poll(const io_uring_sqe& sqe, SimRingOp& op) const;
    Outcome try_op(SimRingOp& op);
    static bool is_on_file(unsigned opcode) noexcept;  // sim_ring_files.cpp
    Outcome try_file(SimRingOp& op);
    Outcome try_accept(SimRingOp& op);
    Outcome try_recv(SimRingOp& op);
    Outcome try_recv_part(SimRingOp& op, bool whole);
    Outcome try_send(SimRingOp& op);
    Outcome try_sendmsg(SimRingOp& op);
    // sim_ring_zero_copy.cpp
    int prepare_zero_copy(const io_uring_sqe& sqe, SimRingOp& op) const;
    bool tell_answer(SimRingOp& op);
    void tell_notification(const SimRingOp& op);
    Outcome try_message(SimRingOp& op);
    Outcome try_message_stream(SimRingOp& op);
    Outcome try_poll(SimRingOp& op);
    struct Kinds {
        OpKind first, second;
    };
    Kinds kinds_of(const SimRingOp& op) const noexcept;
    static Kinds file_kinds_of(unsigned opcode) noexcept;
    int fault(SimRingOp& op);
    bool ends_stream();
    std::size_t shortened(std::size_t size);
    const io_uring_buf* buffer_first(std::uint16_t group) const noexcept;
    void scribble(const SimRingOp& op);

    // sim_ring_register.cpp
    int control_probe(io_uring_probe& probe, unsigned count) const noexcept;
    int control_eventfd(const int* number);
    int control_buffers(const io_uring_buf_reg& registration);
    int control_buffers_end(const io_uring_buf_reg& registration);
    int control_memory(unsigned opcode, const void* argument, unsigned size);  // sim_ring_files.cpp
    int on_memory(const io_uring_sqe& sqe) const noexcept;
    int control_restrict(const io_uring_restriction* entries, unsigned count);

    const SimRingLevel& level_;
    unsigned setup_;
    Queues queues_;
    bool left_ = false;
    bool disabled_;
    bool entered_ = false;     // once: from then on it may be refused
    unsigned long owner_ = 0;  // the one thread that may submit; 0: any
    std::deque<io_uring_cqe> overflow_;

    std::deque<SimRingOp> ops_;  // they never move
    std::uint32_t ops_free_ = 0;
    std::uint32_t ops_count_ = 0;
    std::vector<std::uint32_t> table_;  // heads of chains, by user_data
    std::vector<std::uint32_t> work_;
    bool work_scheduled_ = false;

    std::map<std::uint16_t, Group> groups_;
    std::vector<iovec> memory_;  // registered; places without any are null
    std::size_t memory_bytes_ = 0;
    SimFilePtr event_;

    struct Restrictions {
        std::bitset<256> entries;
        std::bitset<256> calls;
        unsigned flags_allowed = 0;
        unsigned flags_required = 0;
        bool on = false;
    };
    Restrictions restrictions_;
};

}  // namespace whorl::detail
