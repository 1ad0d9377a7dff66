// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/lend.hpp"
#include "backend/payload.hpp"
#include "backend/pipe_transfer.hpp"
#include "backend/uring_driver.hpp"
#include "backend/work_calls.hpp"
#include "backend/zero_copy.hpp"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

// How each operation is said to the ring, in the order of the operation list, and what an answer means.

namespace whorl::detail {

inline void UringDriver::stage_operation(OpRecord& record, int fd, io_uring_sqe* sqe) noexcept {
    const int flags = static_cast<int>(record.extra) | MSG_NOSIGNAL;
    switch (record.kind) {
        case OpKind::connect: {
            const auto& target = record.as<ConnectTarget>();
            return io_uring_prep_connect(sqe, fd, reinterpret_cast<const sockaddr*>(target.address),
                                         target.length);
        }
        case OpKind::accept:
            return io_uring_prep_accept(sqe, fd, nullptr, nullptr, SOCK_CLOEXEC);
        case OpKind::accept_stream:
            if (!has(Feature::multishot_accept)) {
                return io_uring_prep_accept(sqe, fd, nullptr, nullptr, SOCK_CLOEXEC);
            }
            return io_uring_prep_multishot_accept(sqe, fd, nullptr, nullptr, SOCK_CLOEXEC);
        case OpKind::recv: {
            // The loop waits for all itself. A ring that has received a part tells its size, keeps the error
            // that came then, and the next receive finds the end: a reset would look like an orderly one.
            const Span span = span_to_receive(record);
            return io_uring_prep_recv(sqe, fd, span.data, span.size, flags & ~MSG_WAITALL);
        }
        case OpKind::recv_stream:
            return stage_recv_stream(fd, record, sqe);
        case OpKind::send: {
            const Span span = span_to_send(record);
            return io_uring_prep_send(sqe, fd, span.data, span.size, flags);
        }
        case OpKind::send_all: {
            const Span span = span_to_send(record);
            return io_uring_prep_send(sqe, fd, span.data, span.size, flags | MSG_WAITALL);
        }
        case OpKind::send_chain: {
            auto& payload = record.as<ChainPayload>();
            return io_uring_prep_sendmsg(sqe, fd, &payload.frame->message,
                                         static_cast<unsigned>(flags | MSG_WAITALL));
        }
        case OpKind::send_zero_copy:
        case OpKind::chain_zero_copy:
            return stage_zero_copy(fd, record, sqe);
        case OpKind::recv_message:
            return io_uring_prep_recvmsg(sqe, fd, &record.as<MessagePayload>().frame->wire.message,
                                         static_cast<unsigned>(flags));
        case OpKind::message_stream:
            return stage_message_stream(fd, record, sqe);
        case OpKind::send_message:
            return stage_send_message(fd, record, sqe);
        case OpKind::read:
        case OpKind::write:
        case OpKind::write_all:
        case OpKind::wait_signal:
        case OpKind::signal_stream:
        case OpKind::wait_child:
        case OpKind::write_chain:
        case OpKind::splice_source:
        case OpKind::splice:
        case OpKind::tee:
        case OpKind::send_batch:
            record.flags |= op_polls;
            return io_uring_prep_poll_add(sqe, fd, poll_mask(record));
        case OpKind::watch:
            return stage_watch(fd, record, sqe);
        case OpKind::nop:
            return io_uring_prep_nop(sqe);
        default:
            WHORL_ASSERT(is_blocking(record.kind));
            return stage_file(record, sqe);
    }
}

void UringDriver::stage(OpRecord& record, io_uring_sqe* sqe) noexcept {
    WHORL_VERIFY(bits_consistent(record));
    const int fd = record.descriptor == 0 || record.kind == OpKind::watch
                       ? static_cast<int>(record.descriptor)
                       : context_.descriptors.at(record.descriptor).fd;
    if ((record.flags & op_polls) != 0 && record.kind != OpKind::watch) {
        io_uring_prep_poll_add(sqe, fd, poll_mask(record));
    } else {
        stage_operation(record, fd, sqe);
    }
}

// What a plain system call settles at once; false when the ring is to have it.
bool UringDriver::answer_by_call(OpRecord& record, OpList& submissions,
                                 CompletionBatch& batch) noexcept {
    if (is_blocking(record.kind)) {
        submissions.remove(context_.operations, record);
        work_start(record, batch);
        return true;
    }
    int result = 0;
    if (is_plain_call(record.kind)) {
        result = plain_call(record);
        if (result == -EAGAIN && record.kind == OpKind::send_batch) return false;
    } else {
        result = -inner_aim(record);
        if (result == 0) return false;
    }
    submissions.remove(context_.operations, record);
    lend(record);
    push(record, result, false, nullptr, batch);
    return true;
}

// io_uring hands these to a worker thread; the plain calls never block. A Unix socket is connected at
// once or not at all, since it was made non-blocking.
std::int32_t UringDriver::plain_call(OpRecord& record) noexcept {
    const int fd = context_.descriptors.at(record.descriptor).fd;
    if (record.kind == OpKind::shutdown) {
        return context_.system.shutdown(fd, static_cast<int>(record.extra));
    }
    if (record.kind == OpKind::send_batch) return batch_transfer(context_.system, fd, record);
    const MessageFrame& frame = connect_frame(record);
    const auto* address = reinterpret_cast<const sockaddr*>(&frame.wire.address);
    return context_.system.connect(fd, address, frame.address_size);
}

unsigned UringDriver::poll_mask(const OpRecord& record) noexcept {
    return side_of(record.kind) == Side::write ? POLLOUT : POLLIN;
}

// What comes from the loop has no bits of ours, apart from a watch's epoll.
bool UringDriver::bits_consistent(const OpRecord& record) noexcept {
    const unsigned kept = record.kind == OpKind::watch ? op_has_inner : 0;
    const bool fresh = (record.flags & op_in_again) == 0;
    return !fresh || (record.flags & (op_backend_all & ~kept)) == 0;
}

void UringDriver::clear_bits(OpRecord& record) noexcept {
    const unsigned kept = record.kind == OpKind::watch ? op_has_inner : 0;
    record.flags &= static_cast<std::uint16_t>(~op_backend_all | kept);
}

void UringDriver::stage_watch(int fd, OpRecord& record, io_uring_sqe* sqe) noexcept {
    const bool inner = (record.extra & POLLPRI) != 0 && (record.flags & op_has_inner) != 0;
    if (inner) return io_uring_prep_poll_add(sqe, record.as<int>(), POLLIN);
    forget_watch(record);
    io_uring_prep_poll_add(sqe, fd, static_cast<unsigned>(record.extra));
}

// Lets the watch's epoll wait for what is wanted now. What is always ready (EPERM) or no descriptor at
// all is answered by a plain poll; any other refusal, an errno value, ends the watch.
int UringDriver::inner_aim(OpRecord& record) noexcept {
    const int fd = static_cast<int>(record.descriptor);
    epoll_event event{};
    event.events = static_cast<std::uint32_t>(record.extra);
    if ((record.flags & op_has_inner) != 0) {
        const int epoll = record.as<int>();
        if (context_.system.epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event) == 0) return 0;
        forget_watch(record);  // another file has the number now
    }
    const int inner = context_.system.epoll_create1(EPOLL_CLOEXEC);
    if (inner < 0) return -inner;
    record.store(int{inner});
    record.flags |= op_has_inner;
    const int done = context_.system.epoll_ctl(inner, EPOLL_CTL_ADD, fd, &event);
    if (done == 0) return 0;
    forget_watch(record);
    return done == -EPERM || done == -EBADF ? 0 : -done;
}

