// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/lend.hpp"
#include "backend/libev_driver.hpp"
#include "backend/payload.hpp"
#include "backend/pipe_transfer.hpp"
#include "backend/work_calls.hpp"
#include "backend/zero_copy.hpp"

#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <climits>

// How each operation is said to the kernel, in the order of the operation list, and what its answer
// means. Nothing here blocks: transfers carry MSG_DONTWAIT, so that the file status flags of sockets
// that others share with us stay as they are.

namespace whorl::detail {

namespace {

// Not an errno value: EAGAIN from connect is an error (no local port is left), elsewhere it is not.
constexpr std::int32_t would_block = INT_MIN;

std::int32_t answer(ssize_t result) noexcept {
    if (result >= 0) return static_cast<std::int32_t>(result);  // at most transfer_max
    return errno == EAGAIN || errno == EWOULDBLOCK ? would_block : -errno;
}

int transfer_flags(const OpRecord& record) noexcept {
    return static_cast<int>(record.extra) | MSG_DONTWAIT | MSG_NOSIGNAL;
}

bool make_nonblocking(int fd) noexcept {
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0) return false;
    return (flags & O_NONBLOCK) != 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

// Asked again once the socket is writable, connect(2) answers 0, the error, or that it is not yet
// decided; getsockopt(SO_ERROR) could not tell the first from the last.
std::int32_t call_connect(int fd, OpRecord& record) noexcept {
    const auto& target = record.as<ConnectTarget>();
    if (::connect(fd, reinterpret_cast<const sockaddr*>(target.address), target.length) == 0) {
        return 0;
    }
    return errno == EINPROGRESS || errno == EALREADY ? would_block : -errno;
}

std::int32_t call_accept(int fd) noexcept {
    return answer(::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC));
}

std::int32_t call_recv(int fd, OpRecord& record) noexcept {
    const Span span = span_to_receive(record);
    return answer(::recv(fd, span.data, span.size, transfer_flags(record)));
}

std::int32_t call_send(int fd, OpRecord& record) noexcept {
    const Span span = span_to_send(record);
    return answer(::send(fd, span.data, span.size, transfer_flags(record)));
}

std::int32_t call_send_chain(int fd, OpRecord& record) noexcept {
    const GatherFrame& frame = *record.as<ChainPayload>().frame;
    return answer(::sendmsg(fd, &frame.message, transfer_flags(record)));
}

std::int32_t call_connect_unix(int fd, const OpRecord& record) noexcept {
    const MessageFrame& frame = connect_frame(record);
    const auto* address = reinterpret_cast<const sockaddr*>(&frame.wire.address);
    return answer(::connect(fd, address, frame.address_size));
}

std::int32_t call_recv_message(int fd, OpRecord& record) noexcept {
    msghdr& message = record.as<MessagePayload>().frame->wire.message;
    return answer(::recvmsg(fd, &message, transfer_flags(record)));
}

std::int32_t call_send_message(int fd, OpRecord& record) noexcept {
    const msghdr& message = record.as<MessagePayload>().frame->wire.message;
    return answer(::sendmsg(fd, &message, transfer_flags(record)));
}

// Into a block of the pool, for a stream.
std::int32_t call_recv_block(int fd, const OpRecord& record, PoolBlock& block,
                             std::size_t message_size) noexcept {
    const int flags = transfer_flags(record);
    if (record.kind == OpKind::recv_stream) {
        return answer(::recv(fd, block.base, block.capacity, flags));
    }
    return answer(receive_into_block(block.base, message_size, [&](msghdr* message) {
        return ::recvmsg(fd, message, flags | MSG_CMSG_CLOEXEC);
    }));
}

std::int32_t call_shutdown(int fd, const OpRecord& record) noexcept {
    return answer(::shutdown(fd, static_cast<int>(record.extra)));
}

}  // namespace

// A record comes from the loop: tried at once or armed.
void LibevDriver::start(OpRecord& record) noexcept {
    Error error;
    if (is_blocking(record.kind)) return work_start(record);
    switch (record.kind) {
        case OpKind::nop:
            return push(record, 0);
        case OpKind::connect:
            error = prepare_connect(record);
            break;
        case OpKind::accept:
        case OpKind::accept_stream:
            error = prepare_listener(record);
            break;
        case OpKind::watch:
            return start_watch(record);
        default:
            break;
    }
    if (error) return push(record, -error.value());
    const bool is_stream = record.kind == OpKind::accept_stream || fills_blocks(record.kind);
    const std::int32_t result = is_stream ? would_block : attempt(record);
    if (result == would_block) arm(record);
    else push(record, result);
}

Error LibevDriver::prepare_connect(OpRecord& record) noexcept {
    return make_nonblocking(fd_of(record)) ? Error() : Error::from_errno(errno);
}

// There is no MSG_DONTWAIT for accept(2): the listener is switched, once.
Error LibevDriver::prepare_listener(OpRecord& record) noexcept {
    Watcher* watcher = watcher_of(context_.descriptors.at(record.descriptor));
    if (watcher == nullptr) return Error::from_errno(ENOMEM);
    if (!watcher->is_nonblocking && !make_nonblocking(fd_of(record))) {
        return Error::from_errno(errno);
    }
    watcher->is_nonblocking = true;
    return {};
}

