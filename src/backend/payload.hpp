// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/batch.hpp"
#include "backend/file_calls.hpp"

#include <whorl/allocated.hpp>
#include <whorl/buffer.hpp>
#include <whorl/buffer_chain.hpp>
#include <whorl/op_record.hpp>
#include <whorl/work_block.hpp>

#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <new>

// What an operation's payload is, by kind, and where a backend finds its arguments:
//
//   kind           payload         arguments
//   nop            –               –
//   connect        ConnectTarget   address and length
//   accept…        –               (a TimerNode while it backs off)
//   recv           Buffer          receive into data() + progress, capacity() - progress bytes;
//                                  extra: MSG_ flags
//   recv_stream    –               extra: MSG_ flags; above them, for the loop, how often in a row
//                                  the other size of buffers would have suited better
//   send           Buffer          data(), size(); extra: MSG_ flags
//   send_all       Buffer          data() + progress, size() - progress; extra: MSG_ flags
//   send_chain     ChainPayload    frame->message, set up by the loop before each submission
//   send_zero_copy Buffer          as send_all; extra: zero_copy.hpp
//   chain_zero_copy ChainPayload    as send_chain; extra: zero_copy.hpp
//   shutdown       –               extra: SHUT_RD, SHUT_WR or SHUT_RDWR
//   recv_message   MessagePayload  frame->wire.message, set up by the loop before each submission;
//                                  extra: MSG_ flags (message.hpp)
//   message_stream –               extra: MSG_ flags
//   send_message   MessagePayload  as recv_message
//   connect_unix   –               connect_frame(record).wire.address (message.hpp); a TimerNode while
//                                  it waits for room
//   read           Buffer          as recv, without flags
//   write          Buffer          data() + progress, size() - progress
//   write_all      Buffer          as write
//   write_chain    ChainPayload    as send_chain, without flags
//   splice_source  uint64          for the loop: its operation; waits until there is something to read
//   splice, tee    SplicePayload   from the descriptor `from` to its own, size - progress bytes
//   send_batch     BatchPayload    frame->headers, set up by the loop before each submission (batch.hpp)
//   wait_signal    SignalInfo      the answer
//   signal_stream
//   wait_child     Buffer          room for a ChildExit, the answer; null: nobody wants it
//   work           Buffer          a WorkBlock and the callable behind it
//   spawn          Buffer          a SpawnBlock (process_calls.hpp) with its strings behind it
//   read_at        Buffer          read into data() + progress, capacity() - progress bytes;
//   read_exact_at                  extra: the offset, to which progress is added
//   read_chain_at  ChainPayload    frame->message, set up by the loop before each submission;
//   write_chain_at                 extra: the offset, to which progress is added
//   write_at       Buffer          data() + progress, size() - progress; extra: the offset, to which
//   write_all_at                   progress is added
//   append         Buffer          data(), size()
//   sync           –               extra: 1 for data only
//   sync_range…    RangeArguments
//   truncate       –               extra: the size
//   list_directory Buffer          as read_at; extra: 1 to begin anew
//   open_file, stat, rename…       Buffer: a PathBlock with its paths behind it
//   watch          –               descriptor: the descriptor's number; extra: POLL… bits wanted;
//                                  the result is the POLL… bits seen
//
// All but watch find their file descriptor in descriptors.at(record.descriptor).fd.

