// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/ring.hpp"
#include "structure/pool_block.hpp"

#include <cstdint>

namespace whorl::detail {

// The buffers of one size that lie with the kernel for received streams: blocks of the pool in one of the
// ring's groups of buffers. The kernel takes them in the order in which they were given.
// Owns: the blocks that lie there. Errors of memory leave fewer of them, or none.
class ReceiveRing {
  public:
    ReceiveRing(Ring& ring, BufferPool& pool, unsigned group) noexcept
        : ring_(ring), pool_(pool), group_(group) {}
    ReceiveRing(const ReceiveRing&) = delete;
    ReceiveRing& operator=(const ReceiveRing&) = delete;
    ~ReceiveRing();

    // Asks the kernel for a group of `room` places; `wanted` of them are kept filled.
    Error open(std::uint32_t room, std::uint32_t wanted, std::uint32_t size) noexcept;
    bool is_open() const noexcept { return ring_.has_buffers(group_); }
    // Takes memory; nothing lies with the kernel before. False: there was none.
    bool start() noexcept;
    bool started() const noexcept { return blocks_ != nullptr; }
    unsigned group() const noexcept { return group_; }

    bool lacks() const noexcept { return missing_count_ > missing_usual_; }
    void fill() noexcept;
    // What was put since lies with the kernel from now on.
    void publish() noexcept {
        if (unpublished_ == 0) return;
        unpublished_ = 0;
        ring_.buffers_publish(group_);
    }
    // Whether the kernel has any.
    bool ready() const noexcept { return started() && missing_count_ < room_; }
    // More streams than buffers became readable together: twice as many from now on.
    void deepen(std::uint32_t streams) noexcept;
    // The block that the kernel has filled, by the identity in its completion. Another one of the pool
    // takes its place, to be published, when one is free.
    PoolBlock* take(std::uint32_t id) noexcept {
        const std::uint32_t place = id & (places_max - 1);
        WHORL_ASSERT(place < room_ && blocks_[place] != nullptr);
        PoolBlock* block = blocks_[place];
        unguard(block->base, block->capacity);
        PoolBlock* next = pool_.hand_out(size_class_);
        if (next != nullptr) {
            put(place, *next);
        } else {
            blocks_[place] = nullptr;
            missing_[missing_count_++] = static_cast<std::uint16_t>(place);
        }
        return block;
    }
    // Gives all back to the pool; the kernel has let go of them.
    void drop() noexcept;

    // A completion names a buffer by 16 bits and not its group: the upper bit is the group's.
    static constexpr std::uint32_t places_max = 1u << 15;
    static constexpr unsigned group_of(std::uint32_t id) noexcept { return id / places_max; }

  private:
    void put(std::uint32_t place, PoolBlock& block) noexcept {
        blocks_[place] = &block;
        guard(block.base, block.capacity);
        const std::uint32_t id = place + group_ * places_max;
        ring_.buffers_put(group_, block.base, size_, static_cast<unsigned short>(id));
        ++unpublished_;
    }
    void want(std::uint32_t places) noexcept {
        wanted_ = places;
        missing_usual_ = room_ - places;
    }

    Ring& ring_;
    BufferPool& pool_;
    PoolBlock** blocks_ = nullptr;      // by place; null: not with the kernel
    std::uint16_t* missing_ = nullptr;  // the places without one
    std::uint32_t room_ = 0;
    std::uint32_t missing_count_ = 0;
    std::uint32_t wanted_ = 0;
    std::uint32_t missing_usual_ = 0;  // how many are, when as many as wanted lie with the kernel
    std::uint32_t size_ = 0;
    std::uint32_t size_class_ = 0;
    unsigned group_;
    std::uint32_t unpublished_ = 0;  // put, and not seen by the kernel yet
};

}  // namespace whorl::detail
