// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/work_calls.hpp"

#include "backend/file_calls.hpp"
#include "backend/lend.hpp"
#include "backend/payload.hpp"
#include "backend/process_calls.hpp"

#include <whorl/work_block.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

// How each blocking operation is said to the kernel, in the order of the operation list. These calls
// wait; they are made on threads of the work pool, or answered at once by a simulated kernel.

namespace whorl::detail {

namespace {

std::int32_t call_work(OpRecord& record) noexcept {
    WorkBlock& block = work_block_of(record);
    block.run(block);
    return 0;
}

ssize_t call_read(FileCalls& calls, int fd, OpRecord& record) noexcept {
    const Span span = span_to_receive(record);
    const iovec part{span.data, span.size};
    return calls.preadv(fd, &part, 1, record.extra + record.progress);
}

ssize_t call_read_chain(FileCalls& calls, int fd, OpRecord& record) noexcept {
    const msghdr& message = record.as<ChainPayload>().frame->message;
    return calls.preadv(fd, message.msg_iov, static_cast<int>(message.msg_iovlen),
                        record.extra + record.progress);
}

ssize_t call_write(FileCalls& calls, int fd, OpRecord& record) noexcept {
    const Span span = span_to_send(record);
    const iovec part{span.data, span.size};
    const bool appends = record.kind == OpKind::append;
    const std::uint64_t offset = appends ? 0 : record.extra + record.progress;
    return calls.pwritev2(fd, &part, 1, offset, appends ? RWF_APPEND : 0);
}

ssize_t call_write_chain(FileCalls& calls, int fd, OpRecord& record) noexcept {
    const msghdr& message = record.as<ChainPayload>().frame->message;
    return calls.pwritev2(fd, message.msg_iov, static_cast<int>(message.msg_iovlen),
                          record.extra + record.progress, 0);
}

ssize_t call_read_link(FileCalls& calls, int fd, OpRecord& record) noexcept {
    PathBlock& block = path_block_of(record);
    return calls.readlinkat(fd, block.first_path(), block.second_path(), block.second_room);
}

ssize_t call_list_directory(FileCalls& calls, int fd, OpRecord& record) noexcept {
    if (record.extra != 0) {
        const std::int64_t done = calls.lseek(fd, 0, SEEK_SET);
        if (done < 0) return done;
    }
    const Span span = span_to_receive(record);
    return calls.getdents64(fd, span.data, span.size);
}

// Operations on a piece of an open file.
ssize_t call_on_range(FileCalls& calls, int fd, OpRecord& record) noexcept {
    const RangeArguments& range = record.as<RangeArguments>();
    switch (record.kind) {
        case OpKind::sync_range:
            return calls.sync_file_range(fd, range.offset, range.length, range.mode);
        case OpKind::allocate:
            return calls.fallocate(fd, static_cast<int>(range.mode), range.offset, range.length);
        default:
            WHORL_ASSERT(record.kind == OpKind::advise);
            return calls.fadvise(fd, range.offset, range.length, static_cast<int>(range.mode));
    }
}

// Operations on paths, from `directory` on.
ssize_t call_on_path(FileCalls& calls, int directory, OpRecord& record) noexcept {
    PathBlock& block = path_block_of(record);
    const char* path = block.first_path();
    const auto flags = static_cast<int>(block.how.flags);
    switch (record.kind) {
        case OpKind::open_file:
            return calls.openat2(directory, path, block.how);
        case OpKind::stat:
            return calls.statx(directory, path, flags, stat_mask, block.status);
        case OpKind::rename:
            return calls.renameat2(directory, path, block.second_path(),
                                   static_cast<unsigned>(flags));
        case OpKind::link:
            return calls.linkat(directory, path, block.second_path());
        case OpKind::symlink:
            return calls.symlinkat(path, directory, block.second_path());
        case OpKind::make_directory:
            return calls.mkdirat(directory, path, static_cast<unsigned>(block.how.mode));
        default:
            WHORL_ASSERT(record.kind == OpKind::unlink || record.kind == OpKind::remove_directory);
            return calls.unlinkat(directory, path, flags);
    }
}

ssize_t call(FileCalls& calls, int fd, OpRecord& record) noexcept {
    switch (record.kind) {
        case OpKind::read_at:
        case OpKind::read_exact_at:
            return call_read(calls, fd, record);
        case OpKind::read_chain_at:
            return call_read_chain(calls, fd, record);
        case OpKind::write_at:
        case OpKind::write_all_at:
        case OpKind::append:
            return call_write(calls, fd, record);
        case OpKind::write_chain_at:
            return call_write_chain(calls, fd, record);
        case OpKind::sync:
            return calls.fsync(fd, record.extra != 0);
        case OpKind::truncate:
            return calls.ftruncate(fd, record.extra);
        case OpKind::sync_range:
        case OpKind::allocate:
        case OpKind::advise:
            return call_on_range(calls, fd, record);
        case OpKind::read_link:
            return call_read_link(calls, fd, record);
        case OpKind::list_directory:
            return call_list_directory(calls, fd, record);
        default:
            return call_on_path(calls, fd, record);
    }
}

}  // namespace

std::int32_t perform(System& system, int fd, OpRecord& record) noexcept {
    const LentInUse in_use(record);
    if (record.kind == OpKind::work) return call_work(record);
    if (record.kind == OpKind::spawn) return system.process_calls().spawn(spawn_block_of(record));
    ssize_t done = -EINTR;
    while (done == -EINTR) done = call(system.file_calls(), fd, record);
    return static_cast<std::int32_t>(done);  // at most transfer_max
}

}  // namespace whorl::detail
