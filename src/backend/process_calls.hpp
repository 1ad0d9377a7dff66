// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/driver.hpp"

#include <whorl/buffer.hpp>
#include <whorl/process_info.hpp>

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <new>

// Signals and child processes, as the backends see them.

namespace whorl::detail {

// Bits of Descriptor::flags of a child. Descriptor::buffers_out is its process ID; of a set of signals
// it is the key that signals_open() gave.
inline constexpr std::uint16_t child_kill_on_close = 1;
inline constexpr std::uint16_t child_killed = 2;  // by its close
inline constexpr std::uint16_t child_reaped = 4;  // by us, or by somebody who was faster
inline constexpr std::uint16_t child_left = 8;    // the loop has waited for it after its close

inline constexpr int stream_inherited = -1;
inline constexpr int stream_null = -2;
inline constexpr std::uint32_t no_id = UINT32_MAX;

inline constexpr std::uint32_t spawn_others_max = 16;

// The arguments of a Spawn, and its answer. Strings and arrays stand behind it in its memory.
struct SpawnBlock {
    // Fixed at submission.
    const char* program;
    const char* search;  // PATH; null: the program is a path itself
    const char* const* arguments;
    const char* const* environment;
    const char* directory;   // null: the parent's
    int streams[3];          // a descriptor of this block's own, or stream_…
    std::uint64_t pipes[3];  // handles of the parent's ends, 0 for none
    // Descriptors of this block's own, -1 for none, and where they are to stand: by that, ascending.
    struct Other {
        int fd;
        int as;
    } others[spawn_others_max];
    std::uint32_t others_count;
    std::uint32_t user;  // no_id: unchanged
    std::uint32_t group;
    pid_t process_group;  // 0: one of its own
    bool group_changes;
    bool session;
    bool kill_on_close;

    // The answer.
    SpawnStep step;
    pid_t pid;
    int pidfd;
};

// The system calls on signals and processes. The kernel answers them, or a simulated one; an error is a
// negated errno value. Thread: any, as far as it is not said.
class ProcessCalls {
  public:
    ProcessCalls() = default;
    ProcessCalls(const ProcessCalls&) = delete;
    ProcessCalls& operator=(const ProcessCalls&) = delete;
    virtual ~ProcessCalls() = default;

    // Makes a signalfd(2) for the signals of `mask` (bit 0 is signal 1), and blocks them in the calling
    // thread until signals_close() in the same thread.
    virtual int signals_open(std::uint64_t mask, std::uint32_t& key) noexcept = 0;
    virtual void signals_close(int fd, std::uint32_t key) noexcept = 0;
    // -EAGAIN: none has come.
    virtual int signal_take(int fd, SignalInfo& info) noexcept = 0;

    // Makes a child and waits until it runs the program, or has failed. Blocks.
    virtual int spawn(SpawnBlock& block) noexcept = 0;
    // Reaps a child that has ended. -EAGAIN: it runs; -ECHILD: somebody else has reaped it.
    virtual int child_wait(int pidfd, ChildExit* ended) noexcept = 0;
    // The same of one that was killed: waits for it, at most so long.
    virtual int child_settle(int pidfd, Nanoseconds most) noexcept = 0;
    virtual int child_signal(int pidfd, int number) noexcept = 0;
};

ProcessCalls& real_process_calls() noexcept;

// Makes a real child (spawn_child.cpp).
int spawn_child(SpawnBlock& block) noexcept;

// Operations that take a signal or reap a child when their descriptor is readable.
constexpr bool is_process(OpKind kind) noexcept {
    return kind == OpKind::wait_signal || kind == OpKind::signal_stream ||
           kind == OpKind::wait_child;
}
// Makes the call: 0, -EAGAIN when there is nothing yet, or another negated errno value. Never waits.
std::int32_t process_transfer(System& system, const Descriptor& descriptor,
                              OpRecord& record) noexcept;

inline SpawnBlock& spawn_block_of(OpRecord& record) noexcept {
    return *std::launder(reinterpret_cast<SpawnBlock*>(record.as<Buffer>().data()));
}

}  // namespace whorl::detail
