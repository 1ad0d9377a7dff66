// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <cstdint>

// Recording a run. A loop with LoopOptions::run_log writes down all that reaches it from outside: every
// answer of the backend with the bytes that came, in the turn in which it came, every reading of the
// clock, every answer of a system call that the library makes for it. testing::Replay (replay.hpp) gives the
// same answers to the same program, without kernel, network and time, so that a run that was seen once, with
// real peers, is seen as often as wanted: in a debugger, under a sanitizer, with one more line of output.
//
//   whorl::LoopOptions options;
//   options.run_log = "/var/tmp/server.run";
//
// What is not in the log, so that a program that depends on it replays differently:
//   - what the program asks the system itself: its own clock, random numbers, environment, its calls on
//     watched or adopted descriptors (a watch's events are there, not what is read then). Libraries that do
//     so behind a watch, such as c-ares, libcurl and libpq, are of that kind, and TLS, whose library draws
//     random numbers;
//   - what other threads do. A Work's callable is run again. Posts (Remote::post) of other threads arrive
//     in the turn in which they arrived, if the program has threads that post them again; of channels and
//     mailboxes only that they wake the loop, not what is in them;
//   - pointers, and the order of what is ordered by them; how full a pool is that meets its limit;
//     statistics of the backend;
//   - guest mode: the recording ends when a foreign loop takes over the waiting (Loop::notify_fd).
//
// The file holds what peers sent, in the clear, and is made for its owner alone (mode 0600). It is read by
// the version of whorl that wrote it, on machines with the same byte order.
//
// Limits: a loop that records does not spin (LoopOptions::busy_poll has no effect).
// Cost: a copy of what is received and a checksum of what is received and sent, no system call for each;
//   docs/insight.md has figures. Off, a test of a pointer where other threads reach the loop.

namespace whorl {

/// How a recording ended.
enum class RunEnd : std::uint8_t {
    complete,       ///< with its loop
    size_limit,     ///< LoopOptions::run_log_bytes_max; the run went on
    no_space,       ///< the file system had no room, or RLIMIT_FSIZE; the run went on
    out_of_memory,  ///< an entry could not be put together; the run went on
    guest,          ///< a foreign loop took over the waiting; the run went on
    unfinished,     ///< there is no mark of the end: the process was killed, or the file was cut
};

/// The name of how a recording ended, such as "complete"; never null.
constexpr const char* name_of(RunEnd end) noexcept {
    switch (end) {
        case RunEnd::complete:
            return "complete";
        case RunEnd::size_limit:
            return "size_limit";
        case RunEnd::no_space:
            return "no_space";
        case RunEnd::out_of_memory:
            return "out_of_memory";
        case RunEnd::guest:
            return "guest";
        case RunEnd::unfinished:
            return "unfinished";
    }
    return "unknown";
}

}  // namespace whorl
