// SPDX-License-Identifier: MIT
#pragma once

#include "conformance/support.hpp"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cstddef>
#include <initializer_list>

namespace whorl::conformance {

// Runs `body` in a child process, which may give up rights and limits for ever, and returns what it
// answers: a text. A child that dies answers how.
template <class Body>
std::string in_child(Body body) {
    int numbers[2];
    EXPECT_EQ(::pipe2(numbers, O_CLOEXEC), 0);
    const pid_t child = ::fork();
    EXPECT_GE(child, 0);
    if (child == 0) {
        ::close(numbers[0]);
        const std::string answer = body();
        const ssize_t written = ::write(numbers[1], answer.data(), answer.size());
        ::_exit(written == static_cast<ssize_t>(answer.size()) ? 0 : 1);
    }
    ::close(numbers[1]);
    std::string answer;
    char part[4096];
    ssize_t got = 0;
    while ((got = ::read(numbers[0], part, sizeof part)) > 0) {
        answer.append(part, static_cast<std::size_t>(got));
    }
    ::close(numbers[0]);
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status)) answer += " (died of signal " + std::to_string(WTERMSIG(status)) + ")";
    else if (WEXITSTATUS(status) != 0)
        answer += " (exit " + std::to_string(WEXITSTATUS(status)) + ")";
    return answer;
}

// From here on the kernel answers `error` to the given system calls of this process.
inline bool refuse_calls(std::initializer_list<long> calls, int error) {
    std::vector<sock_filter> program;
    program.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)));
    for (const long call : calls) {
        program.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(call), 0, 1));
        program.push_back(
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (static_cast<unsigned>(error) & 0xFFFF)));
    }
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

}  // namespace whorl::conformance
