// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include <whorl/histogram.hpp>
#include <whorl/loop.hpp>

#include <cstdint>

// Where the time of operations goes, by kind. LoopOptions::operation_latency switches it on.
//
//   submit() ──queued──> handed to the backend ──kernel──> collected ──waiting──> handler ──handler──> end
//
// Each phase of each kind is a histogram of nanoseconds. What has no such phase is not counted in it:
//   - queued and kernel: not of what answers more than once (AcceptStream, RecvStream, watches and the
//     like), whose time with the kernel is its whole life;
//   - waiting: not of what ended inside the loop, such as an operation that was cancelled in its queue;
//   - of posts: queued, from post() to the handler, and handler; of posts from other threads and of
//     timers: handler.
// An operation that the loop hands over more than once (a SendAll after a short send) is with the kernel
// from the first time to the last answer. What goes into the kernel with the call that waits, and what
// comes out of it, are stamped once for all of them, before and after that call.

namespace whorl {

// A stretch of an operation's way, as above.
enum class LatencyPhase : std::uint8_t {
    queued,   // from submit() or post() to the backend, or to a post's handler
    kernel,   // from the backend to the turn that has collected the answer
    waiting,  // from there to the handler
    handler,  // in the handler
};
inline constexpr std::uint32_t latency_phases = 4;  // numbers of LatencyPhase, from 0

// The phase's own name, as it stands above.
constexpr const char* name_of(LatencyPhase phase) noexcept {
    switch (phase) {
        case LatencyPhase::queued:
            return "queued";
        case LatencyPhase::kernel:
            return "kernel";
        case LatencyPhase::waiting:
            return "waiting";
        case LatencyPhase::handler:
            return "handler";
    }
    return "unknown";
}

// How the histograms are made, for one to merge() them into: to 3 %, up to 68 seconds.
inline constexpr HistogramOptions latency_histogram{(std::uint64_t{1} << 36) - 1, 5};

// Loop::latency() by the operation's type: `latency_of<Recv>(loop, LatencyPhase::kernel)`.
template <class Op>
const Histogram* latency_of(const Loop& loop, LatencyPhase phase) noexcept {
    return loop.latency(detail::name_of(Op::kind), phase);
}

}  // namespace whorl
