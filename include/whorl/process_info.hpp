// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <whorl/time.hpp>

#include <cstdint>

// What is known of a signal that has come and of a child that has ended: plain values.

namespace whorl {

// A signal. Source: signalfd(2), sigaction(2).
struct SignalInfo {
    std::int32_t number = 0;  // SIGTERM, …
    std::int32_t code = 0;    // why: SI_USER, SI_QUEUE, SI_TKILL, SI_KERNEL, CLD_EXITED, …
    std::int32_t pid = 0;     // who sent it; of SIGCHLD the child; 0: the kernel
    std::uint32_t uid = 0;    // real user of that process
    std::int32_t value = 0;   // of sigqueue(3): sival_int
    std::int32_t status = 0;  // of SIGCHLD: the exit status, or the signal
    void* pointer = nullptr;  // of sigqueue(3): sival_ptr
};

// How a child ended, and what it had used: it and those of its children that it waited for.
// Source: waitid(2), getrusage(2).
struct ChildExit {
    // By itself or by a signal.
    enum class How : std::uint8_t {
        exited,  // `status` is what it returned, 0 to 255
        killed,  // `status` is the signal
        dumped,  // the same, and a core was dumped
    };
    How how = How::exited;                 // what `status` means
    std::int32_t status = 0;               // an exit status or a signal
    Nanoseconds user_time{};               // of the processor, in the program
    Nanoseconds system_time{};             // of the processor, in the kernel
    std::uint64_t memory_max = 0;          // bytes, the largest resident set
    std::uint64_t faults_minor = 0;        // of pages that were in memory
    std::uint64_t faults_major = 0;        // of pages that were read
    std::uint64_t blocks_read = 0;         // of 512 bytes
    std::uint64_t blocks_written = 0;      // of 512 bytes
    std::uint64_t switches_voluntary = 0;  // it waited for something
    std::uint64_t switches_forced = 0;     // others had their turn

    // It has returned 0.
    bool success() const noexcept { return how == How::exited && status == 0; }
};

// What a Spawn was doing when it failed, in the order in which it is done.
enum class SpawnStep : std::uint8_t {
    none,         // it has not failed
    prepare,      // pipes and slots, before there is a process
    process,      // making the process
    session,      // setsid(2)
    group,        // setpgid(2)
    streams,      // opening /dev/null, putting descriptors in their places
    credentials,  // setgroups(2), setresgid(2), setresuid(2)
    directory,    // chdir(2)
    program,      // execve(2)
};

// The step's own name, as it stands above.
constexpr const char* name_of(SpawnStep step) noexcept {
    switch (step) {
        case SpawnStep::none:
            return "none";
        case SpawnStep::prepare:
            return "prepare";
        case SpawnStep::process:
            return "process";
        case SpawnStep::session:
            return "session";
        case SpawnStep::group:
            return "group";
        case SpawnStep::streams:
            return "streams";
        case SpawnStep::credentials:
            return "credentials";
        case SpawnStep::directory:
            return "directory";
        case SpawnStep::program:
            return "program";
    }
    return "unknown";
}

}  // namespace whorl
