// SPDX-License-Identifier: MIT
// Floor: 4
#include "loop/post_queue.hpp"

#include <new>
#include <utility>

namespace whorl::detail {

PostQueue::~PostQueue() {
    WHORL_ASSERT(count_ == 0);
    delete spare_;
    delete head_;
}

Result<PostSlot*> PostQueue::push(std::uint32_t limit) noexcept {
    if (count_ - running_ >= limit) return Error::queue_full;
    if (tail_ == nullptr || tail_index_ == chunk_slots) {
        Chunk* chunk =
            spare_ != nullptr ? std::exchange(spare_, nullptr) : new (std::nothrow) Chunk;
        if (chunk == nullptr) return Error::from_errno(ENOMEM);
        chunk->next = nullptr;
        if (tail_ != nullptr) tail_->next = chunk;
        else head_ = chunk;
        tail_ = chunk;
        tail_index_ = 0;
    }
    ++count_;
    if (count_ - running_ > count_high_) count_high_ = count_ - running_;
    return &tail_->slots[tail_index_++];
}

PostSlot& PostQueue::front() noexcept {
    WHORL_ASSERT(count_ > 0);
    running_ = 1;
    return head_->slots[head_index_];
}

void PostQueue::drop_front() noexcept {
    WHORL_ASSERT(count_ > 0);
    running_ = 0;
    --count_;
    ++head_index_;
    if (count_ == 0) {  // the one chunk starts over
        WHORL_ASSERT(head_ == tail_);
        head_index_ = 0;
        tail_index_ = 0;
        return;
    }
    if (head_index_ < chunk_slots) return;
    Chunk* empty = head_;
    head_ = head_->next;
    head_index_ = 0;
    if (spare_ == nullptr) spare_ = empty;
    else delete empty;
}

}  // namespace whorl::detail
