// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/sim_ring_state.hpp"

#include <whorl/assert.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>

// io_uring_register on a simulated ring, and what the versions of Linux can do.

namespace whorl::detail {

namespace {

// Entries that version 6.18 knows beyond the installed header's last.
constexpr unsigned opcode_last_6_18 = 62;
constexpr unsigned opcode_last_6_1 = 48;   // IORING_OP_SENDMSG_ZC
constexpr unsigned opcode_last_5_15 = 39;  // IORING_OP_LINKAT

constexpr unsigned setup_5_15 = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED;
constexpr unsigned setup_6_1 = setup_5_15 | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN |
                               IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_SINGLE_ISSUER |
                               IORING_SETUP_DEFER_TASKRUN;
constexpr unsigned enter_5_15 = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
constexpr unsigned enter_6_1 = enter_5_15 | IORING_ENTER_REGISTERED_RING;

// The feature words are those that the real kernels answer.
constexpr SimRingLevel linux_5_15{0x7FF, setup_5_15, enter_5_15, 0x3F,  opcode_last_5_15,
                                  false, false,      false,      false, true};
constexpr SimRingLevel linux_6_1{0x1FFF, setup_6_1, enter_6_1, 0x7F, opcode_last_6_1,
                                 true,   true,      true,      true, false};
constexpr SimRingLevel linux_6_18{0x3FFFF,
                                  setup_6_1 | setup_no_sqarray,
                                  enter_6_1 | enter_no_iowait,
                                  0x7F,
                                  opcode_last_6_18,
                                  true,
                                  true,
                                  true,
                                  true,
                                  false};

}  // namespace

const SimRingLevel& sim_ring_level(testing::RingLevel level) noexcept {
    switch (level) {
        case testing::RingLevel::linux_5_15:
            return linux_5_15;
        case testing::RingLevel::linux_6_1:
            return linux_6_1;
        case testing::RingLevel::linux_6_18:
            return linux_6_18;
    }
    return linux_6_18;
}

int SimRing::control(unsigned opcode, void* argument, unsigned count) {
    if (opcode >= restrictions_.calls.size()) return -EINVAL;
    if (foreign()) return -EEXIST;
    // In force from the moment at which the ring is enabled.
    if (restrictions_.on && !disabled_ && !restrictions_.calls[opcode]) return -EACCES;
    if (opcode == IORING_REGISTER_ENABLE_RINGS) {
        if (!disabled_) return -EBADFD;
        disabled_ = false;
        if ((setup_ & IORING_SETUP_SINGLE_ISSUER) != 0) owner_ = thread_token();
        return 0;
    }
    if (opcode == IORING_UNREGISTER_EVENTFD) {
        if (event_ == nullptr) return -ENXIO;
        event_ = nullptr;
        return 0;
    }
    if (argument == nullptr) return -EINVAL;
    switch (opcode) {
        case IORING_REGISTER_PROBE:
            return control_probe(*static_cast<io_uring_probe*>(argument), count);
        case IORING_REGISTER_EVENTFD:
            return count == 1 ? control_eventfd(static_cast<const int*>(argument)) : -EINVAL;
        case IORING_REGISTER_RESTRICTIONS:
            return control_restrict(static_cast<const io_uring_restriction*>(argument), count);
        case IORING_REGISTER_PBUF_RING:
            if (!level_.buffer_rings || count != 1) return -EINVAL;
            return control_buffers(*static_cast<const io_uring_buf_reg*>(argument));
        case IORING_UNREGISTER_PBUF_RING:
            if (!level_.buffer_rings || count != 1) return -EINVAL;
            return control_buffers_end(*static_cast<const io_uring_buf_reg*>(argument));
        case IORING_REGISTER_BUFFERS2:
        case IORING_REGISTER_BUFFERS_UPDATE:
            return level_.buffer_rings ? control_memory(opcode, argument, count) : -EINVAL;
        default:
            return -EINVAL;
    }
}

int SimRing::control_probe(io_uring_probe& probe, unsigned count) const noexcept {
    if (count > 256) return -EINVAL;
    const unsigned length = count < level_.opcode_last + 1 ? count : level_.opcode_last + 1;
    probe.last_op = static_cast<std::uint8_t>(level_.opcode_last);
    probe.ops_len = static_cast<std::uint8_t>(length);
    for (unsigned index = 0; index < length; ++index) {
        probe.ops[index].op = static_cast<std::uint8_t>(index);
        probe.ops[index].flags = IO_URING_OP_SUPPORTED;
    }
    return 0;
}

int SimRing::control_eventfd(const int* number) {
    if (event_ != nullptr) return -EBUSY;
    const SimFilePtr file = kernel_.file(*number);
    if (file == nullptr) return -EBADF;
    if (std::strcmp(file->name(), "eventfd") != 0) return -EINVAL;
    event_ = file;
    return 0;
}

int SimRing::control_buffers(const io_uring_buf_reg& registration) {
    constexpr unsigned entries_max = 32768;
    const unsigned entries = registration.ring_entries;
    const auto reserved = [](std::uint64_t word) { return word != 0; };
    if (registration.pad != 0 || registration.ring_addr % 4096 != 0) return -EINVAL;
    if (std::any_of(std::begin(registration.resv), std::end(registration.resv), reserved))
        return -EINVAL;
    if (entries == 0 || (entries & (entries - 1)) != 0 || entries > entries_max) return -EINVAL;
    if (groups_.count(registration.bgid) != 0) return -EEXIST;
    if (registration.ring_addr == 0) return -EFAULT;
    const auto* ring = reinterpret_cast<const io_uring_buf_ring*>(registration.ring_addr);
    groups_[registration.bgid] = Group{ring, entries, 0};
    return 0;
}

int SimRing::control_buffers_end(const io_uring_buf_reg& registration) {
    return groups_.erase(registration.bgid) != 0 ? 0 : -ENOENT;
}

int SimRing::control_restrict(const io_uring_restriction* entries, unsigned count) {
    if (!disabled_) return -EBADFD;
    if (restrictions_.on) return -EBUSY;
    Restrictions made;
    for (unsigned index = 0; index < count; ++index) {
        const io_uring_restriction& entry = entries[index];
        switch (entry.opcode) {
            case IORING_RESTRICTION_REGISTER_OP:
                made.calls.set(entry.register_op);
                break;
            case IORING_RESTRICTION_SQE_OP:
                made.entries.set(entry.sqe_op);
                break;
            case IORING_RESTRICTION_SQE_FLAGS_ALLOWED:
                made.flags_allowed = entry.sqe_flags;
                break;
            case IORING_RESTRICTION_SQE_FLAGS_REQUIRED:
                made.flags_required = entry.sqe_flags;
                break;
            default:
                return -EINVAL;
        }
    }
    restrictions_ = made;
    restrictions_.on = true;
    return 0;
}

}  // namespace whorl::detail
