// SPDX-License-Identifier: MIT
// Floor: 4
#include "loop/remote_state.hpp"

#include "backend/run_seam.hpp"
#include "loop/core.hpp"
#include "loop/insight.hpp"

#include <whorl/home_ptr.hpp>
#include <whorl/remote.hpp>

#include <sys/eventfd.h>

#include <new>

namespace whorl {

namespace detail {

namespace {

// What `head` points to once the loop is gone.
RemotePost closed_post{nullptr, nullptr};

}  // namespace

void RemoteState::drop_reference() noexcept {
    if (references.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    static_cast<void>(system.close(event_fd));
    delete this;
}

void RemoteState::wake() noexcept { eventfd_raise(system, event_fd); }

// Once for each sleep: who turns sleeping into notified has to wake.
void RemoteState::wake_sleeper() noexcept {
    if (sleep.load(std::memory_order_seq_cst) != Sleep::sleeping) return;
    if (sleep.exchange(Sleep::notified, std::memory_order_seq_cst) == Sleep::sleeping) wake();
}

bool RemoteState::push(RemotePost* post) noexcept {
    if (insight_here != nullptr) insight_here->remote_sent(*post);
    RemotePost* first = head.load(std::memory_order_relaxed);
    do {
        if (first == &closed_post) return false;
        post->next = first;
    } while (!head.compare_exchange_weak(first, post, std::memory_order_seq_cst,
                                         std::memory_order_relaxed));
    wake_sleeper();
    return true;
}

bool RemoteState::closed() const noexcept {
    return head.load(std::memory_order_acquire) == &closed_post;
}

Error LoopCore::remote_open() noexcept {
    if (remote != nullptr) return {};
    System& lasting = system_for(options);  // other threads use it, and longer than there is a loop
    const int event_fd = lasting.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event_fd < 0) return Error::from_errno(event_fd);
    auto* state = new (std::nothrow) RemoteState(lasting, event_fd);
    if (state == nullptr) {
        static_cast<void>(lasting.close(event_fd));
        return Error::from_errno(ENOMEM);
    }
    if (Error error = driver->watch_wake(event_fd)) {
        state->drop_reference();
        return error;
    }
    remote = state;
    return {};
}

// From here on every post is refused; what was posted and has not run is destroyed.
void LoopCore::remote_close() noexcept {
    if (remote == nullptr) return;
    RemotePost* post = remote->head.exchange(&closed_post, std::memory_order_seq_cst);
    while (post != nullptr) {
        RemotePost* next = post->next;
        post->run(nullptr, post);
        post = next;
    }
    while (remote_taken != nullptr) {
        RemotePost* next = remote_taken->next;
        remote_taken->run(nullptr, remote_taken);
        remote_taken = next;
    }
    if (run != nullptr) remote_drop_early();
    remote->drop_reference();
    remote = nullptr;
}

// About to wait: true when nothing has been posted. A post that comes later sees `sleeping` and wakes.
bool LoopCore::remote_sleep() noexcept {
    remote->sleep.exchange(Sleep::sleeping, std::memory_order_seq_cst);
    const bool nothing = remote->head.load(std::memory_order_seq_cst) == nullptr &&
                         !remote->stop.load(std::memory_order_seq_cst);
    return run == nullptr ? nothing : run->ask(RunAsk::remote_sleep, nothing ? 1 : 0) != 0;
}

void LoopCore::remote_awake() noexcept {
    const Sleep before = remote->sleep.exchange(Sleep::awake, std::memory_order_seq_cst);
    if (before == Sleep::notified) ++statistics.remote_wakes;
}

bool LoopCore::remote_pending() const noexcept {
    if (remote == nullptr) return false;
    const bool some =
        remote_taken != nullptr || remote->head.load(std::memory_order_relaxed) != nullptr;
    return run == nullptr ? some : run->ask(RunAsk::remote_pending, some ? 1 : 0) != 0;
}

bool LoopCore::remote_asks() const noexcept {
    return remote_pending() || remote->stop.load(std::memory_order_relaxed);
}

void LoopCore::remote_wake() noexcept {
    WHORL_ASSERT(remote != nullptr);
    remote->wake();
}

// A guest sleeps whenever its host runs: a post must make notify_fd() readable then.
void LoopCore::guest_sleep() noexcept {
    if (!remote_sleep()) remote_wake();
}

// Runs what had been posted when it began, within the turn's bound.
void LoopCore::dispatch_remote() {
    if (run != nullptr) return dispatch_remote_recorded();
    if (remote->stop.exchange(false, std::memory_order_acq_rel)) stopping = true;
    if (remote_taken == nullptr) {
        if (remote->head.load(std::memory_order_relaxed) == nullptr) return;
        remote_taken = reversed(remote->head.exchange(nullptr, std::memory_order_acquire));
    }
    remote_run_taken();
}

void LoopCore::remote_run_taken() {
    for (std::uint32_t count = options.posts_per_turn; count > 0 && !stopping; --count) {
        RemotePost* post = remote_taken;
        if (post == nullptr) return;
        remote_taken = post->next;
        ++statistics.remote_posts_run;
        if (insight == nullptr) post->run(dropping ? nullptr : loop, post);
        else insight->run_remote(*post);
    }
}

}  // namespace detail

Remote::Remote(const Remote& other) noexcept : state_(other.state_) {
    if (state_ != nullptr) state_->references.fetch_add(1, std::memory_order_relaxed);
}

Remote::~Remote() {
    if (state_ != nullptr) state_->drop_reference();
}

bool Remote::push(detail::RemotePost* post) const noexcept {
    if (state_->push(post)) return true;
    post->run(nullptr, post);
    return false;
}

bool detail::RemoteState::push_to(const Remote& remote, RemotePost* post) noexcept {
    if (remote.state_ != nullptr) return remote.push(post);
    post->run(nullptr, post);
    return false;
}

bool detail::RemoteState::leads_to(const Remote& remote, const LoopCore& core) noexcept {
    core.check_thread();
    return remote.state_ != nullptr && remote.state_ == core.remote;
}

bool detail::home_is(const Remote& home, Loop& loop) noexcept {
    return RemoteState::leads_to(home, loop.core());
}

// Refused, it has come back through run(nullptr), which destroys it as well.
void detail::home_send(const Remote& home, RemotePost& block) noexcept {
    static_cast<void>(RemoteState::push_to(home, &block));
}

bool Remote::stop() const noexcept {
    if (!alive()) return false;
    state_->stop.store(true, std::memory_order_seq_cst);
    state_->wake_sleeper();
    return true;
}

bool Remote::alive() const noexcept { return state_ != nullptr && !state_->closed(); }

}  // namespace whorl
