// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/process_calls.hpp"
#include "backend/sim_kernel.hpp"

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

// Signals and children of a simulated world. It is one process: a signal is pending for all of its
// loops, and goes to the one that takes it first. Children do what a script of their program says.

namespace whorl::detail {

class SimProcesses;

// What every child that runs this program does.
struct SimProgram {
    Nanoseconds lifetime{};    // from its start to its end; Nanoseconds::max(): until it is killed
    int status = 0;            // what it returns
    std::string output;        // what it writes to its standard output when it starts
    bool copies = false;       // as cat(1): its input to its output, and it ends with its input
    std::vector<int> ignored;  // signals that do not end it
    int error = 0;             // an errno value: it cannot be run
};

// As a signalfd(2).
class SimSignals final : public SimFile {
  public:
    SimSignals(SimKernel& kernel, SimProcesses& processes, std::uint64_t mask) noexcept
        : SimFile(kernel), mask(mask), processes_(processes) {}

    const char* name() const noexcept override { return "signals"; }
    unsigned poll_bits() const noexcept override;

    const std::uint64_t mask;

  private:
    SimProcesses& processes_;
};

// A child, and as a file its pidfd.
class SimChild final : public SimFile, private SimWatcher {
  public:
    SimChild(SimKernel& kernel, SimProcesses& processes) noexcept
        : SimFile(kernel), processes_(processes) {}

    const char* name() const noexcept override { return "child"; }
    unsigned poll_bits() const noexcept override { return ended ? unsigned{POLLIN} : 0u; }

    pid_t pid = 0;
    bool ended = false;
    bool reaped = false;
    ChildExit exit;
    std::vector<int> ignored;
    std::uint64_t end_event = 0;
    std::array<SimFilePtr, 3> streams;  // closed when it ends
    std::vector<SimFilePtr> others;     // likewise

    void copy_begin();  // from now on it copies its input to its output
    void copy_end() noexcept;

  private:
    void file_changed(SimFile&, std::uint64_t) override { copy_soon(); }
    void copy_soon();
    void copy();

    SimProcesses& processes_;
    std::string held_;  // read and not yet written
    bool copying_ = false;
    bool due_ = false;
};

class SimProcesses final : public ProcessCalls {
  public:
    explicit SimProcesses(SimKernel& kernel) noexcept : kernel_(kernel) {}

    int signals_open(std::uint64_t mask, std::uint32_t& key) noexcept override;
    void signals_close(int fd, std::uint32_t key) noexcept override;
    int signal_take(int fd, SignalInfo& info) noexcept override;
    int spawn(SpawnBlock& block) noexcept override;
    int child_wait(int pidfd, ChildExit* ended) noexcept override;
    int child_settle(int pidfd, Nanoseconds) noexcept override {
        return child_wait(pidfd, nullptr);  // who is killed ends at once
    }
    int child_signal(int pidfd, int number) noexcept override;

    // --- the world's side
    void program(std::string path, SimProgram script) {
        programs_[std::move(path)] = std::move(script);
    }
    // Sends a signal to the process. False: nobody waits for it, and it is lost; elsewhere it would do
    // what its disposition says.
    bool raise(const SignalInfo& info);
    bool pending(std::uint64_t mask) const noexcept;
    std::uint32_t children_alive() const noexcept;
    std::uint32_t zombies() const noexcept;

    void end(SimChild& child, ChildExit::How how, int status);

  private:
    std::shared_ptr<SimChild> child_of(int pidfd) const noexcept;

    SimKernel& kernel_;
    std::map<std::string, SimProgram> programs_;
    std::deque<SignalInfo> pending_;
    std::vector<std::weak_ptr<SimSignals>> sets_;
    std::map<pid_t, std::shared_ptr<SimChild>> children_;  // until they are reaped
    pid_t pid_next_ = 1000;
};

inline SimProcesses& processes_of(SimKernel& kernel) noexcept {
    return static_cast<SimProcesses&>(kernel.process_calls());
}

}  // namespace whorl::detail
