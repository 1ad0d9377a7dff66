// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <whorl/operation_list.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>

// The file of a recorded run (docs/decisions/0034).
//
//   header   magic "whorlrun", a word that shows the byte order, the version, and a digest of the list of
//            operations, whose numbers the entries use
//   frames   each a length (4 bytes), a checksum of the body (4 bytes), and the body: an entry's kind
//            (1 byte) and its numbers (LEB128) and byte strings
//   a length of 0, or the end of the file: nothing more was written. One with run_frame_open in it: the process
//   was killed while it wrote this frame, or writes it now
//
// What the entries are made of; "signed" numbers have their sign in the lowest bit:
//
//   options  run_options_count numbers
//   call     a RunCall, its answer (signed), and as a byte string each thing that it wrote
//   ask      a RunAsk, the answer (signed)
//   cancel   the operation's handle
//   wait     how many operations were handed over, and each: kind, handle, slot of its descriptor, digests of
//            its details and of what it sends; how many names were answered, and each: digest of the question,
//            answer (signed), addresses; the error (signed); how many completions came, and each: handle,
//            result (signed), flags, capacity of its block or 0, and what came with it (run_record.hpp)
//   end      a RunEnd
//
// All of it stands here, so that what shows a log (tools/trace) needs nothing of the library.

namespace whorl::detail {

enum class RunEntry : std::uint8_t { none, options, call, wait, cancel, ask, end, count };

inline constexpr std::uint32_t run_log_version = 1;
inline constexpr std::uint32_t run_log_order = 0x0a0b0c0d;
inline constexpr char run_log_magic[8] = {'w', 'h', 'o', 'r', 'l', 'r', 'u', 'n'};

struct RunLogHeader {
    char magic[8];
    std::uint32_t order;
    std::uint32_t version;
    std::uint64_t operations;  // run_log_operations()
};
static_assert(sizeof(RunLogHeader) == 24, "as it lies in the file");

// Those options that decide what a loop does, in a fixed order; the others may differ in a replay.
inline constexpr std::size_t run_options_count = 16;
inline constexpr const char* run_options_names[run_options_count] = {
    "ops_max",
    "handles_max",
    "posts_max",
    "buffer_bytes_max",
    "recv_buffer_size",
    "recv_ring_depth",
    "recv_ring_depth_max",
    "recv_buffers_per_stream",
    "recv_bulk_buffer_size",
    "recv_bulk_ring_depth",
    "work_max",
    "completions_per_turn",
    "posts_per_turn",
    "timers_per_turn",
    "timer_slack",
    "shutdown_bound",
};

// No entry is larger.
inline constexpr std::size_t run_entry_max = std::size_t{1} << 30;

// In the length of a frame until all of it has been written.
inline constexpr std::uint32_t run_frame_open = std::uint32_t{1} << 31;
static_assert(run_entry_max < run_frame_open, "no length has it");

struct RunLogFrame {
    std::uint32_t size;  // of the body
    std::uint32_t checksum;
};

inline std::uint64_t run_mixed(std::uint64_t hash, std::uint64_t word) noexcept {
    hash = (hash ^ word) * 0x9E37'79B9'7F4A'7C15;
    return hash ^ hash >> 29;
}

// Of bytes, for comparing and for finding damage; not for keeping anybody out.
inline std::uint64_t run_digest(const void* data, std::size_t size,
                                std::uint64_t seed = 0) noexcept {
    const auto* bytes = static_cast<const unsigned char*>(data);
    std::uint64_t hash = run_mixed(seed, size);
    // Four lanes: one would wait for its multiplication.
    std::uint64_t lanes[4] = {hash, ~hash, hash + 1, ~hash - 1};
    for (; size >= sizeof lanes; bytes += sizeof lanes, size -= sizeof lanes) {
        std::uint64_t words[4];
        std::memcpy(words, bytes, sizeof words);
        for (int lane = 0; lane < 4; ++lane) lanes[lane] = run_mixed(lanes[lane], words[lane]);
    }
    for (const std::uint64_t lane : lanes) hash = run_mixed(hash, lane);
    while (size != 0) {
        const std::size_t here = size < 8 ? size : 8;
        std::uint64_t word = 0;
        std::memcpy(&word, bytes, here);
        hash = run_mixed(hash, word);
        bytes += here;
        size -= here;
    }
    return hash ^ hash >> 32;
}

// Of the names of all kinds of operations, in order.
inline std::uint64_t run_log_operations() noexcept {
    std::uint64_t hash = 0;
    for (std::uint32_t kind = 0; kind < op_kind_count; ++kind) {
        const char* name = name_of(static_cast<OpKind>(kind));
        hash = run_digest(name, std::strlen(name), hash);
    }
    return hash;
}

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

}  // namespace whorl::detail
