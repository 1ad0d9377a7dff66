// SPDX-License-Identifier: MIT
// Floor: 4
#pragma once

#include <whorl/handler.hpp>
#include <whorl/result.hpp>

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

// A first-in-first-out queue of handlers that never move: a list of chunks, of which one empty one is
// kept so that steady traffic allocates nothing.
class PostQueue {
  public:
    PostQueue() noexcept = default;
    PostQueue(const PostQueue&) = delete;
    PostQueue& operator=(const PostQueue&) = delete;
    ~PostQueue();

    // The next free slot, counted as queued; the caller fills it at once. The one that runs between
    // front() and drop_front() does not count, so that it may post itself again at the limit.
    // Errors: queue_full at `limit`, ENOMEM.
    Result<PostSlot*> push(std::uint32_t limit) noexcept;
    // The oldest slot; it stays valid until drop_front(). The queue must not be empty.
    PostSlot& front() noexcept;
    void drop_front() noexcept;

    std::uint32_t count() const noexcept { return count_; }
    std::uint32_t count_high() const noexcept { return count_high_; }

  private:
    static constexpr std::uint32_t chunk_slots = 63;
    struct Chunk {
        alignas(64) PostSlot slots[chunk_slots];
        Chunk* next;
    };

    Chunk* head_ = nullptr;
    Chunk* tail_ = nullptr;
    Chunk* spare_ = nullptr;
    std::uint32_t head_index_ = 0;
    std::uint32_t tail_index_ = 0;
    std::uint32_t count_ = 0;
    std::uint32_t count_high_ = 0;
    std::uint32_t running_ = 0;  // 1 between front() and drop_front(), of count_
};

}  // namespace whorl::detail
