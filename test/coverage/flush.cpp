// SPDX-License-Identifier: MIT
// Linked into every test of a coverage build (WHORL_COVERAGE): what a process has counted is written
// also when it ends by _exit() or abort(), as the children of death tests do. Otherwise the code that
// refuses a misuse, or that runs where rights were given up, would seem to be never reached.
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

extern "C" void __gcov_dump();

namespace {

void dump_and_abort(int) {
    __gcov_dump();
    std::signal(SIGABRT, SIG_DFL);
    std::raise(SIGABRT);
}

[[gnu::constructor]] void catch_abort() { std::signal(SIGABRT, &dump_and_abort); }

[[noreturn]] void dump_and_exit(int status) {
    __gcov_dump();
    for (;;) syscall(SYS_exit_group, status);
}

}  // namespace

// In front of the C library's.
extern "C" void _exit(int status) { dump_and_exit(status); }
extern "C" void _Exit(int status) noexcept { dump_and_exit(status); }
