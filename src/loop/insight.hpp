// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include "backend/driver.hpp"
#include "base/fast_clock.hpp"
#include "loop/post_sites.hpp"
#include "loop/recorder.hpp"
#include "loop/side_table.hpp"

#include <whorl/allocated.hpp>
#include <whorl/op_record.hpp>
#include <whorl/site.hpp>

#include <cstddef>
#include <cstdint>

// What a loop knows of itself when it is asked to: the one seam at which recorder, latencies, slow
// handlers and live handles look at it. LoopCore::insight is null when all of them are off.
//
// Off, it costs two registers for the site of each submission and a few branches a turn: submissions
// ask `LoopCore::watched`, which a guest's host needs anyway, and handlers ask nothing. On, a committed
// operation's thunk is exchanged for Insight::called, which sees its handler begin and end, and its end
// without a handler, wherever in the loop that happens.
//
// The points (who calls what):
//   submitted, posted              LoopCore::committed, Loop::claim_post
//   handed                         LoopCore::turn_wait, just before the driver's call: with io_uring
//                                  the kernel takes them in the same call in which it waits
//   wait_begins, wait_ends         around that call; wait_ends stamps what it collected
//   handler_begins, handler_ends   Insight::called, dispatch_posts, dispatch_remote
//   dropped                        Insight::called: ends without its handler
//   cancel_asked                   cancel_record, timer_cancel, watch_cancel
//   turn_begins, turn_ends         LoopCore::turn
//   remote_sent, remote_taken      RemoteState::push (on the sender's thread), dispatch_remote

namespace whorl::detail {

struct LoopCore;
class LatencyTable;
struct PhaseCounts;
class SlowWatch;
struct PostSlot;
struct RemotePost;

// What is known of a descriptor.
struct InsightHandle {
    std::uint64_t opened_ns;
    std::uint64_t bytes_in;  // of completed operations
    std::uint64_t bytes_out;
    std::uint64_t bytes_seen;   // of both, by the last look for the page (details.hpp)
    std::uint64_t completions;  // of operations that name it
    std::uint32_t generation;
    std::uint32_t spare;
};
static_assert(sizeof(InsightHandle) == 48, "less than a cache line for each descriptor");

// What is known of the operation in one slot. Times are nanoseconds of the loop's clock (CLOCK_MONOTONIC;
// the world's in a simulated loop), 0 for what has not happened.
struct InsightEntry {
    Thunk thunk;                 // the operation's own
    std::uint64_t handle;        // the operation's; another one: nothing is known
    const char* file;            // where it was submitted
    std::uint32_t line;          //
    std::uint32_t place;         // the same for the recorder; 0 for none
    std::uint64_t submitted_ns;  //
    std::uint64_t handed_ns;     // to the backend, the first time
    std::uint64_t completed_ns;  // what the backend said last was collected
    InsightHandle* counts;       // of the descriptor that it names; null for none

    Site site() const noexcept { return Site::here(file, line); }
    const void* code() const noexcept { return reinterpret_cast<const void*>(thunk); }
};
static_assert(sizeof(InsightEntry) == 64, "one cache line for each operation");

using recorder::kind_post;
using recorder::kind_remote_post;

// Which way the bytes go that an operation of a kind counts.
enum class ByteFlow : std::uint8_t { none, in, out };
constexpr ByteFlow flow_of(OpKind kind) noexcept {
    switch (kind) {
        case OpKind::recv:
        case OpKind::recv_stream:
        case OpKind::recv_message:
        case OpKind::message_stream:
        case OpKind::read:
        case OpKind::read_at:
        case OpKind::read_exact_at:
        case OpKind::read_chain_at:
            return ByteFlow::in;
        case OpKind::send:
        case OpKind::send_all:
        case OpKind::send_chain:
        case OpKind::send_message:
        case OpKind::write:
        case OpKind::write_all:
        case OpKind::write_chain:
        case OpKind::splice:
        case OpKind::tee:
        case OpKind::write_at:
        case OpKind::write_all_at:
        case OpKind::append:
        case OpKind::write_chain_at:
            return ByteFlow::out;
        default:
            return ByteFlow::none;
    }
}

// A handler that runs. What a post of the library's own does may be to run the program's handler inside of it,
// such as that of a channel's message.
struct HandlerRun {
    InsightEntry of;    // a copy: the slot may be another operation's before the handler ends
    std::uint8_t kind;  // OpKind or kind_…
    bool last;          // no further one of this operation
    std::uint64_t begun_ns;
    PhaseCounts* latency;  // that of its kind's handlers; null: not counted
    // Where slow handlers are looked for:
    std::uint64_t watched_ns;  // the same by the clock of that watch
    std::uint64_t inner_ns;    // of that, how long inner ones took
    HandlerRun* outer;
};

// Lifetime: as long as its loop, behind whose operations it is destroyed. Thread: the loop's.
struct Insight : Allocated<Insight> {
    explicit Insight(LoopCore& owner) noexcept;
    Insight(const Insight&) = delete;
    Insight& operator=(const Insight&) = delete;
    ~Insight();

