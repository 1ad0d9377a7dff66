// SPDX-License-Identifier: MIT
// Floor: 4
#include "backend/batch.hpp"
#include "loop/core.hpp"

#include <algorithm>
#include <cerrno>
#include <new>

// Batches of datagrams: their frames, and what an answer means.

namespace whorl::detail {

Error LoopCore::batch_claim(OpRecord& record) noexcept {
    BatchFrame* frame = batch_frames;
    if (frame != nullptr) batch_frames = frame->next;
    else frame = new (std::nothrow) BatchFrame;
    if (frame == nullptr) return Error::from_errno(ENOMEM);
    record.store(BatchPayload{frame});
    return {};
}

void LoopCore::batch_release(BatchFrame& frame) noexcept {
    frame.buffers = BufferChain();
    frame.addresses.reset();
    frame.next = batch_frames;
    batch_frames = &frame;
}

void LoopCore::batch_fill(OpRecord& record) noexcept {
    BatchFrame& frame = *record.as<BatchPayload>().frame;
    const auto first = static_cast<std::uint32_t>(record.progress);
    frame.count = std::min(frame.buffers.count() - first, BatchFrame::at_a_time);
    auto* addresses = reinterpret_cast<BatchAddress*>(frame.addresses.data()) + first;
    for (std::uint32_t index = 0; index < frame.count; ++index) {
        Buffer& buffer = frame.buffers[first + index];
        frame.parts[index] = {buffer.data(), buffer.size()};
        mmsghdr& header = frame.headers[index];
        header = {};
        header.msg_hdr.msg_iov = &frame.parts[index];
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_namelen = addresses[index].size;
        if (addresses[index].size != 0) header.msg_hdr.msg_name = addresses[index].bytes;
    }
}

void LoopCore::advance_batch(OpRecord& record, const Completion& completion) {
    if (completion.result > 0) record.progress += static_cast<std::uint64_t>(completion.result);
    const std::uint32_t all = record.as<BatchPayload>().frame->buffers.count();
    WHORL_ASSERT(record.progress <= all);
    if (completion.result > 0 && record.progress < all) return stream_resubmit(record);
    finish(record, error_of(record, completion.result), completion.result);
}

}  // namespace whorl::detail
