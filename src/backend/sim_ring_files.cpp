// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/file_calls.hpp"
#include "backend/sim_ring_memory.hpp"
#include "backend/sim_ring_state.hpp"

#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

// Operations on files and names in a simulated ring. Each happens as a whole: at once, or as late as the
// world likes, and until then it can be cancelled.

namespace whorl::detail {

namespace {

char* memory_at(std::uint64_t address) noexcept { return reinterpret_cast<char*>(address); }
const char* path_at(std::uint64_t address) noexcept { return memory_at(address); }

ssize_t transfer(FileCalls& calls, const io_uring_sqe& sqe, const iovec* parts, int count,
                 bool writes) {
    std::vector<std::unique_ptr<SimAccess>> access;
    access.reserve(static_cast<std::size_t>(count));
    for (int part = 0; part < count; ++part) {
        access.push_back(std::make_unique<SimAccess>(parts[part].iov_base, parts[part].iov_len));
    }
    if (writes) return calls.pwritev2(sqe.fd, parts, count, sqe.off, sqe.rw_flags);
    return calls.preadv(sqe.fd, parts, count, sqe.off);
}

ssize_t on_data(FileCalls& calls, const io_uring_sqe& sqe) {
    const bool writes = sqe.opcode == IORING_OP_WRITE || sqe.opcode == IORING_OP_WRITEV ||
                        sqe.opcode == IORING_OP_WRITE_FIXED;
    if (sqe.opcode != IORING_OP_READV && sqe.opcode != IORING_OP_WRITEV) {
        const iovec part{memory_at(sqe.addr), sqe.len};
        return transfer(calls, sqe, &part, 1, writes);
    }
    const auto* parts = reinterpret_cast<const iovec*>(sqe.addr);
    const SimAccess list(parts, sqe.len * sizeof(iovec));
    return transfer(calls, sqe, parts, static_cast<int>(sqe.len), writes);
}

int on_name(FileCalls& calls, const io_uring_sqe& sqe) {
    const char* path = path_at(sqe.addr);
    switch (sqe.opcode) {
        case IORING_OP_OPENAT2: {
            if (sqe.len != sizeof(OpenHow)) return -EINVAL;
            return calls.openat2(sqe.fd, path, *reinterpret_cast<const OpenHow*>(sqe.off));
        }
        case IORING_OP_STATX:
            return calls.statx(sqe.fd, path, static_cast<int>(sqe.statx_flags), sqe.len,
                               *reinterpret_cast<struct statx*>(sqe.off));
        case IORING_OP_RENAMEAT:
            return calls.renameat2(sqe.fd, path, path_at(sqe.off), sqe.rename_flags);
        case IORING_OP_LINKAT:
            return calls.linkat(sqe.fd, path, path_at(sqe.off));
        case IORING_OP_SYMLINKAT:
            return calls.symlinkat(path, sqe.fd, path_at(sqe.off));
        case IORING_OP_UNLINKAT:
            return calls.unlinkat(sqe.fd, path, static_cast<int>(sqe.unlink_flags));
        default:
            return calls.mkdirat(sqe.fd, path, sqe.len);
    }
}

}  // namespace

bool SimRing::is_on_file(unsigned opcode) noexcept {
    switch (opcode) {
        case IORING_OP_OPENAT2:
        case IORING_OP_READ:
        case IORING_OP_WRITE:
        case IORING_OP_READV:
        case IORING_OP_WRITEV:
        case IORING_OP_READ_FIXED:
        case IORING_OP_WRITE_FIXED:
        case IORING_OP_FSYNC:
        case IORING_OP_SYNC_FILE_RANGE:
        case IORING_OP_FALLOCATE:
        case IORING_OP_FADVISE:
        case IORING_OP_STATX:
        case IORING_OP_RENAMEAT:
        case IORING_OP_LINKAT:
        case IORING_OP_SYMLINKAT:
        case IORING_OP_UNLINKAT:
        case IORING_OP_MKDIRAT:
            return true;
        default:
            return false;
    }
}

SimRing::Outcome SimRing::try_file(SimRingOp& op) {
    FileCalls& calls = kernel_.file_calls();
    io_uring_sqe sqe;
    std::memcpy(&sqe, op.entry.data(), sizeof sqe);
    switch (op.opcode) {
        case IORING_OP_READ:
        case IORING_OP_WRITE:
        case IORING_OP_READV:
        case IORING_OP_WRITEV:
            return {static_cast<int>(on_data(calls, sqe)), 0};
        case IORING_OP_READ_FIXED:
        case IORING_OP_WRITE_FIXED:
            if (const int error = on_memory(sqe)) return {error, 0};
            return {static_cast<int>(on_data(calls, sqe)), 0};
        case IORING_OP_FSYNC:
            return {calls.fsync(sqe.fd, (sqe.fsync_flags & IORING_FSYNC_DATASYNC) != 0), 0};
        case IORING_OP_SYNC_FILE_RANGE:
            return {calls.sync_file_range(sqe.fd, sqe.off, sqe.len, sqe.sync_range_flags), 0};
        case IORING_OP_FALLOCATE:
            return {calls.fallocate(sqe.fd, static_cast<int>(sqe.len), sqe.off, sqe.addr), 0};
        case IORING_OP_FADVISE:
            return {calls.fadvise(sqe.fd, sqe.off, sqe.len, static_cast<int>(sqe.fadvise_advice)),
                    0};
        default:
            return {on_name(calls, sqe), 0};
    }
}

// Registered memory: a table without anything, of which places are filled.
int SimRing::control_memory(unsigned opcode, const void* argument, unsigned size) {
    constexpr unsigned places_max = 1u << 14;  // IORING_MAX_REG_BUFFERS
    if (opcode == IORING_REGISTER_BUFFERS2) {
        if (size != sizeof(io_uring_rsrc_register)) return -EINVAL;
        const auto& table = *static_cast<const io_uring_rsrc_register*>(argument);
        if (table.flags != IORING_RSRC_REGISTER_SPARSE || table.data != 0) return -EINVAL;
        if (table.nr == 0 || table.nr > places_max) return -EINVAL;
        if (!memory_.empty()) return -EBUSY;
        memory_.resize(table.nr, iovec{nullptr, 0});
        return 0;
    }
    if (size != sizeof(io_uring_rsrc_update2)) return -EINVAL;
    const auto& update = *static_cast<const io_uring_rsrc_update2*>(argument);
    if (memory_.empty()) return -ENXIO;
    if (update.nr != 1 || update.tags != 0 || update.offset >= memory_.size()) return -EINVAL;
    const iovec& part = *reinterpret_cast<const iovec*>(update.data);
    iovec& place = memory_[update.offset];
    const std::size_t locked = memory_bytes_ - place.iov_len;
    const std::size_t limit = kernel_.options().locked_bytes_max;
    if (part.iov_len > limit || locked > limit - part.iov_len) return -ENOMEM;
    place = part;
    memory_bytes_ = locked + part.iov_len;
    return 1;
}

// 0 when an entry's memory lies in the place that it names.
int SimRing::on_memory(const io_uring_sqe& sqe) const noexcept {
    if (sqe.buf_index >= memory_.size()) return -EFAULT;
    const iovec& place = memory_[sqe.buf_index];
    const auto first = reinterpret_cast<std::uintptr_t>(place.iov_base);
    if (first == 0 || sqe.addr < first || sqe.len > place.iov_len) return -EFAULT;
    return sqe.addr - first > place.iov_len - sqe.len ? -EFAULT : 0;
}

// Which operations of the list an entry on a file may stand for.
SimRing::Kinds SimRing::file_kinds_of(unsigned opcode) noexcept {
    const auto one = [](OpKind kind) { return Kinds{kind, kind}; };
    switch (opcode) {
        case IORING_OP_OPENAT2:
            return one(OpKind::open_file);
        case IORING_OP_READ:
        case IORING_OP_READ_FIXED:
            return {OpKind::read_at, OpKind::read_exact_at};
        case IORING_OP_WRITE:
        case IORING_OP_WRITE_FIXED:
            return {OpKind::write_at, OpKind::write_all_at};
        case IORING_OP_READV:
            return one(OpKind::read_chain_at);
        case IORING_OP_WRITEV:
            return one(OpKind::write_chain_at);
        case IORING_OP_FSYNC:
            return one(OpKind::sync);
        case IORING_OP_SYNC_FILE_RANGE:
            return one(OpKind::sync_range);
        case IORING_OP_FALLOCATE:
            return one(OpKind::allocate);
        case IORING_OP_FADVISE:
            return one(OpKind::advise);
        case IORING_OP_STATX:
            return one(OpKind::stat);
        case IORING_OP_RENAMEAT:
            return one(OpKind::rename);
        case IORING_OP_LINKAT:
            return one(OpKind::link);
        case IORING_OP_SYMLINKAT:
            return one(OpKind::symlink);
        case IORING_OP_UNLINKAT:
            return {OpKind::unlink, OpKind::remove_directory};
        default:
            return one(OpKind::make_directory);
    }
}

}  // namespace whorl::detail
