// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/sim_ring_memory.hpp"
#include "backend/sim_ring_state.hpp"

#include <whorl/assert.hpp>

#include <poll.h>

#include <cerrno>

// Zero-copy sends on a simulated ring: the answer first, the notification when the world likes, and
// until then the bytes must stay as they were sent: the kernel may send them once more.

namespace whorl::detail {

namespace {

constexpr unsigned report_usage = 1u << 3;      // IORING_SEND_ZC_REPORT_USAGE
constexpr unsigned copied = 1u << 31;           // IORING_NOTIF_USAGE_ZC_COPIED
constexpr unsigned opcode_last_reporting = 49;  // a kernel that has this one reports usage

std::uint64_t digest_of(const char* data, std::size_t size, std::uint64_t hash) {
    const SimAccess access(data, size);
    for (std::size_t index = 0; index < size; ++index) {  // FNV-1a
        hash = (hash ^ static_cast<unsigned char>(data[index])) * 1099511628211u;
    }
    return hash;
}

// Of the bytes that were sent: the first op.moved of all.
std::uint64_t digest_of(const SimRingOp& op) {
    std::uint64_t hash = 14695981039346656037u;
    if (op.opcode == IORING_OP_SEND_ZC) return digest_of(op.data, op.moved, hash);
    std::size_t left = op.moved;
    for (const iovec& part : op.parts) {
        const std::size_t size = part.iov_len < left ? part.iov_len : left;
        hash = digest_of(static_cast<const char*>(part.iov_base), size, hash);
        left -= size;
    }
    return hash;
}

}  // namespace

int SimRing::prepare_zero_copy(const io_uring_sqe& sqe, SimRingOp& op) const {
    const unsigned known = level_.opcode_last >= opcode_last_reporting ? report_usage : 0;
    if ((sqe.ioprio & ~known) != 0) return -EINVAL;
    if (static_cast<SimSocket&>(*op.file).family() == AF_UNIX) return -EOPNOTSUPP;
    op.zero_copy = true;
    op.group = sqe.ioprio;
    io_uring_sqe plain = sqe;
    plain.ioprio = 0;
    return sqe.opcode == IORING_OP_SEND_ZC ? prepare_send(plain, op) : prepare_sendmsg(plain, op);
}

// False when no notification follows: what failed comes with one or without.
bool SimRing::tell_answer(SimRingOp& op) {
    if (op.result < 0 && kernel_.faulty(kernel_.options().reordering)) return false;
    op.notifies = true;
    op.digest = digest_of(op);
    post(op.user_data, op.result, IORING_CQE_F_MORE);
    const bool reports = (op.group & report_usage) != 0;
    op.result = reports ? static_cast<int>(copied) : 0;
    op.flags = IORING_CQE_F_NOTIF;
    const Nanoseconds late = lateness();
    if (late != Nanoseconds::zero()) delay(op, late);
    else enqueue(op);
    return true;
}

void SimRing::tell_notification(const SimRingOp& op) {
    const bool unchanged = digest_of(op) == op.digest;
    WHORL_ASSERT(unchanged && "a buffer was changed before its notification");
}

}  // namespace whorl::detail
