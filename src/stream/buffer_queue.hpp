// SPDX-License-Identifier: MIT
// Floor: 6
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/assert.hpp>
#include <whorl/buffer.hpp>

#include <cstdint>
#include <new>
#include <utility>

namespace whorl::detail {

// Buffers, first in, first out, in a ring that doubles and is kept. Thread: one at a time.
class BufferQueue {
  public:
    BufferQueue() noexcept = default;
    BufferQueue(const BufferQueue&) = delete;
    BufferQueue& operator=(const BufferQueue&) = delete;
    ~BufferQueue() { drop_array(ring_); }

    bool empty() const noexcept { return count_ == 0; }
    std::uint32_t count() const noexcept { return count_; }
    Buffer& front() noexcept { return at(0); }
    Buffer& back() noexcept { return at(count_ - 1); }
    Buffer& at(std::uint32_t index) noexcept {
        WHORL_ASSERT(index < count_);
        return ring_[(head_ + index) & (room_ - 1)];
    }
    // False: no memory, and the buffer was not moved.
    bool push_back(Buffer&& buffer) noexcept {
        if (count_ == room_ && !grow()) return false;
        ++count_;
        back() = std::move(buffer);
        return true;
    }
    bool push_front(Buffer&& buffer) noexcept {
        if (count_ == room_ && !grow()) return false;
        head_ = (head_ - 1) & (room_ - 1);
        ++count_;
        front() = std::move(buffer);
        return true;
    }
    Buffer pop_front() noexcept {
        Buffer taken = std::move(front());
        head_ = (head_ + 1) & (room_ - 1);
        --count_;
        return taken;
    }
    void swap(BufferQueue& other) noexcept {
        std::swap(ring_, other.ring_);
        std::swap(room_, other.room_);
        std::swap(head_, other.head_);
        std::swap(count_, other.count_);
    }
    void clear() noexcept {
        while (count_ != 0) static_cast<void>(pop_front());
    }

  private:
    bool grow() noexcept {
        constexpr std::uint32_t room_first = 4;
        if (room_ > UINT32_MAX / 2) return false;
        const std::uint32_t room = room_ == 0 ? room_first : room_ * 2;
        auto* ring = make_array<Buffer>(room);
        if (ring == nullptr) return false;
        for (std::uint32_t index = 0; index < count_; ++index) ring[index] = std::move(at(index));
        drop_array(ring_);
        ring_ = ring;
        room_ = room;
        head_ = 0;
        return true;
    }

    Buffer* ring_ = nullptr;
    std::uint32_t room_ = 0;  // a power of two
    std::uint32_t head_ = 0;
    std::uint32_t count_ = 0;
};

}  // namespace whorl::detail
