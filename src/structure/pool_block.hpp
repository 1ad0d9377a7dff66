// SPDX-License-Identifier: MIT
// Floor: 2
#pragma once

#include "base/electric.hpp"
#include "base/guard.hpp"

#include <whorl/buffer_pool.hpp>

// What becomes of a block when it leaves its pool: inline for those who take one for each message.

namespace whorl {

namespace detail {

// A block is handed out, or has come home.
inline void block_open(const PoolBlock& block) noexcept {
    if constexpr (electric) electric_open(block.base, block.capacity);
    unguard(block.base, block.capacity);
}
inline void block_shut(const PoolBlock& block) noexcept {
    guard(block.base, block.capacity);
    if constexpr (electric) electric_shut(block.base, block.capacity);
}

}  // namespace detail

// The first free block of exactly this class; null when there is none.
inline PoolBlock* BufferPool::hand_out(std::uint32_t size_class) noexcept {
    PoolBlock* block = free_[size_class];
    if (block == nullptr) return nullptr;
    free_[size_class] = block->next;
    if (detail::electric && block->next == nullptr) free_last_[size_class] = nullptr;
    block->next = nullptr;
    detail::block_open(*block);
    block->tag = 0;
    block->references = 1;
    if (++blocks_out_ > blocks_out_high_) blocks_out_high_ = blocks_out_;
    return block;
}

}  // namespace whorl
