// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/payload.hpp"
#include "backend/pipe_transfer.hpp"
#include "backend/process_calls.hpp"
#include "backend/sim_driver.hpp"
#include "backend/sim_errors.hpp"
#include "backend/work_calls.hpp"
#include "backend/zero_copy.hpp"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

// How each operation happens in the simulated kernel, in the order of the operation list.

namespace whorl::detail {

namespace {

SimSocket& socket_in(SimFile& file) noexcept { return static_cast<SimSocket&>(file); }

// Errors that the manual pages name for an operation, and one that they do not.
ErrorList errors_of(OpKind kind) noexcept {
    static constexpr int connect[] = {ECONNREFUSED, ETIMEDOUT, ENETUNREACH, EADDRNOTAVAIL, EXDEV};
    static constexpr int connect_unix[] = {ECONNREFUSED, ENOENT, EACCES, EXDEV};
    static constexpr int read[] = {EIO, EISDIR, EXDEV};
    static constexpr int write[] = {EIO, ENOSPC, EXDEV};
    static constexpr int accept[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED, EPROTO, EPERM};
    static constexpr int recv[] = {ECONNRESET, ENOMEM, ETIMEDOUT, EXDEV};
    static constexpr int send[] = {ECONNRESET, EPIPE, ENOBUFS, ENOMEM, EXDEV};
    static constexpr int watch[] = {ENOMEM};
    static constexpr int recv_message[] = {ECONNREFUSED, EHOSTUNREACH, EXDEV};
    static constexpr int send_message[] = {ECONNREFUSED, ENOBUFS, EPERM, EXDEV};
    static constexpr int spawn[] = {EAGAIN, ENOMEM, EACCES, EXDEV};
    static constexpr int file[] = {EIO, ENOSPC, ENOMEM, EXDEV};
    switch (kind) {
        case OpKind::connect:
            return list_of(connect);
        case OpKind::read:
            return list_of(read);
        case OpKind::write:
        case OpKind::write_all:
        case OpKind::write_chain:
        case OpKind::splice:
        case OpKind::tee:
            return list_of(write);
        case OpKind::connect_unix:
            return list_of(connect_unix);
        case OpKind::accept:
        case OpKind::accept_stream:
            return list_of(accept);
        case OpKind::recv:
        case OpKind::recv_stream:
            return list_of(recv);
        case OpKind::send:
        case OpKind::send_all:
        case OpKind::send_chain:
        case OpKind::send_zero_copy:
        case OpKind::chain_zero_copy:
            return list_of(send);
        case OpKind::watch:
            return list_of(watch);
        case OpKind::recv_message:
        case OpKind::message_stream:
            return list_of(recv_message);
        case OpKind::send_message:
        case OpKind::send_batch:
            return list_of(send_message);
        case OpKind::spawn:
            return list_of(spawn);
        default:
            if (is_blocking(kind) && kind != OpKind::work) return list_of(file);
            return {nullptr, 0};
    }
}

}  // namespace

std::int32_t SimDriver::call(OpRecord& record, SimFile& file) noexcept {
    if (is_blocking(record.kind)) return call_blocking(record);
    switch (record.kind) {
        case OpKind::connect:
            return call_connect(record, file);
        case OpKind::accept:
            return call_accept(record, file);
        case OpKind::accept_stream:
            return call_accept_stream(record, file);
        case OpKind::recv:
            return call_recv(record, file);
        case OpKind::recv_stream:
            return call_recv_stream(record, file);
        case OpKind::send:
        case OpKind::send_all:
            return call_send(record, file);
        case OpKind::send_chain:
            return call_send_chain(record, file);
        case OpKind::send_zero_copy:
            zero_copy_give_up(record);
            return call_send(record, file);
        case OpKind::chain_zero_copy:
            zero_copy_give_up(record);
            return call_send_chain(record, file);
        case OpKind::shutdown:
            return call_shutdown(record, file);
        case OpKind::read:
            return call_recv(record, file);
        case OpKind::write:
        case OpKind::write_all:
            return call_send(record, file);
        case OpKind::wait_signal:
        case OpKind::signal_stream:
        case OpKind::wait_child:
            return call_process(record);
        case OpKind::write_chain:
            return call_send_chain(record, file);
        case OpKind::splice_source:
        case OpKind::splice:
        case OpKind::tee: {
            const std::int32_t done = splice_transfer(kernel_, context_.descriptors, record);
            return done == -EAGAIN ? would_block : done;
        }
        case OpKind::send_batch: {
            const int fd = context_.descriptors.at(record.descriptor).fd;
            const std::int32_t done = batch_transfer(kernel_, fd, record);
            return done == -EAGAIN ? would_block : done;
        }
        case OpKind::connect_unix:
            return call_connect_unix(record, file);
        case OpKind::recv_message:
            return call_recv_message(record, file);
        case OpKind::message_stream:
            return call_message_stream(record, file);
        case OpKind::send_message:
            return call_send_message(record, file);
        default:
            WHORL_ASSERT(record.kind == OpKind::watch);
            return call_watch(record, file);
    }
}

// An error in place of the operation, or would_block for none.
std::int32_t SimDriver::fault(const OpRecord& record, SimFile& file) noexcept {
    if (const int scripted = kernel_.take_scripted_fault(record.kind)) return -scripted;
    const ErrorList list = errors_of(record.kind);
    if (list.count == 0 || !kernel_.faulty(kernel_.options().operation_error)) return would_block;
    const int error = list.first[kernel_.choices.below(list.count)];
    // What says that the connection is gone is followed by a connection that is gone.
    if (error == ECONNRESET || error == EPIPE || error == ETIMEDOUT) socket_in(file).abort();
    return -error;
}

// A part of `size` now and then, never nothing.
std::size_t SimDriver::shortened(std::size_t size) noexcept {
    if (size < 2 || !kernel_.faulty(kernel_.options().short_transfer)) return size;
    const auto bound = static_cast<std::uint32_t>(std::min<std::size_t>(size - 1, 1u << 20));
    return 1 + kernel_.choices.below(bound);
}

// Until its completion the memory of a receive is the kernel's, which may write there what it likes.
void SimDriver::scribble(OpRecord& record) noexcept {
    if (record.kind != OpKind::recv || !kernel_.faulty(kernel_.options().short_transfer)) return;
    const Span span = span_to_receive(record);
    std::memset(span.data, 0xDB, std::min<std::size_t>(span.size, 64));
}

std::int32_t SimDriver::call_connect(OpRecord& record, SimFile& file) noexcept {
    const auto& target = record.as<ConnectTarget>();
    const auto* address = reinterpret_cast<const sockaddr*>(target.address);
    const int done = socket_in(file).connect(SimAddress::from(address, target.length));
    return done == -EINPROGRESS || done == -EALREADY ? would_block : done;
}

std::int32_t SimDriver::call_accept(OpRecord&, SimFile& file) noexcept {
    const int done = kernel_.accept(socket_in(file));
    return done == -EAGAIN ? would_block : done;
}

std::int32_t SimDriver::call_accept_stream(OpRecord& record, SimFile& file) noexcept {
    for (std::uint32_t count = 0; count < parts_per_try; ++count) {
        const int done = kernel_.accept(socket_in(file));
        if (done == -EAGAIN) return would_block;
        if (done < 0 || kernel_.faulty(kernel_.options().stream_end)) return done;
        complete(record, done, true);
    }
    file_changed(file, context_.operations.index_of(&record));  // there may be more
    return would_block;
}

std::int32_t SimDriver::call_recv(OpRecord& record, SimFile& file) noexcept {
    const Span span = span_to_receive(record);
    const bool whole = (record.extra & MSG_PEEK) != 0 || file.keeps_messages();
    const std::size_t size = whole ? span.size : shortened(span.size);
    const ssize_t done = file.read(span.data, size, static_cast<int>(record.extra));
    return done == -EAGAIN ? would_block : static_cast<std::int32_t>(done);
}

std::int32_t SimDriver::call_recv_stream(OpRecord& record, SimFile& file) noexcept {
    const std::uint32_t size = stream_buffer_size(context_.options, record);
    for (std::uint32_t count = 0; count < parts_per_try; ++count) {
        if ((file.poll_bits() & POLLIN) == 0) return would_block;
        if (!may_fill(context_.operations.index_of(&record))) return would_block;
        PoolBlock* block = context_.pool.take(BufferPool::class_for(size));
        if (block == nullptr) return -ENOBUFS;
        const ssize_t done = file.read(block->base, file.keeps_messages() ? size : shortened(size),
                                       static_cast<int>(record.extra));
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

std::int32_t SimDriver::call_send(OpRecord& record, SimFile& file) noexcept {
    const Span span = span_to_send(record);
    const ssize_t done =
        file.write(span.data, file.keeps_messages() ? span.size : shortened(span.size),
                   static_cast<int>(record.extra));
    return done == -EAGAIN ? would_block : static_cast<std::int32_t>(done);
}

std::int32_t SimDriver::call_send_chain(OpRecord& record, SimFile& file) noexcept {
    const msghdr& message = record.as<ChainPayload>().frame->message;
    if (file.keeps_messages()) {
        const ssize_t done = file.send_message(message, static_cast<int>(record.extra));
        return done == -EAGAIN ? would_block : static_cast<std::int32_t>(done);
    }
    std::size_t total = 0;
    for (std::size_t part = 0; part < message.msg_iovlen; ++part) {
        total += message.msg_iov[part].iov_len;
    }
    std::size_t left = shortened(total);
    ssize_t sent = 0;
    for (std::size_t part = 0; part < message.msg_iovlen && left != 0; ++part) {
        const iovec& piece = message.msg_iov[part];
        const std::size_t size = std::min(piece.iov_len, left);
        if (size == 0) continue;
        const ssize_t done = file.write(piece.iov_base, size, static_cast<int>(record.extra));
        if (done < 0 && sent == 0) {
            return done == -EAGAIN ? would_block : static_cast<std::int32_t>(done);
        }
        if (done < 0) break;
        sent += done;
        left -= static_cast<std::size_t>(done);
        if (static_cast<std::size_t>(done) < size) break;
    }
    return static_cast<std::int32_t>(sent);
}

std::int32_t SimDriver::call_shutdown(OpRecord& record, SimFile& file) noexcept {
    return socket_in(file).shutdown(static_cast<int>(record.extra));
}

std::int32_t SimDriver::call_blocking(OpRecord& record) noexcept {
    const int fd =
        record.descriptor == 0 ? AT_FDCWD : context_.descriptors.at(record.descriptor).fd;
    return perform(kernel_, fd, record);
}

std::int32_t SimDriver::call_process(OpRecord& record) noexcept {
    const Descriptor& descriptor = context_.descriptors.at(record.descriptor);
    const std::int32_t done = process_transfer(kernel_, descriptor, record);
    return done == -EAGAIN ? would_block : done;
}

std::int32_t SimDriver::call_watch(OpRecord& record, SimFile& file) noexcept {
    const unsigned wanted = static_cast<unsigned>(record.extra) | POLLERR | POLLHUP | POLLNVAL;
    const unsigned bits = file.poll_bits() & wanted;
    return bits != 0 ? static_cast<std::int32_t>(bits) : would_block;
}

}  // namespace whorl::detail
