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
    frame->answered = false;
    frame->address_size = 0;
    frame->control_size = 0;
    record.store(MessagePayload{frame});
    return {};
}

// Descriptors that nobody has taken are closed.
void LoopCore::message_release(MessageFrame& frame) noexcept {
    if (frame.answered) {
        for_each_descriptor(frame, [this](int number) { static_cast<void>(system.close(number)); });
        frame.answered = false;
    }
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
    if (completion.result >= 0) frame.answered = true;
    if (completion.result > 0) {
        record.progress = static_cast<std::uint64_t>(completion.result);
        WHORL_ASSERT(record.progress <= frame.buffer.capacity());
        frame.buffer.resize(static_cast<std::size_t>(record.progress));
    }
    finish(record, error_of(record, completion.result), completion.result);
}

// Nobody waits any more for what has arrived.
void LoopCore::message_drop(OpRecord& record, const Completion& completion) noexcept {
    if (record.kind != OpKind::recv_message || completion.result < 0) return;
    record.as<MessagePayload>().frame->answered = true;
}

// EAGAIN: the listener's backlog is full. Nothing tells when it has room, so it is tried again after
// 1 ms, doubling to 100 ms.
void LoopCore::advance_connect_unix(OpRecord& record, const Completion& completion) {
    constexpr std::uint32_t pause_max_ms = 100;
    const bool ending = (record.flags & (op_cancelled | op_timed_out)) != 0;
    Descriptor& descriptor = descriptors.at(record.descriptor);
    if (completion.result != -EAGAIN) {
        if (completion.result >= 0) static_cast<void>(system.set_blocking(descriptor.fd));
        return advance_connect(record, completion);
    }
    if (ending) return stream_resubmit(record);
    std::uint32_t& pause_ms = connect_frame(record).control_size;
    pause_ms = std::clamp(pause_ms * 2, 1u, pause_max_ms);
    record.state = OpState::retrying;
    record.flags &= static_cast<std::uint16_t>(~op_final_seen);
    record.store(TimerNode{});
    record.as<TimerNode>().user = operations.index_of(&record);
    const std::int64_t now_ns = system.now().time_since_epoch().count();
    wheel.insert(record.as<TimerNode>(), tick_at_or_after(now_ns + pause_ms * 1'000'000));
}

}  // namespace whorl::detail
