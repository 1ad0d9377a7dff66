// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/message.hpp"
#include "backend/payload.hpp"
#include "backend/pipe_transfer.hpp"
#include "backend/sim_driver.hpp"

#include <cerrno>
#include <cstring>

// Messages with addresses and control data in the simulated kernel.

namespace whorl::detail {

ssize_t SimFile::receive_message(msghdr&, int) { return -ENOTSOCK; }
ssize_t SimFile::send_message(const msghdr&, int) { return -ENOTSOCK; }

int SimKernel::pipe_access(int fd) noexcept {
    const SimFilePtr found = file(fd);
    if (found == nullptr) return -EBADF;
    if (std::strcmp(found->name(), "pipe") != 0) return pipe_whole;
    const bool writes = found->read(nullptr, 0, 0) == -EBADF;
    return pipe_whole | (writes ? pipe_unreadable : pipe_unwritable);
}

std::int32_t SimDriver::call_recv_message(OpRecord& record, SimFile& file) noexcept {
    msghdr& message = record.as<MessagePayload>().frame->wire.message;
    const ssize_t done = file.receive_message(message, static_cast<int>(record.extra));
    return done == -EAGAIN ? would_block : static_cast<std::int32_t>(done);
}

std::int32_t SimDriver::call_message_stream(OpRecord& record, SimFile& file) noexcept {
    const std::uint32_t size = context_.options.recv_buffer_size;
    for (std::uint32_t count = 0; count < parts_per_try; ++count) {
        if ((file.poll_bits() & (POLLIN | POLLERR)) == 0) return would_block;
        if (!may_fill(context_.operations.index_of(&record))) return would_block;
        PoolBlock* block = context_.pool.take(BufferPool::class_for(size));
        if (block == nullptr) return -ENOBUFS;
        const int flags = static_cast<int>(record.extra) | MSG_CMSG_CLOEXEC;
        const ssize_t done = receive_into_block(block->base, size, [&](msghdr* message) {
            return file.receive_message(*message, flags);
        });
        if (done > 0) {
            const bool ends = kernel_.faulty(kernel_.options().stream_end);
            complete(record, static_cast<std::int32_t>(done), !ends, block);
            if (ends) return would_block;
            continue;
        }
        Buffer::from_owner(block, block->base, 0).reset();
        return done == -EAGAIN ? would_block : static_cast<std::int32_t>(done);
    }
    file_changed(file, context_.operations.index_of(&record));
    return would_block;
}

std::int32_t SimDriver::call_send_message(OpRecord& record, SimFile& file) noexcept {
    const msghdr& message = record.as<MessagePayload>().frame->wire.message;
    const ssize_t done = file.send_message(message, static_cast<int>(record.extra));
    if (done == -EAGAIN && never_waits(record)) return -EAGAIN;
    return done == -EAGAIN ? would_block : static_cast<std::int32_t>(done);
}

std::int32_t SimDriver::call_connect_unix(OpRecord& record, SimFile& file) noexcept {
    const MessageFrame& frame = connect_frame(record);
    const auto* address = reinterpret_cast<const sockaddr*>(&frame.wire.address);
    return static_cast<SimSocket&>(file).connect(SimAddress::from(address, frame.address_size));
}

}  // namespace whorl::detail