// The system call of an operation that ends with its answer. It is repeated when a signal handler has
// interrupted it; the signals bound that.
std::int32_t LibevDriver::attempt(OpRecord& record) noexcept {
    const int fd = fd_of(record);
    const LentInUse in_use(record);
    std::int32_t result = -EINTR;
    while (result == -EINTR) {
        switch (record.kind) {
            case OpKind::connect:
                result = call_connect(fd, record);
                break;
            case OpKind::accept:
                result = call_accept(fd);
                break;
            case OpKind::recv:
                result = call_recv(fd, record);
                break;
            case OpKind::send:
            case OpKind::send_all:
                result = call_send(fd, record);
                break;
            case OpKind::send_chain:
                result = call_send_chain(fd, record);
                break;
            case OpKind::send_zero_copy:
                zero_copy_give_up(record);
                result = call_send(fd, record);
                break;
            case OpKind::chain_zero_copy:
                zero_copy_give_up(record);
                result = call_send_chain(fd, record);
                break;
            case OpKind::read:
            case OpKind::write:
            case OpKind::write_all:
            case OpKind::wait_signal:
            case OpKind::signal_stream:
            case OpKind::wait_child:
            case OpKind::write_chain:
                result = pipe_transfer(context_.system, context_.descriptors.at(record.descriptor),
                                       record);
                if (result == -EAGAIN) result = would_block;
                break;
            case OpKind::splice_source:
            case OpKind::splice:
            case OpKind::tee:
                result = splice_transfer(context_.system, context_.descriptors, record);
                if (result == -EAGAIN) result = would_block;
                break;
            case OpKind::send_batch:
                result = batch_transfer(context_.system, fd, record);
                if (result == -EAGAIN) result = would_block;
                break;
            case OpKind::connect_unix:
                result = call_connect_unix(fd, record);
                break;
            case OpKind::recv_message:
                result = call_recv_message(fd, record);
                break;
            case OpKind::send_message:
                result = call_send_message(fd, record);
                break;
            default:
                WHORL_ASSERT(record.kind == OpKind::shutdown);
                result = call_shutdown(fd, record);
                break;
        }
    }
    return result == would_block && never_waits(record) ? -EAGAIN : result;
}

// The descriptor of an armed operation is ready, perhaps.
void LibevDriver::serve_operation(std::uint32_t& side) noexcept {
    OpRecord& record = context_.operations.at(side);
    if (record.kind == OpKind::accept_stream) return serve_accept_stream(side);
    if (fills_blocks(record.kind)) return serve_recv_stream(side);
    const std::int32_t result = attempt(record);
    if (result != would_block) finish(side, result);
}

void LibevDriver::serve_accept_stream(std::uint32_t& side) noexcept {
    OpRecord& record = context_.operations.at(side);
    const int fd = fd_of(record);
    for (std::uint32_t count = 0; count < accepts_per_event && !batch_->full(); ++count) {
        const std::int32_t result = call_accept(fd);
        if (result == would_block) return;
        if (result == -EINTR) continue;
        if (result < 0) return finish(side, result);
        push(record, result, completion_more);
    }
}

// A block that was filled says that there may be more; one that was not says that there is none.
void LibevDriver::serve_recv_stream(std::uint32_t& side) noexcept {
    for (std::uint32_t count = 0; count < blocks_per_event && !batch_->full(); ++count) {
        if (!receive_block(side)) return;
    }
}

// True when a whole block was received, or a message: there may be more.
bool LibevDriver::receive_block(std::uint32_t& side) noexcept {
    OpRecord& record = context_.operations.at(side);
    const std::uint32_t size = stream_buffer_size(context_.options, record);
    PoolBlock* block = context_.pool.take(BufferPool::class_for(size));
    if (block == nullptr) {
        finish(side, -ENOBUFS);
        return false;
    }
    std::int32_t result = -EINTR;
    while (result == -EINTR) {
        result = call_recv_block(fd_of(record), record, *block, context_.options.recv_buffer_size);
    }
    if (result > 0) {
        push(record, result, completion_more, block);
        return record.kind == OpKind::message_stream ||
               static_cast<std::size_t>(result) == block->capacity;
    }
    Buffer::from_owner(block, block->base, 0).reset();
    if (result != would_block) finish(side, result);
    return false;
}

void LibevDriver::push(OpRecord& record, std::int32_t result, std::uint32_t flags,
                       PoolBlock* block) noexcept {
    WHORL_ASSERT(batch_ != nullptr && record.state == OpState::kernel);
    if ((flags & completion_more) == 0) give_back(record);
    batch_->push({context_.operations.handle_of(&record), result, flags, block});
}

// The final completion of an armed operation.
void LibevDriver::finish(std::uint32_t& side, std::int32_t result) noexcept {
    OpRecord& record = context_.operations.at(side);
    side = 0;
    push(record, result);
}

}  // namespace whorl::detail
