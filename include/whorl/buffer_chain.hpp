// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <whorl/buffer.hpp>
#include <whorl/export.hpp>

#include <cstddef>
#include <cstdint>

namespace whorl {

// Several buffers that are sent as one: a header and its body, a batch of messages.
// Lifetime: owns its buffers. It keeps its room when cleared, so a chain that is handed back and used
// again allocates nothing. Thread: as its buffers.
class WHORL_EXPORT BufferChain {
  public:
    constexpr BufferChain() noexcept = default;
    BufferChain(BufferChain&& other) noexcept;
    BufferChain& operator=(BufferChain&& other) noexcept;
    BufferChain(const BufferChain&) = delete;
    BufferChain& operator=(const BufferChain&) = delete;
    ~BufferChain();

    // Appends a buffer. Owns: the buffer, when it answers true.
    // Errors: false when memory is exhausted; the buffer has then not been moved from.
    // Cost: none, unless the room has to grow (one allocation, doubling).
    bool push_back(Buffer&& buffer) noexcept;
    // Gives all buffers back and keeps the room.
    void clear() noexcept;

    // How many buffers, the empty ones included.
    std::uint32_t count() const noexcept { return count_; }
    bool empty() const noexcept { return count_ == 0; }
    // One of them, by its place from 0. Limits: below count(), asserted.
    Buffer& operator[](std::uint32_t index) noexcept {
        WHORL_ASSERT(index < count_);
        return parts_[index];
    }
    Buffer* begin() noexcept { return parts_; }
    Buffer* end() noexcept { return parts_ + count_; }
    // The bytes of all buffers together. Cost: O(count).
    std::uint64_t size() const noexcept;

  private:
    Buffer* parts_ = nullptr;
    std::uint32_t count_ = 0;
    std::uint32_t room_ = 0;
};

}  // namespace whorl
