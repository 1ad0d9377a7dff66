// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

// Faults at the system-call border of this process, whoever makes the call: the library, libev,
// liburing (which calls the kernel past libc) or libc itself. Nothing in the library knows of it.
//
// A seccomp filter traps the chosen system calls (SECCOMP_RET_TRAP). The handler of SIGSYS counts them,
// and either answers in the kernel's place or makes the call itself, through one `syscall` instruction
// whose address the filter lets pass. The plan may be changed at any time; the filter stays for the
// life of the process, so a sweep runs in a child of its own. Threads and children inherit it.
//
// Not trapped, because the process would not survive it: rt_sigreturn and what the C library calls with
// all signals blocked while a thread ends (of madvise only MADV_DONTFORK, which liburing asks for).
//
// io_uring's operations are no system calls. Their submission entries are changed in the ring's memory
// before io_uring_enter is executed: the addresses come from the trapped io_uring_setup and mmap.

namespace fault {

// Errors that are none: what else may be done to a call. They stand where an errno value does.
enum Trick : int {
    trick_short = 1001,  // the length is halved
    trick_delay = 1002,  // the call is made a millisecond later
    trick_async = 1003,  // an io_uring operation goes to a worker thread
    trick_once = 1004,   // one allocation fails
    trick_on = 1005,     // and all that follow
};

// "EAGAIN", "short"; parsing answers 0 for what is none.
const char* error_name(int error) noexcept;
int error_parse(const char* name) noexcept;

// A call of the table (calls.cpp), by its index.
struct Plan {
    int call = -1;  // -1: nothing happens, all is counted
    int error = 0;
    std::uint32_t at = 0;  // the number of the call that it happens to, from 1
    bool stays = false;    // it happens to all later ones, too
};

enum class Installed { yes, refused, unsupported };

// Traps `numbers` in this process for ever. Called once, before threads are started.
Installed install(const long* numbers, int count) noexcept;

// Changes the plan and forgets all counts.
void plan(const Plan& next) noexcept;
// How often the plan's call was made since, and whether its moment has come.
std::uint32_t calls_seen() noexcept;
bool fired() noexcept;
// How often a system call was trapped, by its number, and an io_uring operation was submitted.
std::uint32_t calls_of(long number) noexcept;
std::uint32_t submissions_of(int opcode) noexcept;

// While one lives nothing is counted and nothing fails: for the test's own calls.
class Pause {
  public:
    Pause() noexcept;
    ~Pause();
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;
};

// One moment of the planned call: counts it, true when the fault is to happen now. For other kinds of
// calls than system calls; safe in signal handlers.
bool moment_of(int call) noexcept;
int planned_error() noexcept;

}  // namespace fault
