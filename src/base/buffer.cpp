// SPDX-License-Identifier: MIT
// Floor: 1
#include <whorl/buffer.hpp>
#include <whorl/hooks.hpp>

#include "base/electric.hpp"

#include <cstring>

namespace whorl {

namespace {

// Owners of nothing: never written, so all threads share them. BufferOwner{release, base, capacity,
// references, read_only, exclusive}.
BufferOwner static_owner{nullptr, nullptr, 0, 1, 1, 0};
BufferOwner view_owner{nullptr, nullptr, 0, 1, 0, 0};

constexpr std::size_t block_alignment = 64;

// A heap block: the owner stands in front of the bytes, one allocation for both.
struct alignas(block_alignment) HeapBlock : BufferOwner {};

std::size_t heap_bytes(std::size_t capacity) noexcept {
    return (sizeof(HeapBlock) + capacity + block_alignment - 1) / block_alignment * block_alignment;
}

#if defined(WHORL_ELECTRIC)
// The block ends where its pages end.
std::size_t heap_offset(std::size_t bytes) noexcept {
    return detail::electric_pages(bytes) - bytes;
}
void* heap_get(std::size_t bytes) noexcept {
    auto* pages = static_cast<std::byte*>(detail::electric_map(bytes));
    return pages == nullptr ? nullptr : pages + heap_offset(bytes);
}
void heap_give(void* memory, std::size_t bytes) noexcept {
    detail::electric_retire(static_cast<std::byte*>(memory) - heap_offset(bytes), bytes);
}
#else
void* heap_get(std::size_t bytes) noexcept { return detail::heap_take(bytes, block_alignment); }
void heap_give(void* memory, std::size_t bytes) noexcept {
    detail::heap_give(memory, bytes, block_alignment);
}
#endif

void heap_release(BufferOwner* owner) noexcept {
    heap_give(static_cast<HeapBlock*>(owner), heap_bytes(owner->capacity));
}

}  // namespace

namespace detail {

void buffer_beyond(const char* function, std::size_t asked, std::size_t most, bool null) noexcept {
    if (null) {
        panic(
            "Buffer::%s(%zu) of a buffer without memory: it is null, or was moved from; what was "
            "submitted comes back in the completion",
            function, asked);
    }
    panic("Buffer::%s(%zu), but at most %zu is possible", function, asked, most);
}

}  // namespace detail

Buffer Buffer::allocate(std::size_t capacity) noexcept {
    if (capacity == 0 || capacity > SIZE_MAX / 2) return {};  // room to round up
    void* memory = heap_get(heap_bytes(capacity));
    if (memory == nullptr) return {};
    auto* block = ::new (memory) HeapBlock;
    block->release = &heap_release;
    block->base = static_cast<std::byte*>(memory) + sizeof(HeapBlock);
    block->capacity = capacity;
    block->references = 1;
    block->exclusive = 1;
    return from_owner(block, block->base, 0);
}

Buffer Buffer::copy_of(Bytes bytes) noexcept {
    Buffer buffer = allocate(bytes.size);
    if (buffer) buffer.append(bytes);
    return buffer;
}

Buffer Buffer::of_static(Bytes bytes) noexcept {
    Buffer buffer;
    buffer.data_ = const_cast<std::byte*>(bytes.data);  // read_only forbids writing through it
    buffer.size_ = bytes.size;
    buffer.capacity_ = bytes.size;
    buffer.owner_ = &static_owner;
    return buffer;
}

Buffer Buffer::unsafe_view(void* data, std::size_t size, std::size_t capacity) noexcept {
    WHORL_ASSERT(size <= capacity);
    Buffer buffer;
    buffer.data_ = static_cast<std::byte*>(data);
    buffer.size_ = size;
    buffer.capacity_ = capacity;
    buffer.owner_ = &view_owner;
    return buffer;
}

bool Buffer::append(Bytes bytes) noexcept {
    if (bytes.size > capacity_ - size_) return false;
    WHORL_ASSERT(bytes.empty() || writable());
    if (!bytes.empty()) std::memcpy(data_ + size_, bytes.data, bytes.size);
    size_ += bytes.size;
    return true;
}

}  // namespace whorl