    static bool wanted(const LoopOptions& options) noexcept {
        const Nanoseconds zero = Nanoseconds::zero();
        return options.insight || options.recorder_events != 0 || options.slow_handler != zero ||
               options.stuck_handler != zero || options.operation_latency ||
               options.top_handles != 0;
    }
    // Errors: ENOMEM.
    Error open() noexcept;
    // On the loop's thread, in its first turn. Errors: of timer_create(2).
    Error bind() noexcept;

    // --- the points
    void opened(const Descriptor& descriptor) noexcept;
    void submitted(OpRecord& record, Site site) noexcept;
    void completed(const Completion& completion, std::uint64_t time_ns) noexcept;
    void posted(Site site) noexcept;
    // The driver's wait(), seen from both sides.
    Error wait(Nanoseconds timeout) noexcept;
    std::uint32_t handed(const OpList& submissions) noexcept;
    void wait_begins(std::uint32_t handed_count, Nanoseconds timeout) noexcept;
    void wait_ends(const CompletionBatch& batch) noexcept;
    void handler_begins(HandlerRun& run) noexcept;
    void handler_ends(const HandlerRun& run) noexcept;
    void dropped(const OpRecord& record) noexcept;
    void cancel_asked(const OpRecord& record) noexcept;
    void turn_begins() noexcept;
    void turn_ends() noexcept;
    void run_post(PostSlot& slot);
    void run_remote(RemotePost& post);
    void remote_sent(const RemotePost& post) noexcept;

    // What is known of an operation, by its handle; null: nothing.
    InsightEntry* find(std::uint64_t handle) const noexcept {
        const auto index = static_cast<std::uint32_t>(handle);
        if (!entries.has(index)) return nullptr;
        InsightEntry& entry = entries.at(index);
        return entry.handle == handle ? &entry : nullptr;
    }
    // The same of a descriptor.
    InsightHandle* find(std::uint32_t index, std::uint32_t generation) const noexcept {
        if (!handles.has(index)) return nullptr;
        InsightHandle& handle = handles.at(index);
        return handle.generation == generation ? &handle : nullptr;
    }
    // The loop's clock, as a stamp.
    std::uint64_t now_ns() const noexcept {
        return clock.counts() ? clock.counted_ns() : slow_clock_ns();
    }

    // Fixed after open().
    LoopCore& core;
    const char* kind_names[256] = {};  // for probes
    Thunk thunk = nullptr;             // of the committed: one of those below
    bool simulated = false;
    bool timed = false;                // somebody wants to know when handlers begin and end
    SideTable<InsightEntry> entries;   // by the operation's index
    SideTable<InsightHandle> handles;  // by the descriptor's
    Recorder* recorder = nullptr;      // null: off
    SlowWatch* slow = nullptr;         // null: off
    LatencyTable* latency = nullptr;   // with LoopOptions::operation_latency

    // Changed all the time.
    FastClock clock;
    PostSites post_sites;
    std::uint64_t collected_ns = 1;  // when the last answers of the backend were taken; never 0
    // When nothing but the loop itself has run since: the last stamp, of wait_ends or of a handler's end,
    // which is the next one's begin. Else 0.
    std::uint64_t latest_ns = 0;
    HandlerRun* running = nullptr;  // the innermost, where slow ones are looked for
    Insight* outer = nullptr;       // whose turn this thread's present turn lies in

  private:
    Error open_recorder() noexcept;
    std::uint64_t slow_clock_ns() const noexcept;
    std::uint64_t watch_ns(std::uint64_t time_ns) const noexcept;
    void watch_begins(HandlerRun& run) noexcept;
    void watch_ends(const HandlerRun& run, std::uint64_t time_ns) noexcept;
    std::uint64_t begin_of(std::uint64_t completed_ns) const noexcept;

    // What committed operations are called through.
    struct Untimed;
    struct Timed;
    struct Watched;
    template <class How>
    static void called(Loop& loop, OpRecord& record, Delivery* delivery);
};

// That of the loop whose turn runs on this thread; null outside of turns and without insight.
extern __thread Insight* insight_here __attribute__((tls_model("initial-exec")));

}  // namespace whorl::detail
