// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/message.hpp"
#include "backend/sim_ring_memory.hpp"
#include "backend/sim_ring_state.hpp"

#include <poll.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <deque>

// recvmsg and sendmsg of whole messages on a simulated ring.

namespace whorl::detail {

// Whether the message is moved as one: it has control data or must not be cut.
bool SimRing::moves_message(const io_uring_sqe& sqe, const SimFile& file) {
    if (sqe.opcode == IORING_OP_RECVMSG) return true;
    if (sqe.opcode != IORING_OP_SENDMSG) return false;
    const auto& message = *reinterpret_cast<const msghdr*>(sqe.addr);
    const SimAccess header(&message, sizeof message);
    return file.keeps_messages() || message.msg_controllen != 0;
}

int SimRing::prepare_message(const io_uring_sqe& sqe, SimRingOp& op) const {
    const bool receives = sqe.opcode == IORING_OP_RECVMSG;
    op.multishot = (sqe.ioprio & IORING_RECV_MULTISHOT) != 0;
    if ((sqe.ioprio & ~IORING_RECV_MULTISHOT) != 0) return -EINVAL;
    if (op.multishot && (!receives || !level_.multishots || !op.selects)) return -EINVAL;
    if (op.selects && !op.multishot) return -EINVAL;  // not simulated
    op.message = reinterpret_cast<msghdr*>(sqe.addr);
    op.message_flags = static_cast<int>(sqe.msg_flags);
    op.wanted =
        receives ? POLLIN | POLLPRI | POLLRDHUP | POLLERR | POLLHUP : POLLOUT | POLLERR | POLLHUP;
    if ((op.message_flags & MSG_DONTWAIT) != 0) op.nowait = true;
    const SimAccess header(op.message, sizeof *op.message);
    if (!op.multishot) return 0;
    // Only the layout that message.hpp describes is simulated.
    const bool known = op.message->msg_namelen == message_address_room &&
                       op.message->msg_controllen == message_control_room;
    return known ? 0 : -EINVAL;
}

SimRing::Outcome SimRing::try_message(SimRingOp& op) {
    const SimAccess header(op.message, sizeof *op.message);
    msghdr& message = *op.message;
    const SimAccess list(message.msg_iov, message.msg_iovlen * sizeof(iovec));
    const SimAccess name(message.msg_name, message.msg_namelen);
    const SimAccess control(message.msg_control, message.msg_controllen);
    std::deque<SimAccess> bytes;
    for (std::size_t part = 0; part < message.msg_iovlen; ++part) {
        bytes.emplace_back(message.msg_iov[part].iov_base, message.msg_iov[part].iov_len);
    }
    const bool receives = op.opcode == IORING_OP_RECVMSG;
    const ssize_t done = receives ? op.file->receive_message(message, op.message_flags)
                                  : op.file->send_message(message, op.message_flags);
    return {done == -EAGAIN ? would_block : static_cast<int>(done), 0};
}

SimRing::Outcome SimRing::try_message_stream(SimRingOp& op) {
    for (;;) {
        const io_uring_buf* buffer = buffer_first(op.group);
        if (buffer == nullptr) return {-ENOBUFS, 0};
        const SimAccess access(reinterpret_cast<void*>(buffer->addr), buffer->len);
        if (buffer->len <= message_payload_at) return {-EFAULT, 0};
        const unsigned flags = IORING_CQE_F_BUFFER | unsigned{buffer->bid}
                                                         << IORING_CQE_BUFFER_SHIFT;
        const ssize_t got = receive_into_block(
            reinterpret_cast<std::byte*>(buffer->addr), buffer->len,
            [&](msghdr* message) { return op.file->receive_message(*message, op.message_flags); });
        if (got == -EAGAIN) return {would_block, 0};
        if (got < 0) return {static_cast<int>(got), 0};
        ++groups_.at(op.group).head;
        // Linux ends a multishot with an empty message.
        const bool empty = got == static_cast<ssize_t>(message_payload_at);
        if (empty || ends_stream()) return {static_cast<int>(got), flags};
        post(op.user_data, static_cast<int>(got), flags | IORING_CQE_F_MORE);
    }
}

}  // namespace whorl::detail
