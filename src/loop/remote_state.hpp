// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/atomic.hpp>
#include "backend/system.hpp"

#include <whorl/remote.hpp>

#include <cstdint>

namespace whorl::detail {

struct LoopCore;

enum class Sleep : std::uint8_t { awake, sleeping, notified };

// What a loop and its Remotes share: a stack of posts and the word that says whether the loop sleeps.
//
// No wake-up is lost. The poster publishes (compare-and-swap on `head`) and then reads `sleep`; the
// loop writes `sleep` (exchange) and then reads `head`. All four are seq_cst, so they have one order
// in which the poster sees `sleeping`, or the loop sees the post, or both. Acquire and release are not
// enough: each side could read before its own write is visible. Stand-alone fences would do as well,
// but ThreadSanitizer does not understand them. `stop` is published and read again in the same way.
//
// A sleep is ended once. Of all who see `sleeping`, one turns it into `notified`, and that one wakes. It
// may be late, when the loop is awake for another reason or sleeps again: then a wait ends without
// cause, which the loop must stand anyway. This exchange, and the loop's own to `awake`, decide only who
// wakes; no other data depends on them, and they could be relaxed.
//
// Nothing is used after it is gone. Posters hold a reference, and the last one to let go frees the state
// and closes the descriptor. Once `head` is closed_post it stays that, so nothing is added after the
// loop has taken the rest.
//
// test/interleave runs remote.cpp in every order of its steps, and with each of these orders weakened.
struct RemoteState : Allocated<RemoteState> {
    RemoteState(System& owner, int fd) noexcept : system(owner), event_fd(fd) {}

    bool push(RemotePost* post) noexcept;
    // For posts that modules of whorl make themselves. False: it has come back through run(nullptr, post).
    static bool push_to(const Remote& remote, RemotePost* post) noexcept;
    // Asked on the loop's thread.
    static bool leads_to(const Remote& remote, const LoopCore& core) noexcept;
    void wake_sleeper() noexcept;
    void wake() noexcept;
    bool closed() const noexcept;
    void drop_reference() noexcept;

    // Written by posters; on a line of its own.
    alignas(64) Atomic<RemotePost*> head{nullptr};
    Atomic<bool> stop{false};

    // Written by the loop around each sleep, and by the poster that wakes it.
    alignas(64) Atomic<Sleep> sleep{Sleep::awake};

    // Rarely written.
    alignas(64) Atomic<std::uint32_t> references{1};
    System& system;
    const int event_fd;  // stays open as long as somebody could write to it
};

// What was taken off the stack, oldest first.
inline RemotePost* reversed(RemotePost* post) noexcept {
    RemotePost* first = nullptr;
    while (post != nullptr) {
        RemotePost* next = post->next;
        post->next = first;
        first = post;
        post = next;
    }
    return first;
}

}  // namespace whorl::detail
