// SPDX-License-Identifier: MIT
#pragma once

#include "interleave/explorer.hpp"

#include <atomic>
#include <type_traits>

// std::atomic as far as the library uses it; every access is a step of the explorer.

namespace interleave {

template <class T>
class Atomic {
    static_assert(std::is_trivially_copyable<T>::value && sizeof(T) <= sizeof(Word));

  public:
    using Order = std::memory_order;

    Atomic() noexcept : Atomic(T()) {}
    Atomic(T value) noexcept { explorer().location_made(this, word(value), tag()); }
    Atomic(const Atomic&) = delete;
    Atomic& operator=(const Atomic&) = delete;
    ~Atomic() { explorer().location_gone(this); }

    // Tells locations of different types apart, for Explorer::on_write.
    static const void* tag() noexcept {
        static const char unique = 0;
        return &unique;
    }

    T load(Order order = std::memory_order_seq_cst) const noexcept {
        return value(explorer().load(this, order));
    }
    void store(T desired, Order order = std::memory_order_seq_cst) noexcept {
        explorer().store(this, word(desired), order);
    }
    T exchange(T desired, Order order = std::memory_order_seq_cst) noexcept {
        return value(explorer().exchange(this, word(desired), order));
    }
    bool compare_exchange_weak(T& expected, T desired, Order success, Order failure) noexcept {
        return compare_exchange(expected, desired, success, failure, true);
    }
    bool compare_exchange_strong(T& expected, T desired, Order success, Order failure) noexcept {
        return compare_exchange(expected, desired, success, failure, false);
    }
    T fetch_add(T count, Order order = std::memory_order_seq_cst) noexcept {
        return value(explorer().add(this, word(count), order));
    }
    T fetch_sub(T count, Order order = std::memory_order_seq_cst) noexcept {
        return value(explorer().add(this, Word{0} - word(count), order));
    }

  private:
    static Word word(T value) noexcept {
        if constexpr (std::is_pointer_v<T>) return reinterpret_cast<Word>(value);
        else return static_cast<Word>(value);
    }
    static T value(Word word) noexcept {
        if constexpr (std::is_pointer_v<T>) return reinterpret_cast<T>(word);
        else return static_cast<T>(word);
    }
    bool compare_exchange(T& expected, T desired, Order success, Order failure,
                          bool weak) noexcept {
        Word wanted = word(expected);
        const bool done =
            explorer().compare_exchange(this, wanted, word(desired), success, failure, weak);
        expected = value(wanted);
        return done;
    }
};

// Data that is not atomic. Its accesses are no steps; two of them, one a write, that are not ordered by
// atomics are a data race and fail.
template <class T>
class Plain {
  public:
    Plain() noexcept { explorer().location_made(this, 0, nullptr); }
    Plain(const Plain&) = delete;
    Plain& operator=(const Plain&) = delete;
    ~Plain() { explorer().location_gone(this); }

    const T& read() const noexcept {
        explorer().plain_access(this, false);
        return value_;
    }
    void write(T value) noexcept {
        explorer().plain_access(this, true);
        value_ = value;
    }

  private:
    T value_{};
};

}  // namespace interleave
