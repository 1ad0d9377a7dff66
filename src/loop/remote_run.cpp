// SPDX-License-Identifier: MIT
// Floor: 4
#include "backend/run_seam.hpp"
#include "loop/core.hpp"
#include "loop/remote_state.hpp"

#include <algorithm>
#include <ctime>
#include <utility>

// Posts of other threads in a run that is recorded or repeated (run_log.hpp). When a post is taken is an
// accident of the threads, so it is in the log: how many were taken in each turn. What they do is not: a
// repeated run has threads that post again, and takes as many in each turn as were taken then.

namespace whorl::detail {

namespace {

RemotePost** end_of(RemotePost** list) noexcept {
    while (*list != nullptr) list = &(*list)->next;
    return list;
}

std::int64_t count_of(const RemotePost* list) noexcept {
    std::int64_t count = 0;
    for (; list != nullptr; list = list->next) ++count;
    return count;
}

// Behind what is there, in the order of their posting.
void take_all(RemoteState& remote, RemotePost*& early) noexcept {
    *end_of(&early) = reversed(remote.head.exchange(nullptr, std::memory_order_acquire));
}

}  // namespace

void LoopCore::dispatch_remote_recorded() {
    const bool stop = remote->stop.exchange(false, std::memory_order_acq_rel);
    if (run->ask(RunAsk::remote_stop, stop ? 1 : 0) != 0) stopping = true;
    if (remote_taken == nullptr) {
        take_all(*remote, remote_early);
        const std::int64_t count = run->ask(RunAsk::remote_taken, count_of(remote_early));
        if (run->replays()) remote_wait_for(count);
        RemotePost** rest = &remote_early;
        for (std::int64_t taken = 0; taken < count && *rest != nullptr; ++taken) {
            rest = &(*rest)->next;
        }
        RemotePost* later = std::exchange(*rest, nullptr);
        remote_taken = std::exchange(remote_early, later);
    }
    remote_run_taken();
}

// Threads of the program may need a while.
void LoopCore::remote_wait_for(std::int64_t count) noexcept {
    const Instant end = add_saturating(clock_now(), run->post_wait());
    while (count_of(remote_early) < count && clock_now() < end) {
        const timespec pause{0, 1'000'000};
        ::nanosleep(&pause, nullptr);
        take_all(*remote, remote_early);
    }
    const std::int64_t come = count_of(remote_early);
    if (come < count) run->missed(RunAsk::remote_taken, count, come);
}

// The loop ends before the turn in which they were taken.
void LoopCore::remote_drop_early() noexcept {
    while (remote_early != nullptr) {
        RemotePost* post = std::exchange(remote_early, remote_early->next);
        post->run(nullptr, post);
    }
}

}  // namespace whorl::detail
