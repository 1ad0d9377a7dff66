// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <whorl/assert.hpp>
#include <whorl/error.hpp>

#include <new>
#include <type_traits>
#include <utility>

namespace whorl {

// A value or the Error that stood in its way. Asking for the wrong one is an assertion, not an
// exception. Lifetime: owns the value. Thread: as T.
template <class T>
class [[nodiscard]] Result {
  public:
    // Limits: an error, not success (asserted).
    Result(Error error) noexcept : error_(error) {  // NOLINT(google-explicit-constructor)
        WHORL_ASSERT(error);
    }
    // The same of a code: `return Error::invalid_argument;`.
    Result(Error::Code code) noexcept
        : Result(Error(code)) {}  // NOLINT(google-explicit-constructor)
    // With a value, which is moved in.
    Result(T value) noexcept {  // NOLINT(google-explicit-constructor)
        ::new (static_cast<void*>(&storage_)) T(std::move(value));
    }
    Result(Result&& other) noexcept : error_(other.error_) {
        if (!error_) ::new (static_cast<void*>(&storage_)) T(std::move(*other.address()));
    }
    Result& operator=(Result&& other) noexcept {
        if (this == &other) return *this;
        this->~Result();
        ::new (static_cast<void*>(this)) Result(std::move(other));
        return *this;
    }
    Result(const Result&) = delete;
    Result& operator=(const Result&) = delete;
    ~Result() {
        if (!error_) address()->~T();
    }

    explicit operator bool() const noexcept { return !error_; }  // whether there is a value
    bool has_value() const noexcept { return !error_; }          // the same
    // Success (zero) when there is a value.
    Error error() const noexcept { return error_; }

    // The value. It is an assertion to ask for it when there is none.
    T& value() & noexcept {
        WHORL_ASSERT(!error_);
        return *address();
    }
    // The same.
    const T& value() const& noexcept {
        WHORL_ASSERT(!error_);
        return *address();
    }
    // The same, to be moved out of a temporary.
    T&& value() && noexcept {
        WHORL_ASSERT(!error_);
        return std::move(*address());
    }
    // As value().
    T& operator*() & noexcept { return value(); }
    // As value().
    const T& operator*() const& noexcept { return value(); }
    // As value().
    T&& operator*() && noexcept { return std::move(*this).value(); }
    // As value().
    T* operator->() noexcept { return &value(); }
    // As value().
    const T* operator->() const noexcept { return &value(); }

    // The value, moved out, or a T made of `fallback`.
    template <class U>
    T value_or(U&& fallback) && noexcept {
        return error_ ? T(std::forward<U>(fallback)) : std::move(*address());
    }

  private:
    T* address() noexcept { return std::launder(reinterpret_cast<T*>(&storage_)); }
    const T* address() const noexcept {
        return std::launder(reinterpret_cast<const T*>(&storage_));
    }

    // T may be a pointer, and its size is meant then.
    alignas(T) unsigned char storage_[sizeof(T)];  // NOLINT(bugprone-sizeof-expression)
    Error error_;
};

}  // namespace whorl