void UringDriver::forget_watch(OpRecord& record) noexcept {
    if ((record.flags & op_has_inner) == 0) return;
    record.flags &= static_cast<std::uint16_t>(~op_has_inner);
    context_.system.close(record.as<int>());
}

// The watch's own epoll is readable: ask what has happened.
void UringDriver::collect_inner(OpRecord& record, CompletionBatch& batch) noexcept {
    pollfd asked{static_cast<int>(record.descriptor), static_cast<short>(record.extra), 0};
    if (context_.system.poll_now(&asked, 1) > 0)
        return push(record, asked.revents, false, nullptr, batch);
    again(record);  // gone again
}

// With a ring of buffers an idle connection holds none; without one it is polled first.
void UringDriver::stage_recv_stream(int fd, OpRecord& record, io_uring_sqe* sqe) noexcept {
    if (has(Feature::buffer_ring)) buffers_start();
    if (!has(Feature::buffer_ring)) {
        record.flags |= op_polls;
        return io_uring_prep_poll_add(sqe, fd, POLLIN);
    }
    if ((record.flags & op_bulk) != 0) bulk_start();
    io_uring_prep_recv(sqe, fd, nullptr, 0, static_cast<int>(record.extra));
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = static_cast<std::uint16_t>(buffers_for(record).group());
    if (has(Feature::multishot_recv)) sqe->ioprio |= IORING_RECV_MULTISHOT;
}

