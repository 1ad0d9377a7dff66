// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/driver.hpp"
#include "backend/system.hpp"

#include <whorl/allocated.hpp>

#include <cstddef>
#include <cstdint>

// The seam at which a run is recorded and repeated: all that a loop hears from outside comes from its driver,
// its system, or through ask(). What records stands in front of the real ones and writes down what
// they answer; what replays answers from the log in their place, and holds the program to asking for the
// same things in the same order.

namespace whorl::detail {

// What reaches a loop beside completions and system calls.
#define WHORL_RUN_ASKS(X)                                                \
    X(bind, "ran its first turn")                                        \
    X(backend, "chose its backend")                                      \
    X(features, "asked for the backend's features")                      \
    X(quiet, "asked whether the kernel is quiet")                        \
    X(buffers_ready, "asked for receive buffers")                        \
    X(bulk_buffers_ready, "asked for large receive buffers")             \
    X(watch_wake, "opened a Remote")                                     \
    X(wakes_at, "asked for the backend's next deadline")                 \
    X(remote_sleep, "looked for posts of other threads before it slept") \
    X(remote_pending, "looked for posts of other threads")               \
    X(remote_stop, "looked for another thread's stop()")                 \
    X(remote_taken, "took the posts of other threads")
enum class RunAsk : std::uint8_t {
#define WHORL_RUN_ASK(name, text) name,
    WHORL_RUN_ASKS(WHORL_RUN_ASK)
#undef WHORL_RUN_ASK
        count
};
const char* text_of(RunAsk ask) noexcept;

// The system calls that the loop and what stands on it make outside of the driver.
#define WHORL_RUN_CALLS(X) \
    X(now)                 \
    X(socket)              \
    X(bind)                \
    X(listen)              \
    X(connect)             \
    X(socketpair)          \
    X(socket_mode)         \
    X(set_blocking)        \
    X(unlink_socket)       \
    X(shutdown)            \
    X(close)               \
    X(getsockname)         \
    X(getpeername)         \
    X(setsockopt)          \
    X(getsockopt)          \
    X(recv)                \
    X(recvmsg)             \
    X(read)                \
    X(write)               \
    X(sendmmsg)            \
    X(splice)              \
    X(tee)                 \
    X(pipe2)               \
    X(duplicate)           \
    X(pipe_access)         \
    X(eventfd)             \
    X(epoll_create1)       \
    X(epoll_ctl)           \
    X(poll_now)            \
    X(openat2)             \
    X(preadv)              \
    X(pwritev2)            \
    X(fsync)               \
    X(sync_file_range)     \
    X(ftruncate)           \
    X(fallocate)           \
    X(fadvise)             \
    X(statx)               \
    X(renameat2)           \
    X(linkat)              \
    X(symlinkat)           \
    X(unlinkat)            \
    X(mkdirat)             \
    X(readlinkat)          \
    X(getdents64)          \
    X(lseek)               \
    X(inotify_init1)       \
    X(inotify_add_watch)   \
    X(inotify_rm_watch)    \
    X(wall_clock)          \
    X(wall_timer)          \
    X(wall_timer_set)      \
    X(signals_open)        \
    X(signals_close)       \
    X(signal_take)         \
    X(spawn)               \
    X(child_wait)          \
    X(child_settle)        \
    X(child_signal)
enum class RunCall : std::uint8_t {
#define WHORL_RUN_CALL(name) name,
    WHORL_RUN_CALLS(WHORL_RUN_CALL)
#undef WHORL_RUN_CALL
        count
};
const char* name_of(RunCall call) noexcept;

struct NameQuestion;
struct FoundAddress;

// What a call writes besides its answer. `by_answer`: as many bytes as it answers.
struct RunOut {
    void* data;
    std::size_t size;
    bool by_answer = false;

    std::size_t used(std::int64_t answer) const noexcept {
        if (data == nullptr) return 0;
        if (!by_answer) return answer < 0 ? 0 : size;
        if (answer <= 0) return 0;
        return static_cast<std::uint64_t>(answer) < size ? static_cast<std::size_t>(answer) : size;
    }
};
struct RunOuts {
    RunOut entries[2] = {};
};

class RunSeam : public Allocated<RunSeam> {
  public:
    RunSeam() = default;
    RunSeam(const RunSeam&) = delete;
    RunSeam& operator=(const RunSeam&) = delete;
    virtual ~RunSeam() = default;

    // What the loop works with instead of the real ones.
    virtual System& system() noexcept = 0;
    virtual Result<Driver*> make_driver(const DriverContext& context,
                                        BackendReport& report) noexcept = 0;

    // `seen` is what the loop would have heard; what counts is what it gets.
    virtual std::int64_t ask(RunAsk ask, std::int64_t seen) noexcept = 0;

    // Whether posts and calls are to be taken from the log.
    virtual bool replays() const noexcept = 0;
    // How long a repeated run waits for posts of the program's other threads.
    virtual Nanoseconds post_wait() const noexcept { return Nanoseconds::zero(); }
    // The recorded run went on with more of these than come now.
    virtual void missed(RunAsk ask, std::int64_t recorded, std::int64_t come) noexcept = 0;

    // Whether a system call made now, on this thread, belongs to the run.
    virtual bool concerns() noexcept = 0;
    virtual void called(RunCall call, std::int64_t answer, const RunOuts& outs) noexcept = 0;
    virtual std::int64_t answer(RunCall call, const RunOuts& outs) noexcept = 0;
    // Questions for names are asked on threads of the work pool.
    virtual int resolve(const NameQuestion& question, FoundAddress* found, int most) noexcept = 0;
};

// Stands in front of `real` for a seam that lives longer. Errors: null, out of memory.
System* make_run_system(System& real, RunSeam& seam) noexcept;

// Records what a loop with these options does. Errors: as RunLogWriter::open, ENOMEM.
Result<RunSeam*> make_run_recorder(const LoopOptions& options) noexcept;

}  // namespace whorl::detail
