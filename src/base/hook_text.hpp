// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <whorl/allocated.hpp>
#include <whorl/assert.hpp>

#include <cstddef>
#include <cstring>
#include <string_view>

namespace whorl::detail {

// Characters in the host program's memory, and a zero behind them. Where HookString says std::bad_alloc,
// this says false, and is as it was. It keeps its memory when it gets shorter.
class HookText {
  public:
    HookText() noexcept = default;
    HookText(const HookText&) = delete;
    HookText& operator=(const HookText&) = delete;
    ~HookText() { object_give(data_, room_, 1); }

    bool reserve(std::size_t size) noexcept {
        if (size < room_) return true;
        const std::size_t room = size < 2 * room_ ? 2 * room_ : size + 1;
        auto* data = static_cast<char*>(object_take(room, 1));
        if (data == nullptr) return false;
        std::memcpy(data, c_str(), size_ + 1);
        object_give(data_, room_, 1);
        data_ = data;
        room_ = room;
        return true;
    }
    // Characters that are new have no value yet.
    bool resize(std::size_t size) noexcept {
        if (!reserve(size)) return false;
        size_ = size;
        data_[size] = '\0';
        return true;
    }
    // Limits: `text` is not of this one (asserted).
    bool assign(std::string_view text) noexcept {
        WHORL_ASSERT(data_ == nullptr || text.data() < data_ || text.data() >= data_ + room_);
        if (!resize(text.size())) return false;
        text.copy(data_, text.size());
        return true;
    }

    char* data() noexcept { return data_; }
    const char* c_str() const noexcept { return data_ != nullptr ? data_ : ""; }
    std::string_view view() const noexcept { return {c_str(), size_}; }
    std::size_t size() const noexcept { return size_; }

  private:
    char* data_ = nullptr;
    std::size_t size_ = 0;
    std::size_t room_ = 0;  // with the zero
};

}  // namespace whorl::detail
