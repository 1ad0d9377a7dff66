// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/assert.hpp>
#include <whorl/handler.hpp>

#include <cstddef>
#include <cstdint>

namespace whorl {
class Loop;
}

namespace whorl::detail {

// A posted handler: how to run it, and the handler itself.
struct PostSlot {
    void (*run)(Loop& loop, void* closure, bool call);
    alignas(handler_align_max) unsigned char closure[handler_size_max];
};
static_assert(sizeof(PostSlot) == 64, "a post is one cache line");

// A first-in-first-out queue of handlers that never move: a list of chunks, of which some empty ones are
// kept so that steady traffic allocates nothing. What runs for every post is inline.
class PostQueue {
  public:
    PostQueue() noexcept = default;
    PostQueue(const PostQueue&) = delete;
    PostQueue& operator=(const PostQueue&) = delete;
    ~PostQueue();

    // The next free slot, counted as queued; the caller fills it at once. Null when the queue is full() or
    // memory is exhausted. The one that runs between front() and drop_front() does not count, so that it may
    // post itself again at the limit.
    PostSlot* push(std::uint32_t limit) noexcept {
        if (full(limit) || (push_ == push_end_ && !grow())) return nullptr;
        const std::uint32_t queued = ++count_ - running_;
        if (queued > count_high_) count_high_ = queued;
        return push_++;
    }
    bool full(std::uint32_t limit) const noexcept { return count_ - running_ >= limit; }

    // The oldest slot; it stays valid until drop_front(). The queue must not be empty.
    PostSlot& front() noexcept {
        WHORL_ASSERT(count_ > 0);
        running_ = 1;
        return *front_;
    }
    void drop_front() noexcept {
        WHORL_ASSERT(count_ > 0);
        running_ = 0;
        ++front_;
        if (--count_ == 0) begin_again();
        else if (front_ == front_end_) next_chunk();
    }

    std::uint32_t count() const noexcept { return count_; }
    std::uint32_t count_high() const noexcept { return count_high_; }

  private:
    static constexpr std::uint32_t chunk_slots = 63;
    static constexpr std::uint32_t spares_max = 32;  // 128 KiB
    struct Chunk : Allocated<Chunk> {
        alignas(64) PostSlot slots[chunk_slots];
        Chunk* next;
    };

    void begin_again() noexcept {  // the one chunk starts over
        WHORL_ASSERT(head_ == tail_);
        front_ = push_ = head_->slots;
    }
    bool grow() noexcept;
    void next_chunk() noexcept;

    PostSlot* push_ = nullptr;  // the next free slot of the last chunk
    PostSlot* push_end_ = nullptr;
    PostSlot* front_ = nullptr;  // the oldest post, in the first chunk
    PostSlot* front_end_ = nullptr;
    std::uint32_t count_ = 0;
    std::uint32_t count_high_ = 0;
    std::uint32_t running_ = 0;  // 1 between front() and drop_front(), of count_
    std::uint32_t spares_count_ = 0;
    Chunk* head_ = nullptr;
    Chunk* tail_ = nullptr;
    Chunk* spares_ = nullptr;
};

}  // namespace whorl::detail
