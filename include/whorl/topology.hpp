// SPDX-License-Identifier: MIT
// Floor: 7
#pragma once

#include <whorl/export.hpp>
#include <whorl/result.hpp>

#include <cstdint>

// The processors that this process may use, and how they belong together.

namespace whorl {

// A processor, as the scheduler counts them.
struct Cpu {
    std::uint32_t number;   // as in taskset(1)
    std::uint32_t core;     // physical core: siblings (hyper-threads) have the same
    std::uint32_t package;  // socket
    std::uint32_t node;     // NUMA node
};

// What the machine has for us. A value. Thread: any.
class WHORL_EXPORT Topology {
  public:
    static constexpr std::uint32_t cpus_max = 1024;  // processors that are looked at

    // Reads sched_getaffinity(2), /sys/devices/system/cpu and node, and the quota of the control group.
    // What sysfs does not tell (a container without it) is taken as one core each, package and node 0.
    // A cpuset and processors that are offline are in the affinity mask already.
    // Errors: the errno of sched_getaffinity. Limits: the first 1024 processors.
    // Cost: a few system calls for each processor; some milliseconds. Source: sched_getaffinity(2), Linux
    //   Documentation/ABI/testing/sysfs-devices-system-cpu, cgroup-v2.rst (cpu.max).
    static Result<Topology> read() noexcept;
    // For tests: the same from another root than "/". When it has /proc/self/status, the affinity mask is
    // Cpus_allowed_list of that and not our own.
    static Result<Topology> read(const char* root) noexcept;

    // Those that the affinity mask allows, ordered for use: first one of each physical core, node by node,
    // then the siblings.
    const Cpu* begin() const noexcept { return cpus_; }
    const Cpu* end() const noexcept { return cpus_ + count_; }
    // Processors that the affinity mask allows.
    std::uint32_t count() const noexcept { return count_; }
    // In the order of begin(). Limits: index < count().
    const Cpu& operator[](std::uint32_t index) const noexcept { return cpus_[index]; }
    // Physical cores among them.
    std::uint32_t cores() const noexcept { return cores_; }
    // The control group's quota in whole processors, rounded up; 0 for none.
    std::uint32_t quota() const noexcept { return quota_; }
    // How many busy threads make sense: one a physical core, no more than the quota pays for.
    std::uint32_t useful() const noexcept {
        return quota_ != 0 && quota_ < cores_ ? quota_ : cores_;
    }
    // Whether a processor is among them. Cost: O(count).
    bool has(std::uint32_t number) const noexcept {
        for (const Cpu& cpu : *this) {
            if (cpu.number == number) return true;
        }
        return false;
    }

  private:
    void order() noexcept;

    std::uint32_t count_ = 0;
    std::uint32_t cores_ = 0;
    std::uint32_t quota_ = 0;
    Cpu cpus_[cpus_max];
};

}  // namespace whorl
