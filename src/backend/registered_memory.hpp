// SPDX-License-Identifier: MIT
// Floor: 3
#pragma once

#include "backend/ring.hpp"

#include <whorl/buffer_pool.hpp>
#include <whorl/statistics.hpp>

#include <cstdint>

namespace whorl::detail {

// The mappings of a pool that are registered with a ring. The kernel keeps their pages in memory and
// does not look them up for each transfer; it takes them by their place in a table. A mapping has the
// place of its own number, and is registered with the first transfer that uses it: what a program
// receives into is never locked.
//
// Invariants: 1. A mapping is registered whole or not at all, once for each ring. 2. It outlives the
// ring: the pool unmaps nothing before the driver is gone.
class RegisteredMemory {
  public:
    static constexpr unsigned places_max = 1u << 14;  // IORING_MAX_REG_BUFFERS

    RegisteredMemory(Ring& ring, BufferPool& pool, Statistics& statistics) noexcept
        : ring_(ring), pool_(pool), statistics_(statistics) {}
    RegisteredMemory(const RegisteredMemory&) = delete;
    RegisteredMemory& operator=(const RegisteredMemory&) = delete;
    ~RegisteredMemory();

    // Asks the kernel for a table, when the ring is new. Errors leave place_of() without an answer.
    Error open() noexcept;

    // The place of a buffer's memory, which is registered now if it was not; negative when it is not of
    // the pool or was refused. Cost: 2 ns; the first time for a mapping that of pinning its pages.
    int place_of(const Buffer& buffer) noexcept {
        if (states_ == nullptr) return -1;
        const PoolBlock* block = pool_.block_of(buffer);
        if (block == nullptr || block->chunk >= places_) return -1;
        if (states_[block->chunk] == State::unknown) fill(*block);
        if (states_[block->chunk] != State::registered) return -1;
        ++statistics_.transfers_registered;
        return static_cast<int>(block->chunk);
    }

  private:
    enum class State : std::uint8_t { unknown, registered, refused };

    void fill(const PoolBlock& block) noexcept;

    Ring& ring_;
    BufferPool& pool_;
    Statistics& statistics_;
    State* states_ = nullptr;  // by number of the mapping; null: the kernel has no table
    unsigned places_ = 0;
};

}  // namespace whorl::detail
