// SPDX-License-Identifier: MIT
// Floor: 1
#include <whorl/time.hpp>

#include <ctime>

namespace whorl {

Instant clock_now() noexcept {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return Instant(std::chrono::seconds(now.tv_sec) + Nanoseconds(now.tv_nsec));
}

}  // namespace whorl
