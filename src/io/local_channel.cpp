// SPDX-License-Identifier: MIT
// Floor: 5
#include <whorl/local_channel.hpp>

#include <whorl/allocated.hpp>

namespace whorl::detail {

CarriedPool* CarriedPool::make(std::size_t size) noexcept {
    return new (std::nothrow) CarriedPool(size);
}

CarriedPool::~CarriedPool() {
    while (free_ != nullptr) {
        void* const memory = free_;
        free_ = *static_cast<void**>(memory);
        object_give(memory, size_, alignof(std::max_align_t));
    }
}

void* CarriedPool::take() noexcept {
    void* memory = free_;
    if (memory != nullptr) free_ = *static_cast<void**>(memory);
    else memory = object_take(size_, alignof(std::max_align_t));
    if (memory != nullptr) ++references_;
    return memory;
}

void CarriedPool::give(void* memory) noexcept {
    *static_cast<void**>(memory) = free_;
    free_ = memory;
    release();
}

void CarriedPool::leave() noexcept { release(); }

void CarriedPool::release() noexcept {
    if (--references_ == 0) delete this;
}

}  // namespace whorl::detail
