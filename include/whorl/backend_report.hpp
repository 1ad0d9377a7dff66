// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <whorl/loop_options.hpp>

#include <cstdint>

namespace whorl {

// Which backend a loop got, and why. `text` is one line for people, such as
//   "libev: io_uring_setup was refused (EPERM); likely a seccomp filter of the container runtime; …".
struct BackendReport {
    Backend chosen = Backend::automatic;     // never automatic once a loop exists
    bool fell_back = false;                  // automatic wanted io_uring and could not have it
    std::uint32_t features = 0;              // feature_bit()s in use
    std::uint32_t features_distrusted = 0;   // those that this kernel has and is known to get wrong
    RingLimit ring_limit = RingLimit::none;  // what the kernel enforces; none on libev
    bool registered_buffers = false;         // the ring takes them; LoopOptions::registered_buffers
    const char* failed_step = "";            // what was refused: "setup", "enter", "register", …
    int failed_errno = 0;                    // with which errno value
    int sysctl_io_uring_disabled = -1;       // kernel.io_uring_disabled; -1 when it cannot be read
    int seccomp_mode = -1;                   // Seccomp: of /proc/self/status; 0 none, 2 filter
    std::uint64_t memlock_bytes = 0;         // soft RLIMIT_MEMLOCK
    char text[400] = {};                     // one line, ends with a zero byte
};

}  // namespace whorl
