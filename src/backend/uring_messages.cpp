// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/lend.hpp"
#include "backend/message.hpp"
#include "backend/payload.hpp"
#include "backend/pipe_transfer.hpp"
#include "backend/uring_driver.hpp"

#include <poll.h>
#include <sys/socket.h>

// What the ring does with messages, and with descriptors that are no sockets.

namespace whorl::detail {

static_assert(sizeof(MessageHeader) == sizeof(io_uring_recvmsg_out), "one layout");
static_assert(offsetof(MessageHeader, address_size) == offsetof(io_uring_recvmsg_out, namelen));
static_assert(offsetof(MessageHeader, control_size) == offsetof(io_uring_recvmsg_out, controllen));
static_assert(offsetof(MessageHeader, payload_size) == offsetof(io_uring_recvmsg_out, payloadlen));
static_assert(offsetof(MessageHeader, flags) == offsetof(io_uring_recvmsg_out, flags));

namespace {

// What every multishot asks for: room for address and control data, and the rest for the bytes. The
// kernel reads it when the entry is submitted and never writes to it.
msghdr message_wanted() noexcept {
    msghdr message{};
    message.msg_namelen = message_address_room;
    message.msg_controllen = message_control_room;
    return message;
}
msghdr wanted = message_wanted();

}  // namespace

// Without a multishot a message could not say where its address and control data are.
bool UringDriver::polls_for_blocks(OpKind kind) const noexcept {
    if (!fills_blocks(kind)) return false;
    const bool messages = kind == OpKind::message_stream;
    return !has(Feature::buffer_ring) || (messages && !has(Feature::multishot_recv));
}

void UringDriver::stage_message_stream(int fd, OpRecord& record, io_uring_sqe* sqe) noexcept {
    if (!polls_for_blocks(record.kind)) buffers_start();
    if (polls_for_blocks(record.kind)) {
        record.flags |= op_polls;
        return io_uring_prep_poll_add(sqe, fd, POLLIN);
    }
    const unsigned flags = static_cast<unsigned>(record.extra) | MSG_CMSG_CLOEXEC;
    io_uring_prep_recvmsg_multishot(sqe, fd, &wanted, flags);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = 0;
}

// A Unix datagram that finds its receiver's queue full is waited for here and sent anew. Left to wait in
// the ring it arrives empty: the kernel has used its bytes up with the first try (seen on Linux 6.18).
void UringDriver::stage_send_message(int fd, OpRecord& record, io_uring_sqe* sqe) noexcept {
    const bool local = context_.descriptors.at(record.descriptor).family == AF_UNIX;
    const unsigned flags =
        static_cast<unsigned>(record.extra) | MSG_NOSIGNAL | (local ? unsigned{MSG_DONTWAIT} : 0u);
    io_uring_prep_sendmsg(sqe, fd, &record.as<MessagePayload>().frame->wire.message, flags);
}

// The socket is readable: receive here, as a multishot would.
ssize_t UringDriver::receive_message(int fd, PoolBlock& block, int flags) noexcept {
    return receive_into_block(block.base, context_.options.recv_buffer_size, [&](msghdr* message) {
        return context_.system.recvmsg(fd, message, flags | MSG_CMSG_CLOEXEC);
    });
}

// A pipe, terminal or other descriptor is ready, perhaps: the call is made here (pipe_transfer.hpp).
void UringDriver::collect_transfer(OpRecord& record, CompletionBatch& batch) noexcept {
    const bool cancelled = (record.flags & (op_cancelled | op_timed_out | op_pausing)) != 0;
    if (cancelled) return push(record, -ECANCELED, false, nullptr, batch);
    std::int32_t result = 0;
    {
        const LentInUse in_use(record);
        Slab<Descriptor>& descriptors = context_.descriptors;
        const Descriptor& descriptor = descriptors.at(record.descriptor);
        if (splices(record.kind)) result = splice_transfer(context_.system, descriptors, record);
        else if (record.kind == OpKind::send_batch)
            result = batch_transfer(context_.system, descriptor.fd, record);
        else result = pipe_transfer(context_.system, descriptor, record);
    }
    if (result != -EAGAIN) return push(record, result, false, nullptr, batch);
    record.flags |= op_polls;
    again(record);
}

}  // namespace whorl::detail
