// SPDX-License-Identifier: MIT
#pragma once

#include "fault/syscall_faults.hpp"

// The calls that can fail, and with what: the errno values that the manual pages name for the kinds of
// descriptors that the library has, and one that they do not name (EXDEV), which must be passed
// through.

namespace fault {

enum class CallKind {
    system,      // a system call
    submission,  // an io_uring operation
    allocation,  // a call for memory
};

constexpr unsigned on_uring = 1;
constexpr unsigned on_libev = 2;

struct Call {
    const char* name;
    CallKind kind;
    long number;        // of the system call, or the opcode
    const int* errors;  // ends with 0
    unsigned expected;  // the backends on which some scenario must make it (checked)
};

extern const Call calls[];
extern const int calls_count;

int call_find(const char* name) noexcept;  // -1: none of that name
int call_of_system(long number) noexcept;  // -1: not in the table
int call_of_opcode(int opcode) noexcept;

// What must be seen of a fault.
enum class Outcome {
    hidden,    // nobody hears of it
    reported,  // its error is the first that is reported
    either,
};
struct Expectation {
    Outcome outcome;
    // Other errors that stand for it, ended by 0.
    int mapped[4];
};
Expectation expectation(const Call& call, int error, bool libev) noexcept;

}  // namespace fault
