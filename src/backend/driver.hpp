// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/op_list.hpp"
#include "backend/system.hpp"

#include <whorl/allocated.hpp>
#include <whorl/backend_report.hpp>
#include <whorl/buffer_pool.hpp>
#include <whorl/loop_options.hpp>
#include <whorl/op_record.hpp>
#include <whorl/result.hpp>
#include <whorl/statistics.hpp>
#include <whorl/time.hpp>

#include <cstdint>

// The contract that every backend keeps. It is called once per turn, not per operation, and knows
// neither Loop nor handlers.
//
//   1. Every record handed over in `submissions` comes back in exactly one completion without
//      completion_more, whatever happens; accept_stream and recv_stream may deliver any number with
//      completion_more before. The result is what the system call would have answered: bytes, a
//      descriptor, 0, or a negated errno value.
//   2. A kind that is a multishot for users may end without need (a full queue, an old kernel):
//      a final completion with result >= 0. The loop hands the record over again.
//   3. While it has a record, the memory that the record owns is untouchable for everybody else. lend()
//      guards it.
//   4. cancel() asks; the record still comes back once, with -ECANCELED or with what it had reached.
//   5. A received stream takes its buffers from the pool and hands them over in `block`. Without a
//      buffer it answers -ENOBUFS; data stays with the kernel.
//   6. A short transfer is no error; the loop decides whether to go on.
//   7. Nothing is delivered from anywhere but wait().
//   8. state becomes kernel when a record is taken from `submissions` (lend()), and op_final_seen is
//      set with its final completion (give_back()): from then on the driver does not have it.

namespace whorl::detail {

inline constexpr std::uint32_t completion_more = 1;

// One record of the kernel's answer. `block` carries the received bytes of a stream.
struct Completion {
    std::uint64_t operation;
    std::int32_t result;
    std::uint32_t flags;
    PoolBlock* block;
};

// The completions of one turn, taken out in order. The loop may leave some for its next turn when a
// handler throws or stops it; wait() is not called before the batch is empty.
struct CompletionBatch {
    Completion* entries = nullptr;
    std::uint32_t capacity = 0;
    std::uint32_t count = 0;
    std::uint32_t taken = 0;

    bool full() const noexcept { return count == capacity; }
    bool empty() const noexcept { return taken == count; }
    void push(const Completion& completion) noexcept {
        WHORL_ASSERT(count < capacity);
        entries[count++] = completion;
    }
};

// A socket, listener or file that the loop owns.
enum class DescriptorState : std::uint8_t { open, connecting, closing };
enum class DescriptorKind : std::uint8_t { socket, listener, file, signals, child };

// Bits of Descriptor::flags. Of a file opened with O_DIRECT the uppermost tell the binary logarithm of
// what its transfers must be aligned to.
inline constexpr std::uint16_t descriptor_unseekable = 1 << 0;
inline constexpr unsigned descriptor_alignment_shift = 12;

struct Descriptor : SlabSlot {
    int fd;
    DescriptorKind kind;
    DescriptorState state;
    std::uint16_t family;       // AF_… of a datagram or Unix socket; pipe_whole; else 0
    OpList read_queue;          // waiting behind read_active
    OpList write_queue;         // waiting behind write_active
    std::uint32_t read_active;  // the operation that has the side, 0 for none
    std::uint32_t write_active;
    std::uint32_t operations;    // all that name this descriptor, until dispatched
    std::uint32_t buffers_out;   // received buffers that the program holds; else process_calls.hpp
    std::uint32_t close_record;  // the close handler's record, 0 for none
    std::uint16_t flags;         // of a file (above), a pipe (pipe_transfer.hpp), a child
    void* backend;               // for the backend alone
};
static_assert(sizeof(Descriptor) <= 80, "a connection is small");

// What a backend works with; all of it belongs to the loop and outlives the backend.
struct DriverContext {
    Slab<OpRecord>& operations;
    Slab<Descriptor>& descriptors;
    BufferPool& pool;
    Statistics& statistics;
    const LoopOptions& options;
    System& system;
};

// How many bytes a received stream takes at a time: op_bulk changes only while no backend has it.
inline std::uint32_t stream_buffer_size(const LoopOptions& options,
                                        const OpRecord& record) noexcept {
    const bool bulk = (record.flags & op_bulk) != 0;
    return bulk ? options.recv_bulk_buffer_size : options.recv_buffer_size;
}

class Driver : public Allocated<Driver> {
  public:
    Driver() = default;
    Driver(const Driver&) = delete;
    Driver& operator=(const Driver&) = delete;
    virtual ~Driver() = default;

    // Called once on the thread that will own the loop, before the first wait(). When that is not the
    // thread that made the driver, kernel objects that belong to a thread are made anew here.
    virtual Error bind() noexcept = 0;

    // Submits all of `submissions` (emptying it), waits until there is a completion, `timeout` has
    // passed or wake() was called, and appends completions to `batch` (empty on entry) until it is
    // full. timeout: 0 looks without waiting, negative waits without limit.
    // Errors: only what means that this driver can no longer work.
    virtual Error wait(OpList& submissions, Nanoseconds timeout,
                       CompletionBatch& batch) noexcept = 0;

    // Whether a wait() for nothing, with nothing to submit, may be left out: as far as can be told without
    // a system call it would find nothing. Never more than a few times in a row.
    virtual bool quiet() noexcept { return false; }

    // For who looks over and over: whether a wait() for nothing might find something, as far as can be told
    // without a system call. Where only a system call tells, always.
    virtual bool peek() noexcept { return true; }

    // Asks that `record`, which is with the backend, end. Submitted with the next wait() or flush().
    virtual void cancel(OpRecord& record) noexcept = 0;

    // Hands pending cancellations to the kernel now and lets go of the files they held.
    virtual void flush() noexcept = 0;

    // The descriptor is about to be closed; no record names it any more. Stale events must not reach
    // the next owner of its number.
    virtual void forget(Descriptor& descriptor) noexcept = 0;
    // The same for one that leaves the loop open: what comes for it from now on is no event here.
    virtual void let_go(Descriptor& descriptor) noexcept { forget(descriptor); }

    // A watch record is about to be freed, or is not going to be handed over again.
    virtual void forget_watch(OpRecord& record) noexcept = 0;

    // Whether there are buffers for received streams that left the pool and are not filled: a stream
    // that answered -ENOBUFS may find one when it is handed over again.
    virtual bool buffers_ready() const noexcept { return false; }
    // The same of large ones (op_bulk).
    virtual bool bulk_buffers_ready() const noexcept { return false; }

    // Ends a wait() whenever the eventfd becomes readable (once for each write to it, at least).
    virtual Error watch_wake(int event_fd) noexcept = 0;

    // A descriptor that is readable when wait(timeout 0) would find something. Called before the first
    // wait(), or not at all.
    virtual Result<int> notify_fd() noexcept = 0;

    // When a guest's host must call although nothing has happened.
    virtual Instant wakes_at() const noexcept { return instant_never; }

    // The optional features in use; bind() and notify_fd() may change them.
    virtual std::uint32_t features() const noexcept { return 0; }
};

// Whether `record`, given by a driver's user_data, exists: for drivers.
inline OpRecord* find_record(DriverContext& context, std::uint64_t handle) noexcept {
    return context.operations.find(handle);
}

}  // namespace whorl::detail
