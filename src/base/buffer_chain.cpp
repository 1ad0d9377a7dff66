// SPDX-License-Identifier: MIT
// Floor: 1
#include <whorl/buffer_chain.hpp>

#include <whorl/allocated.hpp>

#include <new>

namespace whorl {

namespace {
constexpr std::uint32_t room_first = 8;
}

BufferChain::BufferChain(BufferChain&& other) noexcept
    : parts_(std::exchange(other.parts_, nullptr)), count_(std::exchange(other.count_, 0)),
      room_(std::exchange(other.room_, 0)) {}

BufferChain& BufferChain::operator=(BufferChain&& other) noexcept {
    if (this == &other) return *this;
    std::swap(parts_, other.parts_);
    std::swap(count_, other.count_);
    std::swap(room_, other.room_);
    other.clear();
    return *this;
}

BufferChain::~BufferChain() { detail::drop_array(parts_); }

bool BufferChain::push_back(Buffer&& buffer) noexcept {
    if (count_ == room_) {
        if (room_ > UINT32_MAX / 2) return false;
        const std::uint32_t room = room_ == 0 ? room_first : room_ * 2;
        auto* parts = detail::make_array<Buffer>(room);
        if (parts == nullptr) return false;
        parts[count_] = std::move(buffer);  // first: it may be one of those that move now
        for (std::uint32_t index = 0; index < count_; ++index) {
            parts[index] = std::move(parts_[index]);
        }
        detail::drop_array(parts_);
        parts_ = parts;
        room_ = room;
    } else {
        parts_[count_] = std::move(buffer);
    }
    ++count_;
    return true;
}

void BufferChain::clear() noexcept {
    for (std::uint32_t index = 0; index < count_; ++index) parts_[index].reset();
    count_ = 0;
}

std::uint64_t BufferChain::size() const noexcept {
    std::uint64_t bytes = 0;
    for (std::uint32_t index = 0; index < count_; ++index) bytes += parts_[index].size();
    return bytes;
}

}  // namespace whorl
