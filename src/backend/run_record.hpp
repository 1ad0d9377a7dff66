// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/host_calls.hpp"
#include "backend/lend.hpp"
#include "backend/payload.hpp"
#include "backend/process_calls.hpp"
#include "backend/run_log_file.hpp"
#include "backend/zero_copy.hpp"

#include <whorl/op_record.hpp>

#include <netdb.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

// What a recorded run keeps of a record: what it asks for when it is handed over, and what a backend
// writes to it when it answers.

namespace whorl::detail {

// Calls visit(data, size) for what the backend has written, or is to write, of the record for an answer
// of `result`, apart from a block of the pool. The sizes of later parts may stand in earlier ones.
template <class Visit>
void for_each_written(OpRecord& record, std::int32_t result, Visit&& visit) noexcept {
    const std::size_t moved = result > 0 ? static_cast<std::size_t>(result) : 0;
    switch (record.kind) {
        case OpKind::recv:
        case OpKind::read:
        case OpKind::read_at:
        case OpKind::read_exact_at:
        case OpKind::list_directory: {
            const Span span = span_to_receive(record);
            return visit(span.data, std::min(moved, span.size));
        }
        case OpKind::read_chain_at: {
            const msghdr& message = record.as<ChainPayload>().frame->message;
            std::size_t rest = moved;
            for (std::size_t part = 0; part < message.msg_iovlen && rest != 0; ++part) {
                const std::size_t here = std::min(rest, message.msg_iov[part].iov_len);
                visit(message.msg_iov[part].iov_base, here);
                rest -= here;
            }
            return;
        }
        case OpKind::recv_message: {
            if (result < 0) return;
            MessageFrame::Wire& wire = record.as<MessagePayload>().frame->wire;
            visit(&wire.message.msg_namelen, sizeof wire.message.msg_namelen);
            visit(&wire.message.msg_controllen, sizeof wire.message.msg_controllen);
            visit(&wire.message.msg_flags, sizeof wire.message.msg_flags);
            const std::size_t address = wire.message.msg_namelen;
            visit(&wire.address, std::min(address, sizeof wire.address));
            visit(wire.control,
                  std::min<std::size_t>(wire.message.msg_controllen, sizeof wire.control));
            return visit(wire.part.iov_base, std::min(moved, wire.part.iov_len));
        }
        case OpKind::wait_signal:
        case OpKind::signal_stream:
            if (result == 0) visit(&record.as<SignalInfo>(), sizeof(SignalInfo));
            return;
        case OpKind::wait_child: {
            Buffer& memory = record.as<Buffer>();
            if (result == 0 && memory) visit(memory.data(), sizeof(ChildExit));
            return;
        }
        case OpKind::spawn: {
            SpawnBlock& block = spawn_block_of(record);
            visit(&block.step, sizeof block.step);
            visit(&block.pid, sizeof block.pid);
            return visit(&block.pidfd, sizeof block.pidfd);
        }
        case OpKind::stat:
            if (result == 0) visit(&path_block_of(record).status, sizeof(struct statx));
            return;
        case OpKind::read_link: {
            PathBlock& block = path_block_of(record);
            if (moved != 0)
                visit(block.second_path(), std::min<std::size_t>(moved, block.second_room));
            return;
        }
        default:
            return;
    }
}

// Of a message in a block, what the kernel leaves out between its parts is not kept.
template <class Visit>
void for_each_part(OpKind kind, std::byte* base, std::size_t size, Visit&& visit) noexcept {
    if (kind != OpKind::message_stream || size < message_payload_at) return visit(base, size);
    const auto& header = *reinterpret_cast<const MessageHeader*>(base);
    visit(base, sizeof header);
    visit(base + message_address_at,
          std::min<std::size_t>(header.address_size, message_address_room));
    visit(base + message_control_at,
          std::min<std::size_t>(header.control_size, message_control_room));
    visit(base + message_payload_at, size - message_payload_at);
}

// What a submission is: what must be the same in a replay.
struct RunSubmission {
    std::uint64_t handle;
    std::uint64_t details;  // of addresses, flags, offsets and sizes
    std::uint64_t bytes;    // of what is sent
    std::uint32_t descriptor;
    OpKind kind;
};
// Numbers need no name server, and are found again the same way.
inline bool run_keeps(const NameQuestion& question) noexcept {
    return (question.flags & AI_NUMERICHOST) == 0;
}
std::uint64_t run_digest_of(const NameQuestion& question) noexcept;

RunSubmission run_submission(const DriverContext& context, OpRecord& record) noexcept;

}  // namespace whorl::detail
