// SPDX-License-Identifier: MIT
// Floor: 4
#include "loop/post_queue.hpp"

#include <new>

namespace whorl::detail {

PostQueue::~PostQueue() {
    WHORL_ASSERT(count_ == 0);
    for (Chunk* chunk = spares_; chunk != nullptr;) {
        Chunk* const next = chunk->next;
        delete chunk;
        chunk = next;
    }
    delete head_;
}

// Puts an empty chunk behind the last one.
bool PostQueue::grow() noexcept {
    Chunk* chunk = spares_;
    if (chunk != nullptr) {
        spares_ = chunk->next;
        --spares_count_;
    } else {
        chunk = new (std::nothrow) Chunk;
        if (chunk == nullptr) return false;
    }
    chunk->next = nullptr;
    if (tail_ != nullptr) {
        tail_->next = chunk;
    } else {
        head_ = chunk;
        front_ = chunk->slots;
        front_end_ = chunk->slots + chunk_slots;
    }
    tail_ = chunk;
    push_ = chunk->slots;
    push_end_ = chunk->slots + chunk_slots;
    return true;
}

// The first chunk has been read to its end, and there is more.
void PostQueue::next_chunk() noexcept {
    Chunk* const empty = head_;
    head_ = head_->next;
    front_ = head_->slots;
    front_end_ = head_->slots + chunk_slots;
    if (spares_count_ == spares_max) {
        delete empty;
        return;
    }
    empty->next = spares_;
    spares_ = empty;
    ++spares_count_;
}

}  // namespace whorl::detail
