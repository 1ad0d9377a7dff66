// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <new>
#include <utility>

namespace whorl::detail {

// An object that is never destroyed, for what a function makes when it is first asked for: threads that go
// on after main() has returned (a loop in a detached one) may still use it then. No memory of its own.
//
//     static Lasting<RealSystem> system;
//     return *system;
template <class T>
class Lasting {
  public:
    template <class... Arguments>
    explicit Lasting(Arguments&&... arguments) {
        object_ = ::new (static_cast<void*>(storage_)) T(std::forward<Arguments>(arguments)...);
    }
    Lasting(const Lasting&) = delete;
    Lasting& operator=(const Lasting&) = delete;

    T& operator*() noexcept { return *object_; }

  private:
    alignas(T) unsigned char storage_[sizeof(T)];
    T* object_;
};

}  // namespace whorl::detail
