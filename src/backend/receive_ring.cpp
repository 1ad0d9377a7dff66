// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/receive_ring.hpp"

#include <whorl/allocated.hpp>

#include <new>

namespace whorl::detail {

ReceiveRing::~ReceiveRing() {
    drop();
    drop_array(blocks_);
    drop_array(missing_);
}

Error ReceiveRing::open(std::uint32_t room, std::uint32_t wanted, std::uint32_t size) noexcept {
    WHORL_ASSERT(!started() && room <= places_max && wanted <= room);
    if (Error error = ring_.buffers_open(group_, room)) return error;
    room_ = room;
    want(wanted);
    size_ = size;
    size_class_ = BufferPool::class_for(size);
    return {};
}

bool ReceiveRing::start() noexcept {
    WHORL_ASSERT(is_open() && !started());
    blocks_ = make_zeros<PoolBlock*>(room_);
    missing_ = make_array<std::uint16_t>(room_);
    if (blocks_ == nullptr || missing_ == nullptr) {
        drop_array(blocks_);
        drop_array(missing_);
        blocks_ = nullptr;
        missing_ = nullptr;
        return false;
    }
    for (std::uint32_t place = 0; place < room_; ++place) {
        missing_[missing_count_++] = static_cast<std::uint16_t>(room_ - 1 - place);
    }
    fill();
    return true;
}

void ReceiveRing::fill() noexcept {
    while (lacks()) {
        PoolBlock* block = pool_.take(size_class_);
        if (block == nullptr) break;
        const std::uint16_t place = missing_[--missing_count_];
        put(place, *block);
    }
    publish();
}

void ReceiveRing::deepen(std::uint32_t streams) noexcept {
    const bool room = wanted_ < room_ && wanted_ < streams;
    if (room && missing_count_ + unpublished_ == room_) want(wanted_ * 2);
}

void ReceiveRing::drop() noexcept {
    if (!started()) return;
    for (std::uint32_t place = 0; place < room_; ++place) {
        PoolBlock* block = blocks_[place];
        if (block != nullptr) Buffer::from_owner(block, block->base, 0).reset();
        blocks_[place] = nullptr;
    }
}

}  // namespace whorl::detail
