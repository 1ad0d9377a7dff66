// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/assert.hpp>
#include <whorl/bytes.hpp>
#include <whorl/export.hpp>

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>

// A Buffer owns a piece of memory, wherever that came from: a loop's pool, the heap, a std::string or
// std::vector that legacy code has at hand, a pointer with its deleter, static bytes. It is moved into
// an operation and handed back when that completes, so that nobody has to ask who may free it.
//
//     base            data()             data()+size()        end of room
//      │  headroom()    │      size()         │                   │
//      ▼                ▼                     ▼                   ▼
//      ├────────────────┼─────────────────────┼───────────────────┤
//                       └──────────── capacity() ─────────────────┘
//
// Invariants: 1. size() <= capacity(). 2. A buffer without an owner is empty and null. 3. The owner's
// count is the number of buffers that name it; the memory goes back when the last one is destroyed.

namespace whorl {

// What stands behind one piece of memory: how it is given back. Reference counts are not atomic: all
// buffers that share one owner live on one thread. An owner without `release` owns nothing, is never
// written and may therefore be shared by all threads (static bytes, views).
struct BufferOwner {
    // Gives the memory back, and the owner with it. Called on the thread of the last buffer.
    using Release = void (*)(BufferOwner*) noexcept;
    Release release = nullptr;     // called once, when the last buffer goes; null: nothing owned
    std::byte* base = nullptr;     // first byte of the memory
    std::size_t capacity = 0;      // bytes from base on
    std::uint32_t references = 0;  // buffers that name this owner
    std::uint16_t read_only = 0;   // not zero: the bytes must not be written
    std::uint16_t exclusive = 0;   // not zero: nobody reaches the bytes but through buffers
};

namespace detail {
// Ends the program with a message that says what is wrong: there is too little, or nothing at all.
[[noreturn]] WHORL_EXPORT void buffer_beyond(const char* function, std::size_t asked,
                                             std::size_t most, bool null) noexcept;
}  // namespace detail

// Lifetime: owns its memory until destroyed or moved from. Thread: one at a time; a buffer may travel
// to another thread unless it is shared or comes from a loop's pool (pool buffers are given back on
// their loop's thread, asserted there).
class Buffer {
  public:
    constexpr Buffer() noexcept = default;
    Buffer(Buffer&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)),
          capacity_(std::exchange(other.capacity_, 0)),
          owner_(std::exchange(other.owner_, nullptr)) {}
    Buffer& operator=(Buffer&& other) noexcept {
        if (this != &other) {
            reset();
            data_ = std::exchange(other.data_, nullptr);
            size_ = std::exchange(other.size_, 0);
            capacity_ = std::exchange(other.capacity_, 0);
            owner_ = std::exchange(other.owner_, nullptr);
        }
        return *this;
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { reset(); }

    // Memory from the heap: `capacity` bytes of room, size 0.
    // Errors: a null buffer (false in a condition) when memory is exhausted or capacity is 0.
    // Cost: one allocation. A loop's pool (Loop::buffer) is the cheaper source.
    WHORL_EXPORT static Buffer allocate(std::size_t capacity) noexcept;

    // A heap copy of `bytes`. Errors and cost as allocate().
    WHORL_EXPORT static Buffer copy_of(Bytes bytes) noexcept;

    // Names bytes that live for ever (a literal, a table). Owns: nothing. Read-only, and without
    // headroom: what is trimmed from the front does not come back. Cost: none.
    WHORL_EXPORT static Buffer of_static(Bytes bytes) noexcept;

    // Names memory that the caller guarantees to keep until the buffer is destroyed, wherever it is
    // by then. Owns: nothing; this is the one unsafe door. Cost: none.
    WHORL_EXPORT static Buffer unsafe_view(void* data, std::size_t size,
                                           std::size_t capacity) noexcept;

    // Takes over one reference to `owner`. For writers of pools and adopters.
    static Buffer from_owner(BufferOwner* owner, std::byte* data, std::size_t size) noexcept {
        WHORL_ASSERT(owner != nullptr && data >= owner->base);
        WHORL_ASSERT(static_cast<std::size_t>(data - owner->base) <= owner->capacity);
        Buffer buffer;
        buffer.data_ = data;
        buffer.size_ = size;
        buffer.capacity_ = owner->capacity - static_cast<std::size_t>(data - owner->base);
        buffer.owner_ = owner;
        WHORL_ASSERT(size <= buffer.capacity_);
        return buffer;
    }

    // Whether it has memory at all, be it of size 0.
    explicit operator bool() const noexcept { return owner_ != nullptr; }
    bool empty() const noexcept { return size_ == 0; }
    // The first valid byte; null for a null buffer. Write only where writable() says so.
    std::byte* data() noexcept { return data_; }
    // The same, to read.
    const std::byte* data() const noexcept { return data_; }
    // Valid bytes from data() on.
    std::size_t size() const noexcept { return size_; }
    // Bytes of room from data() on, the valid ones included.
    std::size_t capacity() const noexcept { return capacity_; }
    // Bytes before data() that prepend() may make valid again.
    std::size_t headroom() const noexcept {
        return owner_ == nullptr || owner_->base == nullptr
                   ? 0
                   : static_cast<std::size_t>(data_ - owner_->base);
    }
    // The valid bytes, as long as this buffer has them.
    Bytes bytes() const noexcept { return {data_, size_}; }
    // The same as characters; any bytes, not only UTF-8.
    std::string_view text() const noexcept { return bytes().text(); }

    // False for static and for shared bytes: writing to them would be seen by others.
    bool writable() const noexcept {
        return owner_ != nullptr && owner_->read_only == 0 && owner_->references == 1;
    }

    // Sets the number of valid bytes. Limits: at most capacity(), asserted. Cost: none.
    void resize(std::size_t size) noexcept {
        if (size > capacity_) detail::buffer_beyond("resize", size, capacity_, owner_ == nullptr);
        size_ = size;
    }
    // Drops `count` bytes at the front; they become headroom. Limits: at most size(), asserted.
    void trim_front(std::size_t count) noexcept {
        if (count > size_) detail::buffer_beyond("trim_front", count, size_, owner_ == nullptr);
        data_ += count;
        size_ -= count;
        capacity_ -= count;
    }
    // Makes `count` bytes of headroom valid again and returns where they start: a protocol header
    // goes before its payload without a copy. Limits: at most headroom(), asserted.
    std::byte* prepend(std::size_t count) noexcept {
        const std::size_t most = headroom();
        if (count > most) detail::buffer_beyond("prepend", count, most, owner_ == nullptr);
        data_ -= count;
        size_ += count;
        capacity_ += count;
        return data_;
    }
    // Copies `bytes` behind the valid ones. Returns false, and changes nothing, when they do not fit.
    WHORL_EXPORT bool append(Bytes bytes) noexcept;

    // Another buffer over the same memory and bytes, for sending one message to many; both are
    // read-only from then on until only one is left. Returns null for a null buffer. A view has no
    // owner that could count, so both stay writable: who made the view answers for that.
    // Thread: all sharers on one thread. Cost: one increment.
    Buffer share() noexcept {
        if (owner_ == nullptr) return {};
        if (owner_->release != nullptr) ++owner_->references;
        Buffer other;
        other.data_ = data_;
        other.size_ = size_;
        other.capacity_ = capacity_;
        other.owner_ = owner_;
        return other;
    }

    // Gives the memory back now.
    void reset() noexcept {
        if (owner_ == nullptr) return;
        BufferOwner* owner = std::exchange(owner_, nullptr);
        data_ = nullptr;
        size_ = 0;
        capacity_ = 0;
        if (owner->release == nullptr) return;
        WHORL_ASSERT(owner->references > 0);
        if (--owner->references == 0) owner->release(owner);
    }

    // For writers of pools and adopters: what it names, still its own; null for a null buffer.
    BufferOwner* owner() const noexcept { return owner_; }

  private:
    std::byte* data_ = nullptr;
    std::size_t size_ = 0;
    std::size_t capacity_ = 0;
    BufferOwner* owner_ = nullptr;
};

static_assert(sizeof(Buffer) == 32, "a buffer fits half a cache line of an operation's slot");

namespace detail {

template <class Container>
struct AdoptedContainer : BufferOwner, Allocated<AdoptedContainer<Container>> {
    // What may be copied byte by byte may be a view of bytes that others own.
    static constexpr bool owns = !std::is_trivially_copyable<Container>::value;
    Container container;
    explicit AdoptedContainer(Container&& source) noexcept : container(std::move(source)) {
        release = &drop;
        base = reinterpret_cast<std::byte*>(container.data());
        capacity = container.size() * sizeof(*container.data());
        references = 1;
        exclusive = owns ? 1 : 0;
    }
    static void drop(BufferOwner* owner) noexcept { delete static_cast<AdoptedContainer*>(owner); }
};

template <class Pointer, class Deleter>
struct AdoptedPointer : BufferOwner, Allocated<AdoptedPointer<Pointer, Deleter>> {
    // There may be another copy of a pointer that can be copied.
    static constexpr bool owns = !std::is_copy_constructible<Pointer>::value;
    Pointer pointer;
    Deleter deleter;
    AdoptedPointer(Pointer p, Deleter&& d, std::byte* data, std::size_t size) noexcept
        : pointer(std::move(p)), deleter(std::move(d)) {
        release = [](BufferOwner* owner) noexcept {
            auto* self = static_cast<AdoptedPointer*>(owner);
            self->deleter(self->pointer);
            delete self;
        };
        base = data;
        capacity = size;
        references = 1;
        exclusive = owns ? 1 : 0;
    }
};

struct DropOwned {  // the deleter of a smart pointer: dropping the pointer is enough
    template <class Pointer>
    void operator()(Pointer&) const noexcept {}
};

}  // namespace detail

// Makes a Buffer of a container with data() and size(): std::string, std::vector, std::array of
// trivially copyable elements. size() and capacity() of the buffer are the container's size in bytes.
// Owns: the container, until the last buffer over it goes; reclaim() gets it back.
// Errors: a null buffer when memory is exhausted; the container has then not been moved from.
// Cost: one allocation for the control block; the bytes stay where they are.
template <class Container,
          class Element = std::remove_reference_t<decltype(*std::declval<Container&>().data())>>
Buffer adopt(Container&& container) noexcept {
    static_assert(!std::is_lvalue_reference<Container>::value, "adopt takes over: std::move it in");
    static_assert(std::is_trivially_copyable<Element>::value,
                  "bytes of such elements mean nothing");
    using Owner = detail::AdoptedContainer<std::remove_cv_t<Container>>;
    auto* owner = new (std::nothrow) Owner(std::forward<Container>(container));
    if (owner == nullptr) return {};
    return Buffer::from_owner(owner, owner->base, owner->capacity);
}

// The container back out of the last buffer over it: `reclaim(buffer, string)`.
// Returns false, and changes nothing, when the buffer did not adopt such a container or is shared.
// A std::string or std::vector comes back with the size it had when adopted: a receive does not
// resize it, so look at buffer.size() first.
template <class Container>
bool reclaim(Buffer& buffer, Container& into) noexcept {
    using Owner = detail::AdoptedContainer<Container>;
    BufferOwner* owner = buffer.owner();
    if (owner == nullptr || owner->references != 1) return false;
    if (owner->release != &Owner::drop) return false;
    into = std::move(static_cast<Owner*>(owner)->container);
    buffer.reset();
    return true;
}

// Makes a Buffer of memory with its own deleter: `deleter(pointer)` runs when the last buffer goes.
// Owns: pointer and deleter. Errors: a null buffer when memory is exhausted; nothing was taken.
// Cost: one allocation for the control block.
template <class Deleter>
Buffer adopt(void* data, std::size_t size, Deleter deleter) noexcept {
    using Owner = detail::AdoptedPointer<void*, Deleter>;
    auto* bytes = static_cast<std::byte*>(data);
    auto* owner = new (std::nothrow) Owner(data, std::move(deleter), bytes, size);
    if (owner == nullptr) return {};
    return Buffer::from_owner(owner, bytes, size);
}

// Makes a Buffer of a smart pointer to an array, such as std::unique_ptr<char[]>, of `count` elements.
// Owns: the smart pointer. Errors: a null buffer when memory is exhausted; the pointer is unmoved.
// Cost: one allocation for the control block.
template <class Pointer,
          class Element = std::remove_reference_t<decltype(*std::declval<Pointer&>().get())>>
Buffer adopt(Pointer&& pointer, std::size_t count) noexcept {
    static_assert(!std::is_lvalue_reference<Pointer>::value, "adopt takes over: std::move it in");
    static_assert(std::is_trivially_copyable<Element>::value,
                  "bytes of such elements mean nothing");
    using Owner = detail::AdoptedPointer<Pointer, detail::DropOwned>;
    auto* bytes = reinterpret_cast<std::byte*>(pointer.get());
    auto* owner = new (std::nothrow)
        Owner(std::forward<Pointer>(pointer), detail::DropOwned{}, bytes, count * sizeof(Element));
    if (owner == nullptr) return {};
    return Buffer::from_owner(owner, bytes, count * sizeof(Element));
}

}  // namespace whorl
