// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/sim_process.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

namespace whorl::detail {

namespace {

constexpr std::uint64_t bit_of(int number) noexcept { return std::uint64_t{1} << (number - 1); }
// As for glibc: those below collapse, these are queued.
constexpr int real_time_first = 34;

bool ends_process(int number) noexcept {
    switch (number) {
        case SIGCHLD:
        case SIGCONT:
        case SIGURG:
        case SIGWINCH:
        case SIGSTOP:  // stopping is not simulated
        case SIGTSTP:
        case SIGTTIN:
        case SIGTTOU:
            return false;
        default:
            return true;
    }
}

}  // namespace

unsigned SimSignals::poll_bits() const noexcept {
    return processes_.pending(mask) ? unsigned{POLLIN} : 0u;
}

void SimChild::copy_begin() {
    copying_ = true;
    for (std::size_t index : {0, 1}) {
        if (streams[index] != nullptr) streams[index]->watch(*this, index);
    }
    copy_soon();
}

void SimChild::copy_end() noexcept {
    if (!copying_) return;
    copying_ = false;
    for (std::size_t index : {0, 1}) {
        if (streams[index] != nullptr) streams[index]->unwatch(*this, index);
    }
}

void SimChild::copy_soon() {
    if (due_) return;
    due_ = true;
    const auto self = std::static_pointer_cast<SimChild>(shared_from_this());
    kernel_.at(kernel_.clock(), [self] {
        self->due_ = false;
        if (self->copying_) self->copy();
    });
}

void SimChild::copy() {
    const SimFilePtr from = streams[0], to = streams[1];
    for (;;) {
        while (!held_.empty() && to != nullptr) {
            const ssize_t wrote = to->write(held_.data(), held_.size(), 0);
            if (wrote == -EAGAIN) return;
            if (wrote < 0) return processes_.end(*this, ChildExit::How::killed, SIGPIPE);
            held_.erase(0, static_cast<std::size_t>(wrote));
        }
        char piece[4096];
        const ssize_t got = from != nullptr ? from->read(piece, sizeof piece, 0) : 0;
        if (got == -EAGAIN) return;
        if (got <= 0) return processes_.end(*this, ChildExit::How::exited, got < 0 ? 1 : 0);
        held_.assign(piece, static_cast<std::size_t>(got));
    }
}

bool SimProcesses::pending(std::uint64_t mask) const noexcept {
    return std::any_of(pending_.begin(), pending_.end(), [mask](const SignalInfo& info) {
        return (mask & bit_of(info.number)) != 0;
    });
}

int SimProcesses::signals_open(std::uint64_t mask, std::uint32_t& key) noexcept {
    const auto made = std::make_shared<SimSignals>(kernel_, *this, mask);
    made->nonblocking = true;
    sets_.push_back(made);
    key = 0;
    return kernel_.install(made);
}

// What nobody waits for any more does what its disposition says: in a world, nothing.
void SimProcesses::signals_close(int fd, std::uint32_t) noexcept {
    kernel_.close(fd);
    std::uint64_t wanted = 0;
    const auto gone = [&wanted](const std::weak_ptr<SimSignals>& set) {
        const std::shared_ptr<SimSignals> alive = set.lock();
        if (alive != nullptr) wanted |= alive->mask;
        return alive == nullptr;
    };
    sets_.erase(std::remove_if(sets_.begin(), sets_.end(), gone), sets_.end());
    const auto unwanted = [&wanted](const SignalInfo& info) {
        return (wanted & bit_of(info.number)) == 0;
    };
    pending_.erase(std::remove_if(pending_.begin(), pending_.end(), unwanted), pending_.end());
}

// The lowest number first, as in Linux.
int SimProcesses::signal_take(int fd, SignalInfo& info) noexcept {
    const SimFilePtr found = kernel_.file(fd);
    if (found == nullptr) return -EBADF;
    if (std::strcmp(found->name(), "signals") != 0) return -EINVAL;
    const std::uint64_t mask = static_cast<SimSignals&>(*found).mask;
    auto best = pending_.end();
    for (auto at = pending_.begin(); at != pending_.end(); ++at) {
        if ((mask & bit_of(at->number)) == 0) continue;
        if (best == pending_.end() || at->number < best->number) best = at;
    }
    if (best == pending_.end()) return -EAGAIN;
    info = *best;
    pending_.erase(best);
    kernel_.trace("signal %d taken", info.number);
    return 0;
}

bool SimProcesses::raise(const SignalInfo& info) {
    const std::uint64_t bit = bit_of(info.number);
    std::vector<std::shared_ptr<SimSignals>> hear;
    for (const std::weak_ptr<SimSignals>& set : sets_) {
        const std::shared_ptr<SimSignals> alive = set.lock();
        if (alive != nullptr && (alive->mask & bit) != 0) hear.push_back(alive);
    }
    kernel_.trace("signal %d for %u sets", info.number, static_cast<unsigned>(hear.size()));
    if (hear.empty()) return false;
    if (info.number < real_time_first && pending(bit)) return true;
    pending_.push_back(info);
    for (const std::shared_ptr<SimSignals>& set : hear) set->changed();
    return true;
}

int SimProcesses::spawn(SpawnBlock& block) noexcept {
    block.step = SpawnStep::program;
    const auto found = programs_.find(block.program);
    if (found == programs_.end()) return -ENOENT;
    const SimProgram& program = found->second;
    if (program.error != 0) return -program.error;
    const auto child = std::make_shared<SimChild>(kernel_, *this);
    const int pidfd = kernel_.install(child);
    if (pidfd < 0) {
        block.step = SpawnStep::process;
        return pidfd;
    }
    child->pid = pid_next_++;
    child->ignored = program.ignored;
    for (std::size_t index = 0; index < child->streams.size(); ++index) {
        if (block.streams[index] >= 0) child->streams[index] = kernel_.file(block.streams[index]);
    }
    for (std::uint32_t index = 0; index < block.others_count; ++index) {
        child->others.push_back(kernel_.file(block.others[index].fd));
    }
    if (!program.output.empty() && child->streams[1] != nullptr) {
        child->streams[1]->write(program.output.data(), program.output.size(), 0);
    }
    kernel_.trace("child %d starts", child->pid);
    children_[child->pid] = child;
    if (program.copies) child->copy_begin();
    else if (program.lifetime != Nanoseconds::max()) {
        const Instant when = add_saturating(kernel_.clock(), program.lifetime);
        child->end_event = kernel_.at(when, [this, child, status = program.status] {
            end(*child, ChildExit::How::exited, status);
        });
    }
    block.pid = child->pid;
    block.pidfd = pidfd;
    block.step = SpawnStep::none;
    return 0;
}

void SimProcesses::end(SimChild& child, ChildExit::How how, int status) {
    if (child.ended) return;
    kernel_.trace("child %d ends with %d", child.pid, status);
    child.ended = true;
    child.copy_end();
    child.exit.how = how;
    child.exit.status = status;
    child.streams = {};
    child.others.clear();
    child.changed();
    SignalInfo info;
    info.number = SIGCHLD;
    info.code = how == ChildExit::How::exited ? CLD_EXITED : CLD_KILLED;
    info.pid = child.pid;
    info.status = status;
    static_cast<void>(raise(info));
}

std::shared_ptr<SimChild> SimProcesses::child_of(int pidfd) const noexcept {
    const SimFilePtr found = kernel_.file(pidfd);
    if (found == nullptr || std::strcmp(found->name(), "child") != 0) return nullptr;
    return std::static_pointer_cast<SimChild>(found);
}

int SimProcesses::child_wait(int pidfd, ChildExit* ended) noexcept {
    const std::shared_ptr<SimChild> child = child_of(pidfd);
    if (child == nullptr) return -EBADF;
    if (child->reaped) return -ECHILD;
    if (!child->ended) return -EAGAIN;
    child->reaped = true;
    if (ended != nullptr) *ended = child->exit;
    children_.erase(child->pid);
    return 0;
}

int SimProcesses::child_signal(int pidfd, int number) noexcept {
    const std::shared_ptr<SimChild> child = child_of(pidfd);
    if (child == nullptr) return -EBADF;
    if (number < 0 || number > 64) return -EINVAL;
    if (child->reaped) return -ESRCH;
    if (child->ended || number == 0 || !ends_process(number)) return 0;
    const std::vector<int>& ignored = child->ignored;
    const bool ignores = std::find(ignored.begin(), ignored.end(), number) != ignored.end();
    if (ignores && number != SIGKILL) return 0;
    kernel_.cancel_event(child->end_event);
    end(*child, ChildExit::How::killed, number);
    return 0;
}

std::uint32_t SimProcesses::children_alive() const noexcept {
    return static_cast<std::uint32_t>(std::count_if(
        children_.begin(), children_.end(), [](const auto& each) { return !each.second->ended; }));
}

std::uint32_t SimProcesses::zombies() const noexcept {
    return static_cast<std::uint32_t>(children_.size()) - children_alive();
}

ProcessCalls& SimKernel::process_calls() noexcept {
    if (process_calls_ == nullptr) process_calls_ = std::make_unique<SimProcesses>(*this);
    return *process_calls_;
}

}  // namespace whorl::detail
