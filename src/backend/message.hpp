// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/buffer.hpp>
#include <whorl/op_record.hpp>

#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

// Messages: what sendmsg(2) and recvmsg(2) move together with an address and control data.

namespace whorl::detail {

// One message of an operation that owns its buffer. Kept by the loop and reused; the buffer lies here
// because a record has no room for it and for the frame's address.
struct MessageFrame : Allocated<MessageFrame> {
    // 253 descriptors take 1032 bytes; the rest is for what comes beside them.
    static constexpr std::size_t control_max = 1088;
    // What the kernel reads and writes.
    struct Wire {
        msghdr message;
        iovec part;
        sockaddr_storage address;
        alignas(cmsghdr) unsigned char control[control_max];
    };

    MessageFrame* next;
    Buffer buffer;
    std::uint32_t address_size;  // bytes of wire.address to send to
    bool answered;               // the wire holds a received message, perhaps with descriptors
    std::uint32_t control_size;  // bytes of wire.control to send, or room for what is received
    Wire wire;
};

struct MessagePayload {
    MessageFrame* frame;
};

// A connect's frame, which its payload has no room for while it waits.
inline MessageFrame& connect_frame(const OpRecord& record) noexcept {
    return *reinterpret_cast<MessageFrame*>(static_cast<std::uintptr_t>(record.progress));
}

// Sends that Linux cannot wait for (SendToUnix): EAGAIN is their answer.
inline bool never_waits(const OpRecord& record) noexcept {
    return record.kind == OpKind::connect_unix ||
           (record.kind == OpKind::send_message && (record.extra & MSG_DONTWAIT) != 0);
}

// Calls visit(number) for each descriptor that a received message carries.
template <class Visit>
void for_each_descriptor(MessageFrame& frame, Visit&& visit) noexcept {
    msghdr& message = frame.wire.message;
    for (cmsghdr* item = CMSG_FIRSTHDR(&message); item != nullptr;
         item = CMSG_NXTHDR(&message, item)) {
        if (item->cmsg_level != SOL_SOCKET || item->cmsg_type != SCM_RIGHTS) continue;
        const std::size_t count = (item->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (std::size_t index = 0; index < count; ++index) {
            int number = -1;
            std::memcpy(&number, CMSG_DATA(item) + index * sizeof number, sizeof number);
            visit(number);
        }
    }
}

inline bool has_message(OpKind kind) noexcept {
    return kind == OpKind::recv_message || kind == OpKind::send_message;
}

// Operations whose system call gets a description that lies apart: a chain's parts, a message.
inline constexpr std::uint64_t described_kinds =
    std::uint64_t{1} << static_cast<unsigned>(OpKind::send_chain) |
    std::uint64_t{1} << static_cast<unsigned>(OpKind::chain_zero_copy) |
    std::uint64_t{1} << static_cast<unsigned>(OpKind::write_chain) |
    std::uint64_t{1} << static_cast<unsigned>(OpKind::send_batch) |
    std::uint64_t{1} << static_cast<unsigned>(OpKind::read_chain_at) |
    std::uint64_t{1} << static_cast<unsigned>(OpKind::write_chain_at) |
    std::uint64_t{1} << static_cast<unsigned>(OpKind::recv_message) |
    std::uint64_t{1} << static_cast<unsigned>(OpKind::send_message);
static_assert(op_kind_count <= 64, "a bit for each kind");
constexpr bool is_described(OpKind kind) noexcept {
    return (described_kinds >> static_cast<unsigned>(kind) & 1) != 0;
}

// Whether the operation makes its descriptor itself.
inline bool connects(OpKind kind) noexcept {
    return kind == OpKind::connect || kind == OpKind::connect_unix || kind == OpKind::spawn;
}

// A stream that delivers blocks of the pool.
inline bool fills_blocks(OpKind kind) noexcept {
    return kind == OpKind::recv_stream || kind == OpKind::message_stream;
}

// How a message of a stream lies in its block, on every backend: as io_uring's multishot writes it.
// The header, the address, the control data, and the bytes, each at its fixed place.
struct MessageHeader {
    std::uint32_t address_size;  // may be more than there was room for
    std::uint32_t control_size;
    std::uint32_t payload_size;
    std::uint32_t flags;  // MSG_TRUNC, MSG_CTRUNC
};
inline constexpr std::size_t message_address_room = 112;
inline constexpr std::size_t message_control_room = 192;
inline constexpr std::size_t message_address_at = sizeof(MessageHeader);
inline constexpr std::size_t message_control_at = message_address_at + message_address_room;
inline constexpr std::size_t message_payload_at = message_control_at + message_control_room;
static_assert(message_address_room >= sizeof(sockaddr_un), "every address fits");
static_assert(message_control_at % alignof(cmsghdr) == 0, "control data is aligned");
// Blocks must hold some bytes besides.
inline constexpr std::size_t message_block_min = 1024;

// Receives one message into a block; `call` makes the system call. Answers the bytes of the block that
// count, as a multishot does, or what `call` answered when that was an error.
template <class Call>
ssize_t receive_into_block(std::byte* block, std::size_t size, Call&& call) noexcept {
    iovec part{block + message_payload_at, size - message_payload_at};
    msghdr message{};
    message.msg_name = block + message_address_at;
    message.msg_namelen = message_address_room;
    message.msg_control = block + message_control_at;
    message.msg_controllen = message_control_room;
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    const ssize_t got = call(&message);
    if (got < 0) return got;
    auto& header = *reinterpret_cast<MessageHeader*>(block);
    header.address_size = message.msg_namelen;
    header.control_size = static_cast<std::uint32_t>(message.msg_controllen);
    header.payload_size = static_cast<std::uint32_t>(got);
    header.flags = static_cast<std::uint32_t>(message.msg_flags);
    return static_cast<ssize_t>(message_payload_at) + got;
}

// What the network reports of messages sent before (ICMP) is told once and ends no stream: udp(7),
// ip(7).
inline bool passes_by(std::int32_t result) noexcept {
    switch (-result) {
        case ECONNREFUSED:
        case EHOSTUNREACH:
        case ENETUNREACH:
        case EHOSTDOWN:
        case ENETDOWN:
        case ENONET:
        case ENOPROTOOPT:
        case EPROTO:
        case EMSGSIZE:
        case EACCES:
        case ECONNRESET:
            return true;
        default:
            return false;
    }
}

}  // namespace whorl::detail