// Memory for the ring of buffers is taken with the first stream; without it streams are polled.
void UringDriver::buffers_start() noexcept {
    if (buffers_.started() || buffers_.start()) return;
    features_ &= ~feature_bit(Feature::buffer_ring);
}

// The ring of large buffers is made with the first stream that wants it, and takes at most a quarter of
// the pool. When it is refused, such streams go on with small ones.
void UringDriver::bulk_start() noexcept {
    if (bulk_.started() || bulk_refused_) return;
    const std::uint32_t size = context_.options.recv_bulk_buffer_size;
    std::uint32_t depth = context_.options.recv_bulk_ring_depth;
    while (depth > 2 && depth > context_.pool.bytes_max() / 4 / size) depth /= 2;
    const Error error = bulk_.is_open() ? Error() : bulk_.open(depth, depth, size);
    bulk_refused_ = error || !bulk_.start();
}

// Other threads wake us through an eventfd. A multishot poll hears each write and needs no read.
void UringDriver::stage_wake() noexcept {
    io_uring_sqe* sqe = entry();
    if (sqe == nullptr) return;
    io_uring_prep_poll_add(sqe, wake_fd_, POLLIN);
    if (wake_multishot_) sqe->len = IORING_POLL_ADD_MULTI;
    sqe->user_data = data_wake;
    wake_armed_ = true;
}

// What names no record, or one that is gone.
void UringDriver::collect_other(const io_uring_cqe& cqe) noexcept {
    const std::uint64_t data = cqe.user_data;
    if (data == data_wake) collect_wake(cqe);
    else if (data == data_work) collect_work(cqe);
    else if (is_cancel(data)) collect_cancel(cqe);
    else if (data != data_nothing) ++context_.statistics.completions_stale;
}

void UringDriver::collect_work(const io_uring_cqe& cqe) noexcept {
    work_armed_ = (cqe.flags & IORING_CQE_F_MORE) != 0;
    rest_ |= !work_armed_;
}

// The kernel did not find it, or found it at work. It may be just between two of its places, such as the
// poll that has ended and the worker thread that will wait instead, and then nothing would end it. So it
// is cancelled again, unless its answer has come: that precedes this one when it was complete.
void UringDriver::collect_cancel(const io_uring_cqe& cqe) noexcept {
    if (cqe.res >= 0) return;
    OpRecord* record = context_.operations.find(handle_of_cancel(cqe.user_data));
    if (record == nullptr || record->state != OpState::kernel) return;
    if (sends_zero_copy(record->kind) && zero_copy_answered(*record)) return;  // nothing to end
    constexpr unsigned ending = op_cancelled | op_timed_out | op_pausing | op_dropped;
    constexpr unsigned elsewhere = op_in_cancels | op_in_again | op_in_ended | op_final_seen;
    if ((record->flags & ending) == 0 || (record->flags & elsewhere) != 0) return;
    if (repeats_.empty()) repeat_at_ = context_.system.now() + cancel_pause;
    record->flags |= op_in_repeats;
    repeats_.push_back(context_.operations, *record);
}

void UringDriver::collect_wake(const io_uring_cqe& cqe) noexcept {
    wake_armed_ = (cqe.flags & IORING_CQE_F_MORE) != 0;
    rest_ |= !wake_armed_;
    if (cqe.res == -EINVAL) wake_multishot_ = false;  // a kernel before 5.13
    if (wake_multishot_ || cqe.res < 0) return;
    std::uint64_t count = 0;
    static_cast<void>(!context_.system.read(wake_fd_, &count, sizeof count));
}

// Cancelled before they were submitted again.
void UringDriver::collect_ended(CompletionBatch& batch) noexcept {
    while (!ended_.empty() && !batch.full()) {
        OpRecord* record = ended_.pop_front(context_.operations);
        push(*record, -ECANCELED, false, nullptr, batch);
    }
}

void UringDriver::leave_cancels(OpRecord& record) noexcept {
    const bool repeats = (record.flags & op_in_repeats) == op_in_repeats;
    (repeats ? repeats_ : cancels_).remove(context_.operations, record);
    record.flags &= static_cast<std::uint16_t>(~op_in_repeats);
}

