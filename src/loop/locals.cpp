// SPDX-License-Identifier: MIT
// Floor: 4
#include <whorl/per_loop.hpp>

#include <whorl/allocated.hpp>

#include "loop/core.hpp"

#include <algorithm>
#include <atomic>
#include <new>

// Each PerLoop has a number, and each loop a table by it, which only its own thread looks at. A number is free
// again when its PerLoop and the last object under it are gone, so a loop never finds under it what another
// PerLoop left. Only these counts are shared between threads.

namespace whorl::detail {

namespace {
std::atomic<std::uint32_t> key_holders[local_keys_max];
}  // namespace

std::uint32_t local_key_take() noexcept {
    for (std::uint32_t key = 0; key < local_keys_max; ++key) {
        std::uint32_t expected = 0;
        // Acquire: who had it before has done with it.
        if (key_holders[key].compare_exchange_strong(expected, 1, std::memory_order_acquire,
                                                     std::memory_order_relaxed)) {
            return key;
        }
    }
    return local_keys_max;
}

void local_key_drop(std::uint32_t key) noexcept {
    WHORL_ASSERT(key < local_keys_max);
    key_holders[key].fetch_sub(1, std::memory_order_release);
}

Error local_prepare(Loop& loop, std::uint32_t key) noexcept {
    if (key == local_keys_max) return Error::slots_exhausted;
    LoopCore& core = loop.core();
    if (local_find(loop, key) != nullptr) return Error::invalid_argument;
    if (key < core.locals_count) return {};
    const std::uint32_t count = std::max(8u, 2 * key);
    auto** table = make_zeros<LoopLocal*>(count);
    if (table == nullptr) return Error::from_errno(ENOMEM);
    std::copy(core.locals, core.locals + core.locals_count, table);
    drop_array(core.locals);
    core.locals = table;
    core.locals_count = count;
    return {};
}

void local_keep(Loop& loop, std::uint32_t key, LoopLocal& made) noexcept {
    LoopCore& core = loop.core();
    WHORL_ASSERT(core.locals[key] == nullptr);  // the factory made one of its own kind
    key_holders[key].fetch_add(1, std::memory_order_relaxed);
    made.key = key;
    made.older = core.local_newest;
    core.locals[key] = core.local_newest = &made;
}

LoopLocal* local_find(Loop& loop, std::uint32_t key) noexcept {
    const LoopCore& core = loop.core();
    core.check_thread();
    return key < core.locals_count ? core.locals[key] : nullptr;
}

LoopLocal* local_take(Loop& loop, std::uint32_t key) noexcept {
    LoopLocal* found = local_find(loop, key);
    if (found == nullptr) return nullptr;
    LoopCore& core = loop.core();
    LoopLocal** link = &core.local_newest;
    while (*link != found) link = &(*link)->older;
    *link = found->older;
    core.locals[key] = nullptr;
    local_key_drop(key);
    return found;
}

// Each is out of the table before it goes, so that another that looks for it does not find half of it.
void LoopCore::locals_end() noexcept {
    while (LoopLocal* newest = local_newest) {
        local_newest = newest->older;
        const std::uint32_t key = newest->key;
        locals[key] = nullptr;
        delete newest;
        local_key_drop(key);
    }
    drop_array(locals);
    locals = nullptr;
    locals_count = 0;
}

}  // namespace whorl::detail
