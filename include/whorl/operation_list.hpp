// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <cstdint>

// The one operation list. Every kind of operation that reaches a backend is a line here; tables and
// per-operation functions everywhere stand in this order. X(name, side):
//
//   side   which direction of its descriptor the operation occupies. Of all operations that share a
//          side of one descriptor, only one is with the kernel at a time; the others wait in the loop
//          in order. The kernel does not keep order on a stream for us: several receives queued on
//          one socket complete last-first, and two large sends interleave (both seen on Linux 6.18).
#define WHORL_OPERATION_LIST(X) \
    X(nop, none)                \
    X(connect, write)           \
    X(accept, read)             \
    X(accept_stream, read)      \
    X(recv, read)               \
    X(recv_stream, read)        \
    X(send, write)              \
    X(send_all, write)          \
    X(send_chain, write)        \
    X(send_zero_copy, write)    \
    X(chain_zero_copy, write)   \
    X(shutdown, write)          \
    X(recv_message, read)       \
    X(message_stream, read)     \
    X(send_message, write)      \
    X(connect_unix, write)      \
    X(read, read)               \
    X(write, write)             \
    X(write_all, write)         \
    X(write_chain, write)       \
    X(splice_source, read)      \
    X(splice, write)            \
    X(tee, write)               \
    X(send_batch, write)        \
    X(wait_signal, read)        \
    X(signal_stream, read)      \
    X(wait_child, read)         \
    X(work, none)               \
    X(spawn, none)              \
    X(open_file, none)          \
    X(read_at, none)            \
    X(read_exact_at, none)      \
    X(read_chain_at, none)      \
    X(write_at, none)           \
    X(write_all_at, none)       \
    X(append, none)             \
    X(write_chain_at, none)     \
    X(sync, none)               \
    X(sync_range, none)         \
    X(truncate, none)           \
    X(allocate, none)           \
    X(advise, none)             \
    X(stat, none)               \
    X(rename, none)             \
    X(link, none)               \
    X(symlink, none)            \
    X(unlink, none)             \
    X(make_directory, none)     \
    X(remove_directory, none)   \
    X(read_link, none)          \
    X(list_directory, read)     \
    X(watch, none)

namespace whorl::detail {

enum class OpKind : std::uint8_t {
#define WHORL_OPERATION_ENUMERATOR(name, side) name,
    WHORL_OPERATION_LIST(WHORL_OPERATION_ENUMERATOR)
#undef WHORL_OPERATION_ENUMERATOR
    // What lives in the same slab but never reaches a backend.
    timer,     // a user's timer
    deadline,  // the deadline of another operation
    close,     // the handler that waits for a descriptor to be closed
    hook,      // a handler before or after waiting
    wait,      // waits for something in the program itself (wait.hpp)
    chain,     // those that follow an operation
};

inline constexpr std::uint32_t op_kind_count = static_cast<std::uint32_t>(OpKind::timer);

enum class Side : std::uint8_t { none, read, write };

// By kind; what never reaches a backend has no side.
inline constexpr Side operation_sides[op_kind_count + 5] = {
#define WHORL_OPERATION_SIDE(name, side) Side::side,
    WHORL_OPERATION_LIST(WHORL_OPERATION_SIDE)
#undef WHORL_OPERATION_SIDE
};

constexpr Side side_of(OpKind kind) noexcept {
    return operation_sides[static_cast<std::uint32_t>(kind)];
}

// Whether it takes a side of a descriptor that is there before it.
constexpr bool takes_side(OpKind kind) noexcept {
    return side_of(kind) != Side::none && kind != OpKind::connect && kind != OpKind::connect_unix;
}

constexpr const char* name_of(OpKind kind) noexcept {
    switch (kind) {
#define WHORL_OPERATION_NAME(name, side) \
    case OpKind::name:                   \
        return #name;
        WHORL_OPERATION_LIST(WHORL_OPERATION_NAME)
#undef WHORL_OPERATION_NAME
        case OpKind::timer:
            return "timer";
        case OpKind::deadline:
            return "deadline";
        case OpKind::close:
            return "close";
        case OpKind::hook:
            return "hook";
        case OpKind::wait:
            return "wait";
        case OpKind::chain:
            return "chain";
    }
    return "unknown";
}

}  // namespace whorl::detail
