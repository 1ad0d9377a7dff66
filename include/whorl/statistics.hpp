// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <cstdint>

namespace whorl {

// Plain counters of one loop, kept always; reading them costs nothing. Thread: loop thread only.
// "high" is a high-water mark since the loop was created; its limit stands in LoopOptions.
struct Statistics {
    std::uint64_t turns = 0;              // rounds of wait and dispatch
    std::uint64_t kernel_waits = 0;       // calls into the kernel to submit, wait or both
    std::uint64_t submissions = 0;        // operations handed to the backend, re-arming included
    std::uint64_t completions = 0;        // records that came back from the backend
    std::uint64_t completions_stale = 0;  // of those, for operations that no longer exist; dropped
    std::uint64_t handlers = 0;           // handlers called
    std::uint64_t timers_fired = 0;       // calls of timers' handlers
    std::uint64_t posts_run = 0;          // handlers of Loop::post
    std::uint64_t remote_posts_run = 0;   // handlers of Remote::post
    std::uint64_t remote_wakes = 0;       // times a sleeping loop was woken by a Remote
    std::uint64_t cancels = 0;            // cancellations asked of the backend
    std::uint64_t queue_flushes = 0;      // the submission queue was full and flushed in between
    std::uint64_t completion_overflows =
        0;                               // the kernel's completion queue overflowed (nothing lost)
    std::uint64_t recv_starved = 0;      // a received stream found no buffer and paused
    std::uint64_t recv_resized = 0;      // a received stream changed to large buffers, or back
    std::uint64_t recv_paused = 0;       // a received stream held its share of buffers and paused
    std::uint64_t accept_paused = 0;     // an accept found no descriptor or slot and backed off
    std::uint64_t accept_aborted = 0;    // connections that were gone before they could be accepted
    std::uint32_t operations = 0;        // alive now: operations, timers, watches
    std::uint32_t operations_high = 0;   // limit: LoopOptions::ops_max
    std::uint32_t handles = 0;           // open now: sockets and listeners
    std::uint32_t handles_high = 0;      // limit: LoopOptions::handles_max
    std::uint32_t posts_high = 0;        // most that waited at once; limit: LoopOptions::posts_max
    std::uint32_t works_high = 0;        // blocking works alive
    std::uint32_t buffers_out = 0;       // pool buffers that the program or the kernel holds now
    std::uint32_t buffers_out_high = 0;  // most at once
    std::uint32_t completions_batch_high = 0;  // most records collected in one turn
    std::uint64_t buffer_bytes_mapped = 0;     // memory of the pool; it does not shrink
    // LoopOptions::registered_buffers.
    std::uint64_t buffer_bytes_registered = 0;  // with the kernel now
    std::uint64_t registrations_refused = 0;    // mappings of the pool: RLIMIT_MEMLOCK, as a rule
    std::uint64_t transfers_registered = 0;     // reads and writes of files from registered memory
};

}  // namespace whorl
