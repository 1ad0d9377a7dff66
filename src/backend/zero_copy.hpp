// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include <whorl/op_record.hpp>

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>

// Sends that the kernel may read from the buffer until long after it has answered. What an operation of
// these kinds keeps in `extra`:
//
//   bits 0 to 31    MSG_ flags; MSG_ZEROCOPY as long as zero copy is to be tried
//   bits 32 to 61   the kernel's answer, plus 4096, while its notification is awaited; 0 for none
//   bit 62          for the loop: it has left its side of the socket to the next one
//   bit 63          the kernel has copied, or may have
//
// A backend tells the answer with completion_more, and it again with the notification: only then does the
// record come back, with its buffer. Whether a notification follows is said by the answer itself
// (IORING_CQE_F_MORE) and by nothing else: errors come with one or without.

namespace whorl::detail {

inline constexpr std::uint64_t zero_copy_copied = std::uint64_t{1} << 63;
inline constexpr std::uint64_t zero_copy_left_side = std::uint64_t{1} << 62;
// One answer fits 30 bits.
inline constexpr std::size_t zero_copy_max = std::size_t{1} << 29;

constexpr bool sends_zero_copy(OpKind kind) noexcept {
    return kind == OpKind::send_zero_copy || kind == OpKind::chain_zero_copy;
}

inline bool zero_copy_wanted(const OpRecord& record) noexcept {
    return (record.extra & MSG_ZEROCOPY) != 0;
}
// From now on the operation is an ordinary send.
inline void zero_copy_give_up(OpRecord& record) noexcept {
    record.extra = (record.extra & ~std::uint64_t{MSG_ZEROCOPY}) | zero_copy_copied;
}

inline constexpr std::uint64_t zero_copy_answer_mask = std::uint64_t{0x3fffffff} << 32;
inline bool zero_copy_answered(const OpRecord& record) noexcept {
    return (record.extra & zero_copy_answer_mask) != 0;
}
inline void zero_copy_keep(OpRecord& record, std::int32_t answer) noexcept {
    record.extra &= ~zero_copy_answer_mask;
    record.extra |= static_cast<std::uint64_t>(std::int64_t{answer} + 4096) << 32;
}
inline std::int32_t zero_copy_take(OpRecord& record) noexcept {
    const std::uint64_t kept = (record.extra & zero_copy_answer_mask) >> 32;
    record.extra &= ~zero_copy_answer_mask;
    return static_cast<std::int32_t>(static_cast<std::int64_t>(kept) - 4096);
}

}  // namespace whorl::detail
