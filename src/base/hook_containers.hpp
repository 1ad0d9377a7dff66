// SPDX-License-Identifier: MIT
// Floor: 1
#pragma once

#include <whorl/allocated.hpp>

#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

// Containers of the standard library whose memory is the host program's (hooks.hpp).

namespace whorl::detail {

using HookString = std::basic_string<char, std::char_traits<char>, HookAllocator<char>>;
template <class T>
using HookVector = std::vector<T, HookAllocator<T>>;
template <class T>
using HookDeque = std::deque<T, HookAllocator<T>>;
template <class Key, class T>
using HookMap = std::unordered_map<Key, T, std::hash<Key>, std::equal_to<Key>,
                                   HookAllocator<std::pair<const Key, T>>>;

template <class T, class... Arguments>
std::shared_ptr<T> hook_shared(Arguments&&... arguments) {
    return std::allocate_shared<T>(HookAllocator<T>(), std::forward<Arguments>(arguments)...);
}

}  // namespace whorl::detail
