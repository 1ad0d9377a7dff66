// SPDX-License-Identifier: MIT
// Floor: 4
#include "loop/core.hpp"

#include <algorithm>
#include <cerrno>
#include <new>

// Messages: their frames, and what an answer means for the operation that owns one.

namespace whorl::detail {

// Gives the record a frame, a used one when there is one.
Error LoopCore::message_claim(OpRecord& record) noexcept {
    MessageFrame* frame = message_frames;
    if (frame != nullptr) message_frames = frame->next;
    else frame = new (std::nothrow) MessageFrame;
    if (frame == nullptr) return Error::from_errno(ENOMEM);
    frame->next = nullptr;
    frame->address_size = 0;
    frame->control_size = 0;
    record.store(MessagePayload{frame});
    return {};
}

void LoopCore::message_release(MessageFrame& frame) noexcept {
    frame.buffer.reset();
    frame.next = message_frames;
    message_frames = &frame;
}

// Describes the message anew: a call that failed may have changed the description.
void LoopCore::message_fill(OpRecord& record) noexcept {
    MessageFrame& frame = *record.as<MessagePayload>().frame;
    const bool receives = record.kind == OpKind::recv_message;
    MessageFrame::Wire& wire = frame.wire;
    const std::size_t size = receives ? frame.buffer.capacity() : frame.buffer.size();
    wire.part = {frame.buffer.data(), std::min(size, transfer_max)};
    wire.message = {};
    wire.message.msg_iov = &wire.part;
    wire.message.msg_iovlen = 1;
    if (receives) frame.address_size = sizeof wire.address;
    if (frame.address_size != 0) wire.message.msg_name = &wire.address;
    wire.message.msg_namelen = frame.address_size;
    if (frame.control_size != 0) wire.message.msg_control = wire.control;
    wire.message.msg_controllen = frame.control_size;
}

void LoopCore::advance_message(OpRecord& record, const Completion& completion) {
    MessageFrame& frame = *record.as<MessagePayload>().frame;
    if (completion.result > 0) {
        record.progress = static_cast<std::uint64_t>(completion.result);
        WHORL_ASSERT(record.progress <= frame.buffer.capacity());
        frame.buffer.resize(static_cast<std::size_t>(record.progress));
    }
    finish(record, error_of(record, completion.result), completion.result);
}

}  // namespace whorl::detail