void UringDriver::push(OpRecord& record, std::int32_t result, bool more, PoolBlock* block,
                       CompletionBatch& batch) noexcept {
    if (!more) {
        if (fills_blocks(record.kind)) {
            if (result == -ENOBUFS) buffers_for(record).deepen(streams_);
            --streams_;
        }
        if ((record.flags & op_in_cancels) != 0) leave_cancels(record);
        clear_bits(record);
        give_back(record);
    }
    batch.push({context_.operations.handle_of(&record), result, more ? completion_more : 0, block});
}

// Keeps a record in the driver: it is submitted anew with the next wait, unless it is cancelled. The
// cancellation may have gone to the kernel already and found nothing there; nobody repeats it.
void UringDriver::again(OpRecord& record) noexcept {
    constexpr unsigned ending = op_cancelled | op_timed_out | op_pausing | op_dropped;
    const bool cancels = (record.flags & op_in_cancels) != 0;
    if (cancels) leave_cancels(record);
    if (cancels || (record.flags & ending) != 0) {
        record.flags |= op_in_ended;
        ended_.push_back(context_.operations, record);
        return;
    }
    record.flags |= op_in_again;
    again_.push_back(context_.operations, record);
}

void UringDriver::collect_record(OpRecord& record, const io_uring_cqe& cqe,
                                 CompletionBatch& batch) noexcept {
    const bool more = (cqe.flags & IORING_CQE_F_MORE) != 0;
    const bool cancelled = (record.flags & (op_cancelled | op_timed_out | op_pausing)) != 0;
    PoolBlock* block = nullptr;
    if ((cqe.flags & IORING_CQE_F_BUFFER) != 0) {
        block = block_of(cqe.flags >> IORING_CQE_BUFFER_SHIFT);
        if (cqe.res <= 0) {  // end of stream with a buffer that holds nothing
            Buffer::from_owner(block, block->base, 0).reset();
            block = nullptr;
        }
    }
    if (sends_zero_copy(record.kind) && (record.flags & op_polls) == 0) {
        return collect_zero_copy(record, cqe, batch);
    }
    if (record.kind == OpKind::watch && cqe.res > 0 && (record.flags & op_has_inner) != 0) {
        return collect_inner(record, batch);
    }
    if ((record.flags & op_polls) != 0 && record.kind != OpKind::watch) {
        record.flags &= static_cast<std::uint16_t>(~op_polls);
        if (cqe.res < 0) return push(record, cqe.res, false, nullptr, batch);
        if (moves_by_call(record.kind)) return collect_transfer(record, batch);
        if (polls_for_blocks(record.kind)) {
            return collect_polled_stream(record, batch);
        }
        return again(record);
    }
    // The descriptor was made non-blocking by somebody: wait for readiness, then try again.
    const bool pollable = side_of(record.kind) != Side::none && !never_waits(record);
    if (cqe.res == -EAGAIN && pollable && !more) {
        if (cancelled) return push(record, -ECANCELED, false, nullptr, batch);
        record.flags |= op_polls;
        return again(record);
    }
    // Interrupted by its cancellation, or by a signal.
    const bool repeats = pollable || is_blocking(record.kind);
    if (cqe.res == -EINTR && repeats && !more) {
        if (cancelled) return push(record, -ECANCELED, false, nullptr, batch);
        return again(record);
    }
    push(record, cqe.res, more, block, batch);
}

// The socket is readable and there is no ring of buffers: receive here, into a block of the pool.
void UringDriver::collect_polled_stream(OpRecord& record, CompletionBatch& batch) noexcept {
    const std::uint32_t size = stream_buffer_size(context_.options, record);
    const bool cancelled = (record.flags & (op_cancelled | op_timed_out | op_pausing)) != 0;
    if (cancelled) return push(record, -ECANCELED, false, nullptr, batch);
    PoolBlock* block = context_.pool.take(BufferPool::class_for(size));
    if (block == nullptr) return push(record, -ENOBUFS, false, nullptr, batch);
    const int fd = context_.descriptors.at(record.descriptor).fd;
    const int flags = static_cast<int>(record.extra) | MSG_DONTWAIT;
    ssize_t got = 0;
    do {
        got = record.kind == OpKind::message_stream
                  ? receive_message(fd, *block, flags)
                  : context_.system.recv(fd, block->base, size, flags);
    } while (got == -EINTR);
    if (got > 0) return push(record, static_cast<std::int32_t>(got), false, block, batch);
    Buffer::from_owner(block, block->base, 0).reset();
    if (got == -EAGAIN) {
        record.flags |= op_polls;
        return again(record);
    }
    push(record, static_cast<std::int32_t>(got), false, nullptr, batch);
}

}  // namespace whorl::detail