namespace whorl::detail {

struct ConnectTarget {
    unsigned char address[28];  // sockaddr_in or sockaddr_in6
    std::uint32_t length;
};

// One system call's worth of a chain. Kept by the loop and reused.
struct GatherFrame : Allocated<GatherFrame> {
    static constexpr std::uint32_t parts_max = 64;
    GatherFrame* next;
    msghdr message;
    iovec parts[parts_max];
};

struct ChainPayload {
    BufferChain chain;
    GatherFrame* frame;
};

// No transfer is larger than this in one call: Linux moves at most 2^31 - 4096 bytes (MAX_RW_COUNT).
inline constexpr std::size_t transfer_max = 0x7ffff000;

struct Span {
    std::byte* data;
    std::size_t size;
};

struct SplicePayload {
    std::uint64_t source;  // for the loop: handle of the record that has the reading side
    std::uint64_t size;
    std::uint32_t from;  // index of a descriptor
};
// A backend's answer to a splice or tee: nothing is there to be moved.
inline constexpr std::int32_t splice_dry = -ENODATA;

struct RangeArguments {
    std::uint64_t offset;
    std::uint64_t length;
    std::uint32_t mode;  // flags or advice
};

inline constexpr std::size_t path_max = 4096;  // with the zero byte at its end
inline constexpr unsigned stat_mask = STATX_BASIC_STATS;

// The arguments of an operation on paths. The paths stand behind it in its memory, where `first` and
// `second` say, each with a zero byte at its end.
struct PathBlock {
    OpenHow how;  // flags of every kind; mode and resolve where there are such
    std::uint32_t first;
    std::uint32_t second;       // 0: there is none
    std::uint32_t second_room;  // bytes, when it is for an answer
    struct statx status;        // the answer of a stat

    char* first_path() noexcept { return reinterpret_cast<char*>(this) + first; }
    char* second_path() noexcept { return reinterpret_cast<char*>(this) + second; }
    const char* first_path() const noexcept { return reinterpret_cast<const char*>(this) + first; }
    const char* second_path() const noexcept {
        return reinterpret_cast<const char*>(this) + second;
    }
};

inline PathBlock& path_block_of(OpRecord& record) noexcept {
    return *std::launder(reinterpret_cast<PathBlock*>(record.as<Buffer>().data()));
}

inline WorkBlock& work_block_of(OpRecord& record) noexcept {
    return *std::launder(reinterpret_cast<WorkBlock*>(record.as<Buffer>().data()));
}

inline Span span_to_receive(OpRecord& record) noexcept {
    Buffer& buffer = record.as<Buffer>();
    const std::size_t rest = buffer.capacity() - static_cast<std::size_t>(record.progress);
    return {buffer.data() + record.progress, rest < transfer_max ? rest : transfer_max};
}

// The kernel would take an empty message for none at all.
inline bool nothing_to_send(OpRecord& record) noexcept {
    switch (record.kind) {
        case OpKind::send:
        case OpKind::send_all:
        case OpKind::send_zero_copy:
        case OpKind::write:
        case OpKind::write_all:
            return record.as<Buffer>().empty();
        case OpKind::send_chain:
        case OpKind::chain_zero_copy:
        case OpKind::write_chain:
            return record.as<ChainPayload>().chain.size() == 0;
        case OpKind::send_batch:
            return record.as<BatchPayload>().frame->buffers.empty();
        default:
            return false;
    }
}

// Of a send that may take several rounds.
inline std::uint64_t send_size(OpRecord& record) noexcept {
    const bool chain = record.kind == OpKind::send_chain || record.kind == OpKind::write_chain ||
                       record.kind == OpKind::chain_zero_copy;
    return chain ? record.as<ChainPayload>().chain.size() : record.as<Buffer>().size();
}

// Reads that go on until their memory is full.
inline bool reads_all(OpKind kind) noexcept {
    return kind == OpKind::read_exact_at || kind == OpKind::read_chain_at;
}
inline std::uint64_t read_size(OpRecord& record) noexcept {
    if (record.kind != OpKind::read_chain_at) return record.as<Buffer>().capacity();
    std::uint64_t bytes = 0;
    for (const Buffer& buffer : record.as<ChainPayload>().chain) bytes += buffer.capacity();
    return bytes;
}

// A peek finds the same bytes again, so it cannot go on where it ended.
inline bool receives_all(const OpRecord& record) noexcept {
    return (record.extra & MSG_WAITALL) != 0 && (record.extra & MSG_PEEK) == 0;
}

inline Span span_to_send(OpRecord& record) noexcept {
    Buffer& buffer = record.as<Buffer>();
    const std::size_t rest = buffer.size() - static_cast<std::size_t>(record.progress);
    return {buffer.data() + record.progress, rest < transfer_max ? rest : transfer_max};
}

}  // namespace whorl::detail
