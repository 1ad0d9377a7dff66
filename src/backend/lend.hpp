// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/message.hpp"
#include "backend/payload.hpp"
#include "base/guard.hpp"

#include <whorl/op_record.hpp>

// The border that a record crosses when a backend takes it and when it comes back: points 3 and 8 of
// the contract in driver.hpp. Every backend crosses it by these functions, so that what is true of
// memory on loan (see base/guard.hpp) is true on all of them.

namespace whorl::detail {

inline void guard(const GatherFrame& frame) noexcept { guard(&frame, sizeof frame); }
inline void unguard(const GatherFrame& frame) noexcept { unguard(&frame, sizeof frame); }

inline void guard(const BatchFrame& frame) noexcept {
    guard(&frame.headers, sizeof frame.headers + sizeof frame.parts);
}
inline void unguard(const BatchFrame& frame) noexcept {
    unguard(&frame.headers, sizeof frame.headers + sizeof frame.parts);
}

inline void guard(const MessageFrame& frame) noexcept { guard(&frame.wire, sizeof frame.wire); }
inline void unguard(const MessageFrame& frame) noexcept { unguard(&frame.wire, sizeof frame.wire); }

// Calls visit() for each buffer, and the frame, that the record's system call reads or writes.
template <class Visit>
void for_each_lent(OpRecord& record, Visit&& visit) noexcept {
    switch (record.kind) {
        case OpKind::recv:
        case OpKind::send:
        case OpKind::send_all:
        case OpKind::send_zero_copy:
        case OpKind::work:
        case OpKind::read_at:
        case OpKind::read_exact_at:
        case OpKind::write_at:
        case OpKind::write_all_at:
        case OpKind::append:
        case OpKind::list_directory:
        case OpKind::read:
        case OpKind::write:
        case OpKind::write_all:
            visit(record.as<Buffer>());
            break;
        case OpKind::send_chain:
        case OpKind::chain_zero_copy:
        case OpKind::write_chain:
        case OpKind::read_chain_at:
        case OpKind::write_chain_at:
            visit(*record.as<ChainPayload>().frame);
            for (Buffer& part : record.as<ChainPayload>().chain) visit(part);
            break;
        case OpKind::send_batch: {
            BatchFrame& frame = *record.as<BatchPayload>().frame;
            visit(frame);
            visit(frame.addresses);
            for (Buffer& part : frame.buffers) visit(part);
            break;
        }
        case OpKind::recv_message:
        case OpKind::send_message:
            visit(record.as<MessagePayload>().frame->buffer);
            visit(*record.as<MessagePayload>().frame);
            break;
        default:  // what holds paths is reached by nobody else
            break;
    }
}

inline void guard_lent(OpRecord& record) noexcept {
    if constexpr (guarding) {
        for_each_lent(record, [](const auto& memory) { guard(memory); });
    }
}

inline void unguard_lent(OpRecord& record) noexcept {
    if constexpr (guarding) {
        for_each_lent(record, [](const auto& memory) { unguard(memory); });
    }
}

// The backend takes the record from `submissions`: its memory is untouchable from now on.
inline void lend(OpRecord& record) noexcept {
    WHORL_ASSERT(record.state == OpState::listed);
    record.state = OpState::kernel;
    guard_lent(record);
}

// The record's final completion has been seen: its memory is the loop's again.
inline void give_back(OpRecord& record) noexcept {
    WHORL_ASSERT(record.state == OpState::kernel);
    record.flags |= op_final_seen;
    unguard_lent(record);
}

// While a backend makes the record's system call itself, on this side of the border.
struct LentInUse {
    OpRecord& record;
    explicit LentInUse(OpRecord& used) noexcept : record(used) { unguard_lent(record); }
    LentInUse(const LentInUse&) = delete;
    LentInUse& operator=(const LentInUse&) = delete;
    ~LentInUse() { guard_lent(record); }
};

}  // namespace whorl::detail
