// SPDX-License-Identifier: MIT
// Goal: guarding marks a buffer's memory, all of it that can be told from its neighbours, and nothing
// else; unguarding gives back what was there to the byte. Method: what AddressSanitizer says of every
// byte in and around memory of many sizes and origins, before, meanwhile and afterwards.
#include "base/guard.hpp"

#include <gtest/gtest.h>
#include <whorl/buffer.hpp>
#include <whorl/buffer_pool.hpp>

#include <array>
#include <memory>
#include <string>
#include <vector>

extern "C" int __asan_address_is_poisoned(void const volatile* address);

namespace whorl {
namespace {

constexpr std::ptrdiff_t around = 24;

bool marked(const std::byte* address) { return __asan_address_is_poisoned(address) != 0; }

// What is marked in and around the owner's memory.
std::vector<bool> marks(const BufferOwner& owner) {
    std::vector<bool> all;
    const auto end = static_cast<std::ptrdiff_t>(owner.capacity) + around;
    for (std::ptrdiff_t at = -around; at < end; ++at) all.push_back(marked(owner.base + at));
    return all;
}

std::size_t marked_inside(const BufferOwner& owner) {
    std::size_t count = 0;
    for (std::size_t at = 0; at < owner.capacity; ++at) count += marked(owner.base + at) ? 1 : 0;
    return count;
}

// Guards and unguards; the last seven bytes may be left out when their neighbour is in use.
void expect_exact(const Buffer& buffer, const std::string& what) {
    const BufferOwner& owner = *buffer.owner();
    const std::vector<bool> before = marks(owner);
    EXPECT_EQ(marked_inside(owner), 0u) << what;
    detail::guard(buffer);
    EXPECT_GE(marked_inside(owner) + 7, owner.capacity) << what;
    EXPECT_EQ(marked(owner.base), owner.capacity >= 8 || marked_inside(owner) != 0) << what;
    const std::vector<bool> guarded = marks(owner);
    detail::unguard(buffer);
    EXPECT_EQ(marks(owner), before) << what;
    for (std::size_t at = 0; at < before.size(); ++at) {  // the neighbours never changed
        const auto place = static_cast<std::ptrdiff_t>(at) - around;
        const bool inside = place >= 0 && static_cast<std::size_t>(place) < owner.capacity;
        EXPECT_TRUE(inside || guarded[at] == before[at]) << what << ", at " << place;
    }
}

TEST(Guard, heap_buffers_of_every_size) {
    for (std::size_t size = 1; size <= 140; ++size) {
        expect_exact(Buffer::allocate(size), "allocated " + std::to_string(size));
    }
}

TEST(Guard, pool_buffers_of_every_class) {
    BufferPool* pool = BufferPool::create(std::size_t{1} << 20);
    for (std::size_t size : BufferPool::class_size) {
        expect_exact(pool->get(size), "class of " + std::to_string(size));
    }
    pool->close();
}

TEST(Guard, adopted_strings_vectors_and_arrays_of_every_size) {
    for (std::size_t size = 1; size <= 70; ++size) {  // the short strings lie inside their owner
        const std::string text(size, 'x');
        expect_exact(adopt(std::string(text)), "string of " + text);
        expect_exact(adopt(std::vector<char>(size)), "vector of " + std::to_string(size));
        expect_exact(adopt(std::make_unique<char[]>(size), size), "array of " + text);
    }
}

// An owner of bytes in the middle of others that are in use.
struct Middle : BufferOwner {
    explicit Middle(std::byte* from, std::size_t size) {
        release = [](BufferOwner*) noexcept {};
        base = from;
        capacity = size;
        references = 1;
        exclusive = 1;
    }
};

TEST(Guard, neighbours_in_use_stay_untouched_at_every_offset) {
    alignas(16) std::array<std::byte, 128> bytes{};
    for (std::size_t offset = 32; offset < 48; ++offset) {
        for (std::size_t size = 1; size <= 40; ++size) {
            Middle owner(bytes.data() + offset, size);
            const Buffer buffer = Buffer::from_owner(&owner, owner.base, size);
            detail::guard(buffer);
            for (std::size_t at = 0; at < bytes.size(); ++at) {
                const bool inside = at >= offset && at < offset + size;
                const bool last =
                    at / 8 == (offset + size - 1) / 8;  // where no beginning is marked
                const bool is = marked(bytes.data() + at);
                EXPECT_TRUE(inside ? is || last : !is) << offset << ' ' << size << ' ' << at;
            }
            detail::unguard(buffer);
            for (const std::byte& byte : bytes)
                EXPECT_FALSE(marked(&byte)) << offset << ' ' << size;
        }
    }
}

TEST(Guard, neighbours_on_loan_are_given_back_in_either_order) {
    alignas(16) std::array<std::byte, 128> bytes{};
    for (std::size_t border = 33; border < 48; ++border) {
        for (const bool first_first : {true, false}) {
            Middle first_owner(bytes.data() + 16, border - 16);
            Middle second_owner(bytes.data() + border, 96 - border);
            const Buffer first = Buffer::from_owner(&first_owner, first_owner.base, 1);
            const Buffer second = Buffer::from_owner(&second_owner, second_owner.base, 1);
            detail::guard(first);
            detail::guard(second);
            detail::unguard(first_first ? first : second);
            const BufferOwner& home = first_first ? first_owner : second_owner;
            EXPECT_EQ(marked_inside(home), 0u) << border;
            detail::unguard(first_first ? second : first);
            for (const std::byte& byte : bytes) EXPECT_FALSE(marked(&byte)) << border;
        }
    }
}

TEST(Guard, what_others_may_read_is_not_marked) {
    static const char text[] = "sixteen bytes ok";
    char view[16] = {};
    auto counted = std::shared_ptr<char[]>(new char[16]());
    Buffer shared = Buffer::allocate(16);
    const Buffer sharer = shared.share();
    Buffer buffers[] = {Buffer::of_static({text, 16}), Buffer::unsafe_view(view, 16, 16),
                        adopt(view, 16, [](void*) {}), adopt(std::shared_ptr<char[]>(counted), 16),
                        adopt(std::array<char, 16>{}), std::move(shared)};
    for (const Buffer& buffer : buffers) {
        detail::guard(buffer);
        for (std::size_t at = 0; at < 16; ++at) EXPECT_FALSE(marked(buffer.data() + at));
        detail::unguard(buffer);
    }
}

TEST(Guard, the_last_of_the_sharers_is_marked) {
    Buffer shared = Buffer::allocate(16);
    shared.share().reset();
    detail::guard(shared);
    EXPECT_TRUE(marked(shared.data()));
    detail::unguard(shared);
    EXPECT_FALSE(marked(shared.data()));
}

TEST(Guard, a_free_block_is_marked_and_the_next_owner_gets_it_clean) {
    BufferPool* pool = BufferPool::create(std::size_t{1} << 20);
    Buffer buffer = pool->get(256);
    const std::byte* place = buffer.data();
    EXPECT_TRUE(marked(place + 256)) << "the block behind it is free";
    EXPECT_FALSE(marked(place));
    buffer.reset();
    EXPECT_TRUE(marked(place));
    EXPECT_TRUE(marked(place + 255));
    buffer = pool->get(256);
    EXPECT_EQ(buffer.data(), place);
    EXPECT_FALSE(marked(place));
    EXPECT_FALSE(marked(place + 255));
    buffer.reset();
    pool->close();
    EXPECT_FALSE(marked(place)) << "the addresses are the system's again";
}

TEST(Guard, memory_that_is_destroyed_while_marked_is_clean_for_its_next_owner) {
    for (int round = 0; round < 100; ++round) {
        Buffer buffer = adopt(std::string(1000, 'x'));
        detail::guard(buffer);
        buffer.reset();
        std::string next(1000, 'y');  // AddressSanitizer itself would report
        ASSERT_EQ(next.find('x'), std::string::npos);
    }
}

}  // namespace
}  // namespace whorl
