// SPDX-License-Identifier: MIT
// Floor: 5
#pragma once

#include <whorl/loop.hpp>

#include <algorithm>
#include <cstdint>

// What the adapters for guest mode share. Each makes a whorl loop run inside the loop of another
// library: it watches notify_fd(), arms one timer of the host for next_deadline(), and calls process()
// for both. The host's other sources go on as before, and whorl never blocks.
//
// Owns: nothing of either loop; both must outlive the adapter, or detach() be called first.
// Calls: handlers run from process(), thus from the host's dispatch, on its thread. An exception that a
// handler throws passes through the host: legal with Asio only, the others are C.
// Thread: that of the host's loop.
// attach() again takes the place of what was attached before.
// Errors: attach() fails as Loop::notify_fd() does, EBUSY if the loop has run already, or ENOMEM. When
// process() fails, whorl can no longer work: the adapter detaches itself, and error() tells.
// Limits: not to be destroyed or detached from inside a handler of the guest; post to the host instead.
// Cost: a descriptor and a timer of the host; nothing while the guest is idle.

namespace whorl::adapters {

// How long the host may sleep for all that the guest knows; negative for ever. Rounded up to `unit`,
// since a host that wakes early wakes in vain.
inline Nanoseconds guest_delay(Loop& guest, Nanoseconds unit) noexcept {
    const Instant due = guest.next_deadline();
    if (due == instant_never) return Nanoseconds(-1);
    const Instant now = clock_now();
    if (due <= now) return Nanoseconds::zero();
    // Years ahead, every host's own type would overflow; it asks again after a day.
    constexpr Nanoseconds day = std::chrono::hours(24);
    const std::int64_t left = std::min(due - now, day).count();
    return Nanoseconds((left + unit.count() - 1) / unit.count() * unit.count());
}

}  // namespace whorl::adapters
