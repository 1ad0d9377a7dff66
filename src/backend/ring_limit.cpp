// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/ring_limit.hpp"

#include <whorl/assert.hpp>

namespace whorl::detail {

namespace {

// One thing that the io_uring backend asks of the kernel, and the first level that has it.
struct Use {
    RingLimit since;
    std::uint8_t kind;  // IORING_RESTRICTION_*
    std::uint8_t what;
    bool on_files = false;
};

constexpr RingLimit oldest = RingLimit::linux_5_15;

constexpr Use uses[] = {
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_NOP},
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_POLL_ADD},
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_ASYNC_CANCEL},
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_CONNECT},
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_ACCEPT},
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_RECV},
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_SEND},
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_SENDMSG},
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_RECVMSG},
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_OPENAT2, true},
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_READ, true},
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_WRITE, true},
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_READV, true},
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_WRITEV, true},
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_FSYNC, true},
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_SYNC_FILE_RANGE, true},
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_FALLOCATE, true},
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_FADVISE, true},
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_STATX, true},
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_RENAMEAT, true},
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_LINKAT, true},
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_SYMLINKAT, true},
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_UNLINKAT, true},
    {oldest, IORING_RESTRICTION_SQE_OP, IORING_OP_MKDIRAT, true},
    {oldest, IORING_RESTRICTION_REGISTER_OP, IORING_REGISTER_PROBE},
    {oldest, IORING_RESTRICTION_REGISTER_OP, IORING_REGISTER_EVENTFD},
    {RingLimit::linux_6_1, IORING_RESTRICTION_SQE_OP, IORING_OP_SEND_ZC},
    {RingLimit::linux_6_1, IORING_RESTRICTION_SQE_OP, IORING_OP_SENDMSG_ZC},
    {RingLimit::linux_6_1, IORING_RESTRICTION_REGISTER_OP, IORING_REGISTER_RING_FDS},
    {RingLimit::linux_6_1, IORING_RESTRICTION_REGISTER_OP, IORING_UNREGISTER_RING_FDS},
    {RingLimit::linux_6_1, IORING_RESTRICTION_REGISTER_OP, IORING_REGISTER_PBUF_RING},
    // Linux 5.1, but whorl fills places one by one, which came with 5.19.
    {RingLimit::linux_6_1, IORING_RESTRICTION_SQE_OP, IORING_OP_READ_FIXED, true},
    {RingLimit::linux_6_1, IORING_RESTRICTION_SQE_OP, IORING_OP_WRITE_FIXED, true},
    {RingLimit::linux_6_1, IORING_RESTRICTION_REGISTER_OP, IORING_REGISTER_BUFFERS2, true},
    {RingLimit::linux_6_1, IORING_RESTRICTION_REGISTER_OP, IORING_REGISTER_BUFFERS_UPDATE, true},
    // The last entry that a level has counts: flags are one set.
    {oldest, IORING_RESTRICTION_SQE_FLAGS_ALLOWED, 0},
    {RingLimit::linux_6_1, IORING_RESTRICTION_SQE_FLAGS_ALLOWED,
     IOSQE_BUFFER_SELECT | IOSQE_CQE_SKIP_SUCCESS},
};
static_assert(sizeof uses / sizeof uses[0] <= ring_limit_entries_max, "the list has room");

}  // namespace

unsigned ring_limit_list(RingLimit limit, bool files,
                         io_uring_restriction (&list)[ring_limit_entries_max]) noexcept {
    WHORL_ASSERT(limit != RingLimit::none);
    unsigned count = 0;
    for (const Use& use : uses) {
        if (ring_limit_older(limit, use.since) || (use.on_files && !files)) continue;
        io_uring_restriction& entry = list[count++];
        entry = io_uring_restriction{};
        entry.opcode = use.kind;
        entry.sqe_op = use.what;  // one union with register_op and sqe_flags
    }
    return count;
}

std::uint32_t ring_limit_features(RingLimit limit) noexcept {
    constexpr std::uint32_t after_5_15 =
        feature_bit(Feature::multishot_accept) | feature_bit(Feature::multishot_recv) |
        feature_bit(Feature::buffer_ring) | feature_bit(Feature::defer_taskrun) |
        feature_bit(Feature::registered_ring);
    constexpr std::uint32_t after_6_1 = feature_bit(Feature::no_iowait);
    std::uint32_t features = 0xFFFFFFFFu;
    if (ring_limit_older(limit, RingLimit::linux_6_1)) features &= ~after_5_15;
    if (ring_limit_older(limit, RingLimit::linux_6_18)) features &= ~after_6_1;
    return features;
}

}  // namespace whorl::detail
