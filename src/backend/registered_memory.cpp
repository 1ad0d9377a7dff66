// SPDX-License-Identifier: MIT
// Floor: 3
#include "backend/registered_memory.hpp"

#include <whorl/allocated.hpp>

#include "base/electric.hpp"

#include <algorithm>
#include <new>

namespace whorl::detail {

RegisteredMemory::~RegisteredMemory() { drop_array(states_); }

// Electric mode takes the pages of free blocks away from the kernel, too; registered ones it would keep.
Error RegisteredMemory::open() noexcept {
    drop_array(states_);
    states_ = nullptr;
    statistics_.buffer_bytes_registered = 0;
    if constexpr (electric) return Error::from_errno(EOPNOTSUPP);
    const std::size_t wanted = std::min<std::size_t>(pool_.chunks_max(), places_max);
    if (wanted == 0) return Error::from_errno(ENOMEM);
    if (Error error = ring_.memory_open(static_cast<unsigned>(wanted))) return error;
    states_ = make_zeros<State>(wanted);
    if (states_ == nullptr) return Error::from_errno(ENOMEM);
    places_ = static_cast<unsigned>(wanted);
    return {};
}

// A mapping that was refused is not tried again: a limit that is reached stays reached, and each try
// pins pages first.
void RegisteredMemory::fill(const PoolBlock& block) noexcept {
    const Bytes memory = pool_.chunk_of(block);
    if (ring_.memory_put(block.chunk, memory.data, memory.size)) {
        states_[block.chunk] = State::refused;
        ++statistics_.registrations_refused;
        return;
    }
    states_[block.chunk] = State::registered;
    statistics_.buffer_bytes_registered += memory.size;
}

}  // namespace whorl::detail
