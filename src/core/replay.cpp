// SPDX-License-Identifier: MIT
// Floor: 7
#include <whorl/replay.hpp>

#include "backend/run_replayer.hpp"

#include <whorl/allocated.hpp>

#include <cerrno>
#include <new>

namespace whorl::testing {

struct Replay::State : detail::Allocated<State> {
    detail::RunReplayer replayer;
    Error refused;  // the log
};

Replay::Replay(const char* path) noexcept : state_(new (std::nothrow) State) {
    if (state_ != nullptr) state_->refused = state_->replayer.open(path);
}

Replay::~Replay() { delete state_; }

Result<Loop> Replay::make_loop(LoopOptions options) noexcept {
    if (state_ == nullptr) return Error::from_errno(ENOMEM);
    if (state_->refused) return state_->refused;
    if (state_->replayer.used) return Error::invalid_argument;
    state_->replayer.used = true;
    state_->replayer.apply(options);
    return Loop::create(options);
}

void Replay::accept_other_bytes() noexcept {
    if (state_ != nullptr) state_->replayer.bytes_count = false;
}

void Replay::wait_for_posts(Nanoseconds most) noexcept {
    if (state_ != nullptr) state_->replayer.posts_awaited = most;
}

Error Replay::error() const noexcept {
    return state_ == nullptr ? Error::from_errno(ENOMEM) : state_->replayer.error();
}
const char* Replay::text() const noexcept {
    return state_ == nullptr ? "out of memory" : state_->replayer.text();
}
bool Replay::finished() const noexcept {
    return state_ != nullptr && state_->replayer.used && state_->replayer.finished();
}
RunEnd Replay::recorded_end() const noexcept {
    return state_ == nullptr ? RunEnd::unfinished : state_->replayer.log.end();
}
std::uint64_t Replay::turns() const noexcept {
    return state_ == nullptr ? 0 : state_->replayer.turns;
}
std::uint64_t Replay::operations() const noexcept {
    return state_ == nullptr ? 0 : state_->replayer.operations;
}

}  // namespace whorl::testing
