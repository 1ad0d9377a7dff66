// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <whorl/time.hpp>

#include <cstddef>
#include <cstdint>

namespace whorl {

namespace detail {
class SimKernel;
class RunSeam;
}  // namespace detail

// Which backend a loop runs on. The environment variable WHORL_BACKEND (automatic, io_uring, libev)
// replaces `automatic` for field triage; it is ignored in set-user-ID programs.
enum class Backend : std::uint8_t {
    automatic,  // io_uring, or libev when that is refused; the reason is kept in backend_report()
    io_uring,   // io_uring or an error that names the reason
    libev,      // epoll through libev.so.4, loaded when needed
    simulator,  // a simulated world instead of a kernel, for tests: testing.hpp
};

// The backend's own name, as it stands above.
constexpr const char* name_of(Backend backend) noexcept {
    switch (backend) {
        case Backend::automatic:
            return "automatic";
        case Backend::io_uring:
            return "io_uring";
        case Backend::libev:
            return "libev";
        case Backend::simulator:
            return "simulator";
    }
    return "unknown";
}

// Optional kernel features that the io_uring backend uses when a probe finds them. Each can be switched
// off by LoopOptions::features_off or by WHORL_DISABLE=name,name in the environment. Behaviour is the
// same without any of them. X(name, what it is)
#define WHORL_FEATURE_LIST(X)                                                      \
    X(multishot_accept, "one accept request serves many connections (Linux 5.19)") \
    X(multishot_recv, "one receive request serves many messages (Linux 6.0)")      \
    X(buffer_ring, "the kernel picks receive buffers from a ring (Linux 5.19)")    \
    X(defer_taskrun, "completions run only when the loop asks (Linux 6.1)")        \
    X(registered_ring, "the ring is entered by a registered index (Linux 5.18)")   \
    X(no_iowait, "an idle loop is not counted as waiting for a disk (Linux 6.15)")

// The features of the list above, numbered from 0.
enum class Feature : std::uint8_t {
#define WHORL_FEATURE_ENUMERATOR(name, text) name,
    WHORL_FEATURE_LIST(WHORL_FEATURE_ENUMERATOR)
#undef WHORL_FEATURE_ENUMERATOR
};

// For LoopOptions::features_off and BackendReport::features.
constexpr std::uint32_t feature_bit(Feature feature) noexcept {
    return 1u << static_cast<std::uint32_t>(feature);
}

// What the ring of the io_uring backend may be asked to do. The kernel enforces it: whatever else is
// submitted to the ring or registered with it is answered with EACCES, until the loop ends.
// Source: man io_uring_register.2, IORING_REGISTER_RESTRICTIONS (Linux 5.10).
enum class RingLimit : std::uint8_t {
    none,        // anything
    used,        // what whorl uses: sockets, polls, cancellations; a sandbox
    linux_5_15,  // the same, and nothing newer than that Linux, optional features included: to test
                 // on a new kernel what a program does on an old one
    linux_6_1,   // the same with Linux 6.1
    linux_6_18,  // the same with Linux 6.18
};

// Every limit of a loop. The defaults suit a server with tens of thousands of connections; memory is
// taken as it is needed, so large limits cost address space only.
struct LoopOptions {
    Backend backend = Backend::automatic;  // WHORL_BACKEND may replace `automatic`
    std::uint32_t features_off = 0;  // feature_bit()s; features not to be used even when present
    // A seccomp filter does not see what goes through a ring: a process that must not open files can
    // still open them with io_uring. With `used` this ring cannot, and whorl's own operations on files are
    // system calls of the work pool. A filter must keep the process from
    // making another ring: install it after the loop's first turn, and let it deny io_uring_setup.
    // If the kernel refuses the limit, io_uring counts as refused; libev has no ring and no limit.
    // Cost: a test of two bits for each operation, in the kernel.
    RingLimit ring_limit = RingLimit::none;

    // Operations, timers and watches alive at once; beyond it submit() answers slots_exhausted.
    std::uint32_t ops_max = 1u << 20;
    // Sockets and listeners open at once; beyond it the operation that needs one says slots_exhausted.
    std::uint32_t handles_max = 1u << 20;
    // Handlers posted and not yet run; beyond it post() answers queue_full.
    std::uint32_t posts_max = 1u << 20;

    // The loop's buffer pool. At the limit, received streams pause until a buffer comes home.
    std::size_t buffer_bytes_max = std::size_t{64} << 20;
    // Size and number of buffers that wait ready for received streams. 64 of 16 KiB stay inside a
    // second-level cache. When more streams than that are open and they run out together, the number
    // doubles, up to the streams and at most recv_ring_depth_max; deeper rings than needed are slower.
    std::uint32_t recv_buffer_size = 16384;    // 256 to 65536
    std::uint32_t recv_ring_depth = 64;        // power of two, 2 to 32768
    std::uint32_t recv_ring_depth_max = 1024;  // power of two, recv_ring_depth to 32768
    // Buffers of one received stream that the program may hold before that stream pauses, so that one
    // connection cannot take every buffer.
    std::uint32_t recv_buffers_per_stream = 64;
    // A stream whose buffers come full goes on with buffers of this size, which stay warm because there
    // are few, until what arrives would fit the small ones again. It may hold as many bytes as before.
    // At most recv_buffer_size, or an eighth of buffer_bytes_max smaller than it: no stream does.
    std::uint32_t recv_bulk_buffer_size = 65536;  // 0 to 65536
    std::uint32_t recv_bulk_ring_depth = 8;       // power of two, 2 to 32768

    // Blocking work (work.hpp): how many may be alive at once (beyond it submit() answers queue_full),
    // and the threads that they share with files on a backend that needs threads for them.
    std::uint32_t work_max = 1024;
    std::uint32_t work_threads = 4;  // 1 to 1024

