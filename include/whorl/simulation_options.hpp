// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <whorl/time.hpp>

#include <cstddef>
#include <cstdint>

// How a simulated world (testing.hpp) behaves. Everything that the world may choose is drawn from the
// seed, so the same seed, options and program give the same run, byte for byte, on every machine. The
// defaults are a kind world: no latency, no short transfers, no errors. harsh() is what tests want.

namespace whorl::testing {

// Which Linux's io_uring a simulated ring plays: what that version does not know it refuses.
enum class RingLevel : std::uint8_t {
    linux_5_15,  // neither buffer rings nor accepts and receives that go on
    linux_6_1,   // both, and sending without a copy
    linux_6_18,  // all that whorl uses
};

// What a world is like. One that is made runs by a copy: World::options() changes that.
struct SimulationOptions {
    std::uint64_t seed = 1;  // any; equal ones make equal runs

    // The clock's first reading, and how much of it a call that asks for the time, or looks without
    // waiting, takes. Zero keeps the clock still until the world waits; a program that spins on the
    // clock then never ends.
    Nanoseconds time_start{std::chrono::seconds(1000)};
    Nanoseconds time_per_call{0};  // for each such call

    // The network. Each segment takes a time drawn from latency_min to latency_max, and its length
    // divided by bytes_per_second on top (0: no limit). Segments of one direction stay in order.
    Nanoseconds latency_min{0};
    Nanoseconds latency_max{0};           // at least latency_min (panics)
    std::uint64_t bytes_per_second = 0;   // of each direction
    std::size_t send_buffer = 65536;      // of each socket, until it is set by option
    std::size_t receive_buffer = 131072;  // likewise
    // An unanswered connect fails with ETIMEDOUT after so long.
    Nanoseconds connect_timeout{std::chrono::seconds(127)};

    std::uint32_t descriptors_max = 1u << 20;  // descriptor numbers; beyond it EMFILE

    // How likely the world is unkind in a way that the contract allows, 0 to 1, at each chance it has.
    double short_transfer = 0;   // fewer bytes than could be moved
    double late_completion = 0;  // what has happened is told later, so that a cancel comes too late
    double lateness_max_us = 50;  // how much later at most
    double reordering = 0;        // completions of one turn come in another order
    double datagram_loss = 0;     // a datagram never arrives
    double datagram_copy = 0;     // a datagram arrives twice
    double stream_end = 0;        // an accepting or receiving stream ends without need
    double cancel_loses = 0;      // a cancel finds its operation already under way
    // How likely it fails an operation or call with an error that its manual page names.
    double operation_error = 0;
    double call_error = 0;  // of a system call; the line above: of what was submitted

    // Whether World::lose_power() may be called: the disk then remembers what it may lose. A file or
    // directory that is removed counts as gone, for those who observe it, only when it is forgotten.
    bool power_loss = false;

    // The simulated ring under Backend::io_uring. How likely io_uring_enter takes fewer submissions
    // than it was offered or none at all (EAGAIN, EBUSY), or wakes up for nothing (EINTR).
    RingLevel ring_level = RingLevel::linux_6_18;
    double ring_refusal = 0;                  // 0 to 1
    std::size_t locked_bytes_max = SIZE_MAX;  // RLIMIT_MEMLOCK, for memory registered with a ring
    // Breaks the contract on purpose, for tests of tests: each n-th completion is lost. 0: none is.
    std::uint64_t lose_every = 0;

    // Small buffers, some latency and every unkindness often, but no errors.
    static SimulationOptions harsh(std::uint64_t seed) noexcept {
        SimulationOptions options;
        options.seed = seed;
        options.latency_max = std::chrono::microseconds(200);
        options.send_buffer = 4096;
        options.receive_buffer = 8192;
        options.short_transfer = 0.3;
        options.late_completion = 0.2;
        options.reordering = 0.5;
        options.datagram_loss = 0.05;
        options.datagram_copy = 0.05;
        options.stream_end = 0.1;
        options.cancel_loses = 0.3;
        options.ring_refusal = 0.05;
        return options;
    }
};

}  // namespace whorl::testing
