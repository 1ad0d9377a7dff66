// SPDX-License-Identifier: MIT
// Floor: 2
#include <whorl/buffer_pool.hpp>

#include <whorl/allocated.hpp>

#include "structure/pool_block.hpp"

#include <sys/mman.h>

#include <new>

namespace whorl {

namespace {

// Bytes mapped at a time for each class: enough blocks to make the call rare, few enough that a small
// program stays small.
constexpr std::size_t chunk_bytes[BufferPool::class_count] = {64 << 10, 64 << 10, 64 << 10,
                                                              256 << 10, 256 << 10};
constexpr std::uint32_t chunk_blocks_max = (64 << 10) / 256;

// Where a chunk's blocks lie. In electric mode each has pages of its own, before an inaccessible one.
struct Layout {
    std::size_t stride;  // from one block to the next
    std::size_t offset;  // of a block's memory
};

Layout layout_of(std::size_t block_bytes) noexcept {
    if constexpr (detail::electric) {
        const std::size_t pages = detail::electric_pages(block_bytes);
        return {pages + detail::electric_pages(1), pages - block_bytes};
    } else {
        return {block_bytes, 0};
    }
}

}  // namespace

struct BufferPool::Chunk {
    Chunk* next;
    void* memory;
    std::size_t bytes;
    std::uint32_t number;
    std::uint32_t count;
    PoolBlock blocks[chunk_blocks_max];  // only `count` of them are there

