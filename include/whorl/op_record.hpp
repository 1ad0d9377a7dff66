// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <whorl/buffer.hpp>
#include <whorl/error.hpp>
#include <whorl/handler.hpp>
#include <whorl/operation_list.hpp>
#include <whorl/slab.hpp>

#include <cstddef>
#include <cstdint>
#include <new>

// The slot of one operation: two cache lines in the loop's slab. The first is what dispatch touches
// (generation, how to call the handler, the handler itself); the second is what the operation is
// about. It never moves, so the kernel may be given addresses inside it until the final record.
//
// State table (who moves an operation, and the function that does it):
//
//   from       to         when                                        by
//   (free)     listed     submitted; its side of the descriptor free   LoopCore::commit
//   (free)     queued     submitted behind another on the same side    LoopCore::commit
//   (free)     linked     submitted to follow another               LoopCore::chain_join
//   linked     listed     that one has succeeded                      LoopCore::chain_start
//   linked     queued     and its side of the descriptor is taken     LoopCore::chain_start
//   queued     listed     the one before it has ended                  LoopCore::side_advance
//   listed     kernel     handed to the backend, once per turn         Driver::wait
//   kernel     listed     partial transfer or multishot goes on        LoopCore::stream_resubmit
//   kernel     starved    no receive buffer was left                   LoopCore::advance_recv_stream
//   kernel     paused     its stream holds its share of the buffers    LoopCore::advance_recv_stream
//   kernel     retrying   accept found no descriptor, slot or peer     LoopCore::accept_pause
//   starved    listed     a buffer came home                           LoopCore::resume_starved
//   paused     listed     enough buffers came home                     LoopCore::buffer_returned
//   retrying   listed     the pause is over                            LoopCore::timer_expire
//   any        ready      decided inside the loop (cancel, time)       LoopCore::complete_locally
//   ready      (free)     its final completion is dispatched           LoopCore::dispatch_ready
//   kernel     (free)     its final record is dispatched               LoopCore::finish
//   (free)     armed      a timer, deadline, hook or wait              timer_arm, hook_commit, wait_arm
//   armed      (free)     fired or cancelled                           timer_fire, timer_cancel, …

namespace whorl {
class Loop;
}

namespace whorl::detail {

struct OpRecord;
struct Delivery;
struct LoopCore;

// One function per pair of operation and handler type. With a delivery it hands the completion to the
// handler (and, when that is final, releases the slot first); without one it destroys the handler.
using Thunk = void (*)(Loop& loop, OpRecord& record, Delivery* delivery);

enum class OpState : std::uint8_t {
    ended,
    linked,
    queued,
    listed,
    kernel,
    starved,
    paused,
    retrying,
    ready,
    armed
};

// Bits of OpRecord::flags.
inline constexpr std::uint16_t op_cancelled = 1 << 0;   // a cancel was asked for
inline constexpr std::uint16_t op_timed_out = 1 << 1;   // its deadline passed
inline constexpr std::uint16_t op_final_seen = 1 << 2;  // its final record waits for dispatch
inline constexpr std::uint16_t op_pausing = 1 << 3;  // being withdrawn from the kernel for a while
inline constexpr std::uint16_t op_dropped = 1 << 4;  // the handler is gone; end silently
inline constexpr std::uint16_t op_background = 1 << 5;  // does not keep run() going
inline constexpr std::uint16_t op_told = 1 << 6;        // the handler knows of this exhaustion
inline constexpr std::uint16_t op_unfiled =
    1 << 7;  // a timer whose time is counted from the next filing
inline constexpr std::uint16_t op_late_free = 1 << 8;  // ended inside its own handler
inline constexpr std::uint16_t op_fed = 1 << 9;    // a stream has got data since it was handed over
inline constexpr std::uint16_t op_bulk = 1 << 10;  // a stream that receives into large buffers
inline constexpr std::uint16_t op_burst = 1 << 9;  // a periodic timer with Missed::burst
inline constexpr std::uint16_t op_delay = 1 << 10;      // a periodic timer with Missed::delay
inline constexpr std::uint16_t op_absolute = 1 << 11;   // an unfiled deadline given as an instant
inline constexpr std::uint16_t op_backend_1 = 1 << 12;  // for the backend alone
inline constexpr std::uint16_t op_backend_2 = 1 << 13;

struct alignas(64) OpRecord : SlabSlot {
    // First line. `link` (from SlabSlot) and `link_previous` chain the record into one list at a time.
    Thunk thunk;
    alignas(handler_align_max) unsigned char closure[handler_size_max];

    // Second line: written at submission, by the loop while it waits, by the backend while it runs.
    alignas(64) unsigned char payload[32];  // Buffer, socket address, chain or timer node, by kind
    std::uint64_t progress;                 // bytes moved so far; a timer's interval in ns
    std::uint64_t extra;  // message flags, interest, result; a timer's deadline in ns
    std::uint32_t link_previous;
    std::uint32_t
        descriptor;          // index of the descriptor, 0 for none; a watch: the descriptor number
    std::uint32_t deadline;  // index of the deadline's record, 0 for none; of the chain's before it
    OpKind kind;
    OpState state;
    std::uint16_t flags;

    static constexpr std::size_t payload_size = 32;
    template <class T>
    static constexpr bool fits = sizeof(T) <= payload_size;  // it is aligned to a cache line

    template <class T>
    T& as() noexcept {
        static_assert(fits<T>, "does not fit the payload");
        return *std::launder(reinterpret_cast<T*>(payload));
    }
    template <class T>
    void store(T&& value) noexcept {
        using Value = std::remove_reference_t<T>;
        static_assert(fits<Value>, "does not fit the payload");
        ::new (static_cast<void*>(payload)) Value(std::forward<T>(value));
    }
    // Moves the payload out and ends it, so that the slot may be reused.
    template <class T>
    T take() noexcept {
        T value(std::move(as<T>()));
        as<T>().~T();
        return value;
    }
};

static_assert(sizeof(OpRecord) == 128, "an operation is two cache lines");

// What dispatch tells a thunk.
struct Delivery {
    Error error;
    bool more = false;
    std::int32_t result = 0;   // what the kernel said: bytes, events
    std::uint64_t bytes = 0;   // moved over the whole operation
    std::uint64_t handle = 0;  // a new descriptor's handle, or the record's own
    std::int64_t time_ns = 0;  // the instant a timer was due
    LoopCore* core = nullptr;  // for operations that return memory to the loop
    // What a received stream has got: a reference to its memory that finish() takes over.
    BufferOwner* received = nullptr;
    std::byte* received_data = nullptr;
    std::size_t received_size = 0;

    Buffer take_buffer() noexcept {
        if (received == nullptr) return {};
        return Buffer::from_owner(std::exchange(received, nullptr), received_data, received_size);
    }
};

// A timer that was just armed, and its handle; without a record, the error's value. This and the next come
// back in registers.
struct ArmedTimer {
    OpRecord* record;
    std::uint64_t value;
};

// Where a posted handler goes; without it, why not.
struct PostRoom {
    void* closure;
    Error error;
};

template <class Op>
using DoneOf = typename Op::Done;

}  // namespace whorl::detail
