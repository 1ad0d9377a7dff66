// SPDX-License-Identifier: MIT
// Floor: 4
#include "loop/core.hpp"

#include <algorithm>

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
    if (stream.state != OpState::paused) return;
    const bool low = descriptor->buffers_out <= core.stream_share(stream) / 2;
    if (fills_blocks(stream.kind) && low) {
        core.stream_list(stream);
        core.note_work();
    }
}

bool LoopCore::starved_may_resume() const noexcept {
    if (starved.empty()) return false;
    return driver->buffers_ready() ||
           pool->available(BufferPool::class_for(options.recv_buffer_size));
}

// There is no memory for a buffer, and none is out that could come home: to wait would be to hang.
bool LoopCore::recv_hopeless() noexcept {
    const std::uint32_t size_class = BufferPool::class_for(options.recv_buffer_size);
    if (pool->blocks_out() != 0 || pool->available(size_class)) return false;
    PoolBlock* block = pool->take(size_class);  // memory was refused a moment ago: still?
    if (block == nullptr) return true;
    Buffer::from_owner(block, block->base, 0).reset();
    return false;
}

// Hands starved streams over again while there are buffers, a few in each turn, or they would all
// starve again at once: of those that want large buffers so many as there may be such buffers. The loop
// does not sleep before all have had their chance: the first ones may have no data, and would keep the
// buffers from those that have.
void LoopCore::resume_starved() noexcept {
    if (!starved_may_resume()) return;
    std::uint32_t budget = options.recv_ring_depth;
    const std::uint32_t large_cost =
        std::max(1U, options.recv_ring_depth / options.recv_bulk_ring_depth);
    while (budget > 0) {
        OpRecord* stream = starved.pop_front(operations);
        if (stream == nullptr) return;
        if ((stream->flags & op_fed) != 0) {
            // It has had buffers this time: those that have had none go first, once.
            stream->flags &= static_cast<std::uint16_t>(~op_fed);
            starved.push_back(operations, *stream);
            continue;
        }
        stream_list(*stream);
        const bool bulk = (stream->flags & op_bulk) != 0;
        budget -= std::min(budget, bulk ? large_cost : 1U);
    }
}

// --- the size of a stream's buffers
//
// Small buffers in good number serve many streams of small messages; they make a bulk stream walk through
// more memory than a cache holds, a part at a time. A few large ones are the other way round. So a stream
// that fills its buffers is taken back from the backend and handed over again for large ones, and back.

namespace {
// How many answers in a row say that the other size would suit better: changing costs a cancellation.
constexpr std::uint32_t full_max = 2;
constexpr std::uint32_t short_max = 8;
}  // namespace

void LoopCore::bulk_limit() noexcept {
    const std::uint64_t small = options.recv_buffer_size;
    const std::uint64_t large = options.recv_bulk_buffer_size;
    if (large <= small || large > options.buffer_bytes_max / 8) options.recv_bulk_buffer_size = 0;
    if (options.recv_bulk_buffer_size == 0) return;
    const std::uint64_t share = options.recv_buffers_per_stream * small / large;
    bulk_share = share == 0 ? 1 : static_cast<std::uint32_t>(share);
}

bool LoopCore::bulk_possible() const noexcept {
    if (options.recv_bulk_buffer_size == 0) return false;
    return driver->bulk_buffers_ready() ||
           pool->available(BufferPool::class_for(options.recv_bulk_buffer_size));
}

// Notes that an answer would have suited the other size; true when it is time to change.
bool LoopCore::stream_misfits(OpRecord& record) noexcept {
    if (options.recv_bulk_buffer_size == 0) return false;
    record.extra += std::uint64_t{1} << 32;
    const bool bulk = (record.flags & op_bulk) != 0;
    if (record.extra >> 32 < (bulk ? short_max : full_max)) return false;
    return bulk || bulk_possible();
}

// Chooses the size before the stream is handed over. No backend has it now.
void LoopCore::stream_resize(OpRecord& record) noexcept {
    const bool bulk = (record.flags & op_bulk) != 0;
    const bool misfits = record.extra >> 32 >= (bulk ? short_max : full_max);
    if (misfits) record.extra = static_cast<std::uint32_t>(record.extra);
    const bool next = (misfits ? !bulk : bulk) && bulk_possible();
    if (next == bulk) return;
    record.flags ^= op_bulk;
    ++statistics.recv_resized;
}

void LoopCore::stream_list(OpRecord& record) noexcept {
    stream_resize(record);
    list(record);
}

}  // namespace whorl::detail
