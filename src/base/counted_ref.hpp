// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace whorl::detail {

// What counts its references, which several threads may have. Unlike std::shared_ptr it needs no memory
// besides the object's own, which `new (std::nothrow)` may refuse.
struct Counted {
    std::atomic<std::uint32_t> references{0};
};

// Owns: its share of a Counted object, which the last share deletes. Null is fine.
// Thread: each by one at a time; the shares of one object by any.
template <class T>
class CountedRef {
  public:
    CountedRef() noexcept = default;
    explicit CountedRef(T* counted) noexcept : counted_(counted) {
        if (counted_ != nullptr) counted_->references.fetch_add(1, std::memory_order_relaxed);
    }
    CountedRef(const CountedRef& other) noexcept : CountedRef(other.counted_) {}
    CountedRef(CountedRef&& other) noexcept : counted_(std::exchange(other.counted_, nullptr)) {}
    CountedRef& operator=(CountedRef other) noexcept {
        std::swap(counted_, other.counted_);
        return *this;
    }
    ~CountedRef() {
        if (counted_ == nullptr) return;
        if (counted_->references.fetch_sub(1, std::memory_order_acq_rel) == 1) delete counted_;
    }
    T* get() const noexcept { return counted_; }
    T* operator->() const noexcept { return counted_; }

  private:
    T* counted_ = nullptr;
};

}  // namespace whorl::detail
