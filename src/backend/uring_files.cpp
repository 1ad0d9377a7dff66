// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/payload.hpp"
#include "backend/ring_limit.hpp"
#include "backend/uring_driver.hpp"
#include "backend/work_calls.hpp"

#include <fcntl.h>

// How operations on files and names are said to the ring, in the order of the operation list. What the
// ring does not have is for the work pool (uring_work.cpp), which asks perform().

namespace whorl::detail {

namespace {

// IORING_OP_NOP: the ring has nothing for it. Later kernels have ftruncate(2) (6.9); one way for all
// levels is simpler, and a truncation is rare.
unsigned opcode_of(OpKind kind) noexcept {
    switch (kind) {
        case OpKind::open_file:
            return IORING_OP_OPENAT2;
        case OpKind::read_at:
        case OpKind::read_exact_at:
            return IORING_OP_READ;
        case OpKind::read_chain_at:
            return IORING_OP_READV;
        case OpKind::write_at:
        case OpKind::write_all_at:
        case OpKind::append:
            return IORING_OP_WRITE;
        case OpKind::write_chain_at:
            return IORING_OP_WRITEV;
        case OpKind::sync:
            return IORING_OP_FSYNC;
        case OpKind::sync_range:
            return IORING_OP_SYNC_FILE_RANGE;
        case OpKind::allocate:
            return IORING_OP_FALLOCATE;
        case OpKind::advise:
            return IORING_OP_FADVISE;
        case OpKind::stat:
            return IORING_OP_STATX;
        case OpKind::rename:
            return IORING_OP_RENAMEAT;
        case OpKind::link:
            return IORING_OP_LINKAT;
        case OpKind::symlink:
            return IORING_OP_SYMLINKAT;
        case OpKind::unlink:
        case OpKind::remove_directory:
            return IORING_OP_UNLINKAT;
        case OpKind::make_directory:
            return IORING_OP_MKDIRAT;
        default:
            return IORING_OP_NOP;
    }
}

void stage_on_path(OpRecord& record, int directory, io_uring_sqe* sqe) noexcept {
    PathBlock& block = path_block_of(record);
    const char* path = block.first_path();
    const auto flags = static_cast<int>(block.how.flags);
    switch (record.kind) {
        case OpKind::open_file:
            return io_uring_prep_openat2(sqe, directory, path,
                                         reinterpret_cast<struct open_how*>(&block.how));
        case OpKind::stat:
            return io_uring_prep_statx(sqe, directory, path, flags, stat_mask, &block.status);
        case OpKind::rename:
            return io_uring_prep_renameat(sqe, directory, path, directory, block.second_path(),
                                          static_cast<unsigned>(flags));
        case OpKind::link:
            return io_uring_prep_linkat(sqe, directory, path, directory, block.second_path(), 0);
        case OpKind::symlink:
            return io_uring_prep_symlinkat(sqe, path, directory, block.second_path());
        case OpKind::make_directory:
            return io_uring_prep_mkdirat(sqe, directory, path, static_cast<mode_t>(block.how.mode));
        default:
            WHORL_ASSERT(record.kind == OpKind::unlink || record.kind == OpKind::remove_directory);
            return io_uring_prep_unlinkat(sqe, directory, path, flags);
    }
}

}  // namespace

// The length of two operations has 32 bits in a ring's entry.
bool UringDriver::in_ring(OpRecord& record) const noexcept {
    if (context_.options.ring_limit == RingLimit::used)
        return false;  // a filter is to see the calls
    const unsigned opcode = opcode_of(record.kind);
    if (opcode == IORING_OP_NOP || !ring_.opcode_supported(opcode)) return false;
    const bool narrow = record.kind == OpKind::sync_range || record.kind == OpKind::advise;
    return !narrow || record.as<RangeArguments>().length <= UINT32_MAX;
}

// With RingLimit::used no file is read by the ring. A table that is filled place by place came with
// Linux 5.19, and so did IORING_OP_SOCKET.
bool UringDriver::registration_possible() const noexcept {
    const LoopOptions& options = context_.options;
    return options.registered_buffers && options.ring_limit != RingLimit::used &&
           !ring_limit_older(options.ring_limit, RingLimit::linux_6_1) &&
           ring_.opcode_supported(IORING_OP_SOCKET);
}

void UringDriver::stage_read(OpRecord& record, int fd, std::uint64_t offset,
                             io_uring_sqe* sqe) noexcept {
    const Span span = span_to_receive(record);
    const auto size = static_cast<unsigned>(span.size);
    const int place = registered_.place_of(record.as<Buffer>());
    if (place < 0) return io_uring_prep_read(sqe, fd, span.data, size, offset);
    io_uring_prep_read_fixed(sqe, fd, span.data, size, offset, place);
}

void UringDriver::stage_write(OpRecord& record, int fd, std::uint64_t offset,
                              io_uring_sqe* sqe) noexcept {
    const Span span = span_to_send(record);
    const auto size = static_cast<unsigned>(span.size);
    const int place = span.size == 0 ? -1 : registered_.place_of(record.as<Buffer>());
    if (place < 0) return io_uring_prep_write(sqe, fd, span.data, size, offset);
    io_uring_prep_write_fixed(sqe, fd, span.data, size, offset, place);
}

void UringDriver::stage_file(OpRecord& record, io_uring_sqe* sqe) noexcept {
    const int fd =
        record.descriptor == 0 ? AT_FDCWD : context_.descriptors.at(record.descriptor).fd;
    const std::uint64_t offset = record.extra + record.progress;
    switch (record.kind) {
        case OpKind::read_at:
        case OpKind::read_exact_at:
            return stage_read(record, fd, offset, sqe);
        case OpKind::write_at:
        case OpKind::write_all_at:
            return stage_write(record, fd, offset, sqe);
        case OpKind::append:
            stage_write(record, fd, 0, sqe);
            sqe->rw_flags = RWF_APPEND;
            return;
        case OpKind::read_chain_at: {
            const msghdr& message = record.as<ChainPayload>().frame->message;
            const auto count = static_cast<unsigned>(message.msg_iovlen);
            return io_uring_prep_readv(sqe, fd, message.msg_iov, count, offset);
        }
        case OpKind::write_chain_at: {
            const msghdr& message = record.as<ChainPayload>().frame->message;
            const auto count = static_cast<unsigned>(message.msg_iovlen);
            return io_uring_prep_writev(sqe, fd, message.msg_iov, count, offset);
        }
        case OpKind::sync:
            return io_uring_prep_fsync(sqe, fd, record.extra != 0 ? IORING_FSYNC_DATASYNC : 0);
        case OpKind::sync_range:
        case OpKind::allocate:
        case OpKind::advise:
            return stage_on_range(record, fd, sqe);
        default:
            return stage_on_path(record, fd, sqe);
    }
}

void UringDriver::stage_on_range(OpRecord& record, int fd, io_uring_sqe* sqe) noexcept {
    const RangeArguments& range = record.as<RangeArguments>();
    const auto length = static_cast<off_t>(range.length);
    switch (record.kind) {
        case OpKind::sync_range:
            return io_uring_prep_sync_file_range(sqe, fd, static_cast<unsigned>(length),
                                                 range.offset, static_cast<int>(range.mode));
        case OpKind::allocate:
            return io_uring_prep_fallocate(sqe, fd, static_cast<int>(range.mode),
                                           static_cast<off_t>(range.offset), length);
        default:
            return io_uring_prep_fadvise(sqe, fd, range.offset, length,
                                         static_cast<int>(range.mode));
    }
}

}  // namespace whorl::detail
