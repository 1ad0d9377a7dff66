// SPDX-License-Identifier: MIT
// Floor: 4
#include "loop/core.hpp"

// Received streams and their buffers. A stream pauses when there is no buffer (starved) or when it
// holds its share (paused), and goes on when a buffer comes home: never by a timer.

namespace whorl::detail {

// A block has come home, on this thread, perhaps from within a handler: only lists are changed here.
void LoopCore::buffer_returned(void* context, PoolBlock& block) noexcept {
    auto& core = *static_cast<LoopCore*>(context);
    if (!core.starved.empty()) core.note_work();
    if (block.tag == 0) return;
    Descriptor* descriptor = core.descriptors.find(block.tag);
    if (descriptor == nullptr) return;  // its connection is gone
    WHORL_ASSERT(descriptor->buffers_out > 0);
    --descriptor->buffers_out;
    if (descriptor->read_active == 0) return;
    OpRecord& stream = core.operations.at(descriptor->read_active);
    const bool low = descriptor->buffers_out <= core.options.recv_buffers_per_stream / 2;
    if (stream.state == OpState::paused && stream.kind == OpKind::recv_stream && low) {
        core.list(stream);
        core.note_work();
    }
}

// Hands starved streams over again while there are buffers: at most one stream for each buffer that
// could be taken, or they would all starve again at once.
void LoopCore::resume_starved() noexcept {
    if (starved.empty()) return;
    if (!pool->available(BufferPool::class_for(options.recv_buffer_size))) return;
    std::uint32_t budget = options.recv_ring_depth;
    while (budget-- > 0) {
        OpRecord* stream = starved.pop_front(operations);
        if (stream == nullptr) return;
        list(*stream);
    }
}

}  // namespace whorl::detail
