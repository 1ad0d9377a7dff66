// SPDX-License-Identifier: MIT
// Floor: 2
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/buffer.hpp>
#include <whorl/error.hpp>
#include <whorl/export.hpp>

#include <cstddef>
#include <cstdint>

// A pool of buffers in a few size classes, one per loop.
//
// A free block goes to the front of its class and is the next one handed out: it is still warm in the
// cache. Memory is mapped in chunks, never returned to the system while the pool lives, and bounded.
// In the library's debugging builds a free block cannot be touched: AddressSanitizer reports who does,
// and in electric mode (WHORL_ELECTRIC) its pages are inaccessible, for the kernel, too.
//
// Invariants: 1. A block is either on its class's free list or named by buffers. 2. Mapped bytes never
// exceed bytes_max. 3. The pool outlives its loop until the last block has come home.

namespace whorl {

class BufferPool;
namespace detail {
class ReceiveRing;
}

// One block of a pool. `tag` belongs to who took it (the loop notes the stream it was received on).
struct PoolBlock : BufferOwner {
    PoolBlock* next = nullptr;   // in its class's free list, while it is free
    BufferPool* pool = nullptr;  // which it goes back to
    // Whatever its user notes; 0 when taken.
    std::uint64_t tag = 0;
    std::uint32_t size_class = 0;  // which it was mapped for, a place in class_size
    std::uint32_t chunk = 0;       // the number of the mapping that it lies in
};

// Lifetime: made by create(), ended by close(), which waits for no one: blocks still out keep the
// pool's memory until they return. Thread: one (asserted once set_thread() was called).
class WHORL_EXPORT BufferPool : public detail::Allocated<BufferPool> {
  public:
    // How many sizes of blocks there are.
    static constexpr std::uint32_t class_count = 5;
    // Bytes of the blocks of each class.
    static constexpr std::size_t class_size[class_count] = {256, 1024, 4096, 16384, 65536};
    // More than this comes from the heap.
    static constexpr std::size_t block_size_max = class_size[class_count - 1];

    // Called on the pool's thread, when the block is free already: look at it, keep nothing of it.
    using Returned = void (*)(void* context, PoolBlock& block) noexcept;

    // Limits: bytes_max bounds the bytes mapped for blocks. Errors: null when memory is exhausted.
    static BufferPool* create(std::size_t bytes_max) noexcept;
    // Ends the pool; its memory goes when the last block has come home.
    void close() noexcept;

    // The smallest class whose blocks hold `size` bytes; class_count when none does.
    static std::uint32_t class_for(std::size_t size) noexcept;

    // A free block of the class or a larger one, with one reference; null at the limit.
    // Cost: 2 ns, no allocation, unless a new chunk is mapped.
    PoolBlock* take(std::uint32_t size_class) noexcept;

    // A buffer with at least `capacity` bytes of room and size 0. More than block_size_max comes from
    // the heap. Errors: a null buffer at the limit or when memory is exhausted.
    Buffer get(std::size_t capacity) noexcept;

    // True when take(size_class) would succeed, as far as is known without mapping anything. Once memory
    // was refused, only blocks that are there count, until one comes home. Cost: none.
    bool available(std::uint32_t size_class) const noexcept;

    // The block behind a buffer; null when it is not one of this pool. Cost: none.
    PoolBlock* block_of(const Buffer& buffer) const noexcept {
        BufferOwner* owner = buffer.owner();
        if (owner == nullptr || owner->release != &BufferPool::release) return nullptr;
        auto* block = static_cast<PoolBlock*>(owner);
        return block->pool == this ? block : nullptr;
    }
    // Whether it is a block of any pool, and so bound to that pool's thread. Cost: none.
    static bool pooled(const Buffer& buffer) noexcept {
        return buffer.owner() != nullptr && buffer.owner()->release == &BufferPool::release;
    }
    // All of the mapping that a block lies in. Mappings are numbered from 0 on as they are made, stay
    // where they are while the pool lives, and are at most chunks_max(). Cost: looks at each.
    Bytes chunk_of(const PoolBlock& block) const noexcept;
    // The most mappings that the limit leaves room for.
    std::size_t chunks_max() const noexcept { return bytes_max_ / chunk_bytes_min; }

    // Runs after each return of a block; the one listener is the loop.
    void set_returned(Returned returned, void* context) noexcept;
    // From now on blocks are taken and returned on the calling thread only (asserted).
    void set_thread() noexcept;

    // Blocks that somebody has now.
    std::uint32_t blocks_out() const noexcept { return blocks_out_; }
    // The most of them at once, ever.
    std::uint32_t blocks_out_high() const noexcept { return blocks_out_high_; }
    // What is mapped for blocks, free ones included; it never shrinks. The heap's share is not counted.
    std::size_t bytes_mapped() const noexcept { return bytes_mapped_; }
    // The limit given to create().
    std::size_t bytes_max() const noexcept { return bytes_max_; }

    // The whole structure, checked the slow way.
    bool check() const noexcept;

  private:
    friend class detail::ReceiveRing;
    struct Chunk;
    static constexpr std::size_t chunk_bytes_min = std::size_t{64} << 10;
    explicit BufferPool(std::size_t bytes_max) noexcept : bytes_max_(bytes_max) {}
    ~BufferPool();
    static void release(BufferOwner* owner) noexcept;
    bool grow(std::uint32_t size_class) noexcept;
    PoolBlock* hand_out(std::uint32_t size_class) noexcept;  // structure/pool_block.hpp

    PoolBlock* free_[class_count] = {};
    PoolBlock* free_last_[class_count] = {};  // electric mode only: where a block is returned to
    Returned returned_ = nullptr;
    void* returned_context_ = nullptr;
    Chunk* chunks_ = nullptr;
    std::size_t bytes_max_;
    std::size_t bytes_mapped_ = 0;
    std::uint32_t chunks_count_ = 0;
    std::uint32_t blocks_out_ = 0;
    std::uint32_t blocks_out_high_ = 0;
    unsigned long thread_ = 0;
    bool closed_ = false;
    bool refused_ = false;  // the last attempt to map more
};

}  // namespace whorl
