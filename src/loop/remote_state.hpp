// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include "backend/system.hpp"

#include <whorl/remote.hpp>

#include <atomic>
#include <cstdint>

namespace whorl::detail {

enum class Sleep : std::uint8_t { awake, sleeping, notified };

// What a loop and its Remotes share: a stack of posts and the word that says whether the loop sleeps.
//
// No wake-up is lost. The poster publishes (compare-and-swap on `head`) and then reads `sleep`; the
// loop writes `sleep` (exchange) and then reads `head`. All four are seq_cst, so they have one order
// in which the poster sees `sleeping`, or the loop sees the post, or both. Acquire and release are not
// enough: each side could read before its own write is visible. Stand-alone fences would do as well,
// but ThreadSanitizer does not understand them.
struct RemoteState {
    RemoteState(System& owner, int fd) noexcept : system(owner), event_fd(fd) {}

    bool push(RemotePost* post) noexcept;
    void wake_sleeper() noexcept;
    void wake() noexcept;
    bool closed() const noexcept;
    void drop_reference() noexcept;

    // Written by posters; on a line of its own.
    alignas(64) std::atomic<RemotePost*> head{nullptr};
    std::atomic<bool> stop{false};

    // Written by the loop around each sleep, and by the poster that wakes it.
    alignas(64) std::atomic<Sleep> sleep{Sleep::awake};

    // Rarely written.
    alignas(64) std::atomic<std::uint32_t> references{1};
    System& system;
    const int event_fd;  // stays open as long as somebody could write to it
};

}  // namespace whorl::detail
