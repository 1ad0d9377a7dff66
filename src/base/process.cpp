// SPDX-License-Identifier: MIT
// Floor: 1
#include "base/process.hpp"

#include <pthread.h>

namespace whorl::detail {

std::uint32_t forks_seen = 0;

// A counter that the child's side of fork(2) raises: asking for the process's number at each call would
// be a system call. A child made by a bare clone(2) is not seen.
void watch_forks() noexcept {
    static const int registered = pthread_atfork(nullptr, nullptr, [] { ++forks_seen; });
    static_cast<void>(registered);
}

}  // namespace whorl::detail