    static constexpr std::size_t bytes_with(std::uint32_t blocks_there) noexcept {
        return sizeof(Chunk) - sizeof(PoolBlock) * (chunk_blocks_max - blocks_there);
    }
};

BufferPool* BufferPool::create(std::size_t bytes_max) noexcept {
    return new (std::nothrow) BufferPool(bytes_max);
}

BufferPool::~BufferPool() {
    WHORL_ASSERT(blocks_out_ == 0);
    while (chunks_ != nullptr) {
        Chunk* chunk = chunks_;
        chunks_ = chunk->next;
        detail::unguard(chunk->memory, chunk->bytes);  // somebody else's next
        munmap(chunk->memory, chunk->bytes);
        detail::object_give(chunk, Chunk::bytes_with(chunk->count), alignof(Chunk));
    }
}

void BufferPool::close() noexcept {
    WHORL_ASSERT(!closed_);
    closed_ = true;
    returned_ = nullptr;
    thread_ = 0;
    if (blocks_out_ == 0) delete this;
}

std::uint32_t BufferPool::class_for(std::size_t size) noexcept {
    std::uint32_t size_class = 0;
    while (size_class < class_count && class_size[size_class] < size) ++size_class;
    return size_class;
}

PoolBlock* BufferPool::take(std::uint32_t size_class) noexcept {
    WHORL_ASSERT(size_class < class_count);
    WHORL_ASSERT(thread_ == 0 || thread_ == detail::thread_token());
    std::uint32_t from = size_class;
    if (free_[from] == nullptr && !grow(from)) {
        while (from < class_count && free_[from] == nullptr) ++from;
        if (from == class_count) return nullptr;
    }
    return hand_out(from);
}

Buffer BufferPool::get(std::size_t capacity) noexcept {
    const std::uint32_t size_class = class_for(capacity);
    if (size_class == class_count) return Buffer::allocate(capacity);
    PoolBlock* block = take(size_class);
    return block == nullptr ? Buffer() : Buffer::from_owner(block, block->base, 0);
}

bool BufferPool::available(std::uint32_t size_class) const noexcept {
    WHORL_ASSERT(size_class < class_count);
    if (!refused_ && bytes_mapped_ + chunk_bytes[size_class] <= bytes_max_) return true;
    for (std::uint32_t from = size_class; from < class_count; ++from) {
        if (free_[from] != nullptr) return true;
    }
    return false;
}

Bytes BufferPool::chunk_of(const PoolBlock& block) const noexcept {
    for (const Chunk* chunk = chunks_; chunk != nullptr; chunk = chunk->next) {
        if (chunk->number == block.chunk) return {chunk->memory, chunk->bytes};
    }
    WHORL_ASSERT(false);
    return {};
}

void BufferPool::set_returned(Returned returned, void* context) noexcept {
    returned_ = returned;
    returned_context_ = context;
}

void BufferPool::set_thread() noexcept { thread_ = detail::thread_token(); }

void BufferPool::release(BufferOwner* owner) noexcept {
    auto* block = static_cast<PoolBlock*>(owner);
    BufferPool* pool = block->pool;
    // A pool buffer dropped on another thread would corrupt the free list: copy it, or post it home.
    WHORL_ASSERT(pool->thread_ == 0 || pool->thread_ == detail::thread_token());
    WHORL_ASSERT(pool->blocks_out_ > 0);
    detail::block_shut(*block);
    PoolBlock*& first = pool->free_[block->size_class];
    PoolBlock*& last = pool->free_last_[block->size_class];
    // Electric mode uses it again as late as possible: until then a late write is seen.
    if (detail::electric && last != nullptr) {
        last->next = block;
    } else {
        block->next = first;
        first = block;
    }
    if constexpr (detail::electric) last = block;
    --pool->blocks_out_;
    pool->refused_ = false;
    if (pool->returned_ != nullptr) return pool->returned_(pool->returned_context_, *block);
    if (pool->closed_ && pool->blocks_out_ == 0) delete pool;
}

bool BufferPool::grow(std::uint32_t size_class) noexcept {
    const std::size_t bytes = chunk_bytes[size_class];
    if (bytes > bytes_max_ - bytes_mapped_ || bytes_mapped_ > bytes_max_) return false;
    const std::size_t size = class_size[size_class];
    const Layout layout = layout_of(size);
    const auto count = static_cast<std::uint32_t>(bytes / size);
    const std::size_t header = Chunk::bytes_with(count);
    refused_ = true;
    auto* chunk = static_cast<Chunk*>(detail::object_take(header, alignof(Chunk)));
    if (chunk == nullptr) return false;
    const std::size_t mapped = count * layout.stride;
    const int access = detail::electric ? PROT_NONE : PROT_READ | PROT_WRITE;
    void* memory = mmap(nullptr, mapped, access, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        detail::object_give(chunk, header, alignof(Chunk));
        return false;
    }
    refused_ = false;
    chunk->next = chunks_;
    chunk->memory = memory;
    chunk->bytes = mapped;
    chunk->number = chunks_count_++;
    WHORL_ASSERT(chunks_count_ <= chunks_max());
    chunk->count = count;
    chunks_ = chunk;
    bytes_mapped_ += bytes;
    for (std::uint32_t index = count; index-- > 0;) {  // the lowest address is handed out first
        auto* block = ::new (&chunk->blocks[index]) PoolBlock;
        block->release = &BufferPool::release;
        block->base = static_cast<std::byte*>(memory) + index * layout.stride + layout.offset;
        block->capacity = size;
        block->exclusive = 1;
        block->pool = this;
        block->size_class = size_class;
        block->chunk = chunk->number;
        block->next = free_[size_class];
        free_[size_class] = block;
        if (detail::electric && block->next == nullptr) free_last_[size_class] = block;
        detail::guard(block->base, block->capacity);
    }
    return true;
}

bool BufferPool::check() const noexcept {
    std::uint32_t blocks = 0, free = 0, out = 0;
    std::size_t bytes = 0;
    for (const Chunk* chunk = chunks_; chunk != nullptr; chunk = chunk->next) {
        blocks += chunk->count;
        for (std::uint32_t index = 0; index < chunk->count; ++index) {
            bytes += chunk->blocks[index].capacity;
            if (chunk->blocks[index].references > 0) ++out;
        }
    }
    for (const PoolBlock* head : free_) {
        for (const PoolBlock* block = head; block != nullptr; block = block->next) {
            if (block->references != 0 || ++free > blocks) return false;
        }
    }
    return free + blocks_out_ == blocks && out == blocks_out_ && bytes == bytes_mapped_ &&
           bytes <= bytes_max_;
}

}  // namespace whorl
