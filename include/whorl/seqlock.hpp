// SPDX-License-Identifier: MIT
// Floor: 2
#pragma once

#include <whorl/atomic.hpp>

#include <cstdint>

// Words that one thread writes now and then and any number of others copy, without either waiting for the
// other: a seqlock. The number is odd while words are written; a copy that has seen one number before and
// after, an even one, is what a single publication wrote.
//
// The words are atomics themselves, so that a copy which is thrown away was no data race. Usually that is
// said by fences; here each word is stored with release and loaded with acquire, which costs nothing on
// x86 and is understood by ThreadSanitizer, which knows no fences. A reader that has got one word of a
// publication has therefore seen its odd number too, and finds it, or a later one, when it looks again.
// After Boehm, "Can seqlocks get along with programming language memory models?", MSPC 2012.

namespace whorl::detail {

// Thread: one at a time, always the same.
inline void seqlock_publish(Atomic<std::uint64_t>& sequence, Atomic<std::uint64_t>* words,
                            const std::uint64_t* from, std::uint32_t count) noexcept {
    const std::uint64_t before = sequence.load(std::memory_order_relaxed);
    sequence.store(before + 1, std::memory_order_relaxed);
    for (std::uint32_t index = 0; index < count; ++index) {
        words[index].store(from[index], std::memory_order_release);
    }
    sequence.store(before + 2, std::memory_order_release);
}

// One attempt. False: nothing has been published yet, or it was being written meanwhile; `to` is then
// worth nothing. Thread: any; also one of another process, which may only read the memory.
inline bool seqlock_copy(const Atomic<std::uint64_t>& sequence, const Atomic<std::uint64_t>* words,
                         std::uint64_t* to, std::uint32_t count) noexcept {
    const std::uint64_t before = sequence.load(std::memory_order_acquire);
    if (before == 0 || before % 2 != 0) return false;
    for (std::uint32_t index = 0; index < count; ++index) {
        to[index] = words[index].load(std::memory_order_acquire);
    }
    return sequence.load(std::memory_order_relaxed) == before;
}

}  // namespace whorl::detail
