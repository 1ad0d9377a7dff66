// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/lend.hpp"
#include "backend/payload.hpp"
#include "backend/ring_limit.hpp"
#include "backend/uring_driver.hpp"
#include "backend/zero_copy.hpp"

#include <sys/socket.h>

#include <algorithm>

// Zero-copy sends: an answer, and later the notification that the kernel has let go of the buffer.

namespace whorl::detail {

namespace {

// What Debian 12's header does not have yet.
constexpr unsigned send_zc_report_usage = 1u << 3;      // IORING_SEND_ZC_REPORT_USAGE, Linux 6.2
constexpr std::uint32_t notif_usage_copied = 1u << 31;  // IORING_NOTIF_USAGE_ZC_COPIED
constexpr unsigned opcode_read_multishot = 49;          // of Linux 6.7

// What says that zero copy is not to be had: for this socket, or for want of memory to pin.
bool is_refusal(std::int32_t result) noexcept {
    return result == -EOPNOTSUPP || result == -ENOMEM || result == -ENOBUFS;
}

}  // namespace

bool UringDriver::zero_copy_possible(OpKind kind) const noexcept {
    if (ring_limit_older(context_.options.ring_limit, RingLimit::linux_6_1)) return false;
    const bool chain = kind == OpKind::chain_zero_copy;
    return ring_.opcode_supported(chain ? IORING_OP_SENDMSG_ZC : IORING_OP_SEND_ZC);
}

void UringDriver::stage_zero_copy(int fd, OpRecord& record, io_uring_sqe* sqe) noexcept {
    if (zero_copy_wanted(record) && !zero_copy_possible(record.kind)) zero_copy_give_up(record);
    const bool zero_copy = zero_copy_wanted(record);
    const int flags =
        static_cast<int>(record.extra & ~std::uint64_t{MSG_ZEROCOPY}) | MSG_NOSIGNAL | MSG_WAITALL;
    if (record.kind == OpKind::chain_zero_copy) {
        const msghdr& message = record.as<ChainPayload>().frame->message;
        io_uring_prep_sendmsg(sqe, fd, &message, static_cast<unsigned>(flags));
        if (zero_copy) sqe->opcode = IORING_OP_SENDMSG_ZC;
    } else {
        const Span span = span_to_send(record);
        io_uring_prep_send(sqe, fd, span.data, std::min(span.size, zero_copy_max), flags);
        if (zero_copy) sqe->opcode = IORING_OP_SEND_ZC;
    }
    // No feature of the ring tells whether usage is reported. An opcode that came later does.
    const bool reports = ring_.opcode_supported(opcode_read_multishot) &&
                         !ring_limit_older(context_.options.ring_limit, RingLimit::linux_6_18);
    if (zero_copy && reports) sqe->ioprio = send_zc_report_usage;
}

// Bytes that the peer has not acknowledged keep the buffer with the kernel, as long as the connection
// lasts: a peer that does not read would keep it for ever. So the connection ends with the operation.
void UringDriver::zero_copy_abort(OpRecord& record) noexcept {
    sockaddr nobody{};
    nobody.sa_family = AF_UNSPEC;
    const int fd = context_.descriptors.at(record.descriptor).fd;
    static_cast<void>(context_.system.connect(fd, &nobody, sizeof nobody));
    zero_copy_keep(record, -ECANCELED);
}

// The record stays until the notification says that the buffer is ours again.
void UringDriver::collect_zero_copy(OpRecord& record, const io_uring_cqe& cqe,
                                    CompletionBatch& batch) noexcept {
    const bool cancelled = (record.flags & (op_cancelled | op_timed_out)) != 0;
    if ((cqe.flags & IORING_CQE_F_MORE) != 0) {
        zero_copy_keep(record, cqe.res);
        if (cancelled) zero_copy_abort(record);
        else if (cqe.res > 0) push(record, cqe.res, true, nullptr, batch);
        return;
    }
    std::int32_t result = cqe.res;
    if ((cqe.flags & IORING_CQE_F_NOTIF) != 0) {
        if ((static_cast<std::uint32_t>(cqe.res) & notif_usage_copied) != 0) {
            record.extra |= zero_copy_copied;
        }
        result = zero_copy_take(record);
    }
    if (is_refusal(result) && zero_copy_wanted(record)) {
        zero_copy_give_up(record);
        return again(record);
    }
    if (result != -EAGAIN && result != -EINTR) return push(record, result, false, nullptr, batch);
    if (cancelled) return push(record, -ECANCELED, false, nullptr, batch);
    if (result == -EAGAIN) record.flags |= op_polls;
    again(record);
}

}  // namespace whorl::detail