    // Files (io_uring, Linux 5.19): ReadAt, ReadExactAt, WriteAt, WriteAllAt and Append with buffers of
    // the loop's pool (Loop::buffer) use memory that is registered with the ring, so that the kernel
    // does not look up and copy by user addresses: between nothing and a quarter of the time of a read
    // (docs/benchmarks.md). Each mapping of the pool (64 or 256 KiB) is registered by the first transfer
    // that uses it, and stays in memory until the loop ends; it counts against RLIMIT_MEMLOCK, and
    // fork(2) copies it at once. What is refused goes the usual way: Statistics tells how much is
    // registered. Behaviour is the same with and without; libev does without.
    bool registered_buffers = false;

    // Kernel queue sizes (io_uring). Smaller than a burst is no error: the queue is flushed in between.
    std::uint32_t submission_queue_depth = 256;  // 1 to 32768
    std::uint32_t completion_queue_depth = 0;    // 0: four times the submission queue

    // Fairness: at most so much of each before everything else gets its turn.
    std::uint32_t completions_per_turn = 256;
    std::uint32_t posts_per_turn = 128;    // 1 or more
    std::uint32_t timers_per_turn = 1024;  // 1 or more

    // How long a loop that is about to sleep looks for completions first, without letting go of its
    // processor: messages that come soon after one another are met awake. It begins anew with every turn
    // that would sleep; max(): it never sleeps. Timers, posts of other threads and stop() end it as they
    // end a sleep. Worth it only with a processor that nobody else needs: while it looks, the thread is
    // busy, and a peer on the same processor waits for it. docs/latency.md has figures.
    // Limits: 0 (off) or more. Without effect in guest mode, where the host waits, and in a simulated
    // world, where looking takes no time.
    Nanoseconds busy_poll{0};

    // Statistics that another thread or another process reads while the loop runs (statistics_page.hpp,
    // whorl-top): at most every `statistics_interval`, at the end of a turn or before a sleep, the loop
    // writes its figures to a page of shared memory, which ends with the process. 0: in every turn.
    // Cost: a descriptor, 48 KiB, three readings of a clock in each turn (20 ns, or 70 ns where the
    // processor's counter cannot be trusted), two microseconds each time; off, nothing.
    bool statistics_page = false;
    Nanoseconds statistics_interval{std::chrono::milliseconds(10)};  // 0 or more
    // How many handles the page shows as the largest by their bytes, completions and age
    // (loop_details.hpp): 0 (off) to 16; without a page, 0. Switches `insight` on. Cost: four times a
    // second a look at all handles, 256 of them with each publication, some microseconds.
    std::uint32_t top_handles = 0;
    // What the loop is called in its page; copied, cut after 31 bytes. May be null.
    const char* name = nullptr;

    // How much later than its deadline a timer may fire so that wake-ups can be shared. Timers are
    // never early, whatever this is.
    Nanoseconds timer_slack{0};
    // How long destruction waits for the kernel to let go of buffers before it leaks and reports them.
    Nanoseconds shutdown_bound{std::chrono::seconds(5)};

    // Seeing inside (docs/insight.md). Off, none of these costs anything that can be measured.
    //
    // Remembers of each operation, timer, watch and post where and when it was submitted, and when it
    // reached the backend and came back: 64 bytes for each operation alive. The others switch it on.
    bool insight = false;
    // Histograms of where the time of operations goes, by kind and phase (operation_latency.hpp), also
    // as p50, p99 and most in the statistics page. Cost: three readings of a clock and up to four counts for
    // each operation, 40 to 60 ns where the processor's counter is the clock; 35 KiB for each kind used.
    bool operation_latency = false;
    // The flight recorder: how many of its last events the loop keeps, 32 bytes each, in a ring that a
    // tool finds in the running process and in its core file (recorder_format.hpp). 0: none; else a
    // power of two, 64 to 2^24.
    std::uint32_t recorder_events = 0;
    // Where it is dumped to by a panic and by a stuck handler: this path with ".PROCESS.LOOP" added, at
    // most 255 bytes; copied. Null: nowhere; Loop::dump_recorder() dumps on request.
    const char* recorder_path = nullptr;
    // Reports handlers that run longer than the first, and at once those that run longer than the second;
    // each 0 (off), or 1 ms or more. slow_handler.hpp says how, and what it costs.
    Nanoseconds slow_handler{0};
    Nanoseconds stuck_handler{0};  // it needs no slow_handler
    // At most one report of a slow handler in this time; the others are counted.
    Nanoseconds slow_handler_pause{std::chrono::seconds(1)};
    // The real-time signal that looks into handlers, nobody else's in the process, and not blocked by the
    // loop's thread, which unblocks it in its first turn. 0: SIGRTMAX - 1. Loop::create() answers
    // EBUSY when it has a handler.
    int slow_handler_signal = 0;

    // Records the run to this file (run_log.hpp), so that testing::Replay can repeat it; what was there is
    // overwritten. Null: no. Each loop needs a file of its own: Loop::create() answers EWOULDBLOCK when
    // another loop writes to it, or the error of open(2). When the file cannot grow, a warning is logged,
    // the recording ends there, and the loop goes on.
    const char* run_log = nullptr;
    // How large the file may become; the recording ends there, with a warning. 256 KiB or more.
    std::uint64_t run_log_bytes_max = std::uint64_t{1} << 30;

    // The recorded run that the loop repeats: set by testing::Replay::make_loop(), which see.
    detail::RunSeam* replay = nullptr;

    // The simulated world that the loop lives in: set by testing::World::make_loop(), which see. With
    // Backend::io_uring the io_uring driver then runs on a simulated ring.
    detail::SimKernel* world = nullptr;
};

}  // namespace whorl
